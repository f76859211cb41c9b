"""What optimizers of weight matrices share: the step over all parameters, and Adam for the rest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch

State = dict[str, Any]


class MatrixOptimizer(torch.optim.Optimizer):
    """Moves matrices in a way of its own, and every other parameter as AdamW does.

    Args:
        params: parameters or groups of them; a group with `plain` set gets AdamW alone.
        defaults: "lr", "betas", "weight_decay", "eps" as AdamW's, and what the matrices need.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, {**defaults, "plain": False})

    @abstractmethod
    def is_matrix(self, parameter: torch.Tensor) -> bool:
        """Whether a parameter is moved as a matrix."""

    @abstractmethod
    def matrix_change(self, gradient: torch.Tensor, state: State, group: State) -> torch.Tensor:
        """The change of a matrix for a learning rate of one, in the gradient's shape.

        `state` has "step", which counts from 1, and "mean", zeros at first.
        """

    @overload
    def step(self, closure: None = ...) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["mean"] = torch.zeros_like(parameter)
                state["step"] += 1
                if not group["plain"] and self.is_matrix(parameter):
                    change = self.matrix_change(parameter.grad, state, group)
                else:
                    change = _adam(parameter.grad, state, group)
                parameter.sub_(change, alpha=group["lr"])
        return loss


def _adam(gradient: torch.Tensor, state: State, group: State) -> torch.Tensor:
    first, _ = group["betas"]
    if "square" not in state:
        state["square"] = torch.zeros_like(gradient)
    state["mean"].lerp_(gradient, 1 - first)
    return adam_change(gradient, state["mean"], state, group)


def adam_change(
    gradient: torch.Tensor, mean: torch.Tensor, state: State, group: State
) -> torch.Tensor:
    """Adam's change for a learning rate of one: a mean gradient by the size of each entry.

    Moves the state's "square", the mean of squared gradients, in the gradient's shape.
    """
    first, second = group["betas"]
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    size = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
    change: torch.Tensor = mean / size / (1 - first ** state["step"])
    return change
