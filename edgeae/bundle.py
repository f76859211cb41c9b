"""The bundle: one model is one directory, and its manifest.json vouches for every file of it."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgeae.errors import BundleError, UnknownCodec
from edgeae.onnx_check import MAX_FILE_BYTES, CheckedGraph, check_graph

__all__ = [
    "FORMAT",
    "TASKS",
    "Bundle",
    "FileEntry",
    "Manifest",
    "bundled_names",
    "bundled_with_codec_id",
    "find",
]

FORMAT = 1
TASKS = ("codec", "denoiser", "detector", "autoencoder")
MANIFEST = "manifest.json"

# The manifests that ship are about 3 kB; a megabyte leaves room for any honest provenance.
MAX_MANIFEST_BYTES = 1 << 20
# A model has a handful of graphs, each in two or three precisions.
MAX_GRAPHS = 64
MAX_FILES = 256
# How deep a manifest's sections nest, and how long a string in them is.
MAX_DEPTH = 32
MAX_STRING = 1 << 16

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CODEC_ID = re.compile(r"[0-9a-f]{32}")

_REQUIRED: dict[str, type] = {
    "format": int,
    "task": str,
    "name": str,
    "version": str,
    "layout": dict,
    "graphs": dict,
    "files": dict,
    "provenance": dict,
    "figures": dict,
}
_OPTIONAL: dict[str, type] = {"latent": dict, "stream": dict, "codec_id": str}
_REQUIRED_BY_TASK: dict[str, tuple[str, ...]] = {
    "codec": ("latent", "codec_id"),
    "denoiser": ("stream",),
    "detector": (),
    "autoencoder": (),
}
_JSON_NAMES: dict[type, str] = {int: "a whole number", str: "a string", dict: "an object"}

_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of one file: its name, the hex sha256 and the number of its bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json, type-checked; `graphs` is role -> precision -> file."""

    format: int
    task: str
    name: str
    version: str
    layout: Mapping[str, Any]
    latent: Mapping[str, Any] | None
    stream: Mapping[str, Any] | None
    graphs: Mapping[str, Mapping[str, FileEntry]]
    files: Mapping[str, FileEntry]
    codec_id: str | None
    provenance: Mapping[str, Any]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """One verified model directory; `id` is the hex sha256 of its manifest.json."""

    path: Path
    manifest: Manifest
    id: str

    def graph(self, role: str, precision: str) -> CheckedGraph:
        """One graph, in bytes that are ready to run: read once, hashed, checked.

        Raises:
            BundleError: there is none of that role and precision, naming those that there are; or
                the file has changed since the bundle was found.
        """
        entry = self._graph_entry(role, precision)
        return check_graph(_read_entry(self.path, entry), name=self.path / entry.file)

    def graph_file(self, role: str, precision: str) -> Path:
        """The path of one .onnx file. Raises BundleError, naming what is there, if it is not."""
        return self.path / self._graph_entry(role, precision).file

    def _graph_entry(self, role: str, precision: str) -> FileEntry:
        graphs = self.manifest.graphs
        if role not in graphs:
            raise BundleError(
                f"{self.manifest.name} has no {role!r} graph: it has {', '.join(graphs)}"
            )
        if precision not in graphs[role]:
            known = ", ".join(graphs[role])
            raise BundleError(f"{self.manifest.name} has no {precision!r} {role}: it has {known}")
        return graphs[role][precision]

    def precision(self, asked: str | None) -> str:
        """The precision to run: `asked`, or for None "int8" if the encoder has it, else "fp32".

        Raises BundleError, naming what is there, if no graph has the precision asked for.
        """
        if asked is None:
            return "int8" if "int8" in self.manifest.graphs.get("encoder", {}) else "fp32"
        known = sorted({name for files in self.manifest.graphs.values() for name in files})
        if asked not in known:
            raise BundleError(
                f"{self.manifest.name} has no precision {asked!r}: it has {', '.join(known)}"
            )
        return asked

    def read(self, file: str) -> bytes:
        """The bytes of one entry of `manifest.files`, checked against its hash.

        Raises BundleError if there is no such entry or the file has changed.
        """
        entry = self.manifest.files.get(file)
        if entry is None:
            known = ", ".join(self.manifest.files) or "none"
            raise BundleError(f"{self.manifest.name} has no file {file!r}: it has {known}")
        return _read_entry(self.path, entry)


