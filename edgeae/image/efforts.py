"""The encoders of a bundle: one for each effort, all for one decoder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, get_args

from edgeae.bundle import Bundle
from edgeae.coding.latent import LatentSpec, check_encoder
from edgeae.errors import BundleError
from edgeae.image.tiles import Analysis
from edgeae.runtime import Graph

__all__ = ["EFFORTS", "Effort", "Encoders", "encoder_role"]

# What an encoder may take: less time than the decoder, or several times as long.
Effort = Literal["fast", "best"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
# Latents that an encoder may see around a tile.
_LARGEST_HALO = 64


class Encoders:
    """The analysis of each effort, opened when it is first asked for; safe to use from many
    threads.

    Attributes:
        fast: the one that every bundle has.
    """

    def __init__(
        self, bundle: Bundle, spec: LatentSpec, open_graph: Callable[[str], Graph]
    ) -> None:
        """`open_graph` gives the graph of a role."""
        self._bundle, self._spec, self._open = bundle, spec, open_graph
        self._lock = threading.Lock()
        self.fast = self._analysis(encoder_role("fast"), spec.encoder_halo)
        self._further: dict[str, Analysis] = {}

    def __call__(self, effort: Effort) -> Analysis:
        """The analysis of an effort.

        Raises:
            ValueError: an unknown effort.
            BundleError: the bundle has no such encoder, or a damaged one.
            ProviderError: a provider takes no node of it.
        """
        if effort not in EFFORTS:
            known = " or ".join(f'"{known}"' for known in EFFORTS)
            raise ValueError(f"effort is {effort!r}, expected {known}")
        if effort == "fast":
            return self.fast
        with self._lock:
            if effort not in self._further:
                self._further[effort] = self._open_further(effort)
            return self._further[effort]

    @property
    def graphs(self) -> dict[str, Graph]:
        """Those that are open, by role."""
        opened = {"fast": self.fast, **self._further}
        return {encoder_role(effort): analysis.graph for effort, analysis in opened.items()}

    def _open_further(self, effort: str) -> Analysis:
        manifest, role = self._bundle.manifest, encoder_role(effort)
        if role not in manifest.graphs:
            raise BundleError(f'{manifest.name} has no encoder of effort "{effort}"')
        halos = manifest.layout.get("encoder_halos")
        halo = halos.get(effort) if isinstance(halos, dict) else None
        if type(halo) is not int or not 0 <= halo <= _LARGEST_HALO:
            raise BundleError(
                f"{manifest.name}: the layout's encoder_halos of {effort} is {halo!r}, "
                f"expected 0 to {_LARGEST_HALO}"
            )
        analysis = self._analysis(role, halo)
        check_encoder(self._spec, analysis.graph)
        return analysis

    def _analysis(self, role: str, halo: int) -> Analysis:
        spec = self._spec
        graph = self._open(role)
        return Analysis(graph, spec.channels, stride=spec.stride, side=spec.tile, halo=halo)


def encoder_role(effort: str) -> str:
    """The role of an effort's graph in a bundle."""
    return "encoder" if effort == "fast" else f"encoder_{effort}"
