"""Pictures and sound from files and back, complete or not at all.

Reading converts only where the meaning stays (orientation, color profile, gray to RGB) and
refuses the rest by name. Writing goes to a temporary file in the same folder, is synced, and then
takes the place of the old file in one step: a reader sees the old file or the new one, never half.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import MediaError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "AUDIO_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "AudioInfo",
    "AudioWriter",
    "atomic_write",
    "audio_blocks",
    "audio_info",
    "audio_subtype",
    "image_writer",
    "read_audio",
    "read_bytes",
    "read_image",
    "replacing",
    "write_audio",
    "write_image",
]

# Just above 16,000 x 16,000, the largest picture that edgeae promises to take.
MAX_PIXELS = 2**28

# A short file may unfold to a picture of any usual camera; a larger one needs a byte for so many of
# its pixels. A blank bilevel PNG has 8256, the most that deflate can do.
_USUAL_PIXELS = 2**25
_PIXELS_PER_BYTE = 2**14
# The most bytes that deflate makes of one: 258 for two bits (RFC 1951).
_DEFLATE_MOST = 1032

# What Pillow may try to open. An allow-list: some of its other readers start outside programs
# (EPS) or are seldom looked after, and a file's bytes are not to choose among them.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000")

# How each suffix is written. The lossy ones are as near to lossless as they go in usual viewers.
_IMAGE_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
}
_WITH_TRANSPARENCY = ("PNG", "WEBP", "TIFF", "AVIF")
IMAGE_SUFFIXES = frozenset({*_IMAGE_WRITERS, ".gif", ".jp2", ".j2k", ".pgm", ".pnm"})

_AUDIO_FORMATS = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".opus": "OGG",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".mp3": "MP3",
}
AUDIO_SUFFIXES = frozenset(_AUDIO_FORMATS)
# What a container holds when the source's own subtype does not fit into it.
_AUDIO_DEFAULT = {
    "WAV": "PCM_16",
    "FLAC": "PCM_16",
    "AIFF": "PCM_16",
    "OGG": "VORBIS",
    "MP3": "MPEG_LAYER_III",
}

_INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}

# Samples of one block while a whole file is checked or copied: 2 MB of float32 in mono.
_BLOCK_FRAMES = 1 << 19
# A frame count at or above this is libsndfile's way of saying that the header does not know.
_UNKNOWN_FRAMES = 2**62


# --- writing ----------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`; takes its place when the block ends well.

    The file is created empty, with the rights a new file gets, or those of the one it replaces. On
    any exception it is removed and `path` stays as it was; what a killed writer left is removed by
    the next one to write `path`. MediaError where the folder is missing, `path` is no regular file,
    or the disk refuses.
    """
    # Through a link to the file it names: replacing the link would leave the target behind.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise MediaError(f"cannot write {path}: not a regular file")
    if not target.parent.is_dir():
        raise MediaError(f"cannot write {path}: there is no folder {target.parent}")
    with _quoting("write", path):
        temporary, lock = _new_temporary(target)
    try:
        with _quoting("write", path):
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o777)
            yield temporary
            _sync(temporary)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        if lock is not None:
            os.close(lock)
    with contextlib.suppress(OSError):  # a folder cannot be opened on every system
        _sync(target.parent)


# How many may write one file at once and still leave nothing behind if they are killed.
_TEMPORARIES = 8


def _new_temporary(target: Path) -> tuple[Path, int | None]:
    """A new file beside `target`, and a descriptor that locks it for as long as it is open, if
    this system has such locks.

    The lock goes with its process, however that ends: a temporary file without one is abandoned.
    Its name is one of a few, so that the next writer of the same target comes upon it.
    """
    # Not tempfile: it makes files that only their owner can read.
    stem = f".{target.name[:100]}"
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    for number in range(_TEMPORARIES if fcntl else 0):
        temporary = target.parent / f"{stem}.{number}.tmp"
        _remove_abandoned(temporary)
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another writer may have thought it abandoned before it had its lock.
        if os.fstat(descriptor).st_nlink:
            _remove_abandoned(target.parent / f"{stem}.{number + 1}.tmp")
            return temporary, descriptor
        os.close(descriptor)
    temporary = target.parent / f"{stem}.{secrets.token_hex(6)}.tmp"
    os.close(os.open(temporary, flags, 0o666))
    return temporary, None


