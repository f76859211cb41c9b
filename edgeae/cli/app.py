"""The `edgeae` command. Commands import what they need when they run, so that --help is quick."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from edgeae.errors import EdgeaeError, MediaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeae.bench.report import Table
    from edgeae.bundle import Bundle
    from edgeae.coding.container import Limits
    from edgeae.media import AudioInfo
    from edgeae.providers import Provider
    from edgeae.signal.denoiser import SignalDenoiser
    from edgeae.signal.stream import Stream

__all__ = ["app", "main"]

# Blocks of a whole file: large enough to cost nothing, small enough for a bar that moves.
FILE_BLOCK_S = 1.0
# What `--stream` feeds at a time: the block of a usual audio callback.
LIVE_BLOCK_S = 0.010
PIPE_READ_BYTES = 1 << 16


class _UsageError(Exception):
    """The command line asks for something that cannot be meant."""


class _OneLineErrors(TyperGroup):
    """Commands whose errors are one line on stderr: exit 1 for data and models, 2 for usage."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _told_in_one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _told_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # typer ends quietly when the reader of a pipe has gone
        raise
    except MemoryError:
        _complain("there is not enough memory for this")
        raise typer.Exit(1) from None
    except (EdgeaeError, ValueError, OSError) as error:
        _complain(str(error).strip() or type(error).__name__)
        raise typer.Exit(1) from None
    except _UsageError as error:
        _complain(str(error))
        raise typer.Exit(2) from None
    except Exception as error:
        # Usage errors come from typer or from click, depending on typer's version.
        if not hasattr(error, "format_message") or getattr(error, "exit_code", None) != 2:
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "edgeae"
        _complain(f"{error.format_message()} (see {command} --help)")
        raise typer.Exit(2) from None


app = typer.Typer(
    name="edgeae",
    cls=_OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compress photos and denoise speech with small neural models, on the device.",
)


class Pcm(StrEnum):
    """Sample formats of a raw pipe: 16-bit integers or 32-bit floats, little endian."""

    s16le = "s16le"
    f32le = "f32le"


In = Annotated[Path, typer.Argument(metavar="IN", help="A file or a folder.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A file, or a folder for a folder.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A bundled name or a directory.")]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32 or int8. By default int8 where the model has it.", show_default=False),
]
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME[:key=value,...]",
        help="onnxruntime's name of an execution provider, with its options; repeat for a second"
        " choice. By default CPUExecutionProvider.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, gpu, npu or auto, instead of --provider: see edgeae info --providers.",
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of one model run.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


@app.callback(invoke_without_command=True)
def _edgeae(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        import edgeae

        print(f"edgeae {edgeae.__version__}")
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path(
        "edgeae-demo"
    ),
    precision: Precision = None,
    provider: Providers = None,
    threads: Threads = 1,
) -> None:
    """Compress a photo, denoise a recording, and show what came of it. Needs no network."""
    from edgeae.cli.demo import run_demo

    run_demo(out, precision=precision, providers=_asked(provider), threads=threads)


@app.command()
def models() -> None:
    """List the models that are inside the package."""
    from edgeae.bundle import bundled_names, find

    bundles = [find(name) for name in bundled_names()]
    if not bundles:
        raise EdgeaeError("this installation holds no models: give commands a model's directory")
    rows = [
        (
            bundle.manifest.name,
            bundle.manifest.task,
            bundle.manifest.version,
            _precisions(bundle),
            f"{_bundle_bytes(bundle) / 1e6:.2f} MB",
            bundle.id[:12],
        )
        for bundle in bundles
    ]
    _table(("model", "task", "version", "precisions", "size", "id"), rows)


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A bundled name, a directory or an .eae file.",
            show_default=False,
        ),
    ] = None,
    providers: Annotated[
        bool,
        typer.Option("--providers", help="List the execution providers and devices of this host."),
    ] = False,
) -> None:
    """Show what is in a model or in the header of an .eae file, or what it could run on."""
    from edgeae.bundle import bundled_names

    if model is None and not providers:
        raise _UsageError("a MODEL or an .eae file is needed, or --providers")
    if providers:
        _show_providers()
    if model is not None:
        if model not in bundled_names() and Path(model).is_file():
            _show_file(Path(model))
        else:
            _show_bundle(model)


