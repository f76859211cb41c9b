"""What `compress` and `decompress` do with speech."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeae.cli import options
from edgeae.cli.options import Pcm, Raw, UsageError

if TYPE_CHECKING:
    from edgeae.batch import Loading

__all__ = [
    "Live",
    "check_pipes",
    "compress_pipe",
    "compress_work",
    "decompress_pipe",
    "decompress_work",
    "default_model",
    "is_speech",
]


@dataclass(frozen=True)
class Live:
    """What the options say of live packets. Raises UsageError for a length that none can have."""

    packet_ms: int
    dtx: bool

    def __post_init__(self) -> None:
        if self.packet_ms % 20:
            raise UsageError(f"--packet-ms is {self.packet_ms}, expected a multiple of 20")


def is_speech(sources: list[str], model: str | None, raw: Raw) -> bool:
    """Whether a command is about audio: the first file is, or the first of a folder that can be
    told, or what no suffix tells, such as -, goes into a codec of audio."""
    from edgeae import media
    from edgeae.bundle import find

    if raw.given:
        return True
    first = Path(sources[0])
    others = media.IMAGE_SUFFIXES | media.SERIES_SUFFIXES
    for file in sorted(first.rglob("*")) if first.is_dir() else [first]:
        suffix = file.suffix.lower()
        if suffix in media.AUDIO_SUFFIXES or suffix in others:
            return suffix in media.AUDIO_SUFFIXES
    return model is not None and find(model).manifest.layout.get("kind") == "audio"


def default_model(talk: bool) -> str | None:
    """The bundled codec of speech, if a command is about speech."""
    from edgeae.cli import speech_files

    return speech_files.MODEL if talk else None


def check_pipes(sources: list[str], target: str, raw: Raw, max_bytes: int | None) -> None:
    """UsageError for options that contradict what comes and goes."""
    if sources != ["-"] and raw.given:
        raise UsageError("--rate, --channels and --pcm are for raw PCM from -: a file says its own")
    if raw.rate is None and (raw.channels is not None or raw.pcm is not None):
        raise UsageError("--channels or --pcm is given without --rate")
    if sources == ["-"] and target == "-" and max_bytes is not None:
        raise UsageError("--max-bytes is for files, expected --quality for a live stream")


def compress_work(
    loading: Loading, quality: float | None, max_bytes: int | None
) -> functools.partial[Any]:
    """The work on one file."""
    from edgeae.cli import speech_files

    how = speech_files.Compression(loading, quality, max_bytes)
    return functools.partial(speech_files.compress_file, how)


def compress_pipe(
    loading: Loading,
    target: str,
    raw: Raw,
    live: Live,
    quality: float | None,
    max_bytes: int | None,
    *,
    force: bool,
) -> None:
    """Compresses what comes through -, to a file or live to -."""
    from edgeae.cli import audio_files, folder, speech_files

    out = Path(target)
    if target == "-":
        if sys.stdout is not None and sys.stdout.isatty():
            raise UsageError("OUT is a terminal, expected - to lead into a pipe or a file")
    else:
        options.refuse_folder(target)
        if out.suffix.lower() != ".eae":
            raise UsageError(f"OUT is {out}, expected a name that ends in .eae")
        folder.refuse_existing(out, force=force)
    options.load_for(loading, "codec", kind="audio")
    how = speech_files.Compression(
        loading, quality, max_bytes, packet_frames=live.packet_ms // 20, dtx=live.dtx
    )
    try:
        speech_files.compress_pipe(how, out, raw)
    except audio_files.UnknownSamples as error:
        raise UsageError(str(error)) from None


def decompress_work(loading: Loading, shown: Path, pcm: Pcm | None) -> functools.partial[Any]:
    """The work on one file. Raises UsageError for a name that cannot be written."""
    from edgeae import media
    from edgeae.cli import speech_files

    if pcm is not None:
        raise UsageError("--pcm is for raw PCM: OUT must be -")
    options.checked(media.audio_subtype, shown, "PCM_16")
    return functools.partial(speech_files.decompress_file, speech_files.Restoring(loading))


def decompress_pipe(
    loading: Loading, source: str, target: str, pcm: Pcm | None, *, force: bool
) -> None:
    """Restores what comes through - or goes to it, live where it comes so."""
    from edgeae import media
    from edgeae.cli import folder, speech_files

    out = Path(target)
    if target == "-" and pcm is None:
        raise UsageError("speech goes to - as raw PCM, expected --pcm to say which")
    if target != "-":
        if pcm is not None:
            raise UsageError("--pcm is for raw PCM: OUT must be -")
        options.checked(media.audio_subtype, out, "PCM_16")
        folder.refuse_existing(out, force=force)
    if loading.model is not None:
        options.load_for(loading, "codec", kind="audio")
    sample = (pcm or Pcm.s16le).value
    speech_files.decompress_pipe(speech_files.Restoring(loading), Path(source), out, sample)
