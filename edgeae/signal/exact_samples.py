"""Samples as whole numbers in blocks, and back: exact, or each within a bound."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.signal.codec_blocks import ExactCoder
from edgeae.signal.codec_file import SignalFile
from edgeae.signal.codec_header import Header
from edgeae.signal.exact import ExactTables

__all__ = ["as_dtype", "exact_blocks", "read_exact"]

# A block of 8,192 samples.
_STEPS, _STRIDE = 512, 16
# Beyond this no prediction of whole numbers fits into 64 bits.
_LIMIT = 1 << 35

Array = npt.NDArray[Any]


def exact_blocks(
    tables: ExactTables,
    signal: Array,
    header: Header,
    keys: int,
    *,
    error: int = 0,
    quantum: float | None = None,
) -> tuple[Header, list[bytes]]:
    """The header and the blocks of samples (samples, leads).

    Args:
        tables: trained.
        signal: integers, or floats with a quantum.
        header: says all but how the samples are coded.
        keys: every so many steps of 16 samples a block stands alone, 0 if only the first does.
        error: integers may come back so far from what they were.
        quantum: floats come back in multiples of it, from their channel's offset on.

    Raises:
        TypeError: floats without a quantum.
        ValueError: a quantum too small for samples of this size.
    """
    whole: npt.NDArray[np.int64]
    offsets = header.offsets
    if quantum is None:
        if signal.dtype.kind == "f":
            raise TypeError(f"samples are {signal.dtype}, lossless takes integers")
        step, offsets = float(2 * error + 1), (0.0,) * header.channels
        whole = (signal.astype(np.int64) + error) // (2 * error + 1)
    else:
        step = quantum
        numbers = np.rint((signal.astype(np.float64) - np.array(offsets)) / quantum)
        if np.abs(numbers).max() >= _LIMIT:
            raise ValueError("max_error is too small for samples of this size")
        whole = numbers.astype(np.int64)
    steps = min(keys, _STEPS) if keys else _STEPS
    head = dataclasses.replace(
        header,
        level=0,
        block_steps=steps,
        key_blocks=1 if keys else 0,
        offsets=offsets,
        scales=(step,) * header.channels,
        exact=True,
    )
    coder, blocks = ExactCoder(tables, header.channels), []
    for begin in range(0, len(whole), steps * _STRIDE):
        if keys:
            coder.reset()
        blocks.append(coder.encode(whole[begin : begin + steps * _STRIDE]))
    return head, blocks


def read_exact(tables: ExactTables, content: SignalFile) -> Array:
    """The samples of a file of exact ones. Raises BitstreamError if a block is damaged."""
    header = content.header
    coder = ExactCoder(tables, header.channels)
    parts = []
    length = header.block_steps * _STRIDE
    for i, block in enumerate(content.blocks):
        if header.key_blocks and i % header.key_blocks == 0:
            coder.reset()
        parts.append(coder.decode(min(length, header.samples - i * length), block))
    whole = np.concatenate(parts)
    found: Array
    plain = all(scale.is_integer() and scale < 1 << 24 for scale in header.scales)
    if np.dtype(header.dtype).kind == "f" or not plain or any(header.offsets):
        found = whole * np.array(header.scales) + np.array(header.offsets)
    else:
        found = whole * np.array(header.scales).astype(np.int64)
    restored = as_dtype(found, header.dtype)
    return restored[:, 0] if header.flat else restored


def as_dtype(values: npt.NDArray[Any], dtype: str) -> Array:
    """Values in their shape as samples of a type, such as "int16", the nearest that it holds."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        limit = np.finfo(kind).max
        single: Array = np.clip(values, -limit, limit).astype(kind)
        return single
    limits = np.iinfo(kind)
    rounded = np.rint(values) if values.dtype.kind == "f" else values
    whole: Array = np.clip(rounded, limits.min, limits.max).astype(kind)
    return whole
