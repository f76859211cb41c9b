"""Adam in the eigenbasis of each weight matrix's gradients (SOAP, Vyas et al. 2024).

A 1x1 convolution is a matrix. Its gradients' two second moments, over rows and over columns, have
eigenvectors in which the entries are nearly independent, so that Adam's division by the size of
each entry becomes close to a division by the curvature. Every other parameter gets plain Adam.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from train.matrix_optimizer import MatrixOptimizer, State, adam_change

# Matrices smaller than this on a side have no basis worth the work, larger ones cost too much.
SMALLEST_SIDE, LARGEST_SIDE = 8, 640


class Soap(MatrixOptimizer):
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
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(
            params, {**defaults, "moment_beta": moment_beta, "every_steps": every_steps}
        )

    def is_matrix(self, parameter: torch.Tensor) -> bool:
        """Whether it has no taps, and sides for which a basis pays."""
        if parameter.ndim < 2 or any(size != 1 for size in parameter.shape[2:]):
            return False
        sides = parameter.shape[:2]
        return min(sides) >= SMALLEST_SIDE and max(sides) <= LARGEST_SIDE

    def matrix_change(self, gradient: torch.Tensor, state: State, group: State) -> torch.Tensor:
        """Adam's change between the bases of rows and columns."""
        matrix = gradient.flatten(1)
        if "rows" not in state:
            # The first gradient gives the bases and is not followed.
            _begin(matrix, state)
            return torch.zeros_like(gradient)
        rows, columns = state["rows"], state["columns"]
        state["mean"].lerp_(matrix, 1 - group["betas"][0])
        turned = rows.T @ matrix @ columns
        change = adam_change(turned, rows.T @ state["mean"] @ columns, state, group)
        # Back with the bases that the change was made between; they turn afterwards.
        change = (rows @ change @ columns.T).view_as(gradient)
        fresh = 1 - group["moment_beta"]
        state["row_moment"].lerp_(matrix @ matrix.T, fresh)
        state["column_moment"].lerp_(matrix.T @ matrix, fresh)
        if state["step"] % group["every_steps"] == 0:
            _turn(state)
        return change


def _begin(matrix: torch.Tensor, state: State) -> None:
    state["row_moment"], state["column_moment"] = matrix @ matrix.T, matrix.T @ matrix
    state["rows"] = torch.linalg.eigh(state["row_moment"])[1]
    state["columns"] = torch.linalg.eigh(state["column_moment"])[1]
    state["mean"], state["square"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
    state["step"] = 0


def _turn(state: State) -> None:
    for axis, basis, moment in ((0, "rows", "row_moment"), (1, "columns", "column_moment")):
        turned = state[moment] @ state[basis]
        order = (state[basis] * turned).sum(0).argsort(descending=True)
        state["square"] = state["square"].index_select(axis, order)
        state[basis] = torch.linalg.qr(turned[:, order])[0]
