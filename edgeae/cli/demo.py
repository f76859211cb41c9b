"""The verb `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeae.cli import options

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path(
        "edgeae-demo"
    ),
    precision: options.Precision = None,
    provider: options.Providers = None,
    threads: options.Threads = 1,
) -> None:
    """Compress a photo and speech, denoise a recording, show what came of it. Needs no network."""
    from edgeae.cli.demo_run import run_demo

    run_demo(out, precision=precision, providers=options.asked_providers(provider), threads=threads)
