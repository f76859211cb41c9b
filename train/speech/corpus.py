"""Recordings in memory: read from folders, cached, and split by speaker or kind of noise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from train.speech.made import SAMPLE_RATE_HZ, made_noise, made_voice

__all__ = ["SAMPLE_RATE_HZ", "Corpus", "held_out_split", "join", "read_corpus"]

# Those of `edgeae.media.AUDIO_SUFFIXES`, which this room may not import; a test holds them equal.
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split()
)
# A corpus of one recording is cut into so many pieces, so that one can be held out.
_PIECES = 5

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Corpus:
    """Recordings end to end in one int16 array, mono at 16 kHz.

    Clip i is `samples[starts[i]:starts[i + 1]]`, and `groups[i]` is its speaker or kind of noise.
    `skipped` names the files that could not be read, with the reason.
    """

    samples: Samples
    starts: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.groups)

    def clip(self, index: int) -> Samples:
        """Clip `index`, int16 (samples,)."""
        return self.samples[self.starts[index] : self.starts[index + 1]]


def join(
    clips: list[Samples], groups: tuple[str, ...], skipped: Mapping[str, str] | None = None
) -> Corpus:
    """A corpus of clips, one for each of `groups`."""
    starts = np.concatenate(([0], np.cumsum([len(clip) for clip in clips])))
    return Corpus(np.concatenate(clips), starts, groups, dict(skipped or {}))


def held_out_split(corpus: Corpus, percent: float) -> tuple[Corpus, list[int], list[int]]:
    """Clips to train on and clips to validate on, no group in both; at least one group is held out.

    A hash of the group's name decides, so that adding files moves no other file across. Where all
    clips are of one group each counts as its own, and a single clip is cut up; so the corpus, which
    is returned as well, may have other groups and clips.
    """
    if len(corpus) == 1:
        pieces = np.array_split(corpus.samples, _PIECES)
        corpus = join(pieces, corpus.groups * _PIECES, corpus.skipped)
    if len(set(corpus.groups)) == 1:
        numbered = tuple(f"{group}-{i}" for i, group in enumerate(corpus.groups))
        corpus = dataclasses.replace(corpus, groups=numbered)
    names = sorted(set(corpus.groups), key=lambda g: hashlib.sha256(g.encode()).digest())
    count = min(max(1, round(len(names) * percent / 100)), len(names) - 1)
    held = set(names[:count])
    training = [i for i, group in enumerate(corpus.groups) if group not in held]
    return corpus, training, [i for i, group in enumerate(corpus.groups) if group in held]


def read_corpus(folders: tuple[str, ...], cache: str, *, kind: str) -> Corpus:
    """The recordings in folders, of any rate and number of channels.

    Args:
        folders: ("synthetic",) for sounds made in code.
        cache: a folder for the decoded samples, "" for none.
        kind: "speech" or "noise", which decides how files are grouped.

    Raises:
        ValueError: there is no recording that can be read.
    """
    if not folders:
        raise ValueError(f"no folder of {kind} is given: name one in [data] or with --{kind}")
    if folders == ("synthetic",):
        return _made_corpus(kind)
    files = sorted(
        (file, Path(folder))
        for folder in folders
        for file in Path(folder).rglob("*")
        if file.suffix.lower() in SUFFIXES
    )
    if not files:
        raise ValueError(f"no recordings ({', '.join(sorted(SUFFIXES))}) in {', '.join(folders)}")
    key = hashlib.sha256(
        "\n".join(f"{file.resolve()} {file.stat().st_size}" for file, _ in files).encode()
    ).hexdigest()[:16]
    stored = Path(cache) / f"{kind}-{key}.v2.npz"
    if cache and stored.exists():
        with np.load(stored) as arrays:
            groups, skipped = json.loads(str(arrays["names"]))
            return Corpus(arrays["samples"], arrays["starts"], tuple(groups), skipped)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(pool.map(_read, [file for file, _ in files]))
    clips: list[Samples] = []
    names: list[str] = []
    left_out: dict[str, str] = {}
    for (file, folder), clip in zip(files, read, strict=True):
        if isinstance(clip, str):
            left_out[file.name] = clip
        else:
            clips.append(clip)
            names.append(_group(file, folder, kind))
    if not clips:
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"none of {len(files)} recordings can be read, {name}: {reason}")
    corpus = join(clips, tuple(names), left_out)
    if cache:
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_suffix(f".{os.getpid()}.npz")
        said = np.array(json.dumps([names, left_out]))
        np.savez(partial, samples=corpus.samples, starts=corpus.starts, names=said)
        partial.replace(stored)
    return corpus


def _group(file: Path, folder: Path, kind: str) -> str:
    inside = file.relative_to(folder)
    if len(inside.parts) > 1:
        return inside.parts[0]
    if kind == "speech":
        return file.stem.split("_")[0]
    # The number stands after a separator: esc10_Rain-1-17367-A is of the kind esc10_Rain.
    return re.split(r"[-_.]\d", file.stem)[0] or file.stem


def _read(file: Path) -> Samples | str:
    """A recording as int16 mono at 16 kHz, at least 0.25 s (silence is added); or why not."""
    try:
        audio, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    if not len(audio):
        return "it has no samples"
    if not np.isfinite(audio).all():
        return "it holds samples that are no numbers"
    mono = audio.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    out = np.zeros(max(len(mono), SAMPLE_RATE_HZ // 4), np.int16)
    out[: len(mono)] = np.clip(np.round(mono * 32767), -32767, 32767)
    return out


def _made_corpus(kind: str) -> Corpus:
    """Speech-like sounds or noises made in code, for tests and machines without data."""
    rng = np.random.default_rng(7 if kind == "speech" else 8)
    clips, groups = [], []
    for group in range(6):
        for _ in range(3):
            clip = made_voice(group, rng) if kind == "speech" else made_noise(48_000, rng)
            peak = max(float(np.abs(clip).max()), 1e-6)
            clips.append(np.round(clip / peak * 16_000).astype(np.int16))
            groups.append(f"{kind}{group}")
    return join(clips, tuple(groups))
