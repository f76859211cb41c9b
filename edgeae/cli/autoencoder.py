"""The verbs `latents` and `sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeae.cli import options, terminal
from edgeae.cli.options import UsageError

if TYPE_CHECKING:
    from edgeae.autoencoder import Autoencoder

__all__ = ["latents", "sample"]


def latents(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A .npy file, an image, or a folder of them.",
            readable=False,  # reading tells
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .npy or .csv file.")],
    model: Annotated[str, typer.Option(help="An autoencoder's directory.")],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also draw the latents in two dimensions, on a page that opens offline.",
            show_default=False,
        ),
    ] = None,
    precision: options.Precision = None,
    provider: options.Providers = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    force: options.Force = False,
) -> None:
    """Write the latents of items, a row for each, for other tools."""
    from edgeae.cli import autoencoder_files as files
    from edgeae.cli import latent_plot

    files.check_rows_target(target, force=force)
    if plot is not None:
        files.check_page_target(plot, force=force)
    loaded = _load(model, precision, provider, device, threads)
    items, names = files.read_items(source, loaded)
    codes = loaded.encode(items)
    files.write_rows(target, codes, names)
    terminal.say(f"{target}  {len(codes)} items of {loaded.latents} latents")
    if plot is not None:
        files.write_page(plot, latent_plot.page(loaded, items, codes, names))
        terminal.say(str(plot))


def sample(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An autoencoder's directory.")],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A .npy file, or for images a .png sheet of them."),
    ],
    count: Annotated[int, typer.Option("-n", min=1, max=1 << 16, help="How many.")] = 64,
    seed: Annotated[
        int | None, typer.Option(help="For the same items again.", show_default=False)
    ] = None,
    precision: options.Precision = None,
    provider: options.Providers = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    force: options.Force = False,
) -> None:
    """Draw new items that are like the data an autoencoder was trained on."""
    from edgeae.cli import autoencoder_files as files

    files.check_samples_target(target, force=force)
    loaded = _load(model, precision, provider, device, threads)
    if target.suffix.lower() == ".png" and loaded.kind != "image":
        raise UsageError(f"OUT is {target}, expected .npy: the model draws {loaded.kind}s")
    files.write_samples(target, loaded.sample(count, seed=seed))
    terminal.say(f"{target}  {count} items of {' x '.join(map(str, loaded.shape))}")


def _load(
    model: str, precision: str | None, provider: Any, device: str | None, threads: int
) -> Autoencoder:
    from edgeae.autoencoder import Autoencoder

    return Autoencoder.load(
        model,
        precision=precision,
        providers=options.asked_providers(provider),
        device=device,
        threads=threads,
    )
