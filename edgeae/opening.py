"""What every kind of model does with its bundle: opens its graphs, and says what runs where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeae.bundle import Bundle
from edgeae.runtime import Graph

__all__ = ["graph_of", "report_of"]


def graph_of(bundle: Bundle, role: str, *, precision: str, **options: Any) -> Graph:
    """The graph of a role, in the only precision that the bundle has it in where it is not there
    in the one asked for.

    `options` are those of `Graph`. Raises BundleError and ProviderError as it does.
    """
    there = bundle.manifest.graphs.get(role, {})
    if precision not in there:
        precision = "fp32" if "fp32" in there or not there else next(iter(there))
    return Graph(bundle.graph(role, precision), **options)


def report_of(bundle: Bundle, precision: str, graphs: Mapping[str, Graph]) -> dict[str, Any]:
    """What was asked for and what runs where: {"bundle": id, "name", "precision", "graphs"}."""
    return {
        "bundle": bundle.id,
        "name": bundle.manifest.name,
        "precision": precision,
        "graphs": {role: graph.report() for role, graph in graphs.items()},
    }
