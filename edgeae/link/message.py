"""What goes over the broker: topics and the messages that they carry, apart from any client.

    PREFIX/DEVICE/bundle/KIND                  retained: which bundle made the codes, as JSON
    PREFIX/DEVICE/KIND/NAME/PART-PARTS         one code, as it is, no envelope around it

KIND is image, signal or alarm. NAME is milliseconds since 1970 by the device's clock, eight random
hexadecimal digits of the device's run, and a number that counts up, so it is unique and sorts by
time. A message too large for one payload goes in PARTS parts, of which each decodes alone.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeae.errors import BitstreamError

__all__ = [
    "KINDS",
    "MAX_PARTS",
    "PREFIX",
    "Message",
    "Part",
    "Parts",
    "announcement",
    "bundle_topic",
    "check_device",
    "check_prefix",
    "new_name",
    "part_topic",
    "read_announcement",
    "read_topic",
]

PREFIX = "edgeae"
KINDS = ("image", "signal", "alarm")
# As many as `ImageCodec.receive` takes.
MAX_PARTS = 1 << 12
# What a receiver keeps of messages whose parts have not all come.
MAX_INCOMPLETE = 64
MAX_INCOMPLETE_BYTES = 1 << 26
MAX_ANNOUNCEMENT_BYTES = 1 << 12

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_NAME = re.compile(r"([0-9]{13})-[0-9a-f]{8}-([0-9]{1,9})")
_CODEC_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")


@dataclass(frozen=True)
class Message:
    """One image, signal or alarm as it came.

    Attributes:
        device: who sent it.
        kind: one of `KINDS`.
        name: unique, see the module.
        codes: the payloads that came, in the order of their parts.
        parts: how many were sent.
        bundle: what the device says of the bundle that made them: "name", "version", "bundle" (id),
            "codec_id" or None; None if it has said nothing.
    """

    device: str
    kind: str
    name: str
    codes: tuple[bytes, ...]
    parts: int
    bundle: Mapping[str, str | None] | None = None

    @property
    def complete(self) -> bool:
        """Whether every part came."""
        return len(self.codes) == self.parts

    @property
    def time_s(self) -> float:
        """Seconds since 1970 by the device's clock when it was sent."""
        return int(self.name[:13]) / 1000


@dataclass(frozen=True)
class Part:
    """What a topic says of a payload; parts are numbered from 0."""

    device: str
    kind: str
    name: str
    part: int
    parts: int


def check_device(device: str) -> str:
    """The name of a device. Raises ValueError if it cannot stand in a topic and a path."""
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise ValueError(
            f"device is {device!r}, expected 1 to 64 letters, digits, dots, dashes and underscores "
            "that begin with a letter or digit"
        )
    return device


def check_prefix(prefix: str) -> str:
    """What all topics begin with. Raises ValueError if it cannot stand in a topic."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or prefix.endswith("/"):
        raise ValueError(
            f"prefix is {prefix!r}, expected letters, digits, dots, dashes and slashes"
        )
    return prefix


def new_name(run: str, number: int) -> str:
    """A name of now for message `number` of a run, eight hexadecimal digits."""
    return f"{time.time_ns() // 1_000_000:013d}-{run}-{number}"


def bundle_topic(prefix: str, device: str, kind: str) -> str:
    """The retained topic that says which bundle makes a device's codes of a kind."""
    return f"{prefix}/{device}/bundle/{kind}"


def part_topic(prefix: str, part: Part) -> str:
    """The topic of one part of a message; parts count from 1 there."""
    return f"{prefix}/{part.device}/{part.kind}/{part.name}/{part.part + 1}-{part.parts}"


def read_topic(prefix: str, topic: str) -> Part | tuple[str, str] | None:
    """A part, or device and kind of a word on a bundle, or None for any other topic."""
    if not topic.startswith(f"{prefix}/"):
        return None
    device, *rest = topic[len(prefix) + 1 :].split("/")
    if not _DEVICE.fullmatch(device):
        return None
    if len(rest) == 2 and rest[0] == "bundle" and rest[1] in KINDS:
        return device, rest[1]
    if len(rest) != 3 or rest[0] not in KINDS or not _NAME.fullmatch(rest[1]):
        return None
    place = _PART.fullmatch(rest[2])
    if place is None or not 1 <= int(place[1]) <= int(place[2]) <= MAX_PARTS:
        return None
    return Part(device, rest[0], rest[1], int(place[1]) - 1, int(place[2]))


def announcement(bundle: Any) -> bytes:
    """The retained payload for a bundle, see `Message.bundle`."""
    manifest = bundle.manifest
    said = {
        "name": manifest.name,
        "version": manifest.version,
        "bundle": bundle.id,
        "codec_id": manifest.codec_id,
    }
    return json.dumps(said).encode()


def read_announcement(payload: bytes) -> dict[str, str | None]:
    """What a device says of a bundle. Raises BitstreamError if it is not as `announcement` says."""
    try:
        if len(payload) > MAX_ANNOUNCEMENT_BYTES:
            raise ValueError(f"{len(payload)} bytes")
        said = json.loads(payload)
        if set(said) != {"name", "version", "bundle", "codec_id"}:
            raise ValueError("other keys")
        for key, value in said.items():
            if not isinstance(value, str) and not (key == "codec_id" and value is None):
                raise ValueError(f"{key} is no text")
        if said["codec_id"] is not None and not _CODEC_ID.fullmatch(said["codec_id"]):
            raise ValueError("codec_id is not 16 bytes")
    except (ValueError, TypeError, RecursionError) as error:
        raise BitstreamError(f"a device's word on its bundle is damaged: {error}") from None
    return dict(said)


class Parts:
    """Puts messages together from parts that come in any order and may come twice.

    What it keeps is bounded: beyond `MAX_INCOMPLETE` messages or `MAX_INCOMPLETE_BYTES` the one
    that has waited longest is given out as it is.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, int], dict[int, bytes]] = {}
        self._since: dict[tuple[str, str, str, int], float] = {}
        self._bytes = 0

    def add(self, part: Part, payload: bytes, now_s: float) -> list[Message]:
        """The messages that are whole by this part, or have to make room for it."""
        key = (part.device, part.kind, part.name, part.parts)
        codes = self._found.setdefault(key, {})
        self._since[key] = now_s
        if part.part not in codes:
            codes[part.part] = payload
            self._bytes += len(payload)
        if len(codes) == part.parts:
            return [self._take(key)]
        out = []
        while len(self._found) > MAX_INCOMPLETE or self._bytes > MAX_INCOMPLETE_BYTES:
            out.append(self._take(min(self._since, key=self._since.__getitem__)))
        return out

    def overdue(self, before_s: float) -> list[Message]:
        """Takes out the messages of which no part has come since then."""
        late = [key for key, since in self._since.items() if since < before_s]
        return [self._take(key) for key in late]

    def _take(self, key: tuple[str, str, str, int]) -> Message:
        codes = self._found.pop(key)
        del self._since[key]
        self._bytes -= sum(map(len, codes.values()))
        device, kind, name, parts = key
        return Message(device, kind, name, tuple(codes[i] for i in sorted(codes)), parts)
