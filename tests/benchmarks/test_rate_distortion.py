"""The rate-distortion benchmark: its arithmetic by hand, and one small run from end to end."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tiny

from benchmarks import large_picture, side_by_side
from benchmarks.rate_distortion import bd_rate_percent, main, peer_contenders, quality_at
from edgeae import media


def test_a_curve_at_half_the_rate_saves_half_the_rate() -> None:
    rates, quality = np.array([0.1, 0.3, 0.6, 1.4]), [27.0, 30.0, 33.0, 38.0]
    assert bd_rate_percent(rates, quality, rates / 2, quality) == pytest.approx(-50)
    assert bd_rate_percent(rates, quality, rates * 1.25, quality) == pytest.approx(25)
    assert bd_rate_percent(rates, quality, rates, quality) == 0


def test_straight_lines_give_the_hand_computed_area_over_the_shared_quality() -> None:
    # log rate = q / 10 and log rate = q / 5 - 4: over 30 to 40 dB the mean difference is -0.5
    anchor, other = np.linspace(28, 42, 8), np.linspace(30, 40, 5)
    saved = bd_rate_percent(np.exp(anchor / 10), anchor, np.exp(other / 5 - 4), other)
    assert saved == pytest.approx(100 * (math.exp(-0.5) - 1))


def test_points_that_cost_more_for_less_do_not_bend_the_curve() -> None:
    rates, quality = [0.1, 0.3, 0.6, 1.4], [27.0, 30.0, 33.0, 38.0]
    assert bd_rate_percent(rates, quality, [*rates, 0.7], [*quality, 32.0]) == 0


def test_curves_that_hardly_meet_say_nothing() -> None:
    assert math.isnan(bd_rate_percent([1, 2], [30, 31], [1, 2], [30.8, 35]))


def test_quality_at_a_rate_is_only_told_where_the_curve_gets() -> None:
    assert quality_at([0.25, 0.5, 1.0], [28.0, 31.0, 34.0], 0.5) == pytest.approx(31)
    assert math.isnan(quality_at([0.5, 1.0], [31.0, 34.0], 0.25))


def test_a_run_over_a_folder_writes_every_figure(tmp_path, capsys) -> None:
    rows, columns = np.mgrid[:192, :200]
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    wave = 120 + 60 * np.sin(rows / 9) + 40 * np.cos(columns / 14)
    image = np.clip(wave[..., None] + rng.normal(0, 6, (192, 200, 3)), 0, 255)
    media.write_image(tmp_path / "in" / "1.png", image.astype(np.uint8))
    out = tmp_path / "out" / "figures.json"
    main([str(tmp_path / "in"), "--precision", "", "--peers", "webp", "--json", str(out)])
    report = json.loads(out.read_text())
    assert report["images"] == ["1.png"] and report["bundle"] is None
    assert report["codecs"]["JPEG"]["bd_rate_psnr_percent"] == 0
    webp = report["codecs"]["WebP"]
    assert -80 < webp["bd_rate_psnr_percent"] < 0
    assert webp["bd_rate_psnr_per_image_percent"] == [webp["bd_rate_psnr_percent"]]
    assert webp["encode_ms"] > 0 and report["versions"]["pillow"] and report["machine"]["cores"]
    assert "WebP" in capsys.readouterr().out


def test_processes_that_share_the_pictures_find_the_same(tmp_path) -> None:
    for i, size in enumerate([(192, 200), (180, 190), (200, 180)]):
        media.write_image(tmp_path / f"{i}.png", waves(*size))
    found = []
    for jobs in ("1", "2"):
        out = tmp_path / "figures" / f"{jobs}.json"
        main([str(tmp_path), "--precision=", "--peers=", "--json", str(out), "--jobs", jobs])
        codec = json.loads(out.read_text())["codecs"]["JPEG"]
        found.append([[p["bpp"], p["psnr_db"], p["ms_ssim_db"]] for p in codec["points"]])
    assert found[0] == found[1]


def waves(height, width):
    rows, columns = np.mgrid[:height, :width]
    light = 120 + 60 * np.sin(rows / 9) + 40 * np.cos(columns / 14)
    light[:80, -80:] += np.random.default_rng(0).normal(0, 40, (80, 80))
    return np.clip(light[..., None] + np.zeros(3), 0, 255).astype(np.uint8)


def test_crops_are_drawn_at_equal_bytes_where_the_detail_is(tmp_path) -> None:
    picture = waves(240, 320)
    assert side_by_side.busiest(picture, 80) == (0, 240)
    media.write_image(tmp_path / "waves.png", picture)
    jpeg = next(peer_contenders(["jpeg"]))
    restored, size = side_by_side.finest(jpeg, picture, 4000)
    assert restored.shape == picture.shape and 2000 < size <= 4000
    side_by_side.draw(tmp_path / "out.png", [tmp_path / "waves.png"], [jpeg], bpp=0.5)
    assert media.read_image(tmp_path / "out.png").shape[1] > 2 * side_by_side.CROP_SIDE


def test_a_large_picture_is_measured(tmp_path) -> None:
    media.write_image(tmp_path / "waves.png", waves(96, 128))
    bundle = tiny.tiny_codec_bundle(tmp_path / "tiny")
    report = large_picture.measure(str(bundle), 300, tmp_path / "waves.png")
    assert report["image_bytes"] == 300 * 300 * 3
    assert 0 < report["file_bytes"] < report["image_bytes"]
    assert report["encode_peak_bytes"] >= 0 and report["psnr_db"] > 10
