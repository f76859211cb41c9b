"""The verb `score`."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeae.cli import options, terminal
from edgeae.cli.options import UsageError

if TYPE_CHECKING:
    from edgeae.batch import Loading
    from edgeae.cli.folder import Settings

__all__ = ["score"]


class Missing(StrEnum):
    """What is done where a value is missing."""

    refuse = "refuse"
    hold = "hold"
    interpolate = "interpolate"


# Long: the options are its parameters, which typer reads from the signature.
def score(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            readable=False,  # reading tells
            help="A series (.csv .tsv .npy .npz .parquet .wav .hea), an image or a folder of them.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A bundled detector, such as beat-detector, or the directory of your own, as"
            " images need."
        ),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="Flag scores above it; by default the model's own.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="All scores and alarms as JSON on stdout.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also draw signal, score and alarms: .html or .png; of an image its heat map, "
            ".png, and of a folder a folder of those.",
            show_default=False,
        ),
    ] = None,
    missing: Annotated[
        Missing, typer.Option(help="What to do where a value is missing.")
    ] = Missing.refuse,
    precision: options.Precision = None,
    provider: options.Providers = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    jobs: options.Jobs = "1",
    force: options.Force = False,
    skip_existing: options.Skip = False,
    strict: options.Strict = False,
    log: options.Log = None,
) -> None:
    """Say how strange a sensor's series is, and where: a line for each alarm; or an image, or each
    image of a folder."""
    from edgeae import media
    from edgeae.bundle import find
    from edgeae.cli import folder, score_files, score_plot
    from edgeae.detector import Detector

    settings = folder.Settings(
        force=force,
        skip_existing=skip_existing,
        strict=strict,
        processes=options.job_count(jobs, threads=threads),
        log=log,
    )
    if find(model).manifest.layout.get("kind") == "image":
        how = options.loading(model, precision, provider, device, threads)
        _score_images(source, how, threshold, settings, as_json=as_json, plot=plot)
        return
    if settings != folder.Settings(force=force):
        raise UsageError("--jobs, --skip-existing, --strict and --log are for images")
    if plot is not None:
        if plot.suffix.lower() not in score_plot.SUFFIXES:
            raise UsageError(f"--plot is {plot}, expected a name that ends in .html or .png")
        folder.refuse_existing(plot, force=force)
    detector = Detector.load(
        model,
        precision=precision,
        providers=options.asked_providers(provider),
        device=device,
        threads=threads,
    )
    series = score_files.read_for(detector, source, missing.value)
    scores = detector.score(series.samples)
    alarms = options.checked(detector.alarms, scores, threshold=threshold)
    limit = detector.threshold if threshold is None else threshold
    if as_json:
        told = score_files.as_json(detector, series, alarms, scores, limit)
        print(json.dumps(told, indent=1))
    else:
        for line in score_files.lines(series, alarms, scores, limit):
            print(line)
    if plot is not None:
        if plot.suffix.lower() == ".png":
            data = score_plot.image(series, scores, alarms, limit)
        else:
            data = score_plot.page(source.name, series, scores, alarms, limit).encode()
        media.atomic_write(plot, data)
        terminal.say(str(plot))


def _score_images(
    source: Path,
    loading: Loading,
    threshold: float | None,
    settings: Settings,
    *,
    as_json: bool,
    plot: Path | None,
) -> None:
    from edgeae.cli import inspected_images

    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"--threshold is {threshold}, expected a finite number")
    if plot is not None and not source.is_dir():
        if plot.suffix.lower() not in inspected_images.PLOT_SUFFIXES:
            raise UsageError(f"--plot is {plot}, expected a name that ends in .png")
    elif plot is not None and plot.exists() and not plot.is_dir():
        raise UsageError(f"--plot is {plot}, a file, expected a folder as {source} is one")
    if plot is None and settings.skip_existing:
        raise UsageError("--skip-existing is for heat maps, expected --plot with it")
    how = inspected_images.Inspection(loading, threshold)
    inspected_images.inspect_images(how, source, plot, settings, as_json=as_json)
