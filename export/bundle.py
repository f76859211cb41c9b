"""The bundle's directory: manifest with hashes, and the card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeae import bundle

VERSION = "0.1.0"
# What `python -m train` and its user wrote ends where the first of these begins.
_GENERATED = ("\n## Measured\n", "\n## Training and export\n")


def write_bundle(
    folder: Path,
    *,
    task: str,
    name: str,
    parts: Mapping[str, Any],
    provenance: Mapping[str, Any],
    figures: Mapping[str, Any],
    text: str,
    version: str = VERSION,
) -> None:
    """Write CARD.md and manifest.json beside the graphs and files that `parts` names.

    Args:
        folder: holds the files already.
        task: "codec" or "denoiser".
        name: the bundle's name.
        parts: `graphs` (role, precision, file), `layout`, and `latent`, `stream`, `detection`,
            `files` where the task has them.
        provenance: what it was trained from and with.
        figures: what was measured.
        text: the head of the card.
        version: the bundle's.
    """
    (folder / "CARD.md").write_text(_card(text, provenance, figures), encoding="utf-8")
    graphs = {
        role: {precision: _entry(folder, file) for precision, file in files.items()}
        for role, files in parts["graphs"].items()
    }
    files = parts.get("files", ())
    manifest: dict[str, Any] = {
        "format": bundle.FORMAT,
        "task": task,
        "name": name,
        "version": version,
        "layout": parts["layout"],
        "graphs": graphs,
        "files": {file: _entry(folder, file, named=False) for file in files},
        # Apart from what runs: people may edit it.
        "documents": {"CARD.md": _entry(folder, "CARD.md", named=False)},
        "provenance": dict(provenance),
        "figures": dict(figures),
    }
    for section in ("latent", "stream", "detection"):
        if section in parts:
            manifest[section] = parts[section]
    if task == "codec" or "tables.bin" in manifest["files"]:
        manifest["codec_id"] = codec_id(folder, manifest)
    # Not sorted: the order of a stream's states is the order of its graph's inputs.
    text = json.dumps(manifest, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def add_figures(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write benchmark summaries into the manifest's figures and the card.

    `figures["measured"]["bundle"]` keeps the id under which they were measured: a bundle's id is
    the hash of its manifest, so writing figures into it gives it a new one. Graphs, tables and
    codec id stay as they are.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    figures = dict(manifest["figures"])
    figures["measured"] = [dict(result) for result in results]
    parts = {
        "graphs": {
            role: {precision: entry["file"] for precision, entry in files.items()}
            for role, files in manifest["graphs"].items()
        },
        "files": [file for file in manifest["files"] if file != "CARD.md"],
        **{
            key: manifest[key]
            for key in ("layout", "latent", "stream", "detection")
            if key in manifest
        },
    }
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    ends = [card.index(heading) for heading in _GENERATED if heading in card]
    write_bundle(
        folder,
        task=manifest["task"],
        name=manifest["name"],
        version=manifest["version"],
        parts=parts,
        provenance=manifest["provenance"],
        figures=figures,
        text=card[: min(ends, default=len(card))],
    )


def codec_id(folder: Path, manifest: Mapping[str, Any]) -> str:
    """The id of the codec whose files are in a folder, 32 hex digits: see `edgeae.bundle`."""
    tables = folder / "tables.bin"
    contexts = [
        (folder / manifest["graphs"][role]["fp32"]["file"]).read_bytes()
        for role in sorted(manifest["graphs"])
        if role.startswith("context")
    ]
    held = tables.read_bytes() if tables.exists() else b""
    return bundle.codec_id(manifest["latent"], held, contexts)


def _entry(folder: Path, file: str | Path, *, named: bool = True) -> dict[str, Any]:
    """What the manifest says of a file; a graph's entry names it, another's key is its name."""
    path = folder / Path(file).name
    data = path.read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return {"file": path.name, **entry} if named else entry


def _card(text: str, provenance: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The card: the text that belongs to the model, then what was recorded and measured."""
    lines = [text.rstrip()]
    lines.append("")
    measured = figures.get("measured", ())
    if measured:
        lines += ["## Measured", ""]
        for result in measured:
            lines += [f"`{result['command']}`", "", markdown_table(result["rows"]), ""]
    lines += ["## Training and export", "", "| what | value |", "|---|---|"]
    recorded = {**provenance, **{k: v for k, v in figures.items() if k != "measured"}}
    for key, value in recorded.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        )
        lines.append(f"| {key.replace('_', ' ')} | {shown} |")
    return "\n".join(lines) + "\n"


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table in Markdown; the keys of the first row are its columns."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)
