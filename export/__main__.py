"""Turn a checkpoint into a verified bundle: `python -m export CHECKPOINT OUT --calibration DIR`.

Everything is written beside OUT and checked first; OUT appears, or is replaced, only if every
check passes.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeae.errors import EdgeaeError
from edgeae.loading import load
from export.bundle import write_bundle
from export.image import STRIDE, export_photo_codec, verify_photo_codec
from export.parity import ExportError
from export.speech import export_denoiser
from train.checkpoint import CheckpointError, load_checkpoint
from train.config import Config, PhotoConfig, SpeechConfig
from train.image.data import PhotoData, Photos
from train.image.network import PhotoCodec
from train.speech.network import SpeechDenoiser

# Calibration: squares cut from the middle of so many pictures.
CALIBRATION_PICTURES, CALIBRATION_SIDE = 48, 256


def export(checkpoint: Path, out: Path, *, calibration: tuple[str, ...]) -> dict[str, Any]:
    """Write the bundle of a checkpoint to the folder `out`; its figures.

    Args:
        checkpoint: a file that `python -m train` wrote; its averaged weights are exported.
        out: the bundle's folder, replaced if it is there.
        calibration: folders of pictures for a codec, ("synthetic",) for pictures made in code.

    Raises:
        ExportError: a graph disagrees with torch or costs more than its budget, or `out` is
            something else than a bundle.
    """
    config, state = load_checkpoint(checkpoint)
    # What stands there is deleted in the end, so it must be a bundle and nothing else.
    if out.exists() and not (out / "manifest.json").is_file() and not _is_empty(out):
        raise ExportError(f"{out} is there and is no bundle: give a new folder or a bundle's")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        figures = _write(config, state, folder, calibration)
        if out.exists():
            out.rename(Path(temporary) / "old")
        folder.rename(out)
        shutil.rmtree(Path(temporary) / "old", ignore_errors=True)
    return figures


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write(
    config: Config, state: dict[str, Any], folder: Path, calibration: tuple[str, ...]
) -> dict[str, Any]:
    # Weights may have been trained in several runs, one after the other.
    runs = [*state.get("before", []), state]
    provenance = {
        "trained_with": f"torch {torch.__version__.split('+')[0]}",
        "steps": sum(run["step"] for run in runs),
        "minutes": round(sum(run["seconds"] for run in runs) / 60, 1),
        "seed": config.seed,
        "network": dataclasses.asdict(config.network),
    }

    def write(task: str, parts: dict[str, Any], figures: dict[str, Any]) -> None:
        write_bundle(
            folder,
            task=task,
            name=config.name,
            parts=parts,
            provenance=provenance,
            figures=figures,
        )

    if isinstance(config, SpeechConfig):
        denoiser = SpeechDenoiser(config.network)
        denoiser.load_state_dict(state["averaged"])
        parts = export_denoiser(denoiser, config.network, folder)
        write("denoiser", parts, parts["figures"])
        load(folder)
        return dict(parts["figures"])
    codec = PhotoCodec(config.network)
    codec.load_state_dict(state["averaged"])
    pictures = calibration_pictures(config, calibration)
    parts = export_photo_codec(codec, config.network, folder, pictures)
    write("codec", parts, parts["figures"])
    # The package itself is asked what the bundle is worth; what it says goes into the manifest.
    figures = parts["figures"] | verify_photo_codec(folder, pictures[:12])
    write("codec", parts, figures)
    return figures


def calibration_pictures(config: PhotoConfig, folders: tuple[str, ...]) -> list[np.ndarray]:
    """Squares (side, side, 3) from the middle of pictures spread over the folders."""
    data = PhotoData(
        folders=folders, crop_pixels=min(CALIBRATION_SIDE, 128), held_out=CALIBRATION_PICTURES
    )
    if folders == ("synthetic",):
        data = dataclasses.replace(data, held_out=16)
    crops = Photos(data).held_out_crops(CALIBRATION_SIDE // STRIDE * STRIDE)
    return list(crops.permute(0, 2, 3, 1).contiguous().numpy())


def main() -> int:
    """Read the command line, export, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="last.pt or best.pt of a run")
    parser.add_argument("out", type=Path, help="folder of the bundle")
    parser.add_argument(
        "--calibration",
        nargs="+",
        default=["synthetic"],
        metavar="DIR",
        help="folders of pictures that show what a codec will see (default: pictures made in code)",
    )
    arguments = parser.parse_args()
    try:
        figures = export(
            arguments.checkpoint, arguments.out, calibration=tuple(arguments.calibration)
        )
    except (ExportError, CheckpointError, EdgeaeError, ValueError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
