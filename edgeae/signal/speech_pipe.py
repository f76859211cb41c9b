"""Packets of a live stream of speech one after the other in a stream of bytes.

magic    89 70
packet   its length (a varint), and its bytes: first what opens the stream, then all others

Where bytes are damaged or lost, the checksums of packets tell where they begin again.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeae.coding.container import read_varint, varint
from edgeae.errors import BitstreamError
from edgeae.signal.codec_file import opening_check, read_block_packet

__all__ = ["MAGIC", "PacketSplitter", "framed"]

MAGIC = b"\x89p"
# Far beyond what two seconds of 64 channels need.
_MOST_BYTES = 1 << 18
# A varint of such a length is not longer.
_LENGTH_BYTES = 3
# Behind damage, packets of up to so many bytes are looked for, or as long as those that came: two
# seconds of a channel have fewer.
_USUAL_BYTES = 2048


def framed(packet: bytes) -> bytes:
    """A packet behind its length."""
    return varint(len(packet)) + packet


class PacketSplitter:
    """Packets out of bytes as they come.

    Of those behind the one that opens the stream only what passes its check is given. Where none
    does, bytes are damaged or missing: it goes on where one follows the other again. That is with
    two in a row, as a checksum of 16 bits alone would take noise for a packet now and then; one is
    enough where the length before it led there.
    """

    def __init__(self, passed_over: Callable[[int, int], None] = lambda begin, end: None) -> None:
        """`passed_over` is called with the place of bytes, from one to before the other, that are
        no packets."""
        self._passed_over = passed_over
        # What is not given yet, and its place in the stream.
        self._rest, self._at = b"", 0
        self._begun = False
        self._check: int | None = None
        # Up to here in the rest no two packets begin.
        self._searched = 0
        self._longest = _USUAL_BYTES

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole with these bytes.

        Raises BitstreamError: this is no such stream.
        """
        self._rest += data
        if not self._begun:
            if self._rest[: len(MAGIC)] != MAGIC[: len(self._rest)]:
                raise BitstreamError("this is no live stream of speech")
            if len(self._rest) < len(MAGIC):
                return []
            self._begun = True
            self._drop(len(MAGIC))
        return self._packets(ended=False)

    def end(self) -> list[bytes]:
        """The packets that are whole as there will be no more bytes; `left_bytes` are no packet."""
        return self._packets(ended=True)

    @property
    def left_bytes(self) -> int:
        """Bytes of a packet that is not whole."""
        return len(self._rest)

    def _packets(self, *, ended: bool) -> list[bytes]:
        packets: list[bytes] = []
        if self._check is None:
            place = _place(self._rest, 0)
            if place is None:
                raise BitstreamError("a packet is longer than any may be")
            start, end = place
            if end > len(self._rest):
                return []
            packets.append(self._rest[start:end])
            self._check = opening_check(packets[0])
            self._drop(end)
        begin = 0
        while begin < len(self._rest):
            if (sound := self._sound(begin)) is not None:
                start, end = sound
                packets.append(self._rest[start:end])
                self._longest = max(self._longest, end - start)
                begin = end
                continue
            again = self._again(begin, ended=ended)
            if again is None:
                break
            self._passed_over(self._at + begin, self._at + again)
            begin = again
        self._drop(begin)
        return packets

    def _again(self, begin: int, *, ended: bool) -> int | None:
        """Where packets begin again, as there is none at `begin` that is whole and sound; None
        if that is not known yet."""
        size = len(self._rest)
        place = _place(self._rest, begin)
        if place is not None and self._sound(place[1]) is not None:
            return place[1]
        for at in range(max(begin + 1, self._searched), size):
            sound = self._sound(at, self._longest)
            if sound is not None:
                behind = sound[1]
                if self._sound(behind) is not None or (ended and behind == size):
                    return at
        # From here on more bytes may complete two.
        self._searched = max(begin + 1, size - 2 * (self._longest + _LENGTH_BYTES))
        # So many wait for no packet that could be.
        return self._searched if size - begin > _MOST_BYTES + _LENGTH_BYTES else None

    def _sound(self, begin: int, most: int = _MOST_BYTES) -> tuple[int, int] | None:
        """Where the packet whose length stands there begins and ends, if all of it is there, has
        no more bytes than `most` and passes its check."""
        place = _place(self._rest, begin)
        if place is None or self._check is None:
            return None
        start, end = place
        if end > len(self._rest) or end - start > most:
            return None
        try:
            read_block_packet(self._rest[start:end], self._check)
        except BitstreamError:
            return None
        return place

    def _drop(self, count: int) -> None:
        """Lets the first bytes go."""
        self._rest, self._at = self._rest[count:], self._at + count
        self._searched = max(0, self._searched - count)


def _place(data: bytes, begin: int) -> tuple[int, int] | None:
    """Where the packet whose length stands there begins and ends, which is behind the data if not
    all of it is there; None if it is longer than any may be."""
    head = data[begin : begin + _LENGTH_BYTES]
    if all(byte >= 0x80 for byte in head):
        return None if len(head) == _LENGTH_BYTES else (begin, len(data) + 1)
    length, start = read_varint(data, begin)
    return (start, start + length) if length <= _MOST_BYTES else None