@app.command()
def verify(
    model: Model,
    provider: Providers = None,
    threads: Threads = 1,
) -> None:
    """Hash every file of a model, load it in each precision, and run it on a test signal."""
    from edgeae.bench.self_test import check_bundle

    count = 0
    for line in check_bundle(model, providers=_asked(provider), threads=threads):
        print(f"ok  {line}", flush=True)
        count += 1
    print(f"{model}: {count} checks, all well")


@app.command()
def compress(
    source: In,
    target: Out,
    model: Annotated[str, typer.Option(help="A bundled codec or a directory.")] = "photo-codec",
    quality: Annotated[
        float | None,
        typer.Option(min=1, max=9, help="1 (smallest) to 9. By default 5.", show_default=False),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="The best quality that fits, instead of --quality."),
    ] = None,
    psnr: Annotated[bool, typer.Option("--psnr", help="Decode again and tell the PSNR.")] = False,
    precision: Precision = None,
    provider: Providers = None,
    device: Device = None,
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Compress a photo to an .eae file, or a folder of photos to a folder of them."""
    from edgeae import batch, media, metrics

    if quality is not None and max_bytes is not None:
        raise _UsageError("--quality and --max-bytes exclude each other")
    _no_pipe(source, target)
    jobs, passed_over = batch.plan(source, target, suffixes=media.IMAGE_SUFFIXES, new_suffix=".eae")
    if not source.is_dir():
        batch.refuse_existing(jobs[0].target, force=force)

    import edgeae

    codec = edgeae.ImageCodec.load(
        model, precision=precision, providers=_asked(provider), device=device, threads=threads
    )
    budget = {"max_bytes": max_bytes} if max_bytes is not None else {"quality": quality or 5}
    sizes: list[tuple[int, int]] = []

    def work(source: Path, target: Path, tick: batch.Tick) -> str:
        image = media.read_image(source)
        blob = codec.compress(image, **budget)
        media.atomic_write(target, blob)
        before, after = source.stat().st_size, len(blob)
        sizes.append((before, after))
        line = (
            f"{source} -> {target}  {before:,} -> {after:,} bytes  ratio {before / after:.1f}"
            f"  {metrics.bits_per_pixel(after, image.shape):.3f} bit/pixel"
        )
        if psnr:
            # Transparency is exact and would flatter.
            restored = codec.decompress(blob, limits=_limits(large=True))
            line += f"  PSNR {metrics.psnr_db(image[..., :3], restored[..., :3]):.2f} dB"
        return line

    failed = batch.run(source, target, jobs, work, force=force, bar=False)
    if source.is_dir() and sizes:
        before, after = map(sum, zip(*sizes, strict=True))
        print(f"{len(sizes)} files  {before:,} -> {after:,} bytes  ratio {before / after:.1f}")
    _end(failed, passed_over, "no pictures")


@app.command()
def decompress(
    source: In,
    target: Out,
    model: Annotated[
        str | None,
        typer.Option(
            help="A codec's directory. By default the bundled codec that the file names.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="Picture format of a folder's files: png, webp, tif ...")
    ] = "png",
    region: Annotated[
        str | None,
        typer.Option(
            metavar="TOP,LEFT,HEIGHT,WIDTH",
            help="Only this part of the picture, in pixels.",
            show_default=False,
        ),
    ] = None,
    large: Annotated[
        bool,
        typer.Option("--large", help="Take a picture far larger than its bytes let expect."),
    ] = False,
    precision: Precision = None,
    provider: Providers = None,
    device: Device = None,
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Restore the picture in an .eae file; OUT's suffix says its format."""
    from edgeae import batch, media

    suffix = "." + to.lower().lstrip(".")
    part = None if region is None else _region(region)
    _no_pipe(source, target)
    jobs, passed_over = batch.plan(source, target, suffixes={".eae"}, new_suffix=suffix)
    for job in jobs[:1]:
        _usage(media.image_writer, job.target)
        if not source.is_dir():
            batch.refuse_existing(job.target, force=force)
    codecs = _Codecs(
        model, precision=precision, providers=_asked(provider), device=device, threads=threads
    )

    def work(source: Path, target: Path, tick: batch.Tick) -> str:
        blob = media.read_bytes(source)
        image = codecs.for_blob(blob).decompress(blob, region=part, limits=_limits(large=large))
        media.write_image(target, image)
        return f"{source} -> {target}  {image.shape[1]}x{image.shape[0]} pixels"

    failed = batch.run(source, target, jobs, work, force=force, bar=False)
    _end(failed, passed_over, "no .eae files")


