"""Processes that tests start, as a terminal would start them."""

from __future__ import annotations

import signal


def default_signals() -> None:
    """For `preexec_fn`: what a shell in the background or nohup lets be ignored ends a process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
