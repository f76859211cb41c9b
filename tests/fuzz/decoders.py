"""Changed files and packets, checksums put right, through every decoder.

The command is `python -m tests.fuzz.decoders`.

A mutant either gives data of the shape it announces or raises an EdgeaeError of one line, in
bounded time. Prints what became of them; exit code 1 names the mutants that broke this.
"""

from __future__ import annotations

import argparse
import binascii
import io
import json
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "fuzz")]

import detectors
from changes import changed, mutated_chunks

from edgeae import bundle, media
from edgeae.autoencoder import Autoencoder
from edgeae.coding import item_file
from edgeae.detection import detection_spec, merged
from edgeae.errors import EdgeaeError
from edgeae.image import exact
from edgeae.image import file as image_file
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Header, Limits
from edgeae.onnx_check import check_graph
from edgeae.runtime import Graph
from edgeae.scoring import DetectorStream, Scorer
from edgeae.signal import codec_file as signal_file
from edgeae.signal.codec import SignalCodec
from edgeae.signal.codec_header import Limits as SignalLimits

GOLDEN = TESTS / "golden"
# Many times what the slowest takes on one slow core.
MAX_SECONDS = 2.0
# What conceals a large picture takes long and shows no more than a small one.
LIMITS = Limits(pixels=1 << 12)
# How often each decoder gets a mutant.
FORMS = {
    "file": 6,
    "region": 2,
    "conceal": 4,
    "packets": 5,
    "graph": 3,
    "manifest": 2,
    "sound": 3,
    "picture": 2,
    "series": 2,
    "signal": 3,
    "signal packets": 2,
    "detection": 2,
    "items": 2,
}
# What libsndfile and Pillow write here, and edgeae reads.
SOUNDS = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".mp3": "MP3",
    ".aiff": "AIFF",
    ".au": "AU",
    ".caf": "CAF",
    ".w64": "W64",
    ".rf64": "RF64",
}
PICTURES = (".jpg", ".webp", ".tif", ".gif", ".bmp", ".pgm")

Outcome = str
Decode = Callable[[], None]


@dataclass(frozen=True)
class Seeds:
    """What is sound, to be changed: golden files, and small ones that decode in a millisecond."""

    model: ImageCodec
    files: Sequence[bytes]
    packets: Sequence[Sequence[bytes]]
    graph: bytes
    manifest: bytes
    sounds: Mapping[str, bytes]
    picture: bytes
    pictures: Mapping[str, bytes]
    series: Mapping[str, bytes]
    signal_model: SignalCodec
    signals: Sequence[bytes]
    signal_packets: Sequence[Sequence[bytes]]
    errors: Graph
    item_model: Autoencoder
    items: Sequence[bytes]