def _remove_abandoned(temporary: Path) -> None:
    """Removes the temporary file of a writer that is dead, if there is one."""
    try:
        # Not through a link, and without waiting for the other end of a pipe.
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            temporary.unlink()
    except OSError:
        pass  # its writer lives
    finally:
        os.close(descriptor)


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path` in one step; MediaError, and the old file as it was, if that fails."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), format by suffix, atomically.

    Without loss as .png .webp .tif .bmp .ppm; as .jpg or .avif at quality 95 without chroma
    subsampling. ValueError for any other suffix, shape or dtype, MediaError for a fourth channel,
    which is transparency, in a format that has none.
    """
    from PIL import Image

    format_name, options = image_writer(path)
    plane = image[:, :, 0] if getattr(image, "shape", ())[2:] == (1,) else image
    if (
        not isinstance(plane, np.ndarray)
        or plane.dtype != np.uint8
        or not (plane.ndim == 2 or (plane.ndim == 3 and plane.shape[2] in (3, 4)))
        or plane.size == 0
    ):
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise ValueError(
            f"an image must be uint8 (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), got {came}"
        )
    if plane.shape[2:] == (4,) and format_name not in _WITH_TRANSPARENCY:
        raise MediaError(
            f"cannot write {path}: {format_name} has no transparency, .png .webp .tif .avif have"
        )
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format_name, **options)
    except (OSError, ValueError) as error:  # WebP ends at 16,383 pixels a side
        raise MediaError(f"cannot write {path} as {format_name}: {_first_line(error)}") from error
    atomic_write(path, buffer.getvalue())


def image_writer(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Pillow's format name and options for a suffix; ValueError names the known ones."""
    suffix = Path(path).suffix.lower()
    if suffix not in _IMAGE_WRITERS:
        raise ValueError(
            f"cannot tell the picture format of {str(path)!r}:"
            f" the name must end in {' '.join(_IMAGE_WRITERS)}"
        )
    return _IMAGE_WRITERS[suffix]


# --- pictures ---------------------------------------------------------------------------------


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The picture as uint8 (H, W, 3) in sRGB, (H, W, 1) if it is gray, upright.

    Transparency that shows makes it (H, W, 4), not premultiplied; an alpha channel that is opaque
    everywhere is left out. The EXIF orientation is applied, an embedded ICC profile is converted
    to sRGB, and 16 bits become 8. Refused by name (MediaError): CMYK without a profile, floating
    point, several frames, more than 2**28 pixels, more than 2**25 that a file of so few bytes can
    hardly hold, and whatever is cut off, damaged or no picture.
    """
    from PIL import ImageOps

    data = read_bytes(path)
    # Decoders fail in as many ways as there are of them (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error, IndexError ...); all of them mean that the file is at fault.
    try:
        picture = _open_image(path, data)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    except MediaError:
        raise
    except MemoryError:
        raise MediaError(f"cannot read {path}: not enough memory for the picture") from None
    except Exception as error:
        raise MediaError(f"cannot read {path}: {_image_fault(error)}") from error
    opaque, alpha = _split(path, upright)
    plain = np.array(_to_srgb(path, opaque, upright.info.get("icc_profile")), dtype=np.uint8)
    if alpha is None:
        return plain if plain.ndim == 3 else plain[:, :, None]
    colors = plain if plain.ndim == 3 else np.repeat(plain[:, :, None], 3, axis=2)
    return np.dstack([colors, np.asarray(alpha)])


# Pillow's own limit is a module variable: it is lifted only while a header is read, by one thread.
_pillow_limit = threading.Lock()


def _open_image(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    from PIL import Image

    Image.init()  # `formats` may only name readers that are loaded
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            picture = Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise MediaError(
            f"cannot read {path}: {picture.width}x{picture.height} is {pixels:,} pixels,"
            f" at most {MAX_PIXELS:,} are allowed"
        )
    if pixels == 0:
        raise MediaError(f"cannot read {path}: the picture has no pixels")
    held = _PIXELS_PER_BYTE * len(data)
    if pixels > max(_USUAL_PIXELS, held) or (picture.format == "PNG" and not _png_can_hold(data)):
        raise MediaError(
            f"cannot read {path}: {picture.width}x{picture.height} pixels,"
            f" of which its {len(data):,} bytes can hold a part at most"
        )
    # An MPO is a photo with extra views for other devices; its first frame is the photo.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise MediaError(
            f"cannot read {path}: it holds {frames} frames; save the one you want as its own file"
        )
    return picture


def _png_can_hold(data: bytes) -> bool:
    """Whether deflate could make all pixels that a PNG announces of the data that it has.

    Pillow leaves black what is missing, as long as the data end well.
    """
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    bits = width * height * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 4)
    there, position = 0, 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        there += length if name == b"IDAT" else 0
        position += 12 + length
    return bool(bits <= 8 * _DEFLATE_MOST * there)


def _image_fault(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known kind, or its beginning is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels, at most {MAX_PIXELS:,} are allowed"
    return f"the picture is cut off or damaged ({_first_line(error)})"


def _to_srgb(
    path: str | os.PathLike[str], picture: Image.Image, profile: bytes | None
) -> Image.Image:
    """The picture as L or RGB in sRGB; MediaError names a mode that has no one meaning there."""
    if picture.mode.startswith("I;16"):
        picture = _sixteen_to_eight(picture)
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("P", "YCbCr"):
        picture = picture.convert("RGB")
    if picture.mode == "CMYK" and not profile:
        raise MediaError(
            f"cannot read {path}: CMYK without an ICC profile has no defined colors;"
            " convert it to RGB first"
        )
    if picture.mode not in ("L", "RGB", "CMYK"):
        raise MediaError(
            f"cannot read {path}: pixels of kind {picture.mode} have no defined 8-bit colors;"
            " convert it to 8-bit RGB first"
        )
    return _apply_profile(path, picture, profile) if profile else picture


def _split(
    path: str | os.PathLike[str], picture: Image.Image
) -> tuple[Image.Image, Image.Image | None]:
    """The picture without its alpha channel, and that channel (L) if anything shines through."""
    if not picture.has_transparency_data:
        return picture, None
    if picture.mode.startswith("I"):  # one transparent level of a 16-bit gray PNG
        raise MediaError(f"cannot read {path}: 16-bit gray with transparency; flatten it first")
    gray = picture.mode in ("L", "LA", "La", "1")
    with_alpha = picture.convert("LA" if gray else "RGBA")
    alpha = with_alpha.getchannel("A")
    lowest, _ = alpha.getextrema()
    return with_alpha.convert("L" if gray else "RGB"), alpha if lowest != 255 else None


def _sixteen_to_eight(picture: Image.Image) -> Image.Image:
    from PIL import Image

    levels = np.asarray(picture).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # 65535 / 257 = 255


def _apply_profile(
    path: str | os.PathLike[str], picture: Image.Image, profile: bytes
) -> Image.Image:
    """The picture in sRGB: L stays L, RGB and CMYK become RGB."""
    from PIL import Image, ImageCms

    gray = picture.mode == "L"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if gray and space == "RGB":
            picture = picture.convert("RGB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            picture.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if picture.mode == "RGB":
            # A profile that is sRGB by another name would only add rounding errors.
            levels = np.linspace(0, 255, 9).round().astype(np.uint8)
            cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
            probe = np.asarray(transform.apply(Image.fromarray(cube)))
            if np.abs(probe.astype(int) - cube).max() <= 1:
                return picture.getchannel("G") if gray else picture
        moved = transform.apply(picture)
        return moved.getchannel("G") if gray else moved  # a gray of any space is a gray of sRGB
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise MediaError(
            f"cannot read {path}: its ICC profile does not fit {picture.mode} pixels"
            f" ({_first_line(error)}); convert it to sRGB first"
        ) from error


# --- sound ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file says of itself; `format` and `subtype` are libsndfile's names.

    `frames` is None where the header does not know (a stream that was saved as it came).
    """

    rate_hz: int
    channels: int
    frames: int | None
    format: str
    subtype: str


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Rate, channels, frames, format and subtype of a sound file, checked for completeness.

    MediaError if it cannot be read, holds no sound, or ends before its own header says it should:
    libsndfile alone would return the part that is there without a word.
    """
    with _open_sound(path) as sound:
        frames = sound.frames if sound.frames < _UNKNOWN_FRAMES else None
        info = AudioInfo(sound.samplerate, sound.channels, frames, sound.format, sound.subtype)
    if frames == 0:
        raise MediaError(f"cannot read {path}: it holds no samples")
    return info


def read_audio(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """The sound as float32 in [-1, 1], (frames,) if mono, else (frames, channels), and its rate.

    The rate is in Hz, as in the file. MediaError as `audio_info`, and for NaN or infinite samples.
    """
    info = audio_info(path)
    blocks = list(audio_blocks(path, _BLOCK_FRAMES))
    return np.concatenate(blocks), info.rate_hz


def audio_blocks(path: str | os.PathLike[str], block_samples: int) -> Iterator[NDArray[np.float32]]:
    """The sound in blocks of `block_samples` frames (the last may be shorter), as `read_audio`.

    Memory stays that of one block. MediaError as soon as the file proves to be cut off.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples must be at least 1, got {block_samples}")
    info = audio_info(path)
    done = 0
    with _open_sound(path) as sound:
        while True:
            try:
                block = sound.read(block_samples, dtype="float32", always_2d=True)
            except Exception as error:  # soundfile raises its own kinds, and RuntimeError
                raise MediaError(
                    f"cannot read {path}: damaged after {done} frames ({_first_line(error)})"
                ) from error
            if len(block) == 0:
                break
            if not np.isfinite(block).all():
                raise MediaError(f"cannot read {path}: NaN or infinite samples after frame {done}")
            done += len(block)
            yield block[:, 0] if info.channels == 1 else block
    if done == 0:
        raise MediaError(f"cannot read {path}: it holds no samples")
    if info.frames is not None and done < info.frames:
        raise MediaError(
            f"cannot read {path}: cut off, its header says {info.frames} frames, {done} are there"
        )


def audio_subtype(path: str | os.PathLike[str], source: str) -> str:
    """The subtype to write at `path` for a `source` subtype: the same, or the nearest that fits.

    The nearest is 24 bits for anything deeper than 16, else 16; an .opus file is always Opus.
    ValueError if the suffix is none that can be written.
    """
    import soundfile

    container = _audio_format(path)
    if Path(path).suffix.lower() == ".opus":
        return "OPUS"
    if soundfile.check_format(container, source):
        return source
    default = _AUDIO_DEFAULT[container]
    deeper = source in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    return "PCM_24" if deeper and default == "PCM_16" else default


class AudioWriter:
    """Writes a sound file block by block; it appears at `path`, whole, when the block ends well.

    `with AudioWriter(path, rate_hz=16000, channels=1) as writer: writer.write(block)`. Blocks are
    float32 (frames,) or (frames, channels). Samples beyond [-1, 1] are clipped by integer subtypes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate_hz: int,
        channels: int,
        subtype: str = "PCM_16",
    ) -> None:
        self.subtype = audio_subtype(path, subtype)
        self._path, self._rate_hz, self._channels = path, rate_hz, channels
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> AudioWriter:
        import soundfile

        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            container = _audio_format(self._path)
            try:
                self._sound = soundfile.SoundFile(
                    temporary, "w", self._rate_hz, self._channels, self.subtype, format=container
                )
            except (soundfile.SoundFileError, ValueError, TypeError) as error:
                raise MediaError(
                    f"cannot write {self._path}: {container} {self.subtype} does not take"
                    f" {self._channels} channels at {self._rate_hz} Hz"
                ) from error
            stack.callback(self._sound.close)
            self._exit = stack.pop_all()
        return self

    def write(self, block: NDArray[np.float32]) -> None:
        """Append float32 (frames,) or (frames, channels)."""
        if not np.isfinite(block).all():
            raise ValueError("samples must be finite, got NaN or infinity")
        bits = _INTEGER_BITS.get(self.subtype)
        try:
            self._sound.write(block if bits is None else _to_integers(block, bits))
        except RuntimeError as error:  # soundfile's LibsndfileError: a full disk
            raise MediaError(f"cannot write {self._path}: {_first_line(error)}") from error

    def __exit__(self, *exception: Any) -> bool | None:
        return self._exit.__exit__(*exception)


def write_audio(
    path: str | os.PathLike[str],
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    subtype: str = "PCM_16",
) -> None:
    """Write float32 (frames,) or (frames, channels) in the format of the suffix, atomically.

    `subtype` is libsndfile's name, usually the source file's; the nearest one that the format
    holds is taken. Values beyond [-1, 1] are clipped by integer subtypes. ValueError for a wrong
    suffix, shape or NaN.
    """
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise ValueError(
            "samples must be (frames,) or (frames, channels), at least one frame,"
            f" got {samples.shape}"
        )
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with AudioWriter(path, rate_hz=rate_hz, channels=channels, subtype=subtype) as writer:
        for start in range(0, len(samples), _BLOCK_FRAMES):
            writer.write(samples[start : start + _BLOCK_FRAMES])


def _to_integers(samples: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Full-scale int32 whose upper `bits` are the rounded samples.

    Left to itself libsndfile rounds down in some containers: an offset and 6 dB of noise.
    """
    scale = 2.0 ** (bits - 1)
    rounded = np.rint(samples.astype(np.float64) * scale)
    return np.clip(rounded, -scale, scale - 1).astype(np.int32) << (32 - bits)


def _audio_format(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _AUDIO_FORMATS:
        raise ValueError(
            f"cannot tell the sound format of {str(path)!r}:"
            f" the name must end in {' '.join(_AUDIO_FORMATS)}"
        )
    return _AUDIO_FORMATS[suffix]


def _open_sound(path: str | os.PathLike[str]) -> Any:
    import soundfile

    with _quoting("read", path), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise MediaError(f"cannot read {path}: the file is empty")
        _check_complete(path, file)
    try:
        return soundfile.SoundFile(os.fspath(path))
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        # TypeError: soundfile takes a .raw name for headerless data and asks for its rate
        raise MediaError(
            f"cannot read {path}: not a sound file of a known kind, or its beginning is damaged"
        ) from error


def _check_complete(path: str | os.PathLike[str], file: BinaryIO) -> None:
    """MediaError if the container declares more bytes than the file has."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        missing = _wave_missing_bytes(file, size, big=head[:4] == b"RIFX")
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        missing = 8 + int.from_bytes(head[4:8], "big") - size
    elif head[:4] == b"OggS":
        _check_ogg_end(path, file, size)
        return
    else:
        return
    if missing > 0:
        raise MediaError(
            f"cannot read {path}: cut off, its header says {missing:,} bytes more than are there"
        )


def _wave_missing_bytes(file: BinaryIO, size: int, *, big: bool) -> int:
    """Bytes that the data chunk of a WAV file declares beyond the end; 0 or less if complete."""
    order = ">" if big else "<"
    long_size: int | None = None
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"ds64":  # RF64: the true sizes, 64 bits each
            body = file.read(24)
            if len(body) == 24:
                long_size = struct.unpack("<QQQ", body)[1]
        if name == b"data":
            if length == 0xFFFFFFFF:
                # RF64 keeps the size elsewhere; a plain WAV that came through a pipe has none.
                length = long_size if long_size is not None else 0
            return int(position + 8 + length - size)
        position += 8 + length + length % 2
    return position - size  # no data chunk: libsndfile says what is wrong, unless it is cut off


def _check_ogg_end(path: str | os.PathLike[str], file: BinaryIO, size: int) -> None:
    """MediaError unless the last Ogg page is whole and ends its stream (RFC 3533, section 6)."""
    window = 65_307  # the largest page
    file.seek(max(0, size - window))
    tail = file.read(window)
    start = tail.rfind(b"OggS")
    # The capture pattern can occur inside a page's body: take the one whose page ends the file.
    while start >= 0:
        header = tail[start : start + 27]
        if len(header) == 27:
            lacing = tail[start + 27 : start + 27 + header[26]]
            ends_file = start + 27 + header[26] + sum(lacing) == len(tail)
            if ends_file and len(lacing) == header[26] and header[5] & 4:
                return
        start = tail.rfind(b"OggS", 0, start)
    raise MediaError(f"cannot read {path}: cut off, the end of the Ogg stream is missing")


# --- common -----------------------------------------------------------------------------------


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file; MediaError if there are none or it cannot be read."""
    with _quoting("read", path):
        data = Path(path).read_bytes()
    if not data:
        raise MediaError(f"cannot read {path}: the file is empty")
    return data


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _quoting(verb: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError into a MediaError of one line that quotes the path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # a closed pipe is no fault of the file
            raise
        raise MediaError(f"cannot {verb} {path}: {error.strerror or error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
