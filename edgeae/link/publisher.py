"""The sending end: images, signals and alarms to a broker, as codes that fit into its payload."""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeae.detection import Alarm
from edgeae.link.broker import Broker, Connection
from edgeae.link.message import (
    KINDS,
    MAX_PARTS,
    PREFIX,
    Part,
    announcement,
    bundle_topic,
    check_device,
    check_prefix,
    new_name,
    part_topic,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeae.bundle import Bundle
    from edgeae.image.codec import ImageCodec

__all__ = ["Publisher"]

# What the brokers of the large clouds take; a broker's own limit is asked for besides.
MAX_PAYLOAD_BYTES = 1 << 17
# A packet of MQTT 5 around topic and payload: type and length, the topic's length, the message's
# number and the length of no properties.
_PACKET_BYTES = 5 + 2 + 2 + 1
MAX_WAITING = 1000


class Publisher:
    """Sends codes to a broker, each at least once; safe to use from many threads.

    Messages wait in memory while the broker is away, and go when it is back; so does the word on
    the bundle, which the broker retains for whoever comes later.

    >>> with Publisher(Broker("gateway.local"), device="cam-7") as publisher:  # doctest: +SKIP
    ...     publisher.image(codec, image, quality=4)
    """

    def __init__(
        self,
        broker: Broker,
        *,
        device: str,
        prefix: str = PREFIX,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        max_waiting: int = MAX_WAITING,
        timeout_s: float = 10.0,
    ) -> None:
        """Connects to the broker.

        Args:
            broker: where it is.
            device: this sender's name in the topics.
            prefix: what the topics begin with.
            max_payload_bytes: the largest payload; less if the broker says so.
            max_waiting: how many payloads wait in memory, 1 to 60,000; more make the caller wait.
            timeout_s: how long to wait for the broker, here, for room and at the end.

        Raises:
            EdgeaeError: paho-mqtt is not installed.
            ConnectionError, TimeoutError: the broker refuses or does not answer.
            ValueError: a name or number is not as above.
        """
        self._device, self._prefix = check_device(device), check_prefix(prefix)
        # MQTT numbers messages from 1 to 65,535.
        if not 1 <= max_waiting <= 60_000:
            raise ValueError(f"max_waiting is {max_waiting}, expected 1 to 60,000")
        if max_payload_bytes < 1:
            raise ValueError(f"max_payload_bytes is {max_payload_bytes}, expected at least 1")
        self._max_payload_bytes, self._max_waiting = max_payload_bytes, max_waiting
        self._timeout_s = timeout_s
        self._run, self._number = secrets.token_hex(4), 0
        self._changed = threading.Condition()
        self._waiting = 0
        self._refusal: str | None = None
        self._announced: dict[str, bytes] = {}
        self._connection = Connection(
            broker, timeout_s=timeout_s, connected=self._announce_all, answered=self._on_answer
        )

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._connection.close()

    def close(self) -> None:
        """Waits until the broker has everything, and ends the connection. Raises as `wait` does."""
        self.__exit__(None)

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that goes through, by this end's limit and by the broker's."""
        longest = part_topic(
            self._prefix,
            Part(self._device, "signal", new_name(self._run, 10**9 - 1), MAX_PARTS - 1, MAX_PARTS),
        )
        packet = self._connection.max_packet_bytes
        if packet is None:
            return self._max_payload_bytes
        return min(self._max_payload_bytes, packet - _PACKET_BYTES - len(longest))

    def image(self, codec: ImageCodec, image: npt.NDArray[np.uint8], *, quality: float = 5) -> str:
        """Sends an image, uint8 (H, W), (H, W, 1) or (H, W, 3), as one file, or in packets if the
        file is larger than a payload.

        Gives the message's name. Raises as `ImageCodec.compress`, `ImageCodec.packets` and
        `codes` do.
        """
        self.announce("image", codec.bundle)
        blob = codec.compress(image, quality=quality)
        codes = [blob]
        if len(blob) > self.max_payload_bytes:
            codes = codec.packets(
                image,
                max_packet_bytes=self.max_payload_bytes,
                quality=quality,
                number=self._number % 256,
            )
        return self.codes("image", codes)

    def alarm(self, values: Mapping[str, Any] | Alarm, *, bundle: Bundle | None = None) -> str:
        """Sends an alarm: what a detector flagged, or any values that JSON can write.

        Gives the message's name. Raises as `codes` does, and ValueError for other values.
        """
        if bundle is not None:
            self.announce("alarm", bundle)
        try:
            said = dataclasses.asdict(values) if isinstance(values, Alarm) else dict(values)
            text = json.dumps(said, allow_nan=False, default=_plain)
        except TypeError as error:
            raise ValueError(f"an alarm's values are numbers and text: {error}") from None
        return self.codes("alarm", [text.encode()])

    def codes(self, kind: str, codes: Sequence[bytes]) -> str:
        """Sends codes that belong together as one message; gives its name.

        Args:
            kind: "image", "signal" or "alarm".
            codes: a whole file, or parts that each decode alone.

        Raises:
            ValueError: another kind, no code or too many, or one larger than a payload.
            TimeoutError: for too long the broker has taken nothing, and no more may wait.
            PermissionError: the broker refused an earlier message.
        """
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
        if not 1 <= len(codes) <= MAX_PARTS:
            raise ValueError(f"there are {len(codes)} codes, expected 1 to {MAX_PARTS}")
        if (largest := max(map(len, codes))) > self.max_payload_bytes:
            raise ValueError(
                f"a code has {largest} bytes, expected at most {self.max_payload_bytes}"
            )
        with self._changed:
            name = new_name(self._run, self._number)
            self._number += 1
        for index, code in enumerate(codes):
            part = Part(self._device, kind, name, index, len(codes))
            self._wait_for(self._max_waiting - 1)
            self._publish(part_topic(self._prefix, part), bytes(code))
        return name

    def announce(self, kind: str, bundle: Bundle) -> None:
        """Says, for whoever listens now or later, which bundle makes the codes of a kind."""
        said = announcement(bundle)
        if self._announced.get(kind) != said:
            self._announced[kind] = said
            self._publish(bundle_topic(self._prefix, self._device, kind), said, retain=True)

    def wait(self, timeout_s: float | None = None) -> None:
        """Returns once the broker has everything.

        Raises TimeoutError if it has not in time, and PermissionError if it refused a message.
        """
        self._wait_for(0, timeout_s)

    def _wait_for(self, most: int, timeout_s: float | None = None) -> None:
        """Returns once at most so many messages wait for the broker's answer."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        end = time.monotonic() + limit_s
        with self._changed:
            while self._waiting > most and self._refusal is None:
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise TimeoutError(
                        f"the broker {self._connection.broker} has not taken {self._waiting} "
                        f"messages within {limit_s:g} s"
                    )
            refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise PermissionError(f"the broker {self._connection.broker} refused: {refusal}")

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        with self._changed:
            self._waiting += 1
        self._connection.publish(topic, payload, retain=retain)

    def _on_answer(self, refusal: str | None) -> None:
        with self._changed:
            self._waiting -= 1
            self._refusal = self._refusal or refusal
            self._changed.notify_all()

    def _announce_all(self, connection: Connection) -> None:
        """Says again what a broker that was started anew may have forgotten."""
        for kind, said in self._announced.copy().items():
            with self._changed:
                self._waiting += 1
            connection.publish(bundle_topic(self._prefix, self._device, kind), said, retain=True)


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python, for JSON. TypeError for anything else."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no number or text")
