"""Where the broker is, and a connection to it that comes back by itself."""

from __future__ import annotations

import ssl
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeae.errors import EdgeaeError

__all__ = ["Broker", "Connection"]

# A dead link is noticed after one and a half times this.
_KEEPALIVE_S = 30
_RECONNECT_S = (1, 30)
PORT, TLS_PORT = 1883, 8883


@dataclass(frozen=True)
class Broker:
    """Where an MQTT 5 broker is and how it is asked.

    Attributes:
        host, port: its address.
        username, password: what it asks for, if anything.
        tls: whether the connection is encrypted and the broker's certificate checked.
        ca_file: certificates to check it by, instead of the system's.
    """

    host: str
    port: int = PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Broker:
        """The broker of a host's name or of an address such as mqtts://user:password@host:8883.

        Raises ValueError if it is no such address.
        """
        address = urllib.parse.urlsplit(text if "://" in text else f"mqtt://{text}")
        try:
            port = address.port
        except ValueError:
            port = 0
        rest = address.path.strip("/") or address.query or address.fragment
        if address.scheme not in ("mqtt", "mqtts") or not address.hostname or rest or port == 0:
            # Without what may be a password.
            raise ValueError(
                "the broker's address is wrong, expected mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT]"
            )
        tls = address.scheme == "mqtts"
        return cls(
            address.hostname,
            port or (TLS_PORT if tls else PORT),
            None if address.username is None else urllib.parse.unquote(address.username),
            None if address.password is None else urllib.parse.unquote(address.password),
            tls=tls,
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Connection:
    """A client of a broker, in a thread of its own; what is published while it is gone goes later.

    Args:
        broker: whom to connect to.
        client_id: a name by which the broker keeps what came while the client was away, for
            `keep_s`; None is one of chance, for which it keeps nothing.
        keep_s: see `client_id`.
        max_packet_bytes: what the broker may send at once.
        max_unanswered: how many messages the broker may send before the first is acknowledged.
        connected: called at every connection, also after the broker was gone.
        received: called with each message, which `acknowledge` then answers.
        answered: called with None or the broker's reason once it has, or refuses, a message.

    Raises:
        EdgeaeError: paho-mqtt is not installed.
        ConnectionError: the broker refuses the client.
        TimeoutError: the broker does not answer within `timeout_s`.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        client_id: str | None = None,
        keep_s: int = 0,
        max_packet_bytes: int | None = None,
        max_unanswered: int | None = None,
        timeout_s: float = 10.0,
        connected: Callable[[Connection], None] = lambda connection: None,
        received: Callable[[Connection, Any], None] = lambda connection, message: None,
        answered: Callable[[str | None], None] = lambda refusal: None,
    ) -> None:
        mqtt, properties = _mqtt()
        self.broker = broker
        # Counts connections: an answer to a message of an earlier one would answer another message.
        self.generation = 0
        self.max_packet_bytes: int | None = None
        self._refusal: str | None = None
        self._first = threading.Event()
        self._subscribes = False
        self._connected = connected
        self._client = client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id or "",
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            client.tls_set_context(ssl.create_default_context(cafile=broker.ca_file))
        client.reconnect_delay_set(*_RECONNECT_S)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _data, message: received(self, message)
        client.on_publish = lambda _client, _data, _mid, reason, _properties: answered(
            str(reason) if reason.is_failure else None
        )
        if client_id is not None:
            properties.SessionExpiryInterval = keep_s
        if max_packet_bytes is not None:
            properties.MaximumPacketSize = max_packet_bytes
        if max_unanswered is not None:
            properties.ReceiveMaximum = max_unanswered
        client.connect_async(
            broker.host,
            broker.port,
            keepalive=_KEEPALIVE_S,
            clean_start=client_id is None,
            properties=properties,
        )
        client.loop_start()
        if not self._first.wait(timeout_s) or self._refusal is not None:
            self.close()
            if self._refusal is not None:
                raise ConnectionRefusedError(f"the broker {broker} refuses: {self._refusal}")
            raise TimeoutError(f"no broker answers at {broker} within {timeout_s:g} s")

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            self.generation += 1
            self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
            self._connected(self)
        if self._refusal is not None or not self._subscribes:
            self._first.set()

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, rest: Any) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._refusal = str(reason)
        self._first.set()

    def subscribe(self, topic: str) -> None:
        """Asks for the messages of a topic, at least once each."""
        # The connection is there for a subscriber once the broker has said yes to this.
        self._subscribes = True
        self._client.subscribe(topic, qos=1)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Sends at least once, now or when the broker is there again."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def acknowledge(self, message_id: int, generation: int) -> None:
        """Answers a message that came in a connection; a later one brings it again anyway."""
        if generation == self.generation:
            self._client.ack(message_id, 1)

    def close(self) -> None:
        """Ends the connection and its thread."""
        self._client.disconnect()
        self._client.loop_stop()


def _mqtt() -> tuple[Any, Any]:
    """The client's module of paho-mqtt, and properties of a connection. Raises EdgeaeError."""
    try:
        from paho.mqtt import client
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
    except ImportError:
        raise EdgeaeError("MQTT goes through paho-mqtt: pip install 'edgeae[mqtt]'") from None
    return client, Properties(PacketTypes.CONNECT)
