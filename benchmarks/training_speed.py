"""What a training step of a speech denoiser spends its time on, and how many a second there are.

    python -m benchmarks.training_speed CONFIG --speech DIR --noise DIR [--pack FILE] --json OUT

Batches (mixing, filters, rooms), the network forward and backward, the loss forward and backward to
the network's output, and the optimizer are timed apart, each over the same batches, on a GPU where
there is one and otherwise on one thread of the processor (its CPU time, which does not count what
other programs take). Steps in a second are those of the parts one after the other: in a run the
next batch is made beside the step before it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeae.bench.machine import machine, versions
from train.__main__ import add_data_options, with_options
from train.config import Config, ConfigError, read_config
from train.run import make_optimizer
from train.speech.recipe import SpeechRecipe

PACKAGES = ("torch", "numpy", "soxr")
PRECISIONS = ("float32", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, time the parts of a step, and tell and write them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="of a speech denoiser")
    parser.add_argument("--steps", type=int, default=6, help="timed steps (default: %(default)s)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--json", type=Path, help="where to write every figure")
    add_data_options(parser)
    options = parser.parse_args(arguments)
    try:
        config = with_options(read_config(options.config), vars(options))
    except ConfigError as error:
        sys.exit(f"training_speed: {error}")
    if config.task != "speech-denoiser":
        sys.exit(f"training_speed: {options.config} is of {config.task}, expected speech-denoiser")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = {name: parts(config, device, name, options.steps) for name in options.precision}
    finally:
        torch.set_num_threads(before)
    seconds = config.optimize.batch_size * config.data.segment_samples / 16_000
    report = {
        "what": "training steps of a speech denoiser",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread",
        "audio_seconds_per_step": seconds,
        "precisions": rows,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for name, row in rows.items():
        told = ", ".join(f"{key} {value:g}" for key, value in row.items())
        print(f"{report['device']}, {name}: {told}")


def parts(config: Config, device: torch.device, precision: str, steps: int) -> dict[str, float]:
    """Milliseconds of each part of a step, steps in a second, and the share that is not the
    network's."""
    recipe = SpeechRecipe(config, device)
    network = recipe.network.to(device).train()
    optimizer = make_optimizer(network, config.optimize)
    drawn = [recipe.batch(np.random.default_rng(seed)) for seed in range(steps + 1)]
    batches = [tuple(part.to(device) for part in batch) for batch in drawn]

    def network_step(batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            found: torch.Tensor = network(recipe.spectrum(batch[0]))
        torch.autograd.backward(found.float().square().mean())
        return found.detach().float()

    def loss_step(batch: tuple[torch.Tensor, ...], estimate: torch.Tensor) -> None:
        torch.autograd.backward(recipe.loss_of(estimate.requires_grad_(), *batch)[0])

    def optimizer_step() -> None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimize.clip_norm)
        optimizer.step()

    seconds = {"batch": 0.0, "network": 0.0, "loss": 0.0, "optimizer": 0.0}
    for number, batch in enumerate(batches):
        rng = np.random.default_rng(number)
        spent = {"batch": _seconds(device, recipe.batch, rng)[0]}
        spent["network"], estimate = _seconds(device, network_step, batch)
        spent["loss"], _ = _seconds(device, loss_step, batch, estimate)
        spent["optimizer"], _ = _seconds(device, optimizer_step)
        if number:  # the first step allocates
            for name, value in spent.items():
                seconds[name] += value / steps
    total = sum(seconds.values())
    return {
        **{f"{name}_ms": round(1000 * value, 2) for name, value in seconds.items()},
        "steps_per_second": round(1 / total, 3),
        "not_the_network": round(1 - seconds["network"] / total, 3),
    }


def _seconds(device: torch.device, work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """How long some work takes, on a GPU until it is done there, and what it gives."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        began = time.monotonic()
        found = work(*given)
        torch.cuda.synchronize(device)
        return time.monotonic() - began, found
    began = time.process_time()
    found = work(*given)
    return time.process_time() - began, found


if __name__ == "__main__":
    main()
