"""The verb `denoise`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeae.cli import image_restoration, options
from edgeae.cli.options import Pcm, Raw, UsageError

if TYPE_CHECKING:
    from edgeae.batch import Loading
    from edgeae.cli.audio_files import Cleaning
    from edgeae.cli.folder import Settings

__all__ = ["denoise"]

MODEL = "speech-denoiser"


# Long: the options are its parameters, which typer reads from the signature.
def denoise(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help="Audio or image files, a folder, or - for a WAV, or for raw PCM with --rate.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help="A file, a folder (one ends in /), or - for raw PCM."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A bundled denoiser or a directory. By default speech-denoiser for audio and"
            " photo-denoiser for images.",
            show_default=False,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Of images: the standard deviation of the noise that is in them, in 8-bit values,"
            " 0 to 60 with photo-denoiser. By default it is estimated.",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Feed the model 10 ms at a time, as a live device does, and tell the real-time"
            " factor and the delay; beside - on stderr.",
        ),
    ] = False,
    attenuation_limit: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="DB",
            help="Take the noise down by so many dB at most.",
            show_default=False,
        ),
    ] = None,
    rate: options.RawRate = None,
    channels: options.RawChannels = None,
    pcm: options.RawSamples = None,
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
    """Remove the noise from speech, from images, or from a sensor's series with a model of it.

    Images keep their transparency and, as PNG or TIFF, 16 bits a sample.
    Speech may have any sample rate and any channels; long files take little memory.
    A recording that comes in through - ends at Ctrl-C, and what came before is kept; it goes to -
    as raw PCM of the same samples.
    """
    from edgeae import batch, media
    from edgeae.cli import audio_files, folder

    options.refuse_empty(*sources, target)
    raw_in, raw_out = sources == ["-"], target == "-"
    raw = Raw(rate, channels, pcm)
    _check_pipes(sources, target, raw)
    settings = folder.Settings(
        force=force,
        skip_existing=skip_existing,
        strict=strict,
        processes=options.job_count(jobs, threads=threads),
        log=log,
    )
    kind = _kind(sources, target, model)
    if kind == "image":
        if stream or attenuation_limit is not None or raw.given:
            raise UsageError(
                "--stream, --attenuation-limit, --rate, --channels and --pcm are for audio"
            )
        chosen = model or image_restoration.MODEL
        asked = options.loading(chosen, precision, provider, device, threads)
        image_restoration.denoise_images(sources, target, asked, strength, settings)
        return
    if strength is not None:
        raise UsageError("--strength is for images, expected --attenuation-limit for audio")
    model = model or MODEL
    loading = options.loading(model, precision, provider, device, threads)
    if kind == "signal":
        if raw_in or raw_out or stream:
            raise UsageError("-, --stream and raw PCM are for sound, expected files of series")
        _series(loading, sources, target, attenuation_limit, settings)
        return
    how = audio_files.Cleaning(
        loading,
        attenuation_limit_db=attenuation_limit,
        live=stream,
    )
    if raw_in or raw_out:
        settings.refuse_pipe()
        _through_pipe(how, sources, target, raw, force=force)
        return
    plan = options.checked(
        batch.plan,
        list(map(Path, sources)),
        Path(target),
        suffixes=audio_files.SUFFIXES,
        new_suffix=None,
        into_folder=options.into_folder(sources, target),
        why_not=_why_no_audio,
    )
    if not plan.many:
        options.checked(media.audio_subtype, plan.jobs[0].target, "PCM_16")
    folder.refuse_target(plan, settings)
    options.load_for(how.loading, "denoiser", processes=settings.processes_for(plan))
    work = functools.partial(audio_files.denoise_file, how)
    folder.end(folder.run_jobs(plan, work, settings, bar=True), settings)


def _series(
    loading: Loading,
    sources: list[str],
    target: str,
    attenuation_limit_db: float | None,
    settings: Settings,
) -> None:
    """Files of a sensor's series instead of sound."""
    from edgeae import batch
    from edgeae.cli import folder, series_files

    plan = options.checked(
        batch.plan,
        list(map(Path, sources)),
        Path(target),
        suffixes=series_files.SUFFIXES,
        new_suffix=None,
        into_folder=options.into_folder(sources, target),
        why_not=lambda path: "no series",
    )
    for job in plan.jobs:
        series_files.check_target(job.target)
    folder.refuse_target(plan, settings)
    how = series_files.Cleaning(loading, attenuation_limit_db)
    options.load_for(how.loading, "denoiser", processes=settings.processes_for(plan))
    work = functools.partial(series_files.denoise_file, how)
    folder.end(folder.run_jobs(plan, work, settings, bar=True), settings)


