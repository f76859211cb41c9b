"""Records of an electrocardiogram for training: ADC integers and annotated beats.

A folder of records has, for each, `NAME.flac` with the ADC's counts as 16-bit samples, one channel
a lead, and `NAME.tsv` with its annotations (sample, symbol, aux). `records.tsv` beside the folder
lists what each record is for, its leads, gain and zero.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["BEAT_SYMBOLS", "HELD_OUT", "SAMPLE_RATE_HZ", "Record", "read_record", "read_records"]

SAMPLE_RATE_HZ = 360
# Of the training set DS1 (de Chazal et al. 2004), what no network is trained on but chooses
# between: normal beats (115), a bundle branch block (118), ventricular ectopy (119, 223), and what
# is hard (203).
HELD_OUT = ("115", "118", "119", "203", "223")
# Annotations that are beats (PhysioBank's codes); others tell of rhythm, noise and the like.
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        name: its number.
        counts: of the ADC, int16 (samples, leads).
        leads: their names.
        gain: counts a millivolt.
        zero: the count of 0 mV.
        positions: of the beats, int64 (beats,), in samples.
        symbols: the type of each beat, PhysioBank's codes.
    """

    name: str
    counts: npt.NDArray[np.int16]
    leads: tuple[str, ...]
    gain: float
    zero: float
    positions: npt.NDArray[np.int64]
    symbols: tuple[str, ...]

    @property
    def millivolts(self) -> npt.NDArray[np.float32]:
        """The signal in mV, float32 (samples, leads)."""
        volts: npt.NDArray[np.float32] = (
            self.counts.astype(np.float32) - np.float32(self.zero)
        ) / np.float32(self.gain)
        return volts


def read_record(folder: Path, row: dict[str, str]) -> Record:
    """The record of a row of `records.tsv`. Raises ValueError, naming the file, for a record that
    is not as its row says."""
    file = folder / f"{row['record']}.flac"
    counts, _ = soundfile.read(file, dtype="int16", always_2d=True)
    leads = tuple(row[key] for key in ("lead0", "lead1") if row.get(key))
    if counts.shape[1] != len(leads):
        raise ValueError(f"{file} has {counts.shape[1]} leads, expected {len(leads)}")
    positions, symbols = [], []
    with open(file.with_suffix(".tsv"), encoding="utf-8", newline="") as lines:
        # One of the comments' symbols is a quotation mark.
        for each in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if each["symbol"] in BEAT_SYMBOLS:
                positions.append(int(each["sample"]))
                symbols.append(each["symbol"])
    return Record(
        row["record"],
        counts,
        leads,
        float(row["gain"]),
        float(row["zero"]),
        np.array(positions, np.int64),
        tuple(symbols),
    )


def read_records(
    folder: Path,
    split: str,
    *,
    only: Iterable[str] | None = None,
    without: Iterable[str] = (),
) -> list[Record]:
    """The records of a split, in the order of their names.

    Args:
        folder: of `records.tsv`, with the records in `mitbih`.
        split: "DS1" to train on, "DS2" to measure on alone, "paced".
        only: names of the records wanted, by default all.
        without: names of records that are left out.

    Raises:
        ValueError: no such records, or one is not as its row says.
        OSError: a file is not there.
    """
    left_out = set(without)
    wanted = None if only is None else set(only)
    with open(folder / "records.tsv", encoding="utf-8", newline="") as lines:
        rows = [
            row
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if row["split"] == split
            and row["record"] not in left_out
            and (wanted is None or row["record"] in wanted)
        ]
    if not rows:
        raise ValueError(f"{folder} has no records of {split}")
    return [read_record(folder / "mitbih", row) for row in rows]
