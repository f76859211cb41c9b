"""The receiving end: messages of all devices from a broker, whole, once each."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeae.errors import BitstreamError
from edgeae.link.broker import Broker, Connection
from edgeae.link.message import (
    PREFIX,
    Message,
    Parts,
    check_device,
    check_prefix,
    read_announcement,
    read_topic,
)

__all__ = ["Subscriber"]

MAX_PACKET_BYTES = 1 << 24
# What the broker sends before the first is acknowledged, so what may be unread here.
_MAX_UNANSWERED = 64
# How long a broker keeps messages for a subscriber with a name that is away.
KEEP_S = 7 * 24 * 3600
# A broker that was restarted may send again what it sent just before.
_REMEMBERED = 10_000
MAX_DEVICES = 10_000


@dataclass
class _Unread:
    """A message that the caller has not got yet, and how to answer it once it has."""

    message: Message
    message_id: int
    generation: int


class Subscriber:
    """Gives the messages of devices, each once, in the order in which they became whole.

    A message is acknowledged when the caller asks for the next one: what a subscriber with a
    `client_id` had not finished when it ended comes again. Of a message in parts only the last is
    held back like this.

    >>> with Subscriber(broker, client_id="archive") as subscriber:  # doctest: +SKIP
    ...     for message in subscriber.messages():
    ...         ...
    """

    def __init__(
        self,
        broker: Broker,
        *,
        device: str | None = None,
        prefix: str = PREFIX,
        client_id: str | None = None,
        patience_s: float = 60.0,
        timeout_s: float = 10.0,
    ) -> None:
        """Connects to the broker.

        Args:
            broker: where it is.
            device: whose messages; None is all devices.
            prefix: what the topics begin with.
            client_id: this subscriber's name, unique at the broker, which then keeps what comes
                while it is away for a week; None gets only what comes from now on.
            patience_s: how long after its last part a message that is not whole is given as it is.
            timeout_s: how long to wait for the broker.

        Raises:
            EdgeaeError: paho-mqtt is not installed.
            ConnectionError, TimeoutError: the broker refuses or does not answer.
            ValueError: a name is not as a topic can hold.
        """
        self._prefix = check_prefix(prefix)
        self._topic = f"{prefix}/{'+' if device is None else check_device(device)}/#"
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._ready: queue.SimpleQueue[tuple[str, str] | Message] = queue.SimpleQueue()
        self._unread: dict[tuple[str, str], _Unread] = {}
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._parts = Parts()
        self.bundles: dict[tuple[str, str], dict[str, str | None]] = {}
        """What devices say of their bundles, by device and kind, see `Message.bundle`."""
        self.ignored = 0
        """How many payloads were no message of a device."""
        self._connection = Connection(
            broker,
            client_id=client_id,
            keep_s=KEEP_S,
            max_packet_bytes=MAX_PACKET_BYTES,
            max_unanswered=_MAX_UNANSWERED,
            timeout_s=timeout_s,
            connected=lambda connection: connection.subscribe(self._topic),
            received=self._on_message,
        )

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; what was not given out is lost, or comes again, see the class."""
        self._connection.close()

    def messages(self, *, timeout_s: float | None = None) -> Iterator[Message]:
        """Messages as they come, until for `timeout_s` none has; None waits for ever."""
        while True:
            found = self._next(timeout_s)
            if found is None:
                return
            if isinstance(found, Message):
                yield self._with_bundle(found)
                continue
            with self._lock:
                unread = self._unread[found]
            yield self._with_bundle(unread.message)
            self.acknowledge(unread.message)

    def acknowledge(self, message: Message) -> None:
        """Says that a message is done with; `messages` does so when the next one is asked for."""
        key = (message.device, message.name)
        with self._lock:
            unread = self._unread.pop(key, None)
            self._remember(key)
        if unread is not None:
            self._connection.acknowledge(unread.message_id, unread.generation)

    def _next(self, timeout_s: float | None) -> tuple[str, str] | Message | None:
        """The key of a whole message, or one that has waited too long for its parts."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                for late in self._parts.overdue(time.monotonic() - self._patience_s):
                    self._remember((late.device, late.name))
                    self._ready.put(late)
            # Short, so that what is overdue is noticed and Ctrl-C is heard.
            left = 1.0 if end is None else max(0.0, min(1.0, end - time.monotonic()))
            try:
                return self._ready.get(timeout=left)
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    return None

    def _with_bundle(self, message: Message) -> Message:
        return dataclasses.replace(message, bundle=self.bundles.get((message.device, message.kind)))

    def _on_message(self, connection: Connection, received: Any) -> None:
        """Sorts what the broker sent; runs in the connection's thread, and before it is made."""
        part = read_topic(self._prefix, received.topic)
        answer = (received.mid, connection.generation)
        if part is None:
            self.ignored += 1
        elif isinstance(part, tuple):
            self._hear(part, received.payload)
        else:
            key = (part.device, part.name)
            with self._lock:
                if key in self._unread:
                    # Sent again after a break: the answer goes to this one.
                    unread = self._unread[key]
                    unread.message_id, unread.generation = answer
                    return
                if key not in self._seen:
                    whole = self._parts.add(part, received.payload, time.monotonic())
                    for message in whole:
                        if message.complete:
                            self._unread[key] = _Unread(message, *answer)
                            self._ready.put(key)
                        else:
                            self._remember((message.device, message.name))
                            self._ready.put(message)
                    if key in self._unread:
                        return
        connection.acknowledge(*answer)

    def _hear(self, who: tuple[str, str], payload: bytes) -> None:
        try:
            said = read_announcement(payload)
        except BitstreamError:
            self.ignored += 1
            return
        if who in self.bundles or len(self.bundles) < MAX_DEVICES:
            self.bundles[who] = said

    def _remember(self, key: tuple[str, str]) -> None:
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
