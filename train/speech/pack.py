"""Speech and noise in one compact file, for machines that the recordings do not go to.

A pack is a zip of `index.json` and, of speech and of noise each, one Opus stream at 16 kHz, mono.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from train.speech.corpus import SAMPLE_RATE_HZ, Corpus, read_corpus

if TYPE_CHECKING:
    from train.speech.data import SpeechData

__all__ = ["read_pack", "write_pack"]

_KIND = "edgeae speech and noise"
_KINDS = ("speech", "noise")
# libsndfile's measure of Opus, 0 for the most bits: at 16 kHz mono 19 kbit/s.
_COMPRESSION = 0.95
# Ten minutes: pieces that are decoded side by side.
_PIECE_SAMPLES = 600 * SAMPLE_RATE_HZ
# Spectra for the loss that is stated: windows of 32 ms.
_WINDOW = 512


def write_pack(
    config: SpeechData, out: Path, *, compression: float = _COMPRESSION
) -> dict[str, Any]:
    """Write the recordings of the config's folders.

    Args:
        config: names the folders of speech and noise.
        out: the file to write.
        compression: 0 (the most bits) to 1.

    Returns:
        Minutes of each, bytes, and of each `log_spectral_db`: the root mean square, over frames and
        frequencies up to 7 kHz within 50 dB of the loudest, of how far levels are off.
    """
    index: dict[str, Any] = {"kind": _KIND, "format": 1}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".tmp")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as pack:
        for kind in _KINDS:
            corpus = read_corpus(getattr(config, kind), "", kind=kind)
            data = _encoded(corpus, compression)
            pack.writestr(f"{kind}.ogg", data)
            index[kind] = {
                "starts": corpus.starts.tolist(),
                "groups": list(corpus.groups),
                "folders": list(getattr(config, kind)),
                "skipped": dict(corpus.skipped),
                "minutes": round(len(corpus.samples) / SAMPLE_RATE_HZ / 60, 1),
                "log_spectral_db": round(_loss_db(corpus.samples, _decoded(data)), 2),
            }
        pack.writestr("index.json", json.dumps(index))
    partial.replace(out)
    told = ("minutes", "log_spectral_db")
    report = {kind: {key: index[kind][key] for key in told} for kind in _KINDS}
    return {**report, "bytes": out.stat().st_size}


def read_pack(file: Path) -> tuple[Corpus, Corpus]:
    """The speech and the noise of a pack. Raises ValueError if the file is none."""
    found = []
    try:
        with zipfile.ZipFile(file) as pack:
            index = json.loads(pack.read("index.json"))
            if index.get("kind") != _KIND:
                raise ValueError("of another kind")
            for kind in _KINDS:
                entry, samples = index[kind], _decoded(pack.read(f"{kind}.ogg"))
                starts = np.array(entry["starts"], np.int64)
                if len(samples) != starts[-1]:
                    raise ValueError(f"{len(samples)} samples of {kind}, expected {starts[-1]}")
                corpus = Corpus(samples, starts, tuple(entry["groups"]), entry["skipped"])
                found.append(corpus)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, soundfile.SoundFileError) as error:
        raise ValueError(
            f"{file} is not a pack of speech and noise ({error}), expected what train.pack wrote"
        ) from None
    return found[0], found[1]


def _encoded(corpus: Corpus, compression: float) -> bytes:
    stream = io.BytesIO()
    with soundfile.SoundFile(
        stream,
        "w",
        SAMPLE_RATE_HZ,
        1,
        "OPUS",
        format="OGG",
        compression_level=compression,
    ) as file:
        for first in range(0, len(corpus.samples), SAMPLE_RATE_HZ * 60):
            file.write(corpus.samples[first : first + SAMPLE_RATE_HZ * 60])
    return stream.getvalue()


def _decoded(data: bytes) -> np.ndarray:
    """The samples, int16 (samples,), of pieces that are decoded side by side."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pack.ogg"
        file.write_bytes(data)
        samples = np.empty(soundfile.info(file).frames, np.int16)

        def decode(first: int) -> None:
            # What is decoded ahead brings the decoder to where it would be after all before.
            ahead = min(first, SAMPLE_RATE_HZ)
            with soundfile.SoundFile(file) as stream:
                stream.seek(first - ahead)
                piece = stream.read(ahead + _PIECE_SAMPLES, dtype="int16")[ahead:]
            samples[first : first + len(piece)] = piece

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, range(0, len(samples), _PIECE_SAMPLES)))
    return samples


def _loss_db(before: np.ndarray, after: np.ndarray) -> float:
    """How far the levels of spectra are off, in dB, over what is within 50 dB of the loudest."""
    count = min(len(before), len(after)) // _WINDOW
    # Every so many windows: a minute or two of all that there is.
    chosen = slice(None, None, max(1, count // 4000))
    levels = []
    for audio in (before, after):
        frames = audio[: count * _WINDOW].reshape(count, _WINDOW)[chosen].astype(np.float32)
        spectrum = np.fft.rfft(frames * np.hanning(_WINDOW))[:, : _WINDOW * 7 // 16]
        levels.append(20 * np.log10(np.abs(spectrum) + 1e-1))
    heard = levels[0] > levels[0].max(axis=1, keepdims=True) - 50
    heard &= levels[0].max(axis=1, keepdims=True) > 20
    return float(np.sqrt(np.mean(np.square(levels[1] - levels[0])[heard]))) if heard.any() else 0.0