def seeds() -> Seeds:
    """The seeds, always the same."""
    import soundfile
    from PIL import Image, ImageCms

    model = ImageCodec.load(GOLDEN / "tiny-codec")
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.eae"))]
    packets = [
        [bytes.fromhex(line) for line in path.read_text().split()]
        for path in sorted(GOLDEN.glob("*.hex"))
    ]
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    for quality in (2, 6):
        # Few tiles make many mutants in the same time: three quarters are of these.
        for channels in (3, 4):
            for size in ((9, 9), (9, 20), (20, 20)):
                image = noise[: size[0], : size[1], :channels]
                files += [model.compress(image, quality=quality, lossless=False)] * 2
        files += [exact.write(noise[:9, :9, :3]), exact.write(noise[:9, :9] // 128 * 255)]
        small = model.packets(noise[:8, :12, :3], max_packet_bytes=42, quality=quality)
        packets += [small] * 5
    sounds = {}
    tone = np.sin(np.arange(300) / 9)[:, None] * [0.5, 0.25]
    for suffix, kind in SOUNDS.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, tone, 8000, format=kind)
        sounds[suffix] = buffer.getvalue()
    picture = io.BytesIO()
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)  # when it was made
    Image.fromarray(noise[:6, :6]).save(picture, "PNG", icc_profile=bytes(profile))
    pictures = {}
    for suffix in PICTURES:
        buffer = io.BytesIO()
        shown = Image.fromarray(noise[:12, :12, 0] if suffix == ".pgm" else noise[:12, :12, :3])
        kind = {".pgm": "PPM"}.get(suffix, Image.registered_extensions()[suffix])
        shown.save(buffer, kind)
        pictures[suffix] = buffer.getvalue()
    signal_model = SignalCodec.load(GOLDEN / "tiny-signal-codec")
    wave = np.rint(200 * np.sin(np.arange(100) / 9)).astype(np.int16)
    pair = np.stack([wave, wave[::-1]], axis=1)
    signals = [
        signal_model.compress(wave, quality=3),
        signal_model.compress(pair, quality=6),
        signal_model.compress(wave, lossless=True),
        signal_model.compress(pair, lossless=True, key_seconds=0.2),
        signal_model.compress(pair, quality=4, key_seconds=0.1, names=["a", "b"]),
    ]
    signal_packets = [
        signal_model.packets(wave, packet_seconds=0.1),
        signal_model.packets(pair, packet_seconds=0.05, key_seconds=0.1),
    ]
    item_model = Autoencoder.load(GOLDEN / "items" / "tiny-autoencoder")
    items = [path.read_bytes() for path in sorted((GOLDEN / "items").glob("*.eae"))]
    array = io.BytesIO()
    np.save(array, tone.astype(np.float32))
    table = "time,a [mV],b\n" + "".join(f"{i / 50},{i % 7},{-i}\n" for i in range(30))
    return Seeds(
        model=model,
        files=files,
        packets=packets,
        graph=(GOLDEN / "tiny-codec" / "context0.fp32.onnx").read_bytes(),
        manifest=(GOLDEN / "tiny-codec" / "manifest.json").read_bytes(),
        sounds=sounds,
        picture=picture.getvalue(),
        pictures=pictures,
        series={".csv": table.encode(), ".npy": array.getvalue()},
        signal_model=signal_model,
        signals=signals,
        signal_packets=signal_packets,
        errors=squares_graph(),
        item_model=item_model,
        items=items,
    )


def squares_graph() -> Graph:
    """The graph of a tiny detector: what is wrong with a value is its square."""
    with tempfile.TemporaryDirectory() as folder:
        home = detectors.squares(Path(folder) / "squares")
        return Graph(bundle.find(home).graph("errors", "fp32"))


def fuzz(
    count: int, seed: int = 0, first: int = 0
) -> tuple[Counter[Outcome], tuple[float, str], list[str]]:
    """(how many mutants ended how, seconds and name of the slowest, what broke the rule)"""
    sown = seeds()
    outcomes: Counter[Outcome] = Counter()
    slowest, broken = (0.0, ""), []
    with tempfile.TemporaryDirectory() as folder:
        decoders = decoders_of(sown, Path(folder))
        for number in range(first, first + count):
            rng = random.Random(f"{seed}/{number}")
            (form,) = rng.choices([*FORMS], [*FORMS.values()])
            name = f"{seed}/{number} {form}"
            decode = decoders[form](rng)
            began = time.process_time()
            try:
                decode()
                outcomes[f"{form}: data"] += 1
            except EdgeaeError as error:
                outcomes[f"{form}: refused"] += 1
                if "\n" in str(error):
                    broken.append(f"{name}: an error of several lines")
            except Exception as error:
                broken.append(f"{name}: {type(error).__name__}: {error}")
            seconds = time.process_time() - began
            slowest = max(slowest, (seconds, name))
            if seconds > MAX_SECONDS:
                broken.append(f"{name}: {seconds:.1f} s")
    return outcomes, slowest, broken


