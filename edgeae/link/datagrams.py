"""Images in UDP datagrams, any of which may be lost: `ImageCodec.packets` over a socket."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeae.coding.latent import latent_spec
from edgeae.errors import BitstreamError
from edgeae.image.codec import PACKET_LIMITS
from edgeae.image.packets import PacketHeader, read_packet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeae.image.codec import ImageCodec

__all__ = ["MAX_DATAGRAM_BYTES", "DatagramReceiver", "send_datagrams"]

# What every link carries in one piece: IPv6's smallest packet of 1280 bytes less 48 of IP and UDP.
MAX_DATAGRAM_BYTES = 1232
_LARGEST_BYTES = 1 << 16
# What is kept of images that are not whole; the one that has waited longest makes room.
MAX_IMAGES = 16
MAX_BYTES = 1 << 26
_MAX_GIVEN = 1 << 10


def send_datagrams(
    address: tuple[str, int],
    packets: Sequence[bytes],
    *,
    bytes_per_s: float | None = None,
) -> None:
    """Sends packets, each as one datagram; nobody says whether they arrive.

    Args:
        address: host and port.
        packets: what `ImageCodec.packets` gives for at most `MAX_DATAGRAM_BYTES`.
        bytes_per_s: no more than this, so that a slow link's queue does not drop them.

    Raises OSError if the host is not known or the network is down.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sender:
        start, sent = time.monotonic(), 0
        for packet in packets:
            if bytes_per_s is not None:
                time.sleep(max(0.0, start + sent / bytes_per_s - time.monotonic()))
            sender.sendto(packet, place)
            sent += len(packet)


@dataclass
class _Image:
    """The packets of one image, and which of its tiles they hold."""

    tiles: int
    packets: list[bytes] = field(default_factory=list)
    found: set[int] = field(default_factory=set)
    last_s: float = 0.0


class DatagramReceiver:
    """Gives the images of a codec whose packets come to a port, from any sender.

    An image is given when all its tiles are there, or when for `idle_s` no packet of it has come;
    what is missing then is concealed. What is no sound packet of the codec is passed over. Memory
    is bounded: see `MAX_IMAGES`
    and `MAX_BYTES`.

    >>> with DatagramReceiver(codec, ("", 5005)) as receiver:  # doctest: +SKIP
    ...     for image, mask in receiver.images():
    ...         ...
    """

    def __init__(self, codec: ImageCodec, address: tuple[str, int], *, idle_s: float = 0.5) -> None:
        """Listens at host and port; port 0 is a free one, see `address`.

        Raises OSError, and ValueError if `idle_s` is no time in seconds above 0.
        """
        if not 0 < idle_s < math.inf:
            raise ValueError(f"idle_s is {idle_s}, expected a number of seconds above 0")
        self._codec, self._idle_s = codec, idle_s
        self._codec_id = bytes.fromhex(codec.bundle.manifest.codec_id or "")
        self._stride = latent_spec(codec.bundle).stride
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        # Room for a burst of a few images, as far as the system allows it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(address)
        self._images: dict[tuple[Any, PacketHeader], _Image] = {}
        self._bytes = 0
        self._given: dict[tuple[Any, PacketHeader], float] = {}
        self.ignored = 0
        """How many datagrams were no sound packet of the codec, or late."""

    def __enter__(self) -> DatagramReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens at."""
        host, port, *_ = self._socket.getsockname()
        return host, port

    def close(self) -> None:
        """Listens no longer."""
        self._socket.close()

    def images(
        self, *, timeout_s: float | None = None
    ) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
        """Images, uint8 (H, W), (H, W, 1) or (H, W, 3), and masks, bool (H, W), see
        `ImageCodec.receive`, until for `timeout_s` nothing has come."""
        heard = time.monotonic()
        while True:
            self._socket.settimeout(self._idle_s / 4)
            try:
                key = self._add(*self._socket.recvfrom(_LARGEST_BYTES))
                empty = False
            except TimeoutError:
                key, empty = None, True
            ended = self._ended(empty=empty) if key is None else [key]
            if ended or not empty:
                heard = time.monotonic()
            for key in ended:
                yield from self._take(key)
            if timeout_s is not None and empty and time.monotonic() - heard > timeout_s:
                if not self._images:
                    return

    def _ended(self, *, empty: bool) -> list[tuple[Any, PacketHeader]]:
        """The images of which no packet comes any more.

        While the caller was busy packets have waited in the socket: only when it is `empty` does
        time say something, unless very much has passed.
        """
        before = time.monotonic() - (self._idle_s if empty else 20 * self._idle_s)
        self._given = {key: last for key, last in self._given.items() if last >= before}
        return [key for key, image in self._images.items() if image.last_s < before]

    def _add(self, packet: bytes, sender: Any) -> tuple[Any, PacketHeader] | None:
        """Keeps a packet; the image that is whole by it, or has to make room, if any."""
        now = time.monotonic()
        try:
            held = read_packet(packet, self._codec_id, PACKET_LIMITS)
        except BitstreamError:
            self.ignored += 1
            return None
        key = (sender, held.header)
        tiles = held.header.tiles(self._stride)
        if key in self._given or held.first >= tiles:
            self.ignored += 1
            if key in self._given:
                self._given[key] = now
            return None
        image = self._images.setdefault(key, _Image(tiles))
        image.last_s = now
        if held.first in image.found:
            return None
        image.packets.append(packet)
        image.found.update(range(held.first, min(tiles, held.first + len(held.blocks))))
        self._bytes += len(packet)
        if len(image.found) == tiles or len(image.packets) == PACKET_LIMITS.chunks:
            return key
        if len(self._images) > MAX_IMAGES or self._bytes > MAX_BYTES:
            return min(self._images, key=lambda k: self._images[k].last_s)
        return None

    def _take(
        self, key: tuple[Any, PacketHeader]
    ) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
        image = self._images.pop(key)
        self._bytes -= sum(map(len, image.packets))
        # Late packets are told from the next image of this number and size by the time between.
        self._given[key] = time.monotonic()
        if len(self._given) > _MAX_GIVEN:
            del self._given[min(self._given, key=self._given.__getitem__)]
        try:
            yield self._codec.receive(image.packets)
        except BitstreamError:
            # Too few came for an image of this size.
            self.ignored += len(image.packets)
