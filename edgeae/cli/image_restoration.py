"""Images of the verb `denoise`, and the verb `fill`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeae.cli import options
from edgeae.cli.options import UsageError

if TYPE_CHECKING:
    from edgeae.batch import Done, Job, Loading, Tick
    from edgeae.cli.folder import Settings

__all__ = ["MODEL", "denoise_images", "fill"]

MODEL = "photo-denoiser"


def denoise_images(
    sources: list[str],
    target: str,
    loading: Loading,
    strength: float | None,
    settings: Settings,
) -> None:
    """Denoises image files. Raises UsageError for what the command cannot mean."""
    from edgeae.cli import restored_images

    how = restored_images.Cleaning(loading, strength)
    work = functools.partial(restored_images.denoise_file, how)
    _run(sources, target, loading, work, settings, strength=strength)


def fill(
    source: Annotated[str, typer.Argument(metavar="IN", help="An image or a folder of them.")],
    mask: Annotated[
        Path,
        typer.Argument(
            metavar="MASK",
            readable=False,  # reading tells
            help="An image of the same size, white where IN is to be filled, black elsewhere; or a"
            " folder of such with the names of IN's.",
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="OUT", help="An image or a folder.")],
    model: Annotated[str, typer.Option(help="A bundled denoiser or a directory.")] = MODEL,
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
    """Fill the holes of images, scratches or lettering, from what is around them.

    Everything outside of MASK stays exactly as it is, unless OUT is a .jpg or .avif.
    """
    from edgeae.cli import folder, restored_images
    from edgeae.errors import MediaError

    options.refuse_empty(source, target)
    settings = folder.Settings(
        force=force,
        skip_existing=skip_existing,
        strict=strict,
        processes=options.job_count(jobs, threads=threads),
        log=log,
    )
    if not mask.exists():
        raise MediaError(f"cannot read {mask}: No such file or directory")
    for name, other in (("IN", source), ("OUT", target)):
        if mask.resolve() == Path(other).resolve():
            raise UsageError(f"{name} {other} is MASK {mask}, expected another {_what(mask)}")
    loading = options.loading(model, precision, provider, device, threads)
    how = restored_images.Filling(loading, mask, Path(source) if Path(source).is_dir() else None)
    work = functools.partial(restored_images.fill_file, how)
    _run([source], target, loading, work, settings)


def _what(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def _run(
    sources: list[str],
    target: str,
    loading: Loading,
    work: Callable[[Job, Tick], Done],
    settings: Settings,
    *,
    strength: float | None = None,
) -> None:
    from edgeae import batch, media
    from edgeae.cli import folder, restored_images

    if "-" in (*sources, target):
        raise UsageError("images are read from files and written to files, not -")
    plan = options.checked(
        batch.plan,
        list(map(Path, sources)),
        Path(target),
        suffixes=restored_images.SUFFIXES,
        new_suffix=None,
        into_folder=options.into_folder(sources, target),
        why_not=lambda path: "no image file",
    )
    if plan.output is not None:
        plan = dataclasses.replace(plan, jobs=list(map(_writable, plan.jobs)))
    if not plan.many:
        options.checked(media.image_writer, plan.jobs[0].target)
    folder.refuse_target(plan, settings)
    processes = settings.processes_for(plan)
    bundle = options.load_for(loading, "denoiser", kind="image", processes=processes)
    most = bundle.manifest.layout["highest_level"]
    # Here, since it would be wrong of each file.
    if strength is not None and not strength <= most:
        raise UsageError(f"--strength is {strength:g}, expected 0 to {most:g}")
    folder.end(folder.run_jobs(plan, work, settings), settings)


def _writable(job: Job) -> Job:
    """A job into a folder, as PNG where its name is of a format that is only read."""
    from edgeae import media

    try:
        media.image_writer(job.target)
    except ValueError:
        return dataclasses.replace(job, target=job.target.with_suffix(".png"))
    return job
