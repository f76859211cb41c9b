"""The benchmark of packets' time measures every call, and says by how much packets cost more."""

from __future__ import annotations

import json

import tiny

from benchmarks import packets
from edgeae.media import write_image


def test_every_image_and_quality_gets_a_row(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", tiny.picture(64, 96))
    out = tmp_path / "packets.json"
    packets.main(
        [str(tmp_path / "images"), "--images", "1", "--joined", "2", "--repeats", "1"]
        + ["--qualities", "2", "8", "--json", str(out)]
    )
    found = json.loads(out.read_text())
    assert [(row["image"], row["quality"]) for row in found["rows"]] == [
        (name, quality) for name in ("a", "2 joined") for quality in (2, 8)
    ]
    for row in found["rows"]:
        assert row["pixels"] == 64 * 96 * (1 if row["image"] == "a" else 2) and row["packets"] >= 1
        assert row["packets_bytes"] > 0 and row["file_bytes"] > 0
        ratio = row["packets_ms"] / row["compress_ms"]
        assert abs(row["packets_over_compress"] - ratio) < 0.01 * ratio
    most = max(row["packets_over_compress"] for row in found["rows"])
    assert found["most_packets_over_compress"] == most
