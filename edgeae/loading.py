"""One door to every model: the manifest's task says which class runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeae.bundle import find
from edgeae.errors import BundleError
from edgeae.image.codec import ImageCodec
from edgeae.providers import Provider
from edgeae.signal.denoiser import SignalDenoiser

__all__ = ["load"]


def load(
    model: str | Path,
    *,
    precision: str | None = None,
    providers: Sequence[Provider] | None = None,
    device: str | None = None,
    threads: int = 1,
    strict: bool = False,
) -> ImageCodec | SignalDenoiser:
    """The model of a bundled name or of a bundle's folder, as the class that its manifest's task
    names.

    Raises:
        BundleError: not there, damaged, or of a task that this version cannot run.
        ProviderError: a provider is not available or takes no node.
    """
    bundle = find(model)
    task = bundle.manifest.task
    kinds: dict[str, type[ImageCodec] | type[SignalDenoiser]] = {
        "codec": ImageCodec,
        "denoiser": SignalDenoiser,
    }
    if task not in kinds:
        raise BundleError(f"{bundle.manifest.name} is a {task}, which this version cannot run")
    return kinds[task].load(
        bundle.path,
        precision=precision,
        providers=providers,
        device=device,
        threads=threads,
        strict=strict,
    )