def find(model: str | Path) -> Bundle:
    """The bundle with that bundled name, or in that directory, every byte of it verified.

    Raises BundleError if it is not there, if a file differs from what the manifest says, or if a
    graph is unsafe to run (see `onnx_check`).
    """
    if not isinstance(model, (str, Path)):
        raise TypeError(f"model is a {type(model).__name__}: a name or a path is allowed")
    path = _directory(model)
    data = _read_file(path, MANIFEST, MAX_MANIFEST_BYTES)
    manifest = _manifest(data, path / MANIFEST)
    for entry in manifest.files.values():
        _read_entry(path, entry)
    for precisions in manifest.graphs.values():
        for entry in precisions.values():
            check_graph(_read_entry(path, entry), name=str(path / entry.file))
    return Bundle(path=path, manifest=manifest, id=hashlib.sha256(data).hexdigest())


def bundled_names() -> list[str]:
    """The names of the models inside the package, sorted."""
    if not _MODELS.is_dir():
        return []
    return sorted(path.name for path in _MODELS.iterdir() if (path / MANIFEST).is_file())


def bundled_with_codec_id(codec_id: bytes) -> Bundle:
    """The bundled codec whose files carry that id, or an id that begins so (small files carry 4 of
    its 16 bytes). Raises UnknownCodec if there is none.
    """
    for name in bundled_names():
        path = _MODELS / name
        manifest = _manifest(_read_file(path, MANIFEST, MAX_MANIFEST_BYTES), path / MANIFEST)
        if manifest.codec_id and manifest.codec_id.startswith(codec_id.hex()):
            return find(name)
    raise UnknownCodec(
        f"made by a codec with id {codec_id.hex()}, which is not among the bundled models "
        f"({_known()}): load that codec from its directory",
        codec_id=codec_id,
    )


def _known() -> str:
    return ", ".join(bundled_names()) or "none"


def _directory(model: str | Path) -> Path:
    # A bundled name wins over a folder of that name, so what a name means never depends on
    # where the program was started; "./name" or a Path means the folder.
    if isinstance(model, str) and model in bundled_names():
        return _MODELS / model
    try:
        path = Path(model).absolute()
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot look for model {str(model)!r}: {error}") from error
    if exists:
        raise BundleError(f"{model} is a file: a model is a directory with a {MANIFEST}")
    raise BundleError(
        f"no model named {str(model)!r} and no such directory: the known models are {_known()}"
    )


def _read_file(directory: Path, file: str, max_bytes: int, size_bytes: int | None = None) -> bytes:
    """The bytes of a regular file in the directory itself, which is as long as it should be."""
    path = directory / file
    try:
        real = path.resolve(strict=True)
        if real.parent != directory.resolve():
            raise BundleError(f"{path} is a link out of the model's directory")
        status = real.stat()
        # A pipe or a device would block or never end.
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is not a regular file")
        if size_bytes is not None and status.st_size != size_bytes:
            raise BundleError(f"{path} has {status.st_size} bytes: {MANIFEST} says {size_bytes}")
        if status.st_size > max_bytes:
            raise BundleError(f"{path} has {status.st_size} bytes: {max_bytes} are allowed")
        with real.open("rb") as stream:
            return stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise BundleError(f"{path} is missing") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        raise BundleError(f"cannot read {path}: {error}") from error


def _read_entry(directory: Path, entry: FileEntry) -> bytes:
    data = _read_file(directory, entry.file, MAX_FILE_BYTES, entry.bytes)
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise BundleError(
            f"{directory / entry.file} has changed: its sha256 is {found[:16]}..., "
            f"{MANIFEST} says {entry.sha256[:16]}..."
        )
    return data


