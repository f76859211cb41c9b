"""Crops of photographs in one file, for machines that the photographs themselves do not go to.

A pack is a zip of `index.json` and sheets of crops, JPEG with full color resolution. On a GPU all
crops live in its memory and batches are cut there.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from train.image.data import PhotoData, Photos
from train.image.device import cut

__all__ = ["PackedPhotos", "write_pack"]

_KIND = "edgeae photo crops"
# Crops to a sheet, one under the other.
_PER_SHEET = 32
# A crop is stored this much larger than a batch's, so that it can be shifted.
_MARGIN = 4 / 3
# libjpeg's quality; the pack says how far its crops are from their originals.
_QUALITY = 92
_CROPS_PER_MEGAPIXEL = 12


def write_pack(
    config: PhotoData, out: Path, *, crops: int | None = None, quality: int = _QUALITY
) -> dict[str, Any]:
    """Write random crops of the training photographs, and the middles of the held-out ones.

    Args:
        config: names the folders; crops are a third larger than `crop_pixels`, up to 360.
        out: the file to write.
        crops: how many, by default 12 for each megapixel of training photographs.
        quality: of JPEG, 1 to 95.

    Returns:
        Counts of crops, bytes, and `psnr_db`, the mean over crops against their originals.
    """
    side = min(360, int(config.crop_pixels * _MARGIN) // 16 * 16)
    photos = Photos(dataclasses.replace(config, crop_pixels=max(16, side), pack=""))
    megapixels = sum(p.shape[0] * p.shape[1] for p in photos.training) / 1e6
    count = crops or max(_PER_SHEET, round(_CROPS_PER_MEGAPIXEL * megapixels))
    drawn = photos.batch(np.random.default_rng(0), count).permute(0, 2, 3, 1).numpy()
    held_side = max(256, config.crop_pixels) // 16 * 16
    held = photos.held_out_crops(held_side).permute(0, 2, 3, 1).numpy()
    errors: list[float] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".tmp")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as pack:
        for name, pixels in (("train", drawn), ("held_out", held)):
            for number, first in enumerate(range(0, len(pixels), _PER_SHEET)):
                some = pixels[first : first + _PER_SHEET]
                data, psnr_db = _sheet(some, quality)
                errors += [psnr_db] * len(some)
                pack.writestr(f"{name}-{number:05}.jpg", data)
        index = {
            "kind": _KIND,
            "format": 1,
            "side": photos.config.crop_pixels,
            "held_out_side": held_side,
            "train": len(drawn),
            "held_out": len(held),
            "photographs": photos.summary(),
            "psnr_db": round(float(np.mean(errors)), 2),
        }
        pack.writestr("index.json", json.dumps(index, indent=1))
    partial.replace(out)
    kept = ("train", "held_out", "psnr_db")
    return {**{key: index[key] for key in kept}, "bytes": out.stat().st_size}


def _sheet(pixels: np.ndarray, quality: int) -> tuple[bytes, float]:
    """Crops (N, side, side, 3) one under the other as JPEG, and the PSNR of that in dB."""
    sheet = pixels.reshape(-1, pixels.shape[2], 3)
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
    restored = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    error = np.mean(np.square(restored.astype(np.float32) - sheet))
    return stream.getvalue(), float(10 * np.log10(255**2 / max(float(error), 1e-4)))


class PackedPhotos:
    """The crops of a pack on a device; batches are cut there, as `Photos` cuts them."""

    def __init__(self, file: Path, config: PhotoData, device: torch.device) -> None:
        """Raises ValueError if the file is no pack, or its crops are smaller than asked for."""
        try:
            with zipfile.ZipFile(file) as pack:
                self.index = json.loads(pack.read("index.json"))
                if self.index.get("kind") != _KIND:
                    raise ValueError("of another kind")
                crops = _read_sheets(pack, "train", self.index["side"])
                held = _read_sheets(pack, "held_out", self.index["held_out_side"])
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{file} is not a pack of photographs ({error}), expected what train.pack wrote"
            ) from None
        if self.index["side"] < config.crop_pixels:
            raise ValueError(
                f"{file} holds crops of {self.index['side']} pixels, "
                f"expected {config.crop_pixels} or more"
            )
        self.config, self._count = config, len(crops)
        self._pixels = crops.flatten().to(device)
        self._held = held.permute(0, 3, 1, 2).contiguous().to(device)

    def summary(self) -> dict[str, Any]:
        """What there is, for a recipe's `data_summary`."""
        return {
            **self.index["photographs"],
            "unit": f"{self.index['train']} crops in a pack, {self.index['psnr_db']} dB",
        }

    def batch(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """`size` random crops on the device, uint8 (size, 3, crop, crop)."""
        crop, side = self.config.crop_pixels, self.index["side"]
        chosen = rng.integers(0, self._count, size)
        top, left = rng.integers(0, side - crop + 1, (2, size))
        mirrored, turned = rng.random(size) < 0.5, np.zeros(size, bool)
        first = 3 * ((chosen * side + top) * side + left)
        return cut(self._pixels, crop, first, np.full(size, side), mirrored, turned)

    def held_out_crops(self, side: int) -> torch.Tensor:
        """The centre of every held-out image, uint8 (images, 3, side, side)."""
        there = self.index["held_out_side"]
        if side > there:
            raise ValueError(f"the pack's held-out crops have {there} pixels, expected {side}")
        first = (there - side) // 2
        return self._held[:, :, first : first + side, first : first + side]


def _read_sheets(pack: zipfile.ZipFile, name: str, side: int) -> torch.Tensor:
    """Crops (N, side, side, 3)."""
    sheets = []
    for member in sorted(pack.namelist()):
        if member.startswith(f"{name}-"):
            with Image.open(io.BytesIO(pack.read(member)), formats=["JPEG"]) as sheet:
                sheets.append(np.asarray(sheet.convert("RGB")).reshape(-1, side, side, 3))
    return torch.from_numpy(np.concatenate(sheets))