@app.command()
def denoise(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A sound file, a folder, or - for raw PCM.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A sound file, a folder, or - for raw PCM.")
    ],
    model: Annotated[
        str, typer.Option(help="A bundled denoiser or a directory.")
    ] = "speech-denoiser",
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Feed 10 ms at a time, as a live device does, and time it."),
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
    rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", min=1, help="Sample rate of raw PCM.", show_default=False),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="Channels of raw PCM. By default 1.", show_default=False),
    ] = None,
    pcm: Annotated[
        Pcm | None,
        typer.Option(help="Samples of raw PCM. By default s16le.", show_default=False),
    ] = None,
    precision: Precision = None,
    provider: Providers = None,
    device: Device = None,
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Remove the noise from speech: any sample rate, any channels, long files in little memory."""
    from edgeae import batch, media

    raw_in, raw_out = str(source) == "-", str(target) == "-"
    if raw_in and rate is None:
        raise _UsageError("raw PCM from - needs --rate")
    if not raw_in and (rate is not None or channels is not None):
        raise _UsageError("--rate and --channels are for raw PCM from -: a file says its own")
    if not (raw_in or raw_out) and pcm is not None:
        raise _UsageError("--pcm is for raw PCM: IN or OUT must be -")
    if raw_out and source.is_dir():
        raise _UsageError("a folder cannot go to -")
    if raw_out and sys.stdout.isatty():
        raise _UsageError("raw PCM is nothing for a terminal: send - into a pipe or a file")
    jobs, passed_over = [batch.Job(source, target)], 0
    if not (raw_in or raw_out):
        jobs, passed_over = batch.plan(
            source, target, suffixes=media.AUDIO_SUFFIXES, new_suffix=None
        )
    if not raw_out and not source.is_dir():
        _usage(media.audio_subtype, jobs[0].target, "PCM_16")
        batch.refuse_existing(jobs[0].target, force=force)

    import edgeae

    denoiser = edgeae.SignalDenoiser.load(
        model, precision=precision, providers=_asked(provider), device=device, threads=threads
    )
    cleaner = _Cleaner(denoiser, attenuation_limit, live=stream)
    kind = pcm or Pcm.s16le
    if raw_in and rate is not None:
        cleaned = cleaner.pipe(_pcm_blocks(channels or 1, kind), rate, channels or 1)
        if raw_out:
            _write_pcm(cleaned, kind)
            return
        subtype = "PCM_16" if kind is Pcm.s16le else "FLOAT"
        with media.AudioWriter(
            target, rate_hz=rate, channels=channels or 1, subtype=subtype
        ) as writer:
            for block in cleaned:
                writer.write(_as_float(block))
        return
    if raw_out:
        _write_pcm(cleaner.file(source, _Timing(media.audio_info(source))), kind)
        return

    def work(source: Path, target: Path, tick: batch.Tick) -> str:
        timing = _Timing(media.audio_info(source), tick)
        audio = timing.audio
        with media.AudioWriter(
            target, rate_hz=audio.rate_hz, channels=audio.channels, subtype=audio.subtype
        ) as writer:
            for block in cleaner.file(source, timing):
                writer.write(block)
        return f"{source} -> {target}  {timing}"

    failed = batch.run(source, target, jobs, work, force=force, bar=True)
    _end(failed, passed_over, "no sound files")


@app.command()
def bench(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A bundled name or a directory.", show_default=False),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            help="Execution provider; repeat for more. By default every one that is here.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32 or int8; repeat for more. By default every one that the model has.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Repeat for more. By default 1, 2, 4 ... all cores.", show_default=False
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Time for each task of each configuration.")
    ] = 3.0,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Your own photo or recording instead of the package's.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, every sample too.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write one page with plots, which opens offline.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A.json B.json",
            help="Measure nothing: set two results of --json side by side.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Time a model's real work on every execution provider, precision and number of threads."""
    if compare is not None:
        if model is not None:
            raise _UsageError("--compare takes two files and no MODEL")
        _show_differences(*compare, as_json=as_json)
        return
    if model is None:
        raise _UsageError("a MODEL is needed, or --compare A.json B.json")
    from edgeae import batch, media
    from edgeae.bench.measure import measure
    from edgeae.bench.report import notes, page, tables

    if report is not None:
        batch.refuse_existing(report, force=force)
    with _status() as tell:
        result = measure(
            model,
            providers=_asked(provider),
            precisions=precision,
            threads=threads,
            seconds=seconds,
            source=source,
            tell=tell,
        )
    if report is not None:
        media.atomic_write(report, page(result).encode())
    if as_json:
        print(json.dumps(result))
        return
    _figures(tables(result))
    for note in notes(result):
        print(note)


