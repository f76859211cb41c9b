"""Tables of an autoencoder's files for tests: each symbol half as likely as the one before it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.coding.item_latent import QUALITIES, ItemLatent, table_bytes
from edgeae.coding.rate import LEVELS
from edgeae.coding.single_lane import ALPHABET, FineTables


def item_latent(latents: int, *, step: float = 0.25) -> ItemLatent:
    """Centers 0, 1/8, 2/8 ..., steps that halve from quality to quality, the middle one `step`."""
    row = np.maximum(1, 65536 >> np.arange(1, ALPHABET + 1))
    row[0] += 65536 - row.sum()
    tables = FineTables(
        np.tile(row, (QUALITIES * latents, 1)).astype(np.uint16),
        np.zeros(QUALITIES * latents, np.uint8),
    )
    levels = step * 2.0 ** -(np.arange(LEVELS) / 8 - 4)
    return ItemLatent(
        (np.arange(latents) / 8).astype(np.float32),
        np.repeat(levels[:, None], latents, axis=1).astype(np.float32),
        tables,
    )


def add_tables(folder: Path, latent: ItemLatent, section: dict[str, Any]) -> str:
    """Write tables.bin; the codec id that goes with it and the manifest's latent section."""
    data = table_bytes(latent)
    (folder / "tables.bin").write_bytes(data)
    return hashlib.sha256(json.dumps(section, sort_keys=True).encode() + data).hexdigest()[:32]
