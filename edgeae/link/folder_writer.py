"""Messages as files: images as PNG, other codes as they are, and tables of what came."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgeae import media
from edgeae.errors import EdgeaeError
from edgeae.link.decoder import Decoder
from edgeae.link.message import Message

__all__ = ["FolderWriter"]

_MESSAGES = ("received", "sent", "device", "kind", "name", "parts", "came", "bytes", "file", "note")
_ALARMS = ("received", "sent", "device", "name", "score", "threshold", "values")


class FolderWriter:
    """Writes FOLDER/DEVICE/NAME.png and .eae, and a row each in messages.csv and alarms.csv.

    An image of which parts are missing, or which cannot be decoded, is told in its row's note; the
    codes of what cannot be decoded are kept beside, so that nothing that came is lost. Times are
    UTC, in ISO 8601; "sent" is by the device's clock.
    """

    def __init__(self, folder: str | os.PathLike[str], decoder: Decoder) -> None:
        """Makes the folder if need be, and adds to its tables. Raises OSError if it cannot."""
        self._folder, self._decoder = Path(folder), decoder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._messages = _Table(self._folder / "messages.csv", _MESSAGES)
        self._alarms = _Table(self._folder / "alarms.csv", _ALARMS)

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the tables."""
        self._messages.close()
        self._alarms.close()

    def write(self, message: Message) -> Path | None:
        """Writes one message; the file of it, None for an alarm. Raises OSError and MediaError."""
        stem = self._folder / message.device / message.name
        path, note = None, ""
        if message.kind == "alarm":
            note = self._write_alarm(message)
        else:
            stem.parent.mkdir(exist_ok=True)
            path, note = self._write_codes(message, stem)
        self._messages.add(
            _utc(time.time()),
            _utc(message.time_s),
            message.device,
            message.kind,
            message.name,
            message.parts,
            len(message.codes),
            sum(map(len, message.codes)),
            "" if path is None else path.relative_to(self._folder).as_posix(),
            note,
        )
        return path

    def _write_codes(self, message: Message, stem: Path) -> tuple[Path, str]:
        note = "" if message.complete else f"{message.parts - len(message.codes)} parts are missing"
        if message.kind == "image":
            try:
                image, mask = self._decoder.image(message)
            except EdgeaeError as error:
                note = str(error)
            else:
                if mask is not None and mask.any():
                    note = f"{100 * mask.mean():.2g} % of the pixels are not exact"
                path = stem.with_name(stem.name + ".png")
                media.write_image(path, image)
                return path, note
        if len(message.codes) == message.parts == 1:
            path = stem.with_name(stem.name + ".eae")
            media.atomic_write(path, message.codes[0])
            return path, note
        # Each code decodes alone; the folder holds them in their order.
        stem.mkdir(exist_ok=True)
        for index, code in enumerate(message.codes):
            media.atomic_write(stem / f"{index + 1:04}.eae", code)
        return stem, note

    def _write_alarm(self, message: Message) -> str:
        try:
            values = self._decoder.alarm(message)
        except EdgeaeError as error:
            return str(error)
        score, threshold = values.pop("score", ""), values.pop("threshold", "")
        self._alarms.add(
            _utc(time.time()),
            _utc(message.time_s),
            message.device,
            message.name,
            json.dumps(score),
            json.dumps(threshold),
            json.dumps(values),
        )
        return ""


class _Table:
    """A CSV file that rows are added to; each is on the disk's way before the next."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._file: IO[str] = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file, lineterminator="\n")
        if self._file.tell() == 0:
            self._rows.writerow(names)
            self._file.flush()

    def add(self, *values: Any) -> None:
        self._rows.writerow(values)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(1000 * (seconds % 1)):03}Z"