def main() -> None:
    """The entry point of the `edgeae` command."""
    app(prog_name="edgeae")


# --- sound on its way through -----------------------------------------------------------------


@dataclass(frozen=True)
class _Cleaner:
    """A denoiser with the options of the command; what it gives is aligned with what it gets."""

    denoiser: SignalDenoiser
    attenuation_limit_db: float | None
    live: bool

    def file(self, path: Path, timing: _Timing) -> Iterator[NDArray[Any]]:
        """The clean sound of a file, block by block, in the memory of one block."""
        from edgeae import media

        audio = timing.audio
        live = max(1, round(audio.rate_hz * LIVE_BLOCK_S))
        stream = self.denoiser.stream(
            sample_rate=audio.rate_hz,
            channels=audio.channels,
            attenuation_limit_db=self.attenuation_limit_db,
            # A live device must get a block for each block it gives, and pays for it in delay.
            block_samples=live if self.live else None,
        )
        if self.live:
            timing.delay_samples = stream.delay
        size = live if self.live else round(audio.rate_hz * FILE_BLOCK_S)
        return _aligned(stream, media.audio_blocks(path, size), timing)

    def pipe(
        self, blocks: Iterator[NDArray[Any]], rate_hz: int, channels: int
    ) -> Iterator[NDArray[Any]]:
        """The clean sound of blocks as they come; each is given on as soon as it is ready."""
        stream = self.denoiser.stream(
            sample_rate=rate_hz, channels=channels, attenuation_limit_db=self.attenuation_limit_db
        )
        return _aligned(stream, blocks, None)


def _aligned(
    stream: Stream, blocks: Iterator[NDArray[Any]], timing: _Timing | None
) -> Iterator[NDArray[Any]]:
    """What the stream makes of the blocks, without its delay: as long as they are together."""
    late = stream.delay
    for block in blocks:
        before = time.perf_counter()
        out = stream.process(block)
        if timing is not None:
            timing.add(len(block), time.perf_counter() - before)
        yield out[late:]
        late = max(0, late - len(out))
    yield stream.flush()[late:]


class _Timing:
    """How much sound went through a stream, and how long the model worked on it."""

    def __init__(self, audio: AudioInfo, tick: Callable[[float], None] | None = None) -> None:
        self.audio = audio
        self.delay_samples: int | None = None
        self._tick = tick
        self._frames, self._busy_s = 0, 0.0

    def add(self, frames: int, busy_s: float) -> None:
        self._frames += frames
        self._busy_s += busy_s
        if self._tick is not None and self.audio.frames:
            self._tick(min(1.0, self._frames / self.audio.frames))

    def __str__(self) -> str:
        rate_hz, channels = self.audio.rate_hz, self.audio.channels
        seconds = self._frames / rate_hz
        text = (
            f"{seconds:.2f} s, {rate_hz} Hz, {channels} channel{'s' if channels > 1 else ''}"
            f"  real-time factor {self._busy_s / seconds:.3f}"
        )
        if self.delay_samples is not None:
            delay_ms = 1000 * self.delay_samples / rate_hz
            text += f"  delay {delay_ms:.1f} ms with blocks of {1000 * LIVE_BLOCK_S:.0f} ms"
        return text


def _pcm_blocks(channels: int, pcm: Pcm) -> Iterator[NDArray[Any]]:
    """Raw samples from stdin as they come: (frames,) or (frames, channels)."""
    import numpy as np

    dtype = np.dtype("<i2" if pcm is Pcm.s16le else "<f4")
    frame_bytes = dtype.itemsize * channels
    stdin: Any = sys.stdin.buffer
    rest, came = b"", False
    while True:
        # read1 returns what is there: a live source is not kept waiting for a full buffer.
        data = stdin.read1(PIPE_READ_BYTES)
        if not data:
            break
        data = rest + data
        whole = len(data) // frame_bytes * frame_bytes
        rest = data[whole:]
        if whole:
            came = True
            block = np.frombuffer(data[:whole], dtype).astype(dtype.newbyteorder("="))
            yield block if channels == 1 else block.reshape(-1, channels)
    if rest:
        raise MediaError(
            f"raw PCM ended inside a frame: {len(rest)} bytes are left of {frame_bytes}"
        )
    if not came:
        raise MediaError("no raw PCM came through -")


