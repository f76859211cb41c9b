"""Every file of the format's first version decodes for ever, to the same symbols."""

from __future__ import annotations

import hashlib
import json
import wave
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from test_format import symbols_of

import edgeae
from edgeae.image import file
from edgeae.image.codec import ImageCodec
from edgeae.image.latent import Latent
from edgeae.image.packets import read_packet
from edgeae.media import read_image
from edgeae.metrics import psnr_db
from edgeae.signal.denoiser import SignalDenoiser

GOLDEN = Path(__file__).parent / "golden"
FILES = json.loads((GOLDEN / "symbols.json").read_text())


DENOISER = GOLDEN / "tiny-denoiser"


@pytest.fixture(scope="module")
def model():
    return ImageCodec.load(GOLDEN / "tiny-codec")


def contents(name):
    """The file, or the packets."""
    if name.endswith(".hex"):
        return [bytes.fromhex(line) for line in (GOLDEN / name).read_text().split()]
    return [(GOLDEN / name).read_bytes()]


def blocks_of(model, files):
    """(side of the tiles, {tile: block})"""
    if files[0][0] != 0x89:
        held = [read_packet(packet, model._id) for packet in files]
        side = 1 << held[0].header.side_log2
        return side, {p.first + i: block for p in held for i, block in enumerate(p.blocks)}
    return model._spec.tile, dict(file.read(files[0]).blocks)


def symbols(model, name):
    """The symbols (channels, h, w) that the package finds."""
    return symbols_in(model, contents(name), FILES[name]["shape"], FILES[name]["level"])


def symbols_in(model, files, shape, level):
    side, blocks = blocks_of(model, files)
    layout = model._synthesis.layout(*shape[:2], side)
    grid = layout[-1].rows.stop, layout[-1].columns.stop
    found = np.zeros((model._spec.channels, *grid), np.int32)
    for i, tile in enumerate(layout):
        found[:, tile.rows, tile.columns] = model._blocks.decode(blocks[i], tile.shape, level)
    return found


def sha256(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def test_there_are_golden_files_of_every_form_in_two_megabytes():
    there = {path.name for path in GOLDEN.glob("*.*")} - {"symbols.json", "README.md"}
    assert {path.stem for path in DENOISER.glob("*.wav")} == {"noisy", "clean", "gap"}
    assert there == set(FILES)
    starts = {contents(name)[0][:2] for name in FILES}
    assert {b"\x89e", b"\x89E"} < starts and any(start[0] >> 4 == 0xE for start in starts)
    assert {len(FILES[name]["shape"]) for name in FILES} == {2, 3}
    assert {0, 1, 3, 4} <= {
        file.read_header(contents(n)[0]).channels for n in FILES if n.endswith(".eae")
    }
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*.*")) < 2 << 20


@pytest.mark.parametrize("release", ["photo-codec-0-1"])
def test_a_file_of_a_released_photo_codec_decodes_by_its_id(release):
    blob = (GOLDEN / "released" / f"{release}.eae").read_bytes()
    known = json.loads((GOLDEN / "released" / "symbols.json").read_text())[release]
    top, left, height, width = known["region"]
    whole = read_image(files("edgeae") / "assets" / "photo.webp")
    restored = edgeae.decompress(blob)
    assert restored.shape == (height, width, 3)
    original = whole[top : top + height, left : left + width]
    assert psnr_db(original, restored) == pytest.approx(known["psnr_db"], abs=0.02)
    codec = ImageCodec.load(release)
    assert codec.bundle.manifest.codec_id == known["codec_id"]
    found = symbols_in(codec, [blob], (height, width), known["level"])
    assert sha256(found.astype("<i4")) == known["symbols_sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_has_its_symbols(model, name):
    found = symbols(model, name)
    assert sha256(found.astype("<i4")) == FILES[name]["symbols_sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_decoder_from_the_page_alone_finds_them_too(name):
    found = symbols_of(contents(name), GOLDEN / "tiny-codec")
    assert sha256(found.astype("<i4")) == FILES[name]["symbols_sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_gives_the_picture_of_its_symbols(model, name):
    shape, level = FILES[name]["shape"], FILES[name]["level"]
    files = contents(name)
    if name.endswith(".hex"):
        image, mask = model.receive(files)
        assert not mask.any()
    else:
        image = model.decompress(files[0])
    assert image.shape == tuple(shape)
    alpha = image[:, :, 3] if image.ndim == 3 and image.shape[2] == 4 else None
    if alpha is not None:
        assert sha256(alpha) == FILES[name]["alpha_sha256"]
    channels = shape[2] if len(shape) == 3 else 0
    latent = Latent(symbols(model, name), level, *shape[:2], channels, alpha)
    assert np.array_equal(image, model.decode(latent))


def samples(name):
    """int16 (frames, channels) of a golden recording, and its rate."""
    with wave.open(str(DENOISER / f"{name}.wav")) as sound:
        data = sound.readframes(sound.getnframes())
        return np.frombuffer(data, "<i2").reshape(-1, sound.getnchannels()), sound.getframerate()


def test_golden_sound_is_denoised_as_it_was():
    noisy, rate = samples("noisy")
    model = SignalDenoiser.load(DENOISER)
    clean = model.denoise(noisy, sample_rate=rate, link_channels=False)
    # Another machine's transforms may round the last bit the other way.
    assert np.abs(clean.astype(int) - samples("clean")[0]).max() <= 1
    assert np.abs(noisy.astype(int) - samples("clean")[0]).max() > 1000


def test_golden_sound_with_a_gap_is_denoised_as_it_was():
    noisy, rate = samples("noisy")
    model = SignalDenoiser.load(DENOISER)
    stream = model.stream(sample_rate=rate, channels=2, link_channels=False)
    out = [stream.process(noisy[:5000]), stream.skip(1500), stream.process(noisy[6500:])]
    clean = np.concatenate([*out, stream.flush()])[stream.delay :]
    assert np.abs(clean.astype(int) - samples("gap")[0]).max() <= 1
    assert np.abs(clean.astype(int) - samples("clean")[0]).max() > 1000


def test_the_golden_file_of_all_chunks_has_its_metadata_and_its_check():
    data = contents("whole-checked.eae")[0]
    metadata = file.read_metadata(data)
    assert metadata.exif[:4] == b"II*\0" and metadata.xmp.startswith(b"<x:xmpmeta")
    assert data[-12 - 4 - 4 * 7 - 4 :][:4] == b"crCS"
