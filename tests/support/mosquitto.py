"""A real MQTT broker, Debian's mosquitto, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """A broker that keeps sessions and retained messages in its folder over a restart."""

    def __init__(self, folder: Path, **settings: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        lines = {
            "listener": f"{self.port} 127.0.0.1",
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{folder}/",
            **settings,
        }
        if os.geteuid() == 0:
            lines["user"] = "root"  # else it gives up its rights to the folder
        self._config = folder / "mosquitto.conf"
        self._config.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        """Starts it, and returns when it listens."""
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self._process.poll() is None, "mosquitto has ended"
                time.sleep(0.05)
        raise TimeoutError("mosquitto does not listen")

    def stop(self) -> None:
        """Ends it with TERM, so that it writes what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
