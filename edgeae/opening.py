"""What every kind of model does with its bundle: opens its graphs, and says what runs where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeae.bundle import Bundle
from edgeae.runtime import Graph

__all__ = ["graph_of", "report_of"]


def graph_of(bundle: Bundle, role: str, *, precision: str, **options: Any) -> Graph:
    """The graph of a role, in fp32 where the bundle has it in no other precision.

    `options` are those of `Graph`. Raises BundleError and ProviderError as it does.
    """
    there = precision in bundle.manifest.graphs.get(role, {})
    return Graph(bundle.graph(role, precision if there else "fp32"), **options)


def report_of(bundle: Bundle, precision: str, graphs: Mapping[str, Graph]) -> dict[str, Any]:
    """What was asked for and what runs where: {"bundle": id, "name", "precision", "graphs"}."""
    return {
        "bundle": bundle.id,
        "name": bundle.manifest.name,
        "precision": precision,
        "graphs": {role: graph.report() for role, graph in graphs.items()},
    }
