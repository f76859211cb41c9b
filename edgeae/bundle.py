"""The bundle: one model is one directory, and its manifest.json vouches for every file of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

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
    "codec_id",
    "find",
    "reopened",
]

Model = TypeVar("Model")

FORMAT = 1
TASKS = ("codec", "denoiser", "detector", "autoencoder")
MANIFEST = "manifest.json"
CARD = "CARD.md"

# The manifests that ship are about 3 kB; a megabyte leaves room for any honest provenance.
MAX_MANIFEST_BYTES = 1 << 20
# A model has a handful of graphs, each in two or three precisions.
MAX_GRAPHS = 64
MAX_FILES = 256
# How deep a manifest's sections nest and how long a string in them is: text on a screen.
MAX_DEPTH = 32
MAX_STRING = 1 << 14
# What a stream carries from hop to hop, in numbers: 16 MB of float32 for each channel.
MAX_STATE = 1 << 22
MAX_WINDOW_SAMPLES = 1 << 16
MAX_LOOKAHEAD_HOPS = 64
MAX_LOOKAHEAD_SAMPLES = 1 << 20
# Usual rates of audio, 8,000 to 192,000 Hz, are multiples of this. Between two that have no large
# common divisor a resampler's filters take minutes to make and hundreds of megabytes.
MAX_AUDIO_RATE_HZ = 192_000
AUDIO_RATE_STEP_HZ = 25

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
_OPTIONAL: dict[str, type] = {
    "latent": dict,
    "stream": dict,
    "detection": dict,
    "codec_id": str,
    "documents": dict,
}
_REQUIRED_BY_TASK: dict[str, tuple[str, ...]] = {
    "codec": ("latent", "codec_id"),
    "denoiser": ("stream",),
    "detector": ("detection",),
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
    """The contents of manifest.json, type-checked.

    Attributes:
        graphs: role -> precision -> file.
        files: what else a model is made of.
        documents: texts about it for people, who may edit them: nothing depends on their bytes.
    """

    format: int
    task: str
    name: str
    version: str
    layout: Mapping[str, Any]
    latent: Mapping[str, Any] | None
    stream: Mapping[str, Any] | None
    detection: Mapping[str, Any] | None
    graphs: Mapping[str, Mapping[str, FileEntry]]
    files: Mapping[str, FileEntry]
    documents: Mapping[str, FileEntry]
    codec_id: str | None
    provenance: Mapping[str, Any]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """One verified model directory.

    Attributes:
        id: the hex sha256 of its manifest.json.
        passed: the hex sha256 of every graph that `check_graph` passed word for word. Such bytes
            are not looked into again; a graph that is not among them is.
    """

    path: Path
    manifest: Manifest
    id: str
    passed: frozenset[str] = frozenset()

    def graph(self, role: str, precision: str) -> CheckedGraph:
        """One graph, in bytes that are ready to run: read once, hashed, and checked before.

        Raises:
            BundleError: there is none of that role and precision, naming those that there are; or
                the file has changed since the bundle was found.
        """
        entry = self._graph_entry(role, precision)
        file, data = self.path / entry.file, _read_entry(self.path, entry)
        return (
            CheckedGraph(file, data)
            if entry.sha256 in self.passed
            else check_graph(data, name=file)
        )

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
        """The precision to run: `asked`, or for None "int8" if an encoder or a denoiser of images
        has it, else "fp32".

        Raises BundleError, naming what is there, if no graph has the precision asked for.
        """
        if asked is None:
            graphs = (self.manifest.graphs.get(role, {}) for role in ("encoder", "denoiser"))
            return "int8" if any("int8" in precisions for precisions in graphs) else "fp32"
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

    def document(self, file: str) -> str:
        """The text of a document, or nothing if there is none that can be read.

        Documents are not held to their hash: see `changed_documents`.
        """
        if file not in self.manifest.documents:
            return ""
        try:
            return _read_file(self.path, file, MAX_MANIFEST_BYTES).decode("utf-8", "replace")
        except BundleError:
            return ""

    def changed_documents(self) -> list[str]:
        """The documents that are not, or no longer, what the manifest says."""
        changed = []
        for name, entry in self.manifest.documents.items():
            try:
                _read_entry(self.path, entry)
            except BundleError:
                changed.append(name)
        return changed


def find(model: str | Path) -> Bundle:
    """The bundle with that bundled name, or in that directory, every byte of it verified.

    Raises BundleError if it is not there, if a file differs from what the manifest says, or if a
    graph is unsafe to run (see `onnx_check`).
    """
    if not isinstance(model, (str, Path)):
        raise TypeError(f"model is a {type(model).__name__}, expected a name or a path")
    path = _directory(model)
    data = _read_file(path, MANIFEST, MAX_MANIFEST_BYTES)
    manifest = _manifest(data, path / MANIFEST)
    # A file that stands in the manifest many times is looked into once.
    for entry in set(manifest.files.values()):
        _read_entry(path, entry)
    graphs = {entry for files in manifest.graphs.values() for entry in files.values()}
    passed = set()
    for entry in graphs:
        content = _read_entry(path, entry)
        if check_graph(content, name=path / entry.file).data is content:
            passed.add(entry.sha256)
    found = Bundle(path, manifest, hashlib.sha256(data).hexdigest(), frozenset(passed))
    if manifest.codec_id is not None:
        _check_codec_id(found)
    return found


def reopened(
    model_class: Callable[..., Model], path: Path, bundle_id: str, settings: Mapping[str, Any]
) -> Model:
    """A model that was pickled or copied: its class on its directory again, with its settings.

    Raises BundleError if another bundle is there by now.
    """
    bundle = find(path)
    if bundle.id != bundle_id:
        raise BundleError(
            f"{path} is bundle {bundle.id[:16]}..., expected {bundle_id[:16]}..., which was pickled"
        )
    return model_class(bundle, **settings)


def codec_id(latent: Mapping[str, Any], tables: bytes, contexts: Sequence[bytes]) -> str:
    """What names all that a reader must share with a writer to recover symbols: 32 hex digits.

    Args:
        latent: the manifest's section.
        tables: tables.bin, or nothing if a codec has none.
        contexts: the files of the context graphs, fp32, in the order of their roles.
    """
    digest = hashlib.sha256(json.dumps(latent, sort_keys=True).encode())
    for part in (tables, *contexts):
        digest.update(part)
    return digest.hexdigest()[:32]


def _check_codec_id(bundle: Bundle) -> None:
    manifest = bundle.manifest
    tables = bundle.read("tables.bin") if "tables.bin" in manifest.files else b""
    contexts = [
        _read_entry(bundle.path, manifest.graphs[role]["fp32"])
        for role in sorted(manifest.graphs)
        if role.startswith("context") and "fp32" in manifest.graphs[role]
    ]
    expected = codec_id(manifest.latent or {}, tables, contexts)
    if manifest.codec_id != expected:
        raise BundleError(
            f"{bundle.path / MANIFEST}: codec_id is {manifest.codec_id}, expected {expected} for "
            "this latent section, tables and context graphs"
        )


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
        with open(real, "rb", opener=_open_at_once) as stream:
            # Of what was opened, not of what the name means by now.
            status = os.fstat(stream.fileno())
            # A pipe or a device would block or never end.
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path} is not a regular file")
            if size_bytes is not None and status.st_size != size_bytes:
                raise BundleError(
                    f"{path} has {status.st_size} bytes: {MANIFEST} says {size_bytes}"
                )
            if status.st_size > max_bytes:
                raise BundleError(
                    f"{path} has {status.st_size} bytes, expected at most {max_bytes}"
                )
            return stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise BundleError(f"{path} is missing") from None
    except IsADirectoryError:
        raise BundleError(f"{path} is not a regular file") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        raise BundleError(f"cannot read {path}: {error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file without waiting for the other end of a pipe, or following a last link."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


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
        raise BundleError(f"{path}: format is {_quote(sections['format'])}, expected {FORMAT}")
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
        raise BundleError(f"{path}: task is {_quote(task)}, expected one of {', '.join(TASKS)}")
    for key in _REQUIRED_BY_TASK[task]:
        # Images are no streams, whatever is done to them.
        if key not in sections and (key, sections["layout"].get("kind")) != ("stream", "image"):
            raise BundleError(f"{path}: key {key!r} is missing: a {task} needs it")
    _expect_match(sections["name"], _WORD, "name", path)
    _expect_match(sections["version"], _VERSION, "version", path)
    if "codec_id" in sections:
        _expect_match(sections["codec_id"], _CODEC_ID, "codec_id", path)
    layout = sections["layout"]
    if "kind" not in layout:
        raise BundleError(f"{path}: key 'kind' is missing in layout")
    _expect(layout["kind"], str, "layout.kind", path)
    _expect_match(layout["kind"], _WORD, "layout.kind", path)
    _check_amounts(layout, sections.get("stream", {}), path)
    files = _entries(sections["files"], "files", path)
    documents = _entries(sections.get("documents", {}), "documents", path)
    both = sorted(documents.keys() & files.keys())
    if both:
        raise BundleError(f"{path}: {_quote(both[0])} is a file and a document, expected one")
    # Before documents had a section of their own, the card stood among the files.
    documents |= {name: entry for name, entry in files.items() if name == CARD}
    return Manifest(
        format=FORMAT,
        task=task,
        name=sections["name"],
        version=sections["version"],
        layout=sections["layout"],
        latent=sections.get("latent"),
        stream=sections.get("stream"),
        detection=sections.get("detection"),
        graphs=_graphs(sections["graphs"], path),
        files={name: entry for name, entry in files.items() if name not in documents},
        documents=documents,
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
        raise BundleError(f"{path} holds a {type(sections).__name__}, expected an object")
    _check_text(sections, path)
    return sections


def _check_text(sections: dict[str, Any], path: Path) -> None:
    """Raises BundleError where sections nest too deep or a string is too long to be shown."""
    level: list[Any] = [sections]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and len(value) > MAX_STRING:
                raise BundleError(
                    f"{path}: {_quote(value[:80])} has {len(value)} characters, "
                    f"expected at most {MAX_STRING}"
                )
        level = inner
    if level:
        raise BundleError(f"{path}: sections nest deeper than {MAX_DEPTH}")


def _check_amounts(layout: Mapping[str, Any], stream: Mapping[str, Any], path: Path) -> None:
    """Raises BundleError for a rate, window or state that would take minutes or gigabytes.

    Only what is a number is judged here; the model's class says what it must be.
    """

    def at_most(section: Mapping[str, Any], key: str, most: int) -> None:
        value = section.get(key)
        if isinstance(value, int) and value > most:
            raise BundleError(f"{path}: {key} is {_quote(value)}, expected at most {most}")

    rate_hz = layout.get("sample_rate_hz")
    if layout["kind"] == "audio":
        at_most(layout, "sample_rate_hz", MAX_AUDIO_RATE_HZ)
        if isinstance(rate_hz, int) and rate_hz % AUDIO_RATE_STEP_HZ:
            raise BundleError(
                f"{path}: sample_rate_hz is {_quote(rate_hz)}, expected a multiple of "
                f"{AUDIO_RATE_STEP_HZ}"
            )
    at_most(stream, "window_samples", MAX_WINDOW_SAMPLES)
    at_most(stream, "hop_samples", MAX_WINDOW_SAMPLES)
    at_most(stream, "lookahead_hops", MAX_LOOKAHEAD_HOPS)
    at_most(stream, "lookahead_samples", MAX_LOOKAHEAD_SAMPLES)
    state = stream.get("state")
    shapes = list(state.values()) if isinstance(state, dict) else []
    numbers = sum(
        math.prod(abs(axis) for axis in shape if isinstance(axis, int))
        for shape in shapes
        if isinstance(shape, list)
    )
    if numbers > MAX_STATE:
        raise BundleError(f"{path}: state holds {numbers} numbers, expected at most {MAX_STATE}")


def _entries(section: dict[str, Any], where: str, path: Path) -> dict[str, FileEntry]:
    if len(section) > MAX_FILES:
        raise BundleError(f"{path}: {where} has {len(section)} entries, expected {MAX_FILES}")
    return {
        name: _entry(name, entry, f"{where}.{_quote(name)}", path)
        for name, entry in section.items()
    }


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
            # The suffix says which format is run, to people and to other programs.
            if not entry["file"].endswith(".onnx"):
                raise BundleError(
                    f"{path}: {where}.file is {_quote(entry['file'])}, expected .onnx"
                )
    count = sum(map(len, graphs.values()))
    if count > MAX_GRAPHS:
        raise BundleError(f"{path}: graphs has {count} files, expected at most {MAX_GRAPHS}")
    return graphs


def _entry(file: Any, rest: Any, where: str, path: Path) -> FileEntry:
    _expect(file, str, f"the file name in {where}", path)
    # No separators, no "..", no drive letters, no hidden files: a name can only mean a file here.
    if not _FILE_NAME.fullmatch(file) or file == MANIFEST:
        raise BundleError(
            f"{path}: {_quote(file)} is no file name for {where}, expected {_FILE_NAME.pattern}"
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
            f"{path}: {where}.bytes is {_quote(rest['bytes'])}, expected 0 to {MAX_FILE_BYTES}"
        )
    return FileEntry(file=file, sha256=rest["sha256"], bytes=rest["bytes"])


def _expect(value: Any, kind: type, where: str, path: Path) -> None:
    if type(value) is not kind:  # not isinstance: true and false are no numbers
        raise BundleError(f"{path}: {where} is {_quote(value)}, expected {_JSON_NAMES[kind]}")


def _expect_match(value: str, pattern: re.Pattern[str], where: str, path: Path) -> None:
    if not pattern.fullmatch(value):
        raise BundleError(f"{path}: {where} is {_quote(value)}, expected {pattern.pattern}")


def _no_others(found: Mapping[str, Any], known: Sequence[str], where: str, path: Path) -> None:
    for key in found:
        if key not in known:
            raise BundleError(
                f"{path}: unknown key {_quote(key)} in {where}, expected {', '.join(known)} alone"
            )


def _quote(value: Any) -> str:
    """The value as JSON, cut so that a message stays one short line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
