"""Rows of the tables of denoised and filled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.images import HOLES, NOISY, SIGMAS, means
from export.bundle import markdown_table

__all__ = ["filling_rows", "image_denoising_rows", "image_results"]

Row = dict[str, str]
Rows = Mapping[str, Mapping[str, Mapping[str, float]]]

_PEERS = ("BM3D", "wavelet shrinkage", "non-local means", NOISY)
_OURS = ("edgeae fp32", "edgeae int8")
_MIDDLE = ", middle"


def image_results(result: Mapping[str, Any]) -> str:
    """What stands between the marks of docs/images.md, of what `benchmarks.images` wrote."""
    return (
        "`python -m benchmarks.images PHOTOS --json benchmarks/results/images.json`: PSNR in dB of"
        " 8-bit files, in brackets as papers measure, of noise that is not rounded and clipped. On"
        " real noise every system but ours has the best of the sigmas that are tried for each"
        " file.\n\n"
        f"{markdown_table(image_denoising_rows(result))}\n\n"
        "PSNR in dB of what holes hid:\n\n"
        f"{markdown_table(filling_rows(result))}"
    )


def image_denoising_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each set and noise, and one for those of its files that slow systems saw too.

    Args:
        result: what `benchmarks.images` wrote.
    """
    tables = result["tables"]
    rows = []
    for sigma in SIGMAS:
        table = tables[f"cbsd68_dev, sigma {sigma}"]
        name = f"CBSD68, Gaussian noise of {sigma}, told"
        rows += _compared(name, "those that BM3D saw", table, "told", every=set(table[_told()]))
    table = tables["real_noise_dev"]
    whole = {file for file in table[NOISY] if not file.endswith(_MIDDLE)}
    rows += _compared(
        "real cameras, not told", "middle 256 x 256 of every fourth", table, "blind", every=whole
    )
    at = means(tables["cbsd68_dev, sigma 25"])
    seconds = {
        system: at.get(_named(system, "told"), {}).get("seconds_per_megapixel")
        for system in (*_OURS, *_PEERS)
        if system != NOISY
    }
    rows.append(_row("seconds a megapixel, one thread", None, seconds, ".1f"))
    return rows


def filling_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each kind of hole: PSNR of what was hidden."""
    rows = []
    for kind in HOLES:
        found = means(result["tables"][f"cbsd68_dev, {kind}"])
        shown = {
            "edgeae": found["edgeae fp32"],
            **{name: row for name, row in found.items() if name.startswith("OpenCV")},
        }
        cells = {name: f"{row['psnr_db']:.2f}" for name, row in shown.items()}
        rows.append({"holes": kind, "files": f"{found['edgeae fp32']['files']:.0f}", **cells})
    return rows


def _told() -> str:
    return _named(_OURS[0], "told")


def _named(system: str, way: str) -> str:
    return f"{system}, {way}" if system in _OURS else system


def _compared(name: str, part: str, table: Rows, way: str, *, every: set[str]) -> list[Row]:
    """The row of every file, and if a slow system saw others alone, that of what all saw."""
    rows = [_psnr_row(name, table, way, every)]
    slow = set(table.get("BM3D", ()))
    if slow and not slow >= every:
        rows.append(_psnr_row(f"the same, {part}", table, way, slow))
    return rows


def _psnr_row(name: str, table: Rows, way: str, files: set[str]) -> Row:
    """Mean PSNR of the systems that saw all of these files."""
    found = {}
    for system in (*_OURS, *_PEERS):
        rows = table.get(_named(system, way), {})
        if files <= set(rows):
            found[system] = [rows[file] for file in files]
    cells = {system: _mean(of, "psnr_db") for system, of in found.items()}
    floats = {
        system: _mean(of, "float_psnr_db")
        for system, of in found.items()
        if all("float_psnr_db" in row for row in of)
    }
    return _row(name, len(files), cells, ".2f", floats)


def _mean(rows: Sequence[Mapping[str, float]], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def _row(
    name: str,
    files: int | None,
    cells: Mapping[str, float | None],
    form: str,
    beside: Mapping[str, float] | None = None,
) -> Row:
    row = {"": name, "files": "" if files is None else str(files)}
    for system in (*_OURS, *_PEERS):
        value, other = cells.get(system), (beside or {}).get(system)
        row[system] = "-" if value is None else f"{value:{form}}"
        if value is not None and other is not None:
            row[system] += f" ({other:{form}})"
    return row