def _manifest(data: bytes, path: Path) -> Manifest:
    """The manifest in `data`; raises BundleError, quoting the key, at the first thing wrong."""
    sections = _parse(data, path)
    if "format" in sections and sections["format"] != FORMAT:
        raise BundleError(f"{path}: format is {_quote(sections['format'])}: {FORMAT} is allowed")
    for key, kind in _REQUIRED.items():
        if key not in sections:
            raise BundleError(f"{path}: key {key!r} is missing")
        _expect(sections[key], kind, key, path)
    for key, kind in _OPTIONAL.items():
        if key in sections:
            _expect(sections[key], kind, key, path)
    _no_others(sections, [*_REQUIRED, *_OPTIONAL], "the manifest", path)

    task = sections["task"]
    if task not in TASKS:
        raise BundleError(f"{path}: task is {_quote(task)}: {', '.join(TASKS)} are allowed")
    for key in _REQUIRED_BY_TASK[task]:
        if key not in sections:
            raise BundleError(f"{path}: key {key!r} is missing: a {task} needs it")
    _expect_match(sections["name"], _WORD, "name", path)
    _expect_match(sections["version"], _VERSION, "version", path)
    if "codec_id" in sections:
        _expect_match(sections["codec_id"], _CODEC_ID, "codec_id", path)
    return Manifest(
        format=FORMAT,
        task=task,
        name=sections["name"],
        version=sections["version"],
        layout=sections["layout"],
        latent=sections.get("latent"),
        stream=sections.get("stream"),
        graphs=_graphs(sections["graphs"], path),
        files={
            name: _entry(name, entry, f"files.{_quote(name)}", path)
            for name, entry in sections["files"].items()
        },
        codec_id=sections.get("codec_id"),
        provenance=sections["provenance"],
        figures=sections["figures"],
    )


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BundleError(f"{path}: a key stands twice in one object")
        return found

    def no_constant(word: str) -> NoReturn:
        raise BundleError(f"{path}: {word} is not JSON")

    try:
        sections = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(sections, dict):
        raise BundleError(f"{path} holds a {type(sections).__name__}: an object is allowed")
    return sections


def _graphs(roles: dict[str, Any], path: Path) -> dict[str, dict[str, FileEntry]]:
    if not roles:
        raise BundleError(f"{path}: graphs is empty: a model needs one")
    graphs: dict[str, dict[str, FileEntry]] = {}
    for role, precisions in roles.items():
        _expect_match(role, _WORD, "a role in graphs", path)
        _expect(precisions, dict, f"graphs.{role}", path)
        if not precisions:
            raise BundleError(f"{path}: graphs.{role} is empty: a role needs one precision")
        graphs[role] = {}
        for precision, entry in precisions.items():
            _expect_match(precision, _WORD, f"a precision in graphs.{role}", path)
            where = f"graphs.{role}.{precision}"
            _expect(entry, dict, where, path)
            if "file" not in entry:
                raise BundleError(f"{path}: key 'file' is missing in {where}")
            rest = {key: value for key, value in entry.items() if key != "file"}
            graphs[role][precision] = _entry(entry["file"], rest, where, path)
    return graphs


def _entry(file: Any, rest: Any, where: str, path: Path) -> FileEntry:
    _expect(file, str, f"the file name in {where}", path)
    # No separators, no "..", no drive letters, no hidden files: a name can only mean a file here.
    if not _FILE_NAME.fullmatch(file) or file == MANIFEST:
        raise BundleError(
            f"{path}: {_quote(file)} is no file name for {where}: {_FILE_NAME.pattern} is allowed"
        )
    _expect(rest, dict, where, path)
    for key, kind in (("sha256", str), ("bytes", int)):
        if key not in rest:
            raise BundleError(f"{path}: key {key!r} is missing in {where}")
        _expect(rest[key], kind, f"{where}.{key}", path)
    _no_others(rest, ["sha256", "bytes"], where, path)
    _expect_match(rest["sha256"], _SHA256, f"{where}.sha256", path)
    if not 0 <= rest["bytes"] <= MAX_FILE_BYTES:
        raise BundleError(
            f"{path}: {where}.bytes is {_quote(rest['bytes'])}: 0 to {MAX_FILE_BYTES} are allowed"
        )
    return FileEntry(file=file, sha256=rest["sha256"], bytes=rest["bytes"])


def _expect(value: Any, kind: type, where: str, path: Path) -> None:
    if type(value) is not kind:  # not isinstance: true and false are no numbers
        raise BundleError(f"{path}: {where} is {_quote(value)}: {_JSON_NAMES[kind]} is allowed")


def _expect_match(value: str, pattern: re.Pattern[str], where: str, path: Path) -> None:
    if not pattern.fullmatch(value):
        raise BundleError(f"{path}: {where} is {_quote(value)}: {pattern.pattern} is allowed")


def _no_others(found: Mapping[str, Any], known: Sequence[str], where: str, path: Path) -> None:
    for key in found:
        if key not in known:
            raise BundleError(
                f"{path}: unknown key {_quote(key)} in {where}: {', '.join(known)} are allowed"
            )


def _quote(value: Any) -> str:
    """The value as JSON, cut so that a message stays one short line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
