"""The card of one's own model: what the run knows of itself, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.config import Config

__all__ = ["card_text"]


def card_text(name: str, task: str, config: Config, state: Mapping[str, Any]) -> str:
    """The head of a model's card, in Markdown, from the state of the run that a checkpoint holds.

    Args:
        name: the bundle's.
        task: the manifest's, such as "codec".
        config: the run's.
        state: what `load_checkpoint` gave.
    """
    parts = [
        f"# {name}\n\nA {task} of the family `{config.task}`, exported from a checkpoint of the "
        f"run `{config.name}`. This text was made from what the run recorded.",
        _data(state),
        _training(config, state),
        _measured(state),
        "## Limits\n\nNobody has described them. The model was fitted to the data named above; "
        "what it does on other data has not been recorded here.",
    ]
    return "\n\n".join(parts) + "\n"


def _data(state: Mapping[str, Any]) -> str:
    lines = ["## Data", ""]
    for kind, held in (state.get("data") or {}).items():
        folders = ", ".join(f"`{Path(folder).name or folder}`" for folder in held["folders"])
        where = f" from {folders}" if folders else ""
        more = f"; {held['unit']}" if held.get("unit") else ""
        lines.append(
            f"- {kind}: {held['train']} to train on and {held['held_out']} held out{where}{more}."
        )
        if held.get("skipped"):
            shown = ", ".join(sorted(held["skipped"])[:10])
            lines.append(f"  {len(held['skipped'])} files were left out, among them {shown}.")
    if len(lines) == 2:
        lines.append("- The run recorded nothing of its data.")
    lines += ["", "Licences of these files were not recorded."]
    return "\n".join(lines)


def _training(config: Config, state: Mapping[str, Any]) -> str:
    steps, minutes = state["step"], state["seconds"] / 60
    precision = state.get("precision", config.optimize.precision)
    lines = ["## Training", ""]
    if state.get("mean"):
        lines.append(f"- The weights are {_mean(state)}, and were not trained after that.")
    else:
        lines.append(
            f"- {_count(steps, 'step')} of {_count(config.optimize.batch_size, 'item')} in "
            f"{minutes:.1f} minutes, precision {precision}, seed {config.seed}."
        )
    for run in state.get("before", []):
        source = f"the checkpoint `{run['checkpoint']}`" if run.get("checkpoint") else "a run"
        made = f"with {_count(run['step'], 'step')} in {run['seconds'] / 60:.1f} minutes"
        lines.append(f"- Before that: {source}, {_mean(run) if run.get('mean') else made}.")
    if state.get("before"):
        lines.append("  What the earlier runs learned from is part of this model too.")
    return "\n".join(lines)


def _mean(state: Mapping[str, Any]) -> str:
    """What a mean of checkpoints is of."""
    parts = [f"{part['share']:.4g} of `{part['checkpoint']}`" for part in state["mean"]]
    return f"a weighted mean, {', '.join(parts)}"


def _measured(state: Mapping[str, Any]) -> str:
    history = state.get("history") or []
    if not history:
        ended = "The run ended before its first validation"
        why = "A mean is not validated" if state.get("mean") else ended
        return f"## Held-out data\n\n{why}: nothing was measured."
    entry = history[-1]
    figures = {k: v for k, v in entry.items() if k not in ("step", "minutes")}
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value:.4g} |" for key, value in figures.items())
    return (
        f"## Held-out data\n\nOn the held-out part, after {_count(int(entry['step']), 'step')} "
        f"of the last run:\n\n| figure | value |\n|---|---|\n{rows}\n\n"
        "Not measured: any other data, any other system beside this one, and the speed on a device "
        "(`edgeae bench` measures that)."
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
