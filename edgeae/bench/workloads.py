"""A workload is one call of a model's API that can be timed.

Each kind of model has a module beside this one, named in `edgeae.loading.DOORS`, with

    workloads(model, *, source=None) -> list[Workload]
        what the model is for, on the photo or recording of the package, or on the file `source`
    self_test(model) -> Iterator[str]
        what must hold of any such model, a line for each check that went well; EdgeaeError if not
    typical_runs(model, *, size) -> int
        runs the model over the package's data at all its settings (images have the `size`, height
        and width); of the runs of its graphs, one in so many is enough for calibration
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ASSETS", "Workload"]

ASSETS = Path(__file__).parent.parent / "assets"


@dataclass(frozen=True)
class Workload:
    """One call of a model's API: how much it works through (`amount` of `unit`), and in words."""

    name: str
    what: str
    amount: float
    unit: str
    call: Callable[[], object]
