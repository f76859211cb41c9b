"""All that changes while a network is trained, and how it goes into a checkpoint and comes back."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from train.config import Config, ConfigError, Optimize
from train.muon import Muon
from train.soap import Soap

__all__ = [
    "Run",
    "load_start",
    "make_optimizer",
    "new_run",
    "parameter_groups",
    "resumed_run",
    "runs_of",
    "step_if_finite",
]


@dataclass
class Run:
    """A run as it stands after `step` steps.

    `averaged` holds the moving average of the weights, which is what is validated and exported;
    `before` what is known of the runs whose weights this one began with; `data` the recipe's
    summary of what it learns from.
    """

    config: Config
    network: torch.nn.Module
    averaged: torch.nn.Module
    optimizer: torch.optim.Optimizer
    data: dict[str, Any]
    precision: str = "auto"
    step: int = 0
    best: float = math.inf
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)
    earlier_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before it was resumed included."""
        return self.earlier_seconds + time.monotonic() - self.began

    def state(self, *, whole: bool = True) -> dict[str, Any]:
        """What a checkpoint holds; without `whole` only what export and `--start-from` need."""
        kept = {
            "averaged": self.averaged.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "history": self.history,
            "before": self.before,
            "data": self.data,
            "precision": self.precision,
        }
        if whole:
            kept |= {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "stale": self.stale,
            }
        return kept

    def save(self, file: Path, *, whole: bool = True) -> dict[str, Any]:
        """Write the state to a file, atomically; the state."""
        kept = self.state(whole=whole)
        save_checkpoint(file, self.config, kept)
        return kept


def new_run(config: Config, network: torch.nn.Module, data: dict[str, Any]) -> Run:
    """The run of a network, at its first step, with what the config says is frozen.

    Raises ConfigError if it freezes what is not there, or everything.
    """
    _freeze(network, config.optimize.freeze)
    optimizer = make_optimizer(network, config.optimize)
    averaged = copy.deepcopy(network).eval()
    return Run(config, network, averaged, optimizer, data, precision=config.optimize.precision)


def resumed_run(config: Config, network: torch.nn.Module, data: dict[str, Any], file: Path) -> Run:
    """The run in a checkpoint, as it was when that was written.

    Raises CheckpointError if it is of another network, or holds nothing to go on from.
    """
    saved, state = load_checkpoint(file)
    if (saved.task, saved.network) != (config.task, config.network):
        raise _other_network(file, saved, config)
    if "optimizer" not in state:
        raise CheckpointError(f"{file} holds weights alone, not a run to go on with")
    network.load_state_dict(state["network"])
    run = new_run(config, network, data)
    run.averaged.load_state_dict(state["averaged"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.earlier_seconds, run.best = state["step"], state["seconds"], state["best"]
    run.stale, run.history, run.before = state["stale"], state["history"], state.get("before", [])
    run.precision = state.get("precision", run.precision)
    return run


def _freeze(network: torch.nn.Module, prefixes: tuple[str, ...]) -> None:
    names = dict(network.named_parameters())
    for prefix in prefixes:
        found = [name for name in names if name.startswith(prefix)]
        if not found:
            raise ConfigError(
                f"optimize.freeze names {prefix!r}, expected the beginning of a parameter's name, "
                f"such as {', '.join(_parts(names))}"
            )
        for name in found:
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in names.values()):
        raise ConfigError(f"optimize.freeze is {list(prefixes)}: nothing is left to train")


def _parts(names: Iterable[str]) -> list[str]:
    """The outermost modules of names of parameters."""
    return sorted({name.split(".")[0] for name in names if "." in name})


def load_start(
    network: torch.nn.Module, file: Path, config: Config, *, take: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Give a network the averaged weights of a checkpoint; the runs that made them, oldest first.

    The checkpoint's network may lack parts, which then keep the values that they begin with.

    Args:
        network: gets the weights.
        file: the checkpoint.
        config: of the run that begins.
        take: parts to take alone, such as "encoder"; what the network's `travels` names, such as a
            normalization, comes with them. Without any, everything is taken.

    Raises CheckpointError if it has parts or shapes that this one has not.
    """
    saved, state = load_checkpoint(file)
    ours, theirs = network.state_dict(), state["averaged"]
    if saved.task == config.task and hasattr(network, "widened"):
        theirs = network.widened(theirs)  # type: ignore[operator]
    if take:
        parts = _parts(theirs)
        for part in take:
            if part not in parts:
                raise CheckpointError(
                    f"{file} has no part {part!r}, expected one of {', '.join(parts)}"
                )
        travels = getattr(network, "travels", ())
        theirs = {
            name: value
            for name, value in theirs.items()
            if name in travels or name.startswith(tuple(f"{part}." for part in take))
        }
    other = [n for n, value in theirs.items() if n not in ours or ours[n].shape != value.shape]
    if saved.task != config.task or other:
        raise _other_network(file, saved, config)
    network.load_state_dict({**ours, **theirs})
    return runs_of(state, file)


def runs_of(state: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    """The runs that made the weights of a checkpoint's state, oldest first, that of `file` last."""
    kept = ("step", "seconds", "history", "data", "mean")
    last = {name: state[name] for name in kept if name in state}
    return [*state.get("before", []), {**last, "checkpoint": file.name}]


def _other_network(file: Path, saved: Config, config: Config) -> CheckpointError:
    return CheckpointError(
        f"{file} holds another network than the config: {saved.task} {saved.network}, "
        f"expected {config.task} {config.network}"
    )


def parameter_groups(network: torch.nn.Module, optimize: Optimize) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors without; layers that start from known transforms move
    slowly."""
    slow_layers = getattr(network, "slow_layers", ())
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        slow, decays = bool(slow_layers) and name.startswith(tuple(slow_layers)), parameter.ndim > 1
        empty = {
            "params": [],
            "weight_decay": optimize.weight_decay if decays else 0.0,
            "relative_rate": optimize.slow_ratio if slow else 1.0,
            "plain": slow,
        }
        groups.setdefault((slow, decays), empty)["params"].append(parameter)
    return list(groups.values())


def make_optimizer(network: torch.nn.Module, optimize: Optimize) -> torch.optim.Optimizer:
    """The optimizer that the config names, over `parameter_groups`."""
    groups = parameter_groups(network, optimize)
    if optimize.algorithm == "soap":
        return Soap(groups, lr=optimize.learning_rate)
    if optimize.algorithm == "muon":
        return Muon(groups, lr=optimize.learning_rate)
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, lr=optimize.learning_rate, betas=(0.9, 0.99), fused=fused)


def step_if_finite(optimizer: torch.optim.Optimizer, norm: torch.Tensor) -> None:
    """Make a step, unless the gradient's norm is not finite."""
    if isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]:
        # The GPU decides by itself, which spares the wait for it.
        optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif torch.isfinite(norm):
        optimizer.step()
