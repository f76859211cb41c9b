"""One candidate of a search: trained, exported, quantized and timed on this machine."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeae.autoencoder import Autoencoder
from edgeae.bench.autoencoder import workloads
from edgeae.bench.timing import sample, summarize
from export.__main__ import export
from train.config import Config
from train.loop import train
from train.search.space import TRIAL_VALIDATIONS
from train.stop import StopRequest

# Seconds of each timing, and how many of each there are: the quietest counts, as what else runs on
# the machine only ever adds.
_TIMED_S, _TIMINGS = 0.15, 5


@dataclass(frozen=True)
class Measured:
    """What a candidate is worth and costs.

    Attributes:
        score: held-out error of the run's best weights, times what quantization adds to the
            reconstruction error; lower is better.
        encode_ms, decode_ms: median time of one item on one thread of this machine.
        bytes: both graphs, of the precision that is used.
        precision: "int8", or "fp32" where int8 would lose too much.
    """

    score: float
    encode_ms: float
    decode_ms: float
    bytes: int
    precision: str

    @property
    def ms(self) -> float:
        """Milliseconds of one item through encoder and decoder."""
        return self.encode_ms + self.decode_ms

    def exceeds(self, max_ms: float, max_bytes: float) -> list[str]:
        """Which limits are not kept, in words."""
        told = []
        if self.ms > max_ms:
            told.append(f"{self.ms:.3g} ms, expected at most {max_ms:g}")
        if self.bytes > max_bytes:
            told.append(f"{self.bytes} bytes, expected at most {max_bytes:g}")
        return told


def brief(config: Config, steps: int) -> Config:
    """The same run cut to so many steps, with validations on the way."""
    optimize = dataclasses.replace(
        config.optimize, steps=steps, warmup_steps=min(config.optimize.warmup_steps, steps // 10)
    )
    validate = dataclasses.replace(config.validate, every_steps=max(1, steps // TRIAL_VALIDATIONS))
    return dataclasses.replace(config, optimize=optimize, validate=validate)


def trained(
    config: Config,
    run: Path,
    bundle: Path,
    *,
    go_on: Callable[[int, float], bool] = lambda step, score: True,
) -> Measured | None:
    """Train a candidate, export it and measure it; None if `go_on` ended the training.

    Args:
        config: of the run.
        run: folder of the run, emptied first.
        bundle: folder of the bundle.
        go_on: asked at each validation, with the step and the score.

    Raises:
        ExportError, ValueError, EdgeaeError: the candidate cannot be trained or exported.
        KeyboardInterrupt: a signal asked for an end.
    """
    shutil.rmtree(run, ignore_errors=True)
    ended, stop = False, StopRequest()

    def validated(step: int, figures: dict[str, float]) -> bool:
        nonlocal ended
        ended = ended or not math.isfinite(figures["score"]) or not go_on(step, figures["score"])
        return not ended

    state = train(config, run, validated=validated, stop=stop)
    if stop.signal:
        raise KeyboardInterrupt
    if ended:
        return None
    figures = export(run / "best.pt", bundle, calibration=("synthetic",))
    return measured(bundle, state["best"], figures)


def measured(bundle: Path, score: float, figures: dict[str, Any]) -> Measured:
    """Time a bundle and weigh it.

    Args:
        bundle: an autoencoder's.
        score: held-out error of its weights in torch.
        figures: what its export found.
    """
    model = Autoencoder.load(bundle)
    times = time_model(model)
    if model.precision == "int8":
        score *= figures["int8_error_ratio"]
    return Measured(
        score=float(score),
        encode_ms=times["encode"],
        decode_ms=times["decode"],
        bytes=sum(graph.file.stat().st_size for graph in model.graphs.values()),
        precision=model.precision,
    )


def time_model(model: Autoencoder) -> dict[str, float]:
    """Milliseconds of each workload of the bench: the least of several medians."""
    found: dict[str, float] = {}
    for workload in workloads(model):
        for _ in range(10):  # the first calls prepare buffers
            workload.call()
        medians = [
            summarize(sample(workload.call, seconds=_TIMED_S, at_least=20)).p50
            for _ in range(_TIMINGS)
        ]
        found[workload.name] = min(medians)
    return found
