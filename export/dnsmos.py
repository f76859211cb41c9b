"""Take the weights of DNSMOS P.835 out of the package `speechmos`, for training alone.

`python -m export.dnsmos runs/dnsmos.npz`, then `python -m train ... --dnsmos
runs/dnsmos.npz`. Training knows torch alone, so this bridge reads the ONNX file for it. Nothing
of these weights is in a bundle.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx

from train.speech.dnsmos import quality_arrays

__all__ = ["quality_model_file", "write_quality_model"]


def quality_model_file() -> Path:
    """The model in the installed package `speechmos`. Raises ValueError without that package."""
    found = importlib.util.find_spec("speechmos")
    if found is None or not found.submodule_search_locations:
        raise ValueError("the package speechmos is not installed: pip install speechmos")
    return Path(found.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"


def write_quality_model(source: Path, target: Path) -> None:
    """Writes the arrays that `train.speech.dnsmos` reads.

    Raises ValueError if it is another model.
    """
    graph = onnx.load(source).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = quality_arrays()
    missing = [name for name in names.values() if name not in stored]
    if missing:
        raise ValueError(f"{source} is not DNSMOS P.835: it has no tensor {missing[0]}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        arrays = {short: stored[name] for short, name in names.items()}
        np.savez(file, **arrays)  # type: ignore[arg-type]


def main() -> int:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(prog="python -m export.dnsmos", description=__doc__)
    parser.add_argument("out", type=Path, help="the file to write, .npz")
    parser.add_argument("--model", type=Path, help="sig_bak_ovr.onnx (default: that of speechmos)")
    arguments = parser.parse_args()
    try:
        write_quality_model(arguments.model or quality_model_file(), arguments.out)
    except (ValueError, OSError) as error:
        print(f"export.dnsmos: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
