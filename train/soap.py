"""Adam in the eigenbasis of each weight matrix's gradients (SOAP, Vyas et al. 2024).

A 1x1 convolution is a matrix. Its gradients' two second moments, over rows and over columns, have
eigenvectors in which the entries are nearly independent, so that Adam's division by the size of
each entry becomes close to a division by the curvature. Every other parameter gets plain Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch

# Matrices smaller than this on a side have no basis worth the work, larger ones cost too much.
SMALLEST_SIDE, LARGEST_SIDE = 8, 640


class Soap(torch.optim.Optimizer):
    """SOAP for 1x1 convolutions and linear layers, AdamW for the rest.

    Args:
        params: parameters or groups of them; a group with `plain` set gets AdamW alone.
        lr: learning rate, of the size that AdamW has.
        betas: decay of the mean gradient and of its square.
        moment_beta: decay of the second moments that the bases come from.
        every_steps: steps between two turns of the bases.
        weight_decay: as AdamW's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        moment_beta: float = 0.95,
        every_steps: int = 10,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "moment_beta": moment_beta,
            "every_steps": every_steps,
            "weight_decay": weight_decay,
            "eps": eps,
            "plain": False,
        }
        super().__init__(params, defaults)

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
                    state["square"] = torch.zeros_like(parameter)
                state["step"] += 1
                if not group["plain"] and _is_matrix(parameter):
                    _turned_step(parameter, parameter.grad, state, group)
                else:
                    change = _adam(parameter.grad, state["mean"], state, group)
                    parameter.sub_(change, alpha=group["lr"])
        return loss


def _is_matrix(parameter: torch.Tensor) -> bool:
    if parameter.ndim < 2 or any(size != 1 for size in parameter.shape[2:]):
        return False
    sides = parameter.shape[:2]
    return min(sides) >= SMALLEST_SIDE and max(sides) <= LARGEST_SIDE


def _adam(
    gradient: torch.Tensor, mean: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
) -> torch.Tensor:
    """Adam's change for a learning rate of one. Moves `mean` and the state's "square"."""
    first, second = group["betas"]
    mean.lerp_(gradient, 1 - first)
    return _divided(gradient, mean, state, group, second)


def _divided(
    gradient: torch.Tensor,
    mean: torch.Tensor,
    state: dict[str, Any],
    group: dict[str, Any],
    second: float,
) -> torch.Tensor:
    step, first = state["step"], group["betas"][0]
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    size = (state["square"] / (1 - second**step)).sqrt_().add_(group["eps"])
    change: torch.Tensor = mean / size / (1 - first**step)
    return change


def _turned_step(
    parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    """One step of Adam between the bases of rows and columns."""
    matrix = gradient.flatten(1)
    if "rows" not in state:
        # The first gradient gives the bases and is not followed.
        state["row_moment"], state["column_moment"] = matrix @ matrix.T, matrix.T @ matrix
        state["rows"] = torch.linalg.eigh(state["row_moment"])[1]
        state["columns"] = torch.linalg.eigh(state["column_moment"])[1]
        state["mean"], state["square"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
        state["step"] = 0
        return
    rows, columns = state["rows"], state["columns"]
    first, second = group["betas"]
    state["mean"].lerp_(matrix, 1 - first)
    change = _divided(
        rows.T @ matrix @ columns, rows.T @ state["mean"] @ columns, state, group, second
    )
    parameter.sub_((rows @ change @ columns.T).view_as(parameter), alpha=group["lr"])
    fresh = 1 - group["moment_beta"]
    state["row_moment"].lerp_(matrix @ matrix.T, fresh)
    state["column_moment"].lerp_(matrix.T @ matrix, fresh)
    if state["step"] % group["every_steps"] == 0:
        for axis, basis, moment in ((0, "rows", "row_moment"), (1, "columns", "column_moment")):
            turned = state[moment] @ state[basis]
            order = (state[basis] * turned).sum(0).argsort(descending=True)
            state["square"] = state["square"].index_select(axis, order)
            state[basis] = torch.linalg.qr(turned[:, order])[0]