def decoders_of(sown: Seeds, folder: Path) -> Mapping[str, Callable[[random.Random], Decode]]:
    """What makes and decodes a mutant of each form; `folder` is for forms that are read there."""
    model = sown.model
    manifest = folder / "manifest.json"

    def file(rng: random.Random) -> Decode:
        return reads_file(model, mutated_file(rng, rng.choice(sown.files)))

    def region(rng: random.Random) -> Decode:
        return reads_region(model, mutated_file(rng, rng.choice(sown.files)), rng)

    def conceal(rng: random.Random) -> Decode:
        return conceals_file(model, mutated_file(rng, rng.choice(sown.files)))

    def packets(rng: random.Random) -> Decode:
        came = mutated_packets(rng, rng.choice(sown.packets), model._id)
        return reads_packets(model, came)

    def graph(rng: random.Random) -> Decode:
        data = changed(rng, sown.graph)
        return lambda: check_graph(data, name="mutant") and None

    def described(rng: random.Random) -> Decode:
        manifest.write_bytes(mutated_json(rng, sown.manifest))
        return lambda: bundle._manifest(manifest.read_bytes(), manifest) and None

    def heard(rng: random.Random) -> Decode:
        # Half are WAV, whose header says most.
        suffix = ".wav" if rng.random() < 0.5 else rng.choice([*SOUNDS])
        sound = folder / f"mutant{suffix}"
        sound.write_bytes(changed(rng, sown.sounds[suffix]))
        return lambda: reads_sound(sound)

    def seen(rng: random.Random) -> Decode:
        if rng.random() < 0.5:
            picture, data = folder / "mutant.png", mutated_png(rng, sown.picture)
        else:
            suffix = rng.choice(PICTURES)
            picture, data = folder / f"mutant{suffix}", changed(rng, sown.pictures[suffix])
        picture.write_bytes(data)
        return lambda: reads_picture(picture)

    def series(rng: random.Random) -> Decode:
        suffix = rng.choice(sorted(sown.series))
        data = changed(rng, sown.series[suffix])
        return lambda: reads_series(data, suffix)

    def signal(rng: random.Random) -> Decode:
        data = mutated_chunks(
            rng, rng.choice(sown.signals), signal_file.MAGIC, signal_file.SMALL_MAGIC
        )
        return lambda: reads_signal(sown.signal_model, data)

    def coded_items(rng: random.Random) -> Decode:
        data = mutated_chunks(rng, rng.choice(sown.items), item_file.MAGIC, item_file.SMALL_MAGIC)
        return lambda: reads_items(sown.item_model, data)

    def signal_packets(rng: random.Random) -> Decode:
        packets = [*rng.choice(sown.signal_packets)]
        for place in range(len(packets)):
            if rng.random() < 0.5:
                packets[place] = mutated_packet(rng, packets, place, sown.signal_model._id)
        rng.shuffle(packets)
        return lambda: receives_signal(sown.signal_model, packets)

    def detection(rng: random.Random) -> Decode:
        layout, section = mutated_detection(rng)
        return lambda: detects(sown.errors, layout, section)

    makers = (
        *(file, region, conceal, packets, graph, described, heard, seen, series),
        *(signal, signal_packets, detection, coded_items),
    )
    return dict(zip(FORMS, makers, strict=True))


# A step of a signal takes a third of a millisecond.
SIGNAL_LIMITS = SignalLimits(samples=1 << 13)


def mutated_packet(
    rng: random.Random, packets: Sequence[bytes], place: int, codec_id: bytes
) -> bytes:
    """A changed packet whose checksum is right, for what opens it says."""
    packet = packets[place]
    if packet[0] >= 0x80:
        body = packet[:1] + changed(rng, packet[1:-4])
        return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(codec_id)))
    opening = next((p for p in packets if p[:1] >= b"\x80"), b"\0" * 4)
    body = changed(rng, packet[:-2])
    check = int.from_bytes(opening[-4:-2], "little")
    return body + struct.pack("<H", binascii.crc_hqx(body, check))


def reads_signal(model: SignalCodec, data: bytes) -> None:
    samples = model.decompress(data, limits=SIGNAL_LIMITS)
    header = signal_file.read_header(data)
    shape = (header.samples, header.channels)
    check(samples.shape == (shape[:1] if header.flat else shape))
    check(samples.dtype == header.dtype and bool(np.isfinite(samples).all()))


def receives_signal(model: SignalCodec, packets: Sequence[bytes]) -> None:
    samples, lost = model.receive(packets, limits=SIGNAL_LIMITS)
    check(len(samples) == len(lost) and bool(np.isfinite(samples).all()))


