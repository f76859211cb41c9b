"""What came of a signal in packets: which blocks, by their whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeae.errors import BitstreamError
from edgeae.signal.codec_file import read_block_packet, read_opening
from edgeae.signal.codec_header import Header, Limits

__all__ = ["Received", "gather"]

STRIDE = 16
# Numbers of blocks go round after so many.
_ROUND = 128
# What a few bytes may claim whatever their number, and what each byte may leave to concealment.
_USUAL_SAMPLES, _CONCEALED_PER_BYTE = 1 << 20, 1 << 12


@dataclass(frozen=True)
class Received:
    """What came of one signal.

    Attributes:
        header: as the packet that opens it says it.
        blocks: by their numbers.
        count: of the blocks up to the last that is known of.
    """

    header: Header
    blocks: Mapping[int, bytes]
    count: int


def gather(packets: Iterable[bytes], codec_id: bytes, limits: Limits) -> Received:
    """The blocks of the first signal that a packet opens; of a block that came twice the first.

    Packets that are damaged, of another codec or of another signal are passed over.

    Raises:
        TypeError: something that is no bytes.
        BitstreamError: no packet opens a signal of this codec, more than `limits.chunks` came, or
            they claim more samples than so many bytes may.
    """
    came: list[bytes] = []
    opening = None
    for packet in packets:
        if not isinstance(packet, bytes | bytearray | memoryview):
            raise TypeError(f"a packet is {type(packet).__name__}, expected bytes")
        if len(came) >= limits.chunks:
            raise BitstreamError(f"more than {limits.chunks} packets came")
        came.append(bytes(packet))
        if opening is None and came[-1][:1] >= b"\x80":
            try:
                opening = read_opening(came[-1], codec_id, limits)
            except BitstreamError:
                continue
    if opening is None:
        raise BitstreamError(f"of {len(came)} packets none opens a signal of this codec")
    header = opening.header
    length = header.block_steps * STRIDE
    known = -(-header.samples // length) if header.samples else None
    blocks: dict[int, bytes] = {}
    expected = 0
    for packet in came:
        try:
            low, block = read_block_packet(packet, opening.check)
        except BitstreamError:
            continue
        # The number next to the one expected that has these low bits.
        number = expected + (low - expected + _ROUND // 2) % _ROUND - _ROUND // 2
        if number < 0 or (known is not None and number >= known):
            continue
        blocks.setdefault(number, block)
        expected = number + 1
    there = sum(map(len, blocks.values()))
    count = max(blocks, default=-1) + 1 if known is None else known
    for claimed, per_byte in (
        (len(blocks) * length, limits.samples_per_byte),
        (count * length, _CONCEALED_PER_BYTE),
    ):
        if claimed * header.channels > max(_USUAL_SAMPLES, per_byte * there):
            raise BitstreamError(f"packets of {there} bytes claim {claimed} samples")
    if not count:
        raise BitstreamError("no block of the signal came")
    return Received(header, blocks, count)
