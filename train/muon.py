"""Momentum made orthogonal (Muon, Jordan et al. 2024), for networks of dense convolutions.

The weights of a convolution are a matrix, outputs by inputs times taps. The mean of its gradients
is replaced by the nearest orthogonal matrix, so that every direction of the matrix moves equally
far, and not only the few that dominate the gradients. Everything else gets Adam.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from train.matrix_optimizer import MatrixOptimizer, State

# Matrices smaller than this on a side get Adam.
SMALLEST_SIDE = 16
# Jordan's quintic, five times: singular values of a matrix of norm 1 go to about 1.
_QUINTIC, _TIMES = (3.4445, -4.7750, 2.0315), 5
# Times the square root of the longer side: changes are then as large as Adam's usually are, so
# both take one learning rate (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
_SIZE = 0.2


class Muon(MatrixOptimizer):
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
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**defaults, "momentum": momentum})

    def is_matrix(self, parameter: torch.Tensor) -> bool:
        """Whether both sides, outputs and inputs times taps, are long enough."""
        if parameter.ndim < 2:
            return False
        return min(parameter.shape[0], parameter[0].numel()) >= SMALLEST_SIDE

    def matrix_change(self, gradient: torch.Tensor, state: State, group: State) -> torch.Tensor:
        """The mean gradient, made orthogonal."""
        momentum = group["momentum"]
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