def _write_pcm(blocks: Iterator[NDArray[Any]], pcm: Pcm) -> None:
    import numpy as np

    for block in blocks:
        if pcm is Pcm.f32le:
            data = _as_float(block).astype("<f4").tobytes()
        elif block.dtype == np.int16:
            data = block.astype("<i2").tobytes()
        else:
            data = np.clip(np.rint(block * 32768.0), -32768, 32767).astype("<i2").tobytes()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _as_float(block: NDArray[Any]) -> NDArray[np.float32]:
    import numpy as np

    if block.dtype == np.int16:
        return block.astype(np.float32) / np.float32(32768)
    return block.astype(np.float32, copy=False)


# --- codecs -----------------------------------------------------------------------------------


class _Codecs:
    """The codec for a blob: the one asked for, or the bundled one of its id; each loaded once."""

    def __init__(self, model: str | None, **options: Any) -> None:
        self._model, self._options = model, options
        self._loaded: dict[str, Any] = {}

    def for_blob(self, blob: bytes) -> Any:
        import edgeae

        model = self._model
        if model is None:
            from edgeae.bundle import bundled_with_codec_id
            from edgeae.coding.container import read_header

            model = bundled_with_codec_id(read_header(blob).codec_id).manifest.name
        if model not in self._loaded:
            self._loaded[model] = edgeae.ImageCodec.load(model, **self._options)
        return self._loaded[model]


# --- what is shown ----------------------------------------------------------------------------


def _show_bundle(model: str) -> None:
    from edgeae.bundle import find

    bundle = find(model)
    manifest = bundle.manifest
    rows = [
        ("model", f"{manifest.name} {manifest.version}"),
        ("task", manifest.task),
        ("id", bundle.id),
    ]
    if manifest.codec_id:
        rows.append(("codec id", manifest.codec_id))
    rows.append(("directory", str(bundle.path)))
    rows += [(f"layout {key}", _plain(value)) for key, value in manifest.layout.items()]
    _table(("", ""), rows)
    files = [
        (role, precision, entry.file, f"{entry.bytes:,}")
        for role, precisions in manifest.graphs.items()
        for precision, entry in precisions.items()
    ]
    others = (*manifest.files.values(), *manifest.documents.values())
    files += [("", "", entry.file, f"{entry.bytes:,}") for entry in others]
    _table(("graph", "precision", "file", "bytes"), files, right=(3,))
    for title, section in (("figures", manifest.figures), ("provenance", manifest.provenance)):
        if section:
            _table((title, ""), list(_flat(section)))
    if data := _section(bundle.document("CARD.md"), "Data"):
        print(f"data and licences, from CARD.md:\n\n{data}\n")
    print(f"providers on this machine: {', '.join(_providers())}")


def _show_file(path: Path) -> None:
    from edgeae import media, metrics
    from edgeae.bundle import bundled_with_codec_id
    from edgeae.coding.container import read_header
    from edgeae.errors import UnknownCodec

    blob = media.read_bytes(path)
    header = read_header(blob)
    try:
        codec = bundled_with_codec_id(header.codec_id).manifest
        made_by = f"{codec.name} {codec.version}"
    except UnknownCodec:
        made_by = "a codec that is not bundled here"
    colors = {0: "gray", 1: "gray", 3: "RGB", 4: "RGB with transparency"}
    rows = [
        ("file", str(path)),
        ("picture", f"{header.width}x{header.height} pixels, {colors[header.channels]}"),
        ("bytes", f"{len(blob):,}"),
        (
            "bits per pixel",
            f"{metrics.bits_per_pixel(len(blob), (header.height, header.width)):.3f}",
        ),
        ("quantization level", f"{header.level} of 0 to 64"),
        ("codec", made_by),
        ("codec id", header.codec_id.hex()),
    ]
    _table(("", ""), rows)


def _section(card: str, title: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    _, _, rest = f"\n{card}".partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0].strip()


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        else:
            yield name, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


