"""What a file or a model is, without running anything."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from edgeae.bundle import Bundle, bundled_names, bundled_with_codec_id, find
from edgeae.errors import BitstreamError, MediaError, UnknownCodec
from edgeae.loading import file_info

__all__ = ["info"]

# No header is longer, and of a large file no more is read.
_HEAD_BYTES = 1 << 12


def info(source: bytes | str | Path) -> dict[str, Any]:
    """What an .eae file or a model is, as plain data.

    Args:
        source: the bytes of a file, its path, a bundled model's name or a bundle's directory. A
            bundled name wins over a file of that name.

    Returns:
        Of a file {"what": "file", "bytes", "codec" and "codec_version" (None if that codec is not
        bundled), "codec_id", "kind"} and for an image "width", "height", "channels" (0 for an
        array without a channel axis), "quality" (1 to 9), "level", "lossless" and "bits_per_pixel";
        the id, quality and level of a file that keeps its image exactly are None. For a signal, or
        speech (kind "audio"), what `edgeae.signal.codec.file_info` says, "seconds",
        "bits_per_sample" and "bits_per_second", of all channels together. For a live stream of
        speech that was kept what `edgeae.signal.speech_codec.file_info` says.
        Of a model {"what": "model", "name", "version", "task", "kind", "id", "codec_id",
        "directory", "bytes", "layout", "graphs", "files", "figures", "provenance"}.

    Raises:
        BitstreamError: not an .eae file, or its header is damaged.
        BundleError: no such model, or a damaged one.
        MediaError: the file cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _file(bytes(source), len(source))
    if not isinstance(source, str | Path):
        raise TypeError(f"source is a {type(source).__name__}, expected bytes, a name or a path")
    if source not in bundled_names() and Path(source).is_file():
        try:
            with open(source, "rb") as file:
                head = file.read(_HEAD_BYTES)
            return _file(head, Path(source).stat().st_size)
        except OSError as error:
            raise MediaError(f"cannot read {source}: {error.strerror}") from error
        except BitstreamError as error:
            raise BitstreamError(f"{source}: {error}") from None
    if str(source).lower().endswith(".eae") and not Path(source).exists():
        raise MediaError(f"cannot read {source}: No such file or directory")
    return _model(find(source))


def _file(head: bytes, size_bytes: int) -> dict[str, Any]:
    header = file_info(head)
    name = version = None
    if header["codec_id"] is not None:
        with contextlib.suppress(UnknownCodec):
            codec = bundled_with_codec_id(bytes.fromhex(header["codec_id"])).manifest
            name, version = codec.name, codec.version
    told = {"what": "file", "bytes": size_bytes, "codec": name, "codec_version": version, **header}
    if "width" in header:
        told["bits_per_pixel"] = 8 * size_bytes / (header["width"] * header["height"])
    if "samples" in header:
        told["seconds"] = header["samples"] / header["sample_rate_hz"]
        told["bits_per_second"] = 8 * size_bytes * header["sample_rate_hz"] / header["samples"]
        told["bits_per_sample"] = 8 * size_bytes / (header["samples"] * max(1, header["channels"]))
    return told


def _model(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    graphs = {
        role: {name: {"file": entry.file, "bytes": entry.bytes} for name, entry in files.items()}
        for role, files in manifest.graphs.items()
    }
    others = (*manifest.files.values(), *manifest.documents.values())
    files = {entry.file: entry.bytes for entry in others}
    return {
        "what": "model",
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "kind": manifest.layout.get("kind"),
        "id": bundle.id,
        "codec_id": manifest.codec_id,
        "directory": str(bundle.path),
        "bytes": sum(files.values())
        + sum(entry["bytes"] for role in graphs.values() for entry in role.values()),  # type: ignore[misc]
        "layout": dict(manifest.layout),
        "graphs": graphs,
        "files": files,
        "figures": dict(manifest.figures),
        "provenance": dict(manifest.provenance),
    }
