"""The header of a compressed signal in bytes, and what a reader lets it ask for."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from edgeae.coding.container import read_varint, varint
from edgeae.coding.rate import LEVELS
from edgeae.errors import BitstreamError

__all__ = ["DTYPES", "Header", "Limits", "checked", "read_body"]

# Types of samples, in the order of their codes.
DTYPES = ("int16", "int32", "float32", "float64", "uint8", "int8", "uint16")
_FLAT, _EXACT = 1 << 4, 1 << 5
_MAX_CHANNELS = 4096


@dataclass(frozen=True)
class Limits:
    """What a file, or the packets of a signal, may ask for before they are refused.

    Attributes:
        file_bytes: the file, or one packet.
        samples: of all channels together.
        chunks: those of a file, or packets.
        samples_per_byte: how many samples each byte may stand for, beyond 2 ** 20: a few bytes
            cannot claim minutes of work. A heart at rest has 30 to 100.
    """

    file_bytes: int = 1 << 30
    samples: int = 1 << 28
    chunks: int = 1 << 17
    samples_per_byte: int = 1 << 9


@dataclass(frozen=True)
class Header:
    """What a reader must know before the first block.

    Attributes:
        codec_id: 16 bytes, or the first 4 of them in the small form, none in packets.
        level: quantization level, 0 (coarsest) to 64; 0 if the samples are exact.
        dtype: one of `DTYPES`.
        channels: at least 1.
        flat: the signal is (samples,), without a channel axis.
        samples: of each channel; 0 in packets of a signal whose end is not known.
        sample_rate_hz: positive.
        block_steps: latent steps of 16 samples in a block.
        key_blocks: every so many blocks one stands alone, 0 if only the first does.
        offsets, scales: of each channel: what is coded is (sample - offset) / scale. For exact
            samples it is rounded to whole numbers.
        exact: samples are coded as whole numbers, not by the latent.
    """

    codec_id: bytes
    level: int
    dtype: str
    channels: int
    flat: bool
    samples: int
    sample_rate_hz: float
    block_steps: int
    key_blocks: int
    offsets: tuple[float, ...]
    scales: tuple[float, ...]
    exact: bool = False

    @property
    def of_speech(self) -> bool:
        """Whether it is of a codec of speech; signals have blocks of another length, or scales."""
        sound = self.sample_rate_hz == 16_000 and self.block_steps % 20 == 0 and not self.exact
        sound = sound and set(self.offsets) == {0.0} and set(self.scales) == {1.0}
        return sound and self.dtype in ("float32", "float64", "int16")

    def body(self) -> bytes:
        """All but the codec's id."""
        kind = DTYPES.index(self.dtype) | _FLAT * self.flat | _EXACT * self.exact
        numbers = [self.channels, self.samples, self.block_steps, self.key_blocks]
        form = "d" if self.exact else "f"
        pairs = [x for pair in zip(self.offsets, self.scales, strict=True) for x in pair]
        return b"".join(
            [
                bytes([kind, self.level]),
                *map(varint, numbers),
                struct.pack("<d", self.sample_rate_hz),
                struct.pack(f"<{len(pairs)}{form}", *pairs),
            ]
        )


def read_body(
    data: bytes | memoryview, begin: int, codec_id: bytes, limits: Limits
) -> tuple[Header, int]:
    """The header whose `body` stands there, and where it ends.

    Raises BitstreamError: cut off, makes no sense, or over a limit.
    """
    if len(data) < begin + 2:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    kind, level = data[begin], data[begin + 1]
    begin += 2
    numbers = []
    for _ in range(4):
        number, begin = read_varint(data, begin)
        numbers.append(number)
    channels, samples, block_steps, key_blocks = numbers
    exact = bool(kind & _EXACT)
    size = 8 + channels * (16 if exact else 8)
    if not 1 <= channels <= _MAX_CHANNELS or len(data) < begin + size:
        raise BitstreamError("the file's header makes no sense, or is cut off")
    (rate,) = struct.unpack_from("<d", data, begin)
    pairs = struct.unpack_from(f"<{2 * channels}{'d' if exact else 'f'}", data, begin + 8)
    if kind & 15 >= len(DTYPES) or kind >= 2 * _EXACT:
        raise BitstreamError("the file's header makes no sense")
    header = Header(
        bytes(codec_id),
        level,
        DTYPES[kind & 15],
        channels,
        bool(kind & _FLAT),
        samples,
        rate,
        block_steps,
        key_blocks,
        pairs[::2],
        pairs[1::2],
        exact,
    )
    return checked(header, limits), begin + size


def checked(header: Header, limits: Limits) -> Header:
    """The header itself. Raises BitstreamError if it makes no sense or is over a limit."""
    numbers = (header.sample_rate_hz, *header.scales)
    sound = all(math.isfinite(x) and x > 0 for x in numbers)
    sound = sound and all(math.isfinite(x) for x in header.offsets)
    sound = sound and 1 <= header.block_steps <= 1 << 13 and header.level < LEVELS
    sound = sound and (not header.flat or header.channels == 1)
    if not sound:
        raise BitstreamError("the file's header makes no sense")
    if header.samples * header.channels > limits.samples:
        raise BitstreamError(
            f"the file holds {header.samples} samples of {header.channels} channels, "
            f"expected at most {limits.samples} in all"
        )
    return header
