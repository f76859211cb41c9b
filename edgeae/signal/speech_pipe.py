"""Packets of a live stream of speech one after the other in a stream of bytes.

magic    89 70
packet   its length (a varint), and its bytes: first what opens the stream, then all others
"""

from __future__ import annotations

from edgeae.coding.container import read_varint, varint
from edgeae.errors import BitstreamError

__all__ = ["MAGIC", "PacketSplitter", "framed"]

MAGIC = b"\x89p"
# Far beyond what two seconds of 64 channels need.
_MOST_BYTES = 1 << 18
# A varint of such a length is not longer.
_LENGTH_BYTES = 3


def framed(packet: bytes) -> bytes:
    """A packet behind its length."""
    return varint(len(packet)) + packet


class PacketSplitter:
    """Packets out of bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole with these bytes.

        Raises BitstreamError: this is no such stream, or a packet is longer than any may be. The
        packets before that one are given by one call, and the next one raises.
        """
        rest = self._rest + data
        if not self._begun:
            if rest[: len(MAGIC)] != MAGIC[: len(rest)]:
                raise BitstreamError("this is no live stream of speech")
            if len(rest) < len(MAGIC):
                self._rest = rest
                return []
            self._begun, rest = True, rest[len(MAGIC) :]
        packets: list[bytes] = []
        begin = 0
        while begin < len(rest):
            try:
                start, end = _place(rest, begin)
            except BitstreamError:
                if not packets:
                    raise
                # What came before is given first.
                break
            if end > len(rest):
                break
            packets.append(rest[start:end])
            begin = end
        self._rest = rest[begin:]
        return packets

    @property
    def left_bytes(self) -> int:
        """Bytes of a packet that is not whole."""
        return len(self._rest)


def _place(data: bytes, begin: int) -> tuple[int, int]:
    """Where the packet whose length stands there begins and ends, which is behind the data if not
    all of it is there. Raises BitstreamError if it is longer than any may be."""
    head = data[begin : begin + _LENGTH_BYTES]
    if all(byte >= 0x80 for byte in head):
        if len(head) == _LENGTH_BYTES:
            raise BitstreamError("a packet is longer than any may be")
        return begin, len(data) + 1
    length, start = read_varint(data, begin)
    if length > _MOST_BYTES:
        raise BitstreamError(f"a packet has {length} bytes, expected at most {_MOST_BYTES}")
    return start, start + length
