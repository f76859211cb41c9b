"""What a search found: each trial, the Pareto front, and both as a table, JSON and a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from train import charts
from train.search.trial import Measured

# Dots of the page: the smallest and the largest radius.
_RADII = 4.0, 14.0


@dataclass(frozen=True)
class Trial:
    """One trial: what was chosen, what came of it, and how it ended.

    `state` is "kept", "exceeds" (a limit), "pruned" (behind the others), or "failed"; `why` says
    more of it, and `measured` is None where nothing was exported.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    why: str = ""
    measured: Measured | None = None

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        figures = dataclasses.asdict(self.measured) | {"ms": self.measured.ms} if self.measured \
            else None  # fmt: skip
        return {
            "trial": self.number,
            "state": self.state,
            "why": self.why,
            "values": dict(self.values),
            "measured": figures,
        }


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Trials within the limits that no other one beats in score, time and bytes at once; best
    score first."""
    kept = [(trial, _costs(trial.measured)) for trial in trials
            if trial.state == "kept" and trial.measured is not None]  # fmt: skip
    front = [
        (trial, costs)
        for trial, costs in kept
        if not any(
            other != costs and all(a <= b for a, b in zip(other, costs, strict=True))
            for _, other in kept
        )
    ]
    return [trial for trial, _ in sorted(front, key=lambda one: one[1])]


def _costs(measured: Measured) -> tuple[float, float, int]:
    return measured.score, measured.ms, measured.bytes


def table(front: Sequence[Trial]) -> str:
    """The front as lines of text."""
    rows = [["trial", "score", "ms", "bytes", "precision", "values"]]
    for trial in front:
        one = trial.measured
        assert one is not None
        values = ", ".join(f"{name} {json.dumps(value)}" for name, value in trial.values.items())
        rows.append([str(trial.number), f"{one.score:.4g}", f"{one.ms:.3g}", str(one.bytes),
                     one.precision, values])  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
        for row in rows
    )


def write_json(
    file: Path,
    trials: Sequence[Trial],
    *,
    limits: Mapping[str, float | None],
    chosen: Mapping[str, Any] | None = None,
) -> None:
    """Write limits, all trials, the numbers of those on the front, and the chosen model."""
    found = {
        "limits": dict(limits),
        "trials": [trial.as_dict() for trial in trials],
        "front": [trial.number for trial in pareto_front(trials)],
        "chosen": chosen,
    }
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def front_page(
    name: str, trials: Sequence[Trial], *, limits: Mapping[str, float | None], chosen: int | None
) -> str:
    """A page with the trials as dots and the front as a table.

    Args:
        name: of the config.
        trials: all of them.
        limits: "max_ms" and "max_bytes"; None where there is none.
        chosen: number of the trial that was taken.
    """
    shown = [trial for trial in trials if trial.measured is not None]
    front = pareto_front(trials)
    ended = [f"{sum(t.state == state for t in trials)} {told}" for state, told in _TOLD.items()]
    limit = ", ".join(
        f"{limits[key]:g} {unit}"
        for key, unit in (("max_ms", "ms"), ("max_bytes", "bytes"))
        if limits.get(key) is not None
    )
    body = (
        f"<p>{len(trials)} trials: {', '.join(ended)}. Limits: {limit or 'none'}. The score is the "
        "held-out error after a brief training, times what quantization adds; lower is better. "
        "Time is one item through encoder and decoder on one thread of the machine that "
        "searched.</p>"
    )
    if shown:
        body += f'<div class="charts">{_charts(shown, front, limits)}</div>'
    rows = "".join(_row(trial, chosen) for trial in front)
    body += (
        "<h2>Pareto front</h2><p>No other trial within the limits is better in score, time and "
        'size at once.</p><div class="scroll"><table><tr><th class="n">trial</th>'
        '<th class="n">score</th><th class="n">ms</th><th class="n">encode</th>'
        '<th class="n">decode</th><th class="n">bytes</th><th>precision</th><th>values</th></tr>'
        f"{rows}</table></div>"
    )
    return charts.page(f"Search: {name}", body)


_TOLD = {
    "kept": "within the limits",
    "exceeds": "beyond them",
    "pruned": "given up early",
    "failed": "failed",
}


def _charts(
    shown: Sequence[Trial], front: Sequence[Trial], limits: Mapping[str, float | None]
) -> str:
    on_front = {trial.number for trial in front}
    ms_dots, byte_dots = [], []
    sizes = [trial.measured.bytes for trial in shown if trial.measured]
    times = [trial.measured.ms for trial in shown if trial.measured]
    for trial in shown:
        one = trial.measured
        assert one is not None
        # The front, what else is within the limits, and what is not.
        color = 0 if trial.number in on_front else 2 if trial.state == "kept" else 1
        text = (
            f"trial {trial.number}: score {one.score:.4g}, {one.ms:.3g} ms, {one.bytes} bytes"
            f"{', ' + trial.why if trial.why else ''}"
        )
        ms_dots.append(charts.Point(one.ms, one.score, text, color, _radius(one.bytes, sizes)))
        byte_dots.append(charts.Point(one.bytes, one.score, text, color, _radius(one.ms, times)))
    told = "Green: the front. Blue: within the limits. Orange: beyond them."
    by_time = charts.scatter(
        ms_dots, x_label="ms an item", y_label="score", log_x=True, log_y=_positive(ms_dots),
        limit_x=limits.get("max_ms"),
    )  # fmt: skip
    by_size = charts.scatter(
        byte_dots, x_label="bytes", y_label="score", log_x=True, log_y=_positive(byte_dots),
        limit_x=limits.get("max_bytes"),
    )  # fmt: skip
    return (
        f"<figure>{by_time}<figcaption>Larger dots: more bytes. {told}</figcaption></figure>"
        f"<figure>{by_size}<figcaption>Larger dots: more time. {told}</figcaption></figure>"
    )


def _positive(points: Sequence[charts.Point]) -> bool:
    return all(point.y > 0 for point in points)


def _radius(value: float, of: Sequence[float]) -> float:
    low, high = min(of), max(of)
    share = (value - low) / (high - low) if high > low else 0.0
    return _RADII[0] + share * (_RADII[1] - _RADII[0])


def _row(trial: Trial, chosen: int | None) -> str:
    one = trial.measured
    assert one is not None
    numbers = (str(trial.number), f"{one.score:.4g}", f"{one.ms:.3g}", f"{one.encode_ms:.3g}",
               f"{one.decode_ms:.3g}", f"{one.bytes:,}")  # fmt: skip
    cells = "".join(f'<td class="n">{cell}</td>' for cell in numbers)
    values = escape(", ".join(f"{k} = {json.dumps(v)}" for k, v in trial.values.items()))
    kind = ' class="chosen"' if trial.number == chosen else ""
    return f"<tr{kind}>{cells}<td>{one.precision}</td><td>{values}</td></tr>"
