"""One thread at a time in a stream."""

from __future__ import annotations

import threading

__all__ = ["Exclusive"]


class Exclusive:
    """Held with `with` for one call of a stream; whoever comes meanwhile is refused, not kept
    waiting.

    Raises:
        RuntimeError: another thread holds it.
    """

    def __init__(self) -> None:
        self._in_use = threading.Lock()

    def __enter__(self) -> None:
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("the stream is in use by another thread, expected one at a time")

    def __exit__(self, *_: object) -> None:
        self._in_use.release()
