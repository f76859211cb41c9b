"""What the photo codec's loss measures, and photographs that live on a device."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")


from edgeae import metrics
from train.image.data import PhotoData, Photos, made_images
from train.image.device import ResidentPhotos
from train.image.loss import RateDistortion, distortion, ms_ssim


def test_ms_ssim_is_that_of_the_package():
    rng = np.random.default_rng(0)
    images = np.stack(made_images(2))[:, :240, :200]
    noisy = (images + rng.normal(0, 12, images.shape)).clip(0, 255).round().astype(np.uint8)
    planes = [torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 for part in (images, noisy)]
    found = ms_ssim(*planes).tolist()
    expected = [metrics.ms_ssim(one, other) for one, other in zip(images, noisy, strict=True)]
    assert found == pytest.approx(expected, abs=2e-4)


def test_a_share_of_ms_ssim_takes_that_of_the_squared_error():
    pixels = torch.from_numpy(np.stack(made_images(1))).permute(0, 3, 1, 2).float() / 255
    restored = (pixels + 0.05).requires_grad_()
    plain, mixed, alone = (
        distortion(pixels, restored, RateDistortion(ms_ssim=share)) for share in (0.0, 0.5, 1.0)
    )
    assert plain.item() == pytest.approx(255**2 * 0.05**2, rel=1e-3)
    assert mixed.item() == pytest.approx((plain + alone).item() / 2, rel=1e-4)
    alone.sum().backward()
    assert torch.isfinite(restored.grad).all() and restored.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="ms_ssim is 2, expected between 0 and 1"):
        RateDistortion(ms_ssim=2)


def test_photos_on_a_device_are_cut_as_those_in_memory(tmp_path):
    # Every pixel says where it is from, so that a crop shows how it was cut.
    rows, columns = np.mgrid[0:96, 0:120]
    place = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    for i in range(3):
        place[..., 2] = i
        Image.fromarray(place).save(tmp_path / f"{i}.png")
    photos = Photos(PhotoData((str(tmp_path),), crop_pixels=32, max_downscale=1.0, held_out=1))
    resident = ResidentPhotos(photos, torch.device("cpu"))
    crops = resident.batch(np.random.default_rng(0), 64)
    assert crops.shape == (64, 3, 32, 32) and crops.dtype == torch.uint8
    kinds = set()
    for crop in crops.int():
        across, down = crop[:2, 0, 1] - crop[:2, 0, 0], crop[:2, 1, 0] - crop[:2, 0, 0]
        # One step to the side is one column, or one row where the crop is turned.
        steps = (tuple(across.tolist()), tuple(down.tolist()))
        assert {abs(number) for step in steps for number in step} == {0, 1}
        assert torch.equal(crop[:2, 31, 31], crop[:2, 0, 0] + 31 * (across + down))
        kinds.add(steps)
    assert len(kinds) == 4, "mirrored and turned, or not"
    assert {int(crop[2, 0, 0]) for crop in crops} <= {0, 1, 2}
    # Smaller sizes are there too, as long as a crop fits into them.
    smaller = ResidentPhotos(
        Photos(dataclasses.replace(photos.config, max_downscale=4.0)), torch.device("cpu")
    )
    spread = [int(c[0].max() - c[0].min()) for c in smaller.batch(np.random.default_rng(1), 64)]
    assert min(spread) <= 33 and 80 < max(spread) <= 96
    assert resident.summary() == photos.summary()
    assert torch.equal(resident.held_out_crops(64), photos.held_out_crops(64))
