"""The doors to every model: which class runs a bundle, by the task and the kind of its manifest."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from edgeae.bundle import Bundle, bundled_with_codec_id, find
from edgeae.coding.container import as_bytes
from edgeae.errors import BitstreamError, BundleError
from edgeae.providers import Provider

if TYPE_CHECKING:
    from edgeae.autoencoder import Autoencoder
    from edgeae.detector import Detector
    from edgeae.image.codec import ImageCodec
    from edgeae.image.denoiser import ImageDenoiser
    from edgeae.image.detector import ImageDetector
    from edgeae.signal.codec import SignalCodec
    from edgeae.signal.denoiser import SignalDenoiser
    from edgeae.signal.speech_codec import SpeechCodec

    Model: TypeAlias = (
        Autoencoder
        | Detector
        | ImageCodec
        | ImageDenoiser
        | ImageDetector
        | SignalCodec
        | SignalDenoiser
        | SpeechCodec
    )

__all__ = [
    "DOORS",
    "Door",
    "class_of",
    "decompress",
    "file_codec_id",
    "file_info",
    "files_of",
    "load",
    "trials_of",
]


@dataclass(frozen=True)
class Door:
    """Where the code for one kind of model lives; nothing is imported before it is needed.

    Attributes:
        module, name: the class that runs it. The module of one that compresses also has
            `file_codec_id(data, **options)`, the id that a file's bytes carry, and
            `file_info(data)`, what else its header says; where the id may be empty, for files that
            no model is needed for, also `decompress_exact(data, **options)`.
        trials: the module with its workloads for `bench` and its self-test for `verify`, see
            `edgeae.bench.workloads`.
        files: the module with the work of the command's verbs on one file, see `edgeae.batch`.
        magics: of what compresses, how its files begin.
    """

    module: str
    name: str
    trials: str
    files: str
    magics: tuple[bytes, ...] = ()


# (task, layout.kind) -> door. A new kind of model is a row here and files of its own.
DOORS: dict[tuple[str, str], Door] = {
    ("codec", "image"): Door(
        module="edgeae.image.codec",
        name="ImageCodec",
        trials="edgeae.bench.image_codec",
        files="edgeae.cli.image_files",
        magics=(b"\x89EAE\r\n\x1a\n", b"\x89e", b"\x89x"),
    ),
    ("codec", "signal"): Door(
        module="edgeae.signal.codec",
        name="SignalCodec",
        trials="edgeae.bench.signal_codec",
        files="edgeae.cli.signal_files",
        magics=(b"\x89EAS\r\n\x1a\n", b"\x89s"),
    ),
    # Its files are those of signals, whose codec reads what their headers say; its own are live
    # streams that were kept.
    ("codec", "audio"): Door(
        module="edgeae.signal.speech_codec",
        name="SpeechCodec",
        trials="edgeae.bench.speech_codec",
        files="edgeae.cli.speech_files",
        magics=(b"\x89p",),
    ),
    ("denoiser", "audio"): Door(
        module="edgeae.signal.denoiser",
        name="SignalDenoiser",
        trials="edgeae.bench.signal_denoiser",
        files="edgeae.cli.audio_files",
    ),
    ("denoiser", "signal"): Door(
        module="edgeae.signal.denoiser",
        name="SignalDenoiser",
        trials="edgeae.bench.sample_denoiser",
        files="edgeae.cli.series_files",
    ),
    ("detector", "signal"): Door(
        module="edgeae.detector",
        name="Detector",
        trials="edgeae.bench.detector",
        files="edgeae.cli.score_files",
    ),
    ("detector", "image"): Door(
        module="edgeae.image.detector",
        name="ImageDetector",
        trials="edgeae.bench.image_detector",
        files="edgeae.cli.inspected_images",
    ),
    ("denoiser", "image"): Door(
        module="edgeae.image.denoiser",
        name="ImageDenoiser",
        trials="edgeae.bench.image_denoiser",
        files="edgeae.cli.restored_images",
    ),
    **{
        ("autoencoder", kind): Door(
            module="edgeae.autoencoder",
            name="Autoencoder",
            trials="edgeae.bench.autoencoder",
            files="edgeae.cli.autoencoder_files",
            magics=(b"\x89EAV\r\n\x1a\n", b"\x89v"),
        )
        for kind in ("vector", "signal", "image")
    },
}


def load(
    model: str | Path,
    *,
    precision: str | None = None,
    providers: Sequence[Provider] | None = None,
    device: str | None = None,
    threads: int = 1,
    strict: bool = False,
) -> Model:
    """The model of a bundled name or of a bundle's folder, as the class that its manifest's task
    and kind name.

    Raises:
        BundleError: not there, damaged, or of a task or kind that this version cannot run.
        ProviderError: a provider is not available or takes no node.
    """
    bundle = find(model)
    # As the class's own `load`, which would verify the files a second time.
    found: Model = class_of(bundle)(
        bundle,
        precision=precision,
        providers=providers,
        device=device,
        threads=threads,
        strict=strict,
    )
    return found


def decompress(blob: bytes, **options: Any) -> Any:
    """What an .eae file holds, by the bundled codec that its id names.

    Args:
        blob: the file's bytes.
        options: those of the codec's own `decompress`. For images they are `errors`, `region`
            and `limits`, and the result is that of `ImageCodec.decompress`.

    Raises:
        TypeError: blob is no bytes.
        BitstreamError: not an .eae file, cut off, damaged or over a limit.
        UnknownCodec: no bundled codec has this id.
    """
    data = as_bytes(blob)
    if codec_id := file_codec_id(data, **options):
        return _bundled_codec(codec_id).decompress(data, **options)
    return _first_that_reads(data, "decompress_exact", **options)


def file_codec_id(data: bytes, **options: Any) -> bytes:
    """The id of the codec that wrote a file, 16 bytes or the first 4 of them; empty if none is
    needed to read it.

    `options` are those of `decompress`. Raises BitstreamError if no kind of codec reads the bytes.
    """
    found: bytes = _first_that_reads(data, "file_codec_id", **options)
    return found


def file_info(data: bytes) -> dict[str, Any]:
    """What a compressed file's header says, "kind" and "codec_id" (hexadecimal, or None
    if no codec is needed) among it.

    Raises BitstreamError if no kind of codec reads the bytes.
    """
    found: dict[str, Any] = _first_that_reads(data, "file_info")
    return found


def _first_that_reads(data: bytes, function: str, **options: Any) -> Any:
    # One module may stand behind several doors.
    doors = list({door.module: door for door in DOORS.values() if door.magics}.values())
    # A damaged file may begin otherwise than it did, so the others are asked too.
    doors.sort(key=lambda door: not data.startswith(door.magics))
    refused: BitstreamError | None = None
    for door in doors:
        try:
            # Not every kind has files that no model is needed for.
            if (read := getattr(import_module(door.module), function, None)) is not None:
                return read(data, **options)
        except BitstreamError as error:
            refused = refused or error
    raise refused or BitstreamError("this is not an .eae file")


def class_of(bundle: Bundle) -> Any:
    """The class that runs a bundle. Raises BundleError if there is none."""
    door = _door(bundle)
    return getattr(import_module(door.module), door.name)


def trials_of(bundle: Bundle) -> ModuleType:
    """The module with the workloads and the self-test of a bundle's kind of model.

    Raises BundleError if there is none.
    """
    return import_module(_door(bundle).trials)


def files_of(bundle: Bundle, task: str) -> ModuleType:
    """The module with the verbs for the files of a bundle's kind of model.

    Raises BundleError if there is none, or if the bundle is of another task.
    """
    if bundle.manifest.task != task:
        raise BundleError(f"{bundle.manifest.name} is a {bundle.manifest.task}, expected a {task}")
    return import_module(_door(bundle).files)


def _door(bundle: Bundle) -> Door:
    manifest = bundle.manifest
    kind = manifest.layout.get("kind")
    # A kind that is no string cannot be a key.
    door = DOORS.get((manifest.task, kind)) if isinstance(kind, str) else None
    if door is None:
        known = ", ".join(f"{task} of {kind}" for task, kind in DOORS)
        raise BundleError(
            f"{manifest.name} is a {manifest.task} of {kind!r}, which this version cannot run: "
            f"expected {known}"
        )
    return door


@functools.lru_cache(maxsize=4)
def _bundled_codec(codec_id: bytes) -> Any:
    bundle = bundled_with_codec_id(codec_id)
    return class_of(bundle)(bundle)
