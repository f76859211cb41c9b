"""Tables of signals from results, and the walks of a folder of movements."""

from __future__ import annotations

import numpy as np

from benchmarks import movements, signal_tables


def test_a_form_of_a_graph_is_beside_the_one_that_ships():
    row = {
        "graph": "step",
        "form": "all",
        "muscle 0": 9.5,
        "ms": 6.0,
        "ms fp32": 4.0,
        "bytes": 1200,
    }
    shipped = {**row, "form": "fp32", "muscle 0": 11.25, "bytes": 4000}
    rows = signal_tables.int8_rows({"rows": {"ecg-denoiser": [shipped, row]}}, "ecg-denoiser")
    assert [r["graphs"] for r in rows] == ["as shipped", "step: int8"]
    assert [r["muscle 0"] for r in rows] == ["11.25", "9.5"]
    assert [r["time of the graph"] for r in rows] == ["-", "150%"]
    assert [r["bytes of the graph"] for r in rows] == ["4,000", "1,200"]


def test_what_a_codec_cannot_do_is_a_dash():
    result = {"rows": {"ecg-codec": {"at 9 %": 0.2, "lossless": 3.5}, "FLAC": {"lossless": 4}}}
    first, *_, last = signal_tables.compression_rows(result)
    assert (first["ecg-codec"], first["FLAC"], first["SZ3"]) == ("0.200", "-", "-")
    assert (last["ecg-codec"], last["FLAC"]) == ("3.500", "4.000")


def test_walks_are_the_long_stretches_of_the_people_that_are_trained_on(tmp_path):
    labels = np.array(["WALKING"] * 200 + ["TURNING"] * 40 + ["WALKING"] * 100)
    series = np.arange(340 * 6, dtype=np.int16).reshape(340, 6)
    for person in ("s01", "s05"):
        arrays = {f"{person}_01_sp": series, f"{person}_01_sp_label": labels}
        np.savez(tmp_path / f"{person}.npz", **arrays)
    assert movements.main([str(tmp_path), str(tmp_path / "walks")]) == 0
    (walk,) = (tmp_path / "walks").glob("*.npy")
    np.testing.assert_array_equal(np.load(walk), (series[:200] / 100).astype(np.float32))
    (measured,) = movements.recordings(tmp_path, measured=True)
    found = movements.windows([measured], "WALKING", 100)
    assert found.shape == (8, 100, 6)  # seven of the longer stretch, one of the shorter
    np.testing.assert_array_equal(found[1], measured.series[16:116])
