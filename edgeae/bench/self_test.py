"""What `edgeae verify` checks: the files of a bundle, and what its graphs do with known signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeae.bundle import Bundle, find
from edgeae.loading import load, trials_of
from edgeae.providers import Provider

__all__ = ["check_bundle", "where_it_runs"]


def check_bundle(
    model: str | Path, *, providers: Sequence[Provider] | None = None, threads: int = 1
) -> Iterator[str]:
    """One line for each check that went well, as it goes; EdgeaeError says which one did not.

    Every file is hashed and every graph looked into before it is opened (BundleError); then each
    precision is loaded and run on a signal made here, whose result must obey the laws of its kind.
    """
    bundle = find(model)
    graphs = [entry for files in bundle.manifest.graphs.values() for entry in files.values()]
    files = len(graphs) + len(bundle.manifest.files)
    yield f"the size and sha256 of {_counted(files, 'file')} are what the manifest says"
    for name in bundle.changed_documents():
        yield f"{name} is not as it was shipped, which no result depends on"
    yield f"{_counted(len(graphs), 'graph')}: weights inside, standard operators only"
    for precision in _precisions(bundle):
        loaded = load(bundle.path, precision=precision, providers=providers, threads=threads)
        yield f"{precision}: loaded, {where_it_runs(loaded.report())}"
        for line in trials_of(bundle).self_test(loaded):
            yield f"{precision}: {line}"


def _precisions(bundle: Bundle) -> list[str]:
    """Those that `load` takes: what the first stage of the model is there in."""
    graphs = bundle.manifest.graphs
    return list(graphs["encoder"] if "encoder" in graphs else next(iter(graphs.values())))


def where_it_runs(report: dict[str, Any]) -> str:
    """In words, how many graphs and nodes of a model's `report()` run on which provider."""
    nodes: Counter[str] = Counter()
    for graph in report["graphs"].values():
        nodes.update(graph["nodes"])
    placed = ", ".join(f"{count} nodes on {provider}" for provider, count in nodes.items())
    return f"{_counted(len(report['graphs']), 'graph')}, {placed}"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
