"""Codes over thin links: images, signals and alarms through an MQTT broker, or in datagrams.

The broker's side needs the extra `mqtt` (paho-mqtt); datagrams need nothing. Names are loaded when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeae.link.broker import Broker
    from edgeae.link.datagrams import DatagramReceiver, send_datagrams
    from edgeae.link.decoder import Decoder
    from edgeae.link.folder_writer import FolderWriter
    from edgeae.link.message import Message
    from edgeae.link.publisher import Publisher
    from edgeae.link.subscriber import Subscriber

_HOMES = {
    "Broker": "edgeae.link.broker",
    "DatagramReceiver": "edgeae.link.datagrams",
    "Decoder": "edgeae.link.decoder",
    "FolderWriter": "edgeae.link.folder_writer",
    "Message": "edgeae.link.message",
    "Publisher": "edgeae.link.publisher",
    "Subscriber": "edgeae.link.subscriber",
    "send_datagrams": "edgeae.link.datagrams",
}

__all__ = [
    "Broker",
    "DatagramReceiver",
    "Decoder",
    "FolderWriter",
    "Message",
    "Publisher",
    "Subscriber",
    "send_datagrams",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeae.link' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
