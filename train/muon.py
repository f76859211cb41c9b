"""Momentum made orthogonal (Muon, Jordan et al. 2024), for networks of dense convolutions.

The weights of a convolution are a matrix, outputs by inputs times taps. The mean of its gradients
is replaced by the nearest orthogonal matrix, so that every direction of the matrix moves equally
far, and not only the few that dominate the gradients. Everything else gets Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch

# Matrices smaller than this on a side get Adam.
SMALLEST_SIDE = 16
# Jordan's quintic, five times: singular values of a matrix of norm 1 go to about 1.
_QUINTIC, _TIMES = (3.4445, -4.7750, 2.0315), 5
# Times the square root of the longer side: changes are then as large as Adam's usually are, so
# both take one learning rate (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
_SIZE = 0.2


class Muon(torch.optim.Optimizer):
    """Muon for weights of convolutions and linear layers, AdamW for the rest.

    Args:
        params: parameters or groups of them; a group with `plain` set gets AdamW alone.
        lr: learning rate, of the size that AdamW has.
        momentum: decay of the mean gradient of matrices.
        betas: decay of Adam's mean gradient and of its square.
        weight_decay: as AdamW's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
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
                state["step"] += 1
                if not group["plain"] and _is_matrix(parameter):
                    change = _orthogonal_change(parameter.grad, state, group["momentum"])
                else:
                    change = _adam(parameter.grad, state, group)
                parameter.sub_(change, alpha=group["lr"])
        return loss


def _is_matrix(parameter: torch.Tensor) -> bool:
    if parameter.ndim < 2:
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= SMALLEST_SIDE


def _orthogonal_change(
    gradient: torch.Tensor, state: dict[str, Any], momentum: float
) -> torch.Tensor:
    state["mean"].lerp_(gradient, 1 - momentum)
    # Nesterov's: the mean as the next step would find it.
    matrix = gradient.lerp(state["mean"], momentum).flatten(1)
    size = _SIZE * max(matrix.shape) ** 0.5
    return size * orthogonal(matrix).reshape(gradient.shape)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (rows, columns) with the singular vectors of this one, and singular values of 0.7 to
    1.2.

    Those below about a thousandth of the largest come out smaller. The polynomial is worked out on
    the products of rows with rows, or columns with columns, whichever are fewer.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    first, third, fifth = _QUINTIC
    matrix = matrix / (matrix.norm() + 1e-12)
    gram = matrix @ matrix.T
    total: torch.Tensor | None = None
    for _ in range(_TIMES):
        factor = third * gram + fifth * (gram @ gram)
        factor.diagonal().add_(first)
        total = factor if total is None else factor @ total
        gram = factor @ gram @ factor
    assert total is not None
    return total @ matrix


def _adam(gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    """Adam's change for a learning rate of one."""
    first, second = group["betas"]
    if "square" not in state:
        state["square"] = torch.zeros_like(gradient)
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    size = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
    change: torch.Tensor = state["mean"] / size / (1 - first ** state["step"])
    return change
