"""The options that several verbs share, and what they mean."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgeae.batch import Loading
    from edgeae.bundle import Bundle
    from edgeae.providers import Provider

__all__ = [
    "MAX_THREADS",
    "Pcm",
    "Raw",
    "UsageError",
    "asked_providers",
    "checked",
    "in_words_of_the_command",
    "into_folder",
    "is_autoencoder",
    "job_count",
    "load_for",
    "loading",
    "names_folder",
    "refuse_folder",
    "refuse_empty",
]

# Beyond the processors of a machine threads only cost: 4,000 of them take a minute to start.
MAX_THREADS = max(64, os.cpu_count() or 1)


class UsageError(Exception):
    """The command line asks for something that cannot be meant."""


class Pcm(StrEnum):
    """Sample formats of a raw pipe, by ffmpeg's names: see `edgeae.cli.audio_files.RawAudio`."""

    s16le = "s16le"
    s24le = "s24le"
    s32le = "s32le"
    f32le = "f32le"


@dataclass(frozen=True)
class Raw:
    """What the options say of raw samples: None of what they do not."""

    rate: int | None = None
    channels: int | None = None
    pcm: Pcm | None = None

    @property
    def given(self) -> bool:
        """Whether they say anything."""
        return any(part is not None for part in (self.rate, self.channels, self.pcm))


Sources = Annotated[
    list[str], typer.Argument(metavar="IN...", help="Files, a folder, or - for stdin.")
]
Target = Annotated[
    str,
    typer.Argument(metavar="OUT", help="A file, a folder (one ends in /), or - for stdout."),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A bundled name or a directory.")]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32 or int8. By default int8 where the model has it.", show_default=False),
]
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME[:key=value,...]",
        help="onnxruntime's name of an execution provider, with its options; repeat for a second"
        " choice. By default CPUExecutionProvider.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, gpu, npu or auto, instead of --provider: see edgeae info --providers.",
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Threads of one model run.")]
RawRate = Annotated[
    int | None,
    typer.Option(metavar="HZ", min=1, help="Sample rate of raw PCM.", show_default=False),
]
RawChannels = Annotated[
    int | None,
    typer.Option(min=1, help="Channels of raw PCM. By default 1.", show_default=False),
]
RawSamples = Annotated[
    Pcm | None,
    typer.Option(
        help="Samples of raw PCM, little-endian, channels interleaved: signed integers of 16, 24"
        " (in 3 bytes) or 32 bits, or floats. By default s16le.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Skip = Annotated[
    bool, typer.Option("--skip-existing", help="Leave files that exist, and go on with the rest.")
]
Jobs = Annotated[
    str,
    typer.Option(
        "--jobs", metavar="N|auto", help="Processes for a folder's files; auto is one a core."
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Add a row for each file, done or not, to a .csv or .jsonl file.",
        show_default=False,
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail if any file of a folder is left out.")]
KeepSuffix = Annotated[
    bool,
    typer.Option("--keep-suffix", help="Add OUT's suffix to a folder's names: a.png.eae."),
]


def asked_providers(specs: Sequence[str] | None) -> list[Provider] | None:
    """The providers of a command line; a wrong one is a wrong command line."""
    from edgeae.providers import parse

    if specs is None:
        return None
    return [checked(parse, spec) for spec in specs]


def loading(
    model: str | None,
    precision: str | None,
    providers: Sequence[str] | None,
    device: str | None,
    threads: int,
) -> Loading:
    """How to load the model that a command line asks for."""
    from edgeae.batch import Loading
    from edgeae.providers import DEVICES

    asked = asked_providers(providers)
    if asked is not None and device is not None:
        raise UsageError("--provider and --device exclude each other")
    if device is not None and device not in DEVICES:
        raise UsageError(f"--device is {device!r}, expected one of {', '.join(DEVICES)}")
    return Loading(model, precision, None if asked is None else tuple(asked), device, threads)


def load_for(how: Loading, task: str, *, kind: str | None = None, processes: int = 1) -> Bundle:
    """Loads the model here or in so many processes, so that what is wrong with it is told once and
    before the first file; gives its bundle.

    Raises BundleError if it is of another task than the verb is for, UsageError if it is of another
    kind of data than the files are, and what loading raises.
    """
    from edgeae import batch
    from edgeae.loading import files_of

    batch.forget()  # a model that an earlier command in this process left may have changed
    try:
        bundle = batch.start(processes, how)
        files_of(bundle, task)
        found = bundle.manifest.layout.get("kind")
        if kind not in (None, found):
            raise UsageError(f"{how.model} is a {task} of {found!r}, expected one of {kind!r}")
    except BaseException:
        batch.forget()
        raise
    return bundle


def is_autoencoder(model: str | None) -> bool:
    """Whether a directory's manifest says that an autoencoder is in it, which loading verifies.

    A manifest that cannot be one says nothing: what is wrong with it, loading tells.
    """
    from edgeae.bundle import MANIFEST, MAX_MANIFEST_BYTES

    path = Path(model or "") / MANIFEST
    try:
        status = path.stat()
        # A pipe or a device would block or never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST_BYTES:
            return False
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("task") == "autoencoder"


def refuse_empty(*names: str) -> None:
    """UsageError for an empty name, which would be the folder that one is in."""
    if "" in names:
        raise UsageError("IN or OUT is empty, expected a name")


def names_folder(target: str) -> bool:
    """Whether OUT ends as only a folder does, also one that is not there yet."""
    return target.endswith(("/", os.sep))


def into_folder(sources: Sequence[str], target: str) -> bool:
    """Whether OUT is a folder by its name; several inputs go to such a one, or to one that is
    there. UsageError if they do not."""
    named = names_folder(target)
    if len(sources) > 1 and not named and not Path(target).is_dir():
        raise UsageError(
            f"OUT is {target}, expected a folder for {len(sources)} inputs: end a new one in /"
        )
    return named


def refuse_folder(target: str) -> None:
    """UsageError if OUT is a folder, where a recording or a picture comes from -."""
    if names_folder(target) or Path(target).is_dir():
        raise UsageError(f"OUT is the folder {target}, expected a file for what comes from -")


def job_count(text: str, *, threads: int) -> int:
    """The number of processes that --jobs asks for; auto gives each the threads it runs on."""
    from edgeae.bench.machine import cores

    if text == "auto":
        return max(1, cores() // threads)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
        raise UsageError(f"--jobs is {text!r}, expected auto or 1 to {MAX_THREADS}")
    return int(text)


def checked(check: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a check gives back; its ValueError means a wrong command line."""
    try:
        return check(*arguments, **options)
    except ValueError as error:
        raise UsageError(str(error)) from None


# What a caller of the library would write, and what a user of the command does.
_WORDS = (
    ("set limits=Limits(pixels_per_byte=...)", "give --large"),
    ("limits=Limits(pixels_per_byte=...)", "--large"),
    ("take a region", "take a --region"),
    ("region is (", "--region is ("),
    ("max_bytes", "--max-bytes"),
    ("attenuation_limit_db", "--attenuation-limit"),
    ("strength is", "--strength is"),
)


@contextmanager
def in_words_of_the_command(rate: str = "--rate") -> Iterator[None]:
    """Errors of the library name the options of the command instead of its arguments.

    `rate` is what the user calls the sample rate: no option where the audio says its own.
    """
    try:
        yield
    except ValueError as error:  # BitstreamError is one
        message = str(error)
        for argument, option in (*_WORDS, ("sample_rate", rate)):
            message = message.replace(argument, option)
        if message == str(error):
            raise
        raise type(error)(message) from None