def detects(graph: Graph, layout: dict[str, Any], section: dict[str, Any]) -> None:
    """Scores, alarms and a stream of a detector whose manifest says this."""
    spec = detection_spec("mutant", layout, section)
    if (spec.window_samples, spec.channels) != (8, 1):
        return  # another graph, which is refused with it
    signal = np.sin(np.arange(300) / 9)[:, None] * [1.0]
    scorer = Scorer(graph, spec)
    whole = scorer.score(signal, np.array([30, 90, 150, 210]) if spec.beats else None)
    found = DetectorStream(scorer)
    parts = [*(found.process(block) for block in np.array_split(signal, 5)), found.flush()]
    for scores in (whole, *parts):
        check(bool(np.isfinite(scores.windows).all() and np.isfinite(scores.samples).all()))
        check(all(0 <= alarm.start < alarm.end for alarm in merged(scores, spec.threshold, spec)))


def reads_items(model: Autoencoder, data: bytes) -> None:
    found = model.decompress(data, max_entries=1 << 16)
    header = item_file.read_header(data)
    check(found.shape == (model.shape if header.single else (header.items, *model.shape)))
    check(found.dtype == header.dtype and bool(np.isfinite(found).all()))


def header_of(data: bytes) -> Header:
    return (exact if data.startswith(exact.MAGIC) else image_file).read_header(data)


def reads_file(model: ImageCodec, data: bytes) -> Decode:
    def decode() -> None:
        image, header = model.decompress(data), header_of(data)
        shape = (header.height, header.width, header.channels)
        check(image.shape == (shape if header.channels else shape[:2]))
        check(image.dtype == np.uint8)

    return decode


def reads_region(model: ImageCodec, data: bytes, rng: random.Random) -> Decode:
    def decode() -> None:
        header = header_of(data)
        top, left = rng.randrange(header.height), rng.randrange(header.width)
        region = (top, left, min(3, header.height - top), min(5, header.width - left))
        image = model.decompress(data, region=region)
        check(image.shape[:2] == region[2:] and image.dtype == np.uint8)

    return decode


def conceals_file(model: ImageCodec, data: bytes) -> Decode:
    def decode() -> None:
        image, mask = model.decompress(data, errors="conceal", limits=LIMITS)
        plain = data.startswith(exact.MAGIC)
        header = header_of(data) if plain else image_file.salvage(data).header
        shape = (header.height, header.width, header.channels)
        check(image.shape == (shape if header.channels else shape[:2]))
        check(mask.shape == shape[:2] and mask.dtype == np.bool_ and image.dtype == np.uint8)

    return decode


def reads_packets(model: ImageCodec, packets: Sequence[bytes]) -> Decode:
    def decode() -> None:
        image, mask = model.receive(packets)
        check(image.shape[:2] == mask.shape and image.dtype == np.uint8)

    return decode


def reads_sound(path: Path) -> None:
    samples, rate_hz = media.read_audio(path)
    check(bool(np.isfinite(samples).all()) and samples.ndim in (1, 2) and rate_hz > 0)


def reads_picture(path: Path) -> None:
    image = media.read_image(path)
    check(image.dtype == np.uint8 and image.ndim in (2, 3) and min(image.shape) > 0)
    check(image.ndim == 2 or image.shape[2] in (1, 3, 4))
    media.read_image_metadata(path)


def reads_series(data: bytes, suffix: str) -> None:
    found = media.read_series(data, sample_rate_hz=50.0, missing="hold", format=suffix)
    check(bool(np.isfinite(found.samples).all()) and found.samples.ndim == 2)


def check(right: bool) -> None:
    if not right:
        raise RuntimeError("data of another shape than announced")


SIZES = (1, 4, 16, 17, 40, 300, 65_537, 2**32 - 1)


