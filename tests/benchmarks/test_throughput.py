"""The benchmark of many images counts what it says, on a few."""

from __future__ import annotations

import tiny

from benchmarks import throughput


def test_a_few_images_go_through_every_pool_and_a_killed_run_goes_on(tmp_path):
    model = str(tiny.tiny_codec_bundle(tmp_path / "codec"))
    found = throughput.measure(model, 4, [1], [2], repeats=1)
    assert {row["system"] for row in found["rows"]} == {
        "edgeae",
        throughput.APART,
        *throughput.PEERS,
    }
    assert found["speedup_apart"] > 0
    for row in found["rows"]:
        assert row["files"] == 4 and row["bytes_per_file"] > 0 and row["files_per_s"] > 0
    assert found["speedup"] == 1 and found["growth"][0]["files"] == 2
    assert found["killed_and_resumed"]["after"] == 4
