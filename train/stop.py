"""Ctrl-C and TERM end a run after the step that it is in, with its state saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

__all__ = ["StopRequest", "stop_on_signals"]


@dataclass
class StopRequest:
    """The signal that asked a run to end, 0 while none has."""

    signal: int = 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Until the block ends, the first SIGINT or SIGTERM is noted; a second one acts as it would.

    Outside of the main thread, where Python allows no handlers, signals act as they would.
    """
    request = StopRequest()
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        request.signal = number
        for known, handler in before.items():
            signal.signal(known, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread
        pass
    try:
        yield request
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