def _asked(specs: Sequence[str] | None) -> list[Provider] | None:
    """The providers of a command line; a wrong one is a wrong command line."""
    from edgeae.providers import parse

    if specs is None:
        return None
    try:
        return [parse(spec) for spec in specs]
    except ValueError as error:
        raise _UsageError(str(error)) from None


def _providers() -> list[str]:
    from edgeae.runtime import available_providers

    return available_providers()


def _show_providers() -> None:
    from edgeae.providers import CPU, KNOWN
    from edgeae.runtime import hardware

    known = {provider.name: provider for provider in KNOWN}
    rows = []
    for device in hardware():
        about = known.get(device.provider)
        kinds = [kind for kind in about.options if kind != "cpu"] if about else []
        words = "cpu" if device.provider == CPU else ", ".join(kinds)
        needs = [
            need
            for need, is_so in (
                ("fixed shapes", about is not None and about.fixed_shapes),
                ("quantized graphs", about is not None and about.quantized),
            )
            if is_so
        ]
        tells = f"{device.kind} {device.vendor}".strip() or "not told"
        rows.append((device.provider, device.source, tells, words, ", ".join(needs)))
    _table(("provider", "from", "hardware", "--device", "needs"), rows)
    print(
        "To be listed is not to run a given model: edgeae verify MODEL --provider NAME tells that."
    )


def _precisions(bundle: Bundle) -> str:
    found = {name for files in bundle.manifest.graphs.values() for name in files}
    return ", ".join(sorted(found))


def _bundle_bytes(bundle: Bundle) -> int:
    graphs = [entry for files in bundle.manifest.graphs.values() for entry in files.values()]
    return sum(entry.bytes for entry in [*graphs, *bundle.manifest.files.values()])


def _show_differences(first: Path, second: Path, *, as_json: bool) -> None:
    from edgeae import media
    from edgeae.bench.measure import compare_results
    from edgeae.bench.report import comparison

    results = []
    for path in (first, second):
        try:
            results.append(json.loads(media.read_bytes(path)))
        except ValueError as error:
            raise MediaError(f"{path} is not JSON: {error}") from error
    found = compare_results(*results)
    if as_json:
        print(json.dumps([asdict(difference) for difference in found]))
        return
    for name, result in zip("AB", results, strict=True):
        bundle, where = result["bundle"], result["machine"]
        print(
            f"{name}: {bundle['name']} {bundle['version']} {bundle['id'][:12]} on {where['cpu']},"
            f" {where['cores']} cores, {result['time']}"
        )
    _figures([comparison(found)])


def _figures(tables: Sequence[Table]) -> None:
    for table in tables:
        right = tuple(range(table.words, len(table.columns)))
        _table(table.columns, table.rows, right=right, title=table.title, least_width=100)


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """What tells on a terminal what is going on; silent where nobody looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: None
        return
    with console.status("") as status:
        yield status.update


def _table(
    header: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    *,
    right: tuple[int, ...] = (),
    title: str | None = None,
    least_width: int = 0,
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        show_header=any(header),
        pad_edge=False,
        title=title,
        title_justify="left",
    )
    for index, name in enumerate(header):
        table.add_column(
            name, justify="right" if index in right else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    console.width = max(console.width, least_width)
    console.print(table)


def _complain(message: str) -> None:
    print(f"edgeae: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _no_pipe(*paths: Path) -> None:
    if Path("-") in paths:
        raise _UsageError("- is for the raw PCM of denoise: pictures need a file")


def _region(text: str) -> tuple[int, int, int, int]:
    try:
        top, left, height, width = map(int, text.split(","))
    except ValueError:
        raise _UsageError(f"--region is {text!r}, expected TOP,LEFT,HEIGHT,WIDTH") from None
    return top, left, height, width


def _limits(*, large: bool) -> Limits:
    """The default limits, or those for pictures of much less detail than a photo has."""
    from edgeae.coding.container import Limits

    return Limits(pixels_per_byte=1 << 28) if large else Limits()


def _usage(check: Any, *arguments: Any) -> None:
    """Runs a check whose ValueError means a wrong command line."""
    try:
        check(*arguments)
    except ValueError as error:
        raise _UsageError(str(error)) from None


def _end(failed: int, passed_over: int, kind: str) -> None:
    if passed_over:
        print(f"edgeae: {passed_over} files left out: {kind}", file=sys.stderr, flush=True)
    if failed:
        raise typer.Exit(1)