def _kind(sources: list[str], target: str, model: str | None) -> str:
    """The kind of data that a command is about: its model's, or, without one, images if there is
    one and no audio; what comes from -, or has a name that says neither, is what OUT is.

    Raises BundleError for a model that is no denoiser, UsageError for one of another kind of data
    than a file's suffix says, MediaError for a folder of neither without a model.
    """
    from edgeae import media
    from edgeae.bundle import find
    from edgeae.cli import series_files
    from edgeae.errors import MediaError
    from edgeae.loading import files_of

    if model is None:
        first = Path(sources[0] if sources != ["-"] else target)
        files = first.rglob("*") if first.is_dir() else [first, *map(Path, sources)]
        there = {file.suffix.lower() for file in files}
        if not there & (media.IMAGE_SUFFIXES | media.AUDIO_SUFFIXES):
            if first.is_dir():
                known = " ".join(sorted(media.IMAGE_SUFFIXES | media.AUDIO_SUFFIXES))
                raise MediaError(f"{first} holds no audio and no image file: none ends in {known}")
            there = {Path(target).suffix.lower()}
        pictures = there & media.IMAGE_SUFFIXES and not there & media.AUDIO_SUFFIXES
        return "image" if pictures else "audio"
    bundle = find(model)
    files_of(bundle, "denoiser")
    kind: str = bundle.manifest.layout["kind"]
    suffixes = {
        "audio": media.AUDIO_SUFFIXES,
        "image": media.IMAGE_SUFFIXES,
        "signal": series_files.SUFFIXES,
    }
    for source in sources:
        suffix = Path(source).suffix.lower()
        kinds = [of for of, those in suffixes.items() if suffix in those]
        if kinds and kind not in kinds and not Path(source).is_dir():
            raise UsageError(
                f"{model} is a denoiser of {kind}, expected one of {' or '.join(kinds)}"
                f" for {source}"
            )
    return kind


def _why_no_audio(path: Path) -> str:
    from edgeae import media

    is_image = path.suffix.lower() in media.IMAGE_SUFFIXES
    return "an image, in a folder with audio" if is_image else "no audio file"


def _check_pipes(sources: list[str], target: str, raw: Raw) -> None:
    from edgeae.signal.denoiser import MAX_RATE_HZ
    from edgeae.signal.samples import MAX_CHANNELS
    from edgeae.signal.spec import MIN_RATE_HZ

    raw_in, raw_out = sources == ["-"], target == "-"
    rate, channels = raw.rate, raw.channels
    if "-" in sources and len(sources) > 1:
        raise UsageError("- is one input of several, expected it alone")
    if not raw_in and (rate is not None or channels is not None):
        raise UsageError("--rate and --channels are for raw PCM from -: a file says its own")
    if rate is not None and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise UsageError(f"--rate is {rate}, expected {MIN_RATE_HZ} to {MAX_RATE_HZ}")
    if channels is not None and channels > MAX_CHANNELS:
        raise UsageError(f"--channels is {channels}, expected 1 to {MAX_CHANNELS}")
    if rate is None and channels is not None:
        raise UsageError("--channels is given without --rate")
    if not (raw_in or raw_out) and raw.pcm is not None:
        raise UsageError("--pcm is for raw PCM: IN or OUT must be -")
    if raw_out and len(sources) > 1:
        raise UsageError("several inputs cannot go to -")
    if raw_out and Path(sources[0]).is_dir():
        raise UsageError("a folder cannot go to -")
    if raw_out and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("raw PCM is nothing for a terminal: send - into a pipe or a file")
    if raw_in and rate is None and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("- is a terminal, expected audio from a pipe")


def _through_pipe(how: Cleaning, sources: list[str], target: str, raw: Raw, *, force: bool) -> None:
    from edgeae import media
    from edgeae.cli import audio_files, folder

    out = Path(target)
    if sources != ["-"]:
        options.load_for(how.loading, "denoiser")
        audio_files.denoise_to_pipe(how, Path(sources[0]), raw.pcm or Pcm.s16le)
        return
    if out != Path("-"):
        options.refuse_folder(target)
        options.checked(media.audio_subtype, out, "PCM_16")
        folder.refuse_existing(out, force=force)
    options.load_for(how.loading, "denoiser")
    try:
        audio_files.denoise_pipe(how, out, raw)
    except audio_files.UnknownSamples as error:
        raise UsageError(str(error)) from None
