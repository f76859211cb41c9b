"""The verbs `compress` and `decompress`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeae.cli import options, terminal
from edgeae.cli.options import Pcm, Raw, UsageError

if TYPE_CHECKING:
    from edgeae.batch import Loading, Plan
    from edgeae.cli.folder import Tally

__all__ = ["compress", "decompress"]

SUFFIX = ".eae"


# Long: the options are its parameters, which typer reads from the signature.
def compress(
    sources: options.Sources,
    target: options.Target,
    model: Annotated[
        str | None,
        typer.Option(
            help="A bundled codec, or the directory of a codec or of an autoencoder of your own. "
            "By default photo-codec for images, ecg-codec for series, speech-codec for audio.",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(min=1, max=9, help="1 (smallest) to 9. By default 5.", show_default=False),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="The best quality that fits, instead of --quality."),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            help="Of images: fast, or best for fewer bytes in several times the time, with a model "
            "that has both, such as photo-codec-ms-ssim. By default fast; whoever reads one reads "
            "the other.",
            show_default=False,
        ),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(min=0, help="Of series: the largest error of any sample.", show_default=False),
    ] = None,
    lossless: Annotated[
        bool | None,
        typer.Option(
            "--lossless/--lossy",
            help="Keep every image, or the whole numbers of a series, exactly, or none. By "
            "default text, line art and patterns are kept exactly where that is smaller, or where "
            "the codec cannot do them.",
            show_default=False,
        ),
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave EXIF and XMP out of the file.")
    ] = False,
    psnr: Annotated[bool, typer.Option("--psnr", help="Decode again and tell the PSNR.")] = False,
    large: Annotated[
        bool,
        typer.Option("--large", help="Write a file that is read with --large alone, if need be."),
    ] = False,
    packet_ms: Annotated[
        int | None,
        typer.Option(
            min=20,
            max=2000,
            help="Of speech from - to -: how long packets are, a multiple of 20. Longer ones take "
            "fewer bits and are later. By default 40.",
            show_default=False,
        ),
    ] = None,
    dtx: Annotated[
        bool,
        typer.Option(
            "--dtx", help="Of speech from - to -: send digital silence as a packet every 600 ms."
        ),
    ] = False,
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
    keep_suffix: options.KeepSuffix = False,
    log: options.Log = None,
) -> None:
    """Compress photos, series of a sensor or speech to .eae files: one, several into a folder, or
    a folder of them.

    Speech that comes in through - as raw PCM or WAV of 16 kHz goes to - live, in packets.
    Text, line art and fine patterns, which a photo codec cannot do, are kept exactly where that is
    smaller; where JPEG would still do better, stderr says so.
    """
    from edgeae import batch, media
    from edgeae.cli import autoencoder_files, folder, image_files, signal_files, speech

    if quality is not None and max_bytes is not None:
        raise UsageError("--quality and --max-bytes exclude each other")
    items = options.is_autoencoder(model)
    raw = Raw(rate, channels, pcm)
    talk = not items and speech.is_speech(sources, model, raw)
    if (dtx or packet_ms) and not (talk and sources == ["-"] and target == "-"):
        raise UsageError("--dtx and --packet-ms are for speech that goes live from - to -")
    series = not items and not talk and _are_series(sources)
    bounds = (quality, max_bytes, max_error)
    if series and sum(bound is not None for bound in bounds) + bool(lossless) > 1:
        raise UsageError("give one of --quality, --max-bytes, --max-error and --lossless")
    if not series and max_error is not None:
        raise UsageError("--max-error is for series, expected a table or an array")
    if series and (strip or psnr or large or effort):
        raise UsageError("--strip, --psnr, --large and --effort are for images")
    if talk:
        if lossless is not None or strip or psnr or large or effort:
            raise UsageError(
                "--lossless, --lossy, --strip, --psnr, --large and --effort are not for speech, "
                "which takes --quality or --max-bytes"
            )
        speech.check_pipes(sources, target, raw, max_bytes)
    if items and (lossless is not None or strip or psnr or large or effort):
        raise UsageError(
            f"{model} is an autoencoder, expected --quality or --max-bytes and no other of the "
            "options that are for images"
        )
    if lossless and quality is not None:
        raise UsageError("--quality and --lossless exclude each other")
    settings = folder.Settings(
        force=force,
        skip_existing=skip_existing,
        strict=strict,
        processes=options.job_count(jobs, threads=threads),
        log=log,
        advice=": --keep-suffix tells them apart",
    )
    name = model or speech.default_model(talk) or ("ecg-codec" if series else "photo-codec")
    loading = options.loading(name, precision, provider, device, threads)
    work: functools.partial[Any]
    suffixes, what = image_files.SUFFIXES, "image"
    if items:
        of_items = autoencoder_files.Compression(loading, quality=quality, max_bytes=max_bytes)
        work = functools.partial(autoencoder_files.compress_file, of_items)
        suffixes, what = autoencoder_files.SUFFIXES, "array or image"
    elif talk:
        if sources == ["-"]:
            settings.refuse_pipe()
            live = speech.Live(packet_ms or 40, dtx=dtx)
            speech.compress_pipe(loading, target, raw, live, quality, max_bytes, force=force)
            return
        suffixes, what = media.AUDIO_SUFFIXES, "audio file"
        work = speech.compress_work(loading, quality, max_bytes)
    elif series:
        suffixes, what = signal_files.SUFFIXES, "series"
        of_series = signal_files.Compression(
            loading,
            quality=quality,
            max_bytes=max_bytes,
            max_error=max_error,
            lossless=bool(lossless),
        )
        work = functools.partial(signal_files.compress_file, of_series)
    else:
        of_images = image_files.Compression(
            loading,
            quality=quality,
            max_bytes=max_bytes,
            lossless=lossless,
            effort=effort,
            with_psnr=psnr,
            strip=strip,
            large=large,
        )
        work = functools.partial(image_files.compress_file, of_images)
    plan = _plan(
        sources,
        target,
        suffixes=suffixes,
        new_suffix=SUFFIX,
        keep_suffix=keep_suffix,
        why_not=lambda path: f"no {what}",
    )
    if not plan.many and target != "-":
        out = plan.jobs[0].target
        if out.suffix.lower() != SUFFIX:
            raise UsageError(f"OUT is {out}, expected a name that ends in {SUFFIX}, or a folder")
        if not skip_existing:
            folder.refuse_existing(out, force=force)
    _load(loading, settings.processes_for(plan), items=items, talk=talk, series=series)
    try:
        tally = folder.run_jobs(plan, work, settings)
    finally:
        batch.forget()
    if plan.many and tally.done:
        _say_sum(tally)
    folder.end(tally, settings)


def _say_sum(tally: Tally) -> None:
    """Tells how many bytes all files had before and have now."""
    from edgeae.cli import image_files

    before, after = tally.read_bytes, tally.written_bytes
    terminal.say(
        f"{terminal.count(tally.done, 'file')}  {before:,} -> {after:,} bytes"
        f"  ratio {image_files.ratio(before, after)}"
    )


# Long: as `compress`.
def decompress(
    sources: options.Sources,
    target: options.Target,
    model: Annotated[
        str | None,
        typer.Option(
            help="The directory of a codec or an autoencoder. By default the bundled codec that "
            "the file names.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Format of a folder's files, or of -: png, webp, tif ..., of series csv, npy ...",
        ),
    ] = "png",
    region: Annotated[
        str | None,
        typer.Option(
            metavar="TOP,LEFT,HEIGHT,WIDTH",
            help="Only this part of the image, in pixels.",
            show_default=False,
        ),
    ] = None,
    large: Annotated[
        bool,
        typer.Option("--large", help="Take an image far larger than its bytes let expect."),
    ] = False,
    conceal: Annotated[
        bool,
        typer.Option(
            "--conceal",
            help="Restore what is left of a damaged or cut image, make up the rest smoothly, and"
            " tell how much.",
        ),
    ] = False,
    pcm: Annotated[
        Pcm | None,
        typer.Option(help="Speech as raw PCM to -, live if it comes so.", show_default=False),
    ] = None,
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
    """Restore the images, series or speech in .eae files; OUT's suffix, or --to, says their
    format."""
    from edgeae import batch, media
    from edgeae.cli import autoencoder_files, folder, image_files, signal_files, speech

    suffix = "." + to.lower().lstrip(".")
    settings = folder.Settings(
        force=force,
        skip_existing=skip_existing,
        strict=strict,
        processes=options.job_count(jobs, threads=threads),
        log=log,
    )
    loading = options.loading(model, precision, provider, device, threads)
    images = image_files.Restoring(
        loading,
        region=None if region is None else _region(region),
        large=large,
        conceal=conceal,
        to=suffix,
    )
    plan = _plan(
        sources,
        target,
        suffixes={SUFFIX},
        new_suffix=suffix,
        why_not=lambda path: f"no {SUFFIX} file",
    )
    first = plan.jobs[0].target
    shown = Path(f"x{suffix}") if target == "-" else first
    items = options.is_autoencoder(model)
    series = not items and shown.suffix.lower() in signal_files.WRITTEN
    talk = not items and (pcm is not None or shown.suffix.lower() in media.AUDIO_SUFFIXES)
    of_images = region is not None or large or conceal
    if of_images and (talk or series):
        raise UsageError("--region, --large and --conceal are for images")
    work: functools.partial[Any]
    if items:
        if of_images:
            raise UsageError("--region, --large and --conceal are for a codec's images")
        autoencoder_files.check_items_name(shown)
        restoring_items = autoencoder_files.Restoring(loading, to=suffix)
        work = functools.partial(autoencoder_files.decompress_file, restoring_items)
    elif talk:
        if sources == ["-"] or target == "-":
            settings.refuse_pipe()
            speech.decompress_pipe(loading, sources[0], target, pcm, force=force)
            return
        work = speech.decompress_work(loading, shown, pcm)
    elif series:
        restoring = signal_files.Restoring(loading, to=suffix)
        work = functools.partial(signal_files.decompress_file, restoring)
    else:
        options.checked(media.image_writer, shown)
        work = functools.partial(image_files.decompress_file, images)
    if not plan.many and target != "-" and not skip_existing:
        folder.refuse_existing(first, force=force)
    batch.forget()
    if model is not None:
        _load(loading, settings.processes_for(plan), items=items, talk=talk, series=series)
    try:
        tally = folder.run_jobs(plan, work, settings)
    finally:
        batch.forget()
    folder.end(tally, settings)


def _load(loading: Loading, processes: int, *, items: bool, talk: bool, series: bool) -> None:
    """Loads the model, which must be one of what the files hold."""
    task = "autoencoder" if items else "codec"
    kind = None if items else "audio" if talk else "signal" if series else "image"
    options.load_for(loading, task, kind=kind, processes=processes)


def _are_series(sources: list[str]) -> bool:
    """Whether the first of the inputs, or the first file of a folder that can be told, is a
    series."""
    from edgeae.cli import image_files, signal_files

    first = Path(sources[0])
    if first.is_dir():
        for file in sorted(first.rglob("*")):
            suffix = file.suffix.lower()
            if suffix in image_files.SUFFIXES or suffix in signal_files.SUFFIXES:
                return suffix in signal_files.SUFFIXES
    return first.suffix.lower() in signal_files.SUFFIXES


def _plan(sources: list[str], target: str, **how: Any) -> Plan:
    """The jobs of files, of a folder, or of a standard stream."""
    from edgeae import batch

    options.refuse_empty(*sources, target)
    paths, out = list(map(Path, sources)), Path(target)
    if "-" in sources and len(sources) > 1:
        raise UsageError("- is one input of several, expected it alone")
    if target == "-":
        if len(sources) > 1 or paths[0].is_dir():
            raise UsageError("several files cannot go to -")
        if sys.stdout is not None and sys.stdout.isatty():
            raise UsageError("OUT is a terminal, expected - to lead into a pipe or a file")
        return batch.Plan([batch.Job(paths[0], out)], [], many=False)
    if sources == ["-"]:
        options.refuse_folder(target)
        return batch.Plan([batch.Job(paths[0], out)], [], many=False)
    into_folder = options.into_folder(sources, target)
    plan: Plan = options.checked(batch.plan, paths, out, into_folder=into_folder, **how)
    return plan


def _region(text: str) -> tuple[int, int, int, int]:
    try:
        top, left, height, width = map(int, text.split(","))
    except ValueError:
        raise UsageError(f"--region is {text!r}, expected TOP,LEFT,HEIGHT,WIDTH") from None
    return top, left, height, width