def mutated_file(rng: random.Random, data: bytes) -> bytes:
    if data.startswith(image_file.SMALL_MAGIC):
        begin = 6  # the codec's id stays, or nothing else would be seen
        body = data[:begin] + changed(rng, data[begin:-4])
        return body + struct.pack("<I", zlib.crc32(body))
    chunks, at = [], len(image_file.MAGIC)
    while at < len(data):
        length, kind = struct.unpack_from("<I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    if rng.random() < 0.9:  # or nothing but the list of all chunks would be seen
        chunks = [chunk for chunk in chunks if chunk[0] != b"crCS"]
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(chunks))
        kind, body = chunks[place]
        match rng.randrange(8):
            case 0 | 1 | 2:
                body = body[:1] + changed(rng, body[1:]) if kind == b"TILE" else changed(rng, body)
                chunks[place] = kind, body
            case 3:
                other = rng.randrange(len(chunks))
                chunks[place], chunks[other] = chunks[other], chunks[place]
            case 4:
                chunks.insert(rng.randrange(len(chunks)), (kind, body))
            case 5:
                if len(chunks) > 1:
                    del chunks[place]
            case 6:
                kinds = [
                    b"TILE",
                    b"HEAD",
                    b"heAD",
                    b"ALPH",
                    b"DONE",
                    b"noTE",
                    b"WHAT",
                    b"crCS",
                    b"exIF",
                ]
                chunks[place] = rng.choice(kinds), body
            case 7:
                picture = struct.pack(
                    "<BBII", rng.randrange(66), rng.randrange(6), rng.choice(SIZES),
                    rng.choice(SIZES),
                )  # fmt: skip
                chunks[0] = b"HEAD", data[16:32] + picture
    made = image_file.MAGIC + b"".join(
        struct.pack("<I", len(body)) + kind + body + struct.pack("<I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    # Now and then as a radio link would have it.
    return changed(rng, made) if rng.random() < 0.2 else made


def mutated_packets(rng: random.Random, packets: Sequence[bytes], codec_id: bytes) -> list[bytes]:
    came = [rng.choice(packets) for _ in range(rng.randint(1, len(packets) + 2))]
    for _ in range(rng.randint(0, 3)):
        body = changed(rng, rng.choice(packets)[:-4])
        came.insert(0, body + struct.pack("<I", zlib.crc32(codec_id + body)))
    return came


def mutated_json(rng: random.Random, data: bytes) -> bytes:
    """Half the time any bytes changed, else another value put somewhere, or a key taken out."""
    if rng.random() < 0.5:
        return changed(rng, data)
    whole = spot = json.loads(data)
    while True:
        key = rng.choice(sorted(spot))
        if not (isinstance(spot[key], dict) and spot[key] and rng.random() < 0.7):
            break
        spot = spot[key]
    value = rng.choice([None, True, -1, 0, 1 << 40, 0.5, "", "x", "\n", [], {}, {"a": []}, ...])
    if value is ...:
        del spot[key]
    else:
        spot[rng.choice([key, key, "new"])] = value
    return json.dumps(whole).encode()


DETECTION = {
    "hop_samples": 2,
    "merge_samples": 8,
    "smooth_windows": 2,
    "relative_windows": 3,
    "relative_least": 2,
    "relative_prior": -4.0,
    "beats": False,
    "beat_before": 3,
    "prematurity": 3.0,
    "threshold": -1.0,
}
# What stands in the place of numbers, those that are no JSON too: Python reads them.
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 8, 1 << 16, 1 << 21, 1 << 40, 10**400, 0.5, -2.5, 40.0),
    *(1e-9, 1e300, -1e300, float("nan"), float("inf"), "", "x", [], {}, {"a": 1}, ...),
)


def mutated_detection(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections `layout` and `detection` of a manifest with some values changed or taken out."""
    layout: dict[str, Any] = {"kind": "signal", "shape": [8, 1], "sample_rate_hz": 100.0}
    section: dict[str, Any] = {**DETECTION, "beats": rng.random() < 0.5}
    for _ in range(rng.randint(1, 3)):
        spot = rng.choice([layout, section, section, section])
        key, value = rng.choice(sorted(spot)), rng.choice(ODD)
        if key == "shape" and rng.random() < 0.8:
            value = [rng.choice([8, value]), rng.choice([1, value])][: rng.randint(1, 3)]
        if value is ...:
            del spot[key]
        else:
            spot[key] = value
    return layout, section


def mutated_png(rng: random.Random, data: bytes) -> bytes:
    """A chunk changed and its checksum put right; now and then anything."""
    if rng.random() < 0.3:
        return changed(rng, data)
    chunks, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = rng.randrange(len(chunks))
    chunks[place] = chunks[place][0], changed(rng, chunks[place][1])
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.decoders", description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other mutants")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    options = parser.parse_args()
    began = time.process_time()
    outcomes, (slowest, name), broken = fuzz(options.n, options.seed, options.first)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:9,} {outcome}")
    seconds = time.process_time() - began
    print(f"{options.n:,} mutants in {seconds:.0f} s of CPU, the slowest {slowest:.3f} s: {name}")
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
