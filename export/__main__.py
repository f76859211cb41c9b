"""Turn a checkpoint into a verified bundle: `python -m export CHECKPOINT OUT --calibration DIR`.

Everything is written beside OUT and checked first; OUT appears, or is replaced, only if every
check passes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from edgeae.errors import EdgeaeError
from export.bundle import VERSION, write_bundle
from export.card import card_text
from export.parity import ExportError
from train.checkpoint import CheckpointError, load_checkpoint
from train.config import Config

# A config's task -> the module that exports its models. A new family is a row here.
EXPORTERS = {
    "autoencoder": "export.autoencoder",
    "detector": "export.detector",
    "image-detector": "export.image_detector",
    "photo-codec": "export.image",
    "photo-denoiser": "export.denoiser",
    "signal-codec": "export.signal_codec",
    "signal-denoiser": "export.signal_denoiser",
    "speech-codec": "export.speech_codec",
    "speech-denoiser": "export.speech",
}


class Exporter(Protocol):
    """A module that exports the models of one family; `TASK` is the manifest's task."""

    TASK: str

    def calibration(self, folders: tuple[str, ...]) -> Any:
        """What ranges are found on. Raises ValueError if the folders hold nothing for it."""

    def export_model(
        self, config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: Any
    ) -> dict[str, Any]:
        """Write graphs and files into `out`; what `write_bundle` wants to know of them.

        Raises ExportError if a graph disagrees with torch or costs more than its budget.
        """

    def verify(self, bundle: Path, inputs: Any) -> dict[str, Any]:
        """Figures of the written bundle, through the package. Raises ExportError or EdgeaeError."""


def export(
    checkpoint: Path,
    out: Path,
    *,
    calibration: tuple[str, ...],
    name: str | None = None,
    version: str = VERSION,
    card: Path | None = None,
) -> dict[str, Any]:
    """Write the bundle of a checkpoint to the folder `out`; its figures.

    Args:
        checkpoint: a file that `python -m train` wrote, or a run's folder, whose best checkpoint is
            taken; its averaged weights are exported.
        out: the bundle's folder, replaced if it is there.
        calibration: folders of pictures for a codec, ("synthetic",) for pictures made in code.
        name: the bundle's, by default the folder's.
        version: the bundle's.
        card: a text for the head of the card, in place of one made from the run. A text that lies
            beside the checkpoint, of the same name but for its suffix .md, is its own.

    Raises:
        ExportError: a graph disagrees with torch or costs more than its budget, or `out` is
            something else than a bundle.
        ValueError: the calibration's folders hold nothing for it.
    """
    if checkpoint.is_dir():
        best = checkpoint / "best.pt"
        checkpoint = best if best.is_file() else checkpoint / "last.pt"
    config, state = load_checkpoint(checkpoint)
    exporter = cast(Exporter, importlib.import_module(EXPORTERS[config.task]))
    # What stands there is deleted in the end, so it must be a bundle and nothing else.
    if out.exists() and not (out / "manifest.json").is_file() and not _is_empty(out):
        raise ExportError(f"{out} is there and is no bundle: give a new folder or a bundle's")
    name = name or _as_name(out.resolve().name)
    if card is None and (beside := checkpoint.with_suffix(".md")).is_file():
        card = beside
    inputs = exporter.calibration(calibration)
    runs = [*state.get("before", []), state]
    provenance = {
        "trained_with": f"torch {torch.__version__.split('+')[0]}",
        # Weights may have been trained in several runs, one after the other.
        "steps": sum(run["step"] for run in runs),
        "minutes": round(sum(run["seconds"] for run in runs) / 60, 1),
        "seed": config.seed,
        "network": dataclasses.asdict(config.network),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        parts = exporter.export_model(config, state["averaged"], folder, inputs)
        text = card_text(name, exporter.TASK, config, state) if card is None else _read(card)
        figures = dict(parts["figures"])

        def write() -> None:
            write_bundle(
                folder,
                task=exporter.TASK,
                name=name,
                version=version,
                parts=parts,
                provenance=provenance,
                figures=figures,
                text=text,
            )

        write()
        # The package itself is asked what the bundle is worth; what it says goes into the manifest.
        found = exporter.verify(folder, inputs)
        if found:
            figures |= found
            write()
        if out.exists():
            out.rename(Path(temporary) / "old")
        folder.rename(out)
        shutil.rmtree(Path(temporary) / "old", ignore_errors=True)
    return figures


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _as_name(folder: str) -> str:
    """A folder's name as a bundle may be called: small letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]+", "-", folder.lower()).strip("-_")[:64] or "model"


def _read(card: Path) -> str:
    return card.read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, export, and say what came of it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a run's folder, or its last.pt or best.pt")
    parser.add_argument("out", type=Path, help="folder of the bundle")
    parser.add_argument(
        "--calibration",
        nargs="+",
        default=["synthetic"],
        metavar="DIR",
        help="folders of pictures that show what a codec will see (default: pictures made in code)",
    )
    parser.add_argument("--name", help="of the bundle (default: the folder's)")
    parser.add_argument("--version", default=VERSION, help="of the bundle (default: %(default)s)")
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="text for the card, in place of the run's own"
    )
    options = parser.parse_args(arguments)
    try:
        figures = export(
            options.checkpoint,
            options.out,
            calibration=tuple(options.calibration),
            name=options.name,
            version=options.version,
            card=options.card,
        )
    except (ExportError, CheckpointError, EdgeaeError, ValueError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
