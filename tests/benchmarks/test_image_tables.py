"""Tables of images compare systems on files that all of them saw."""

from __future__ import annotations

from benchmarks.image_tables import filling_rows, image_denoising_rows


def rows(files, psnr_db):
    return {
        file: {"psnr_db": psnr_db + i, "float_psnr_db": psnr_db + i + 0.5,
               "seconds_per_megapixel": 2.0}
        for i, file in enumerate(files)
    }  # fmt: skip


GAUSSIAN = {
    "edgeae fp32, told": rows("abc", 30),
    "edgeae int8, told": rows("abc", 29),
    "BM3D": rows("a", 28),
    "noisy input": rows("abc", 20),
}
REAL = {
    name: {**rows("abc", psnr_db), **rows(["a, middle", "c, middle"], psnr_db + 5)}
    for name, psnr_db in (("edgeae fp32, blind", 37), ("noisy input", 35))
}
REAL["BM3D"] = rows(["a, middle", "c, middle"], 36)
RESULT = {
    "tables": {
        **{f"cbsd68_dev, sigma {sigma}": GAUSSIAN for sigma in (15, 25, 50)},
        "real_noise_dev": REAL,
        **{
            f"cbsd68_dev, {kind}": {"edgeae fp32": rows("ab", 24), "OpenCV Telea": rows("ab", 23)}
            for kind in ("scratches", "text", "blocks of 32")
        },
    }
}


def test_every_file_stands_in_one_row_and_what_slow_systems_saw_in_another():
    found = image_denoising_rows(RESULT)
    assert [row["files"] for row in found] == ["3", "1", "3", "1", "3", "1", "3", "2", ""]
    whole, part = found[2:4]
    assert (whole["edgeae fp32"], whole["BM3D"], whole["noisy input"]) == (
        "31.00 (31.50)", "-", "21.00 (21.50)",
    )  # fmt: skip
    assert (part["edgeae fp32"], part["BM3D"]) == ("30.00 (30.50)", "28.00 (28.50)")
    real, middle = found[6:8]
    assert (real["edgeae fp32"][:5], real["BM3D"], real["edgeae int8"]) == ("38.00", "-", "-")
    assert (middle["edgeae fp32"][:5], middle["BM3D"][:5]) == ("42.50", "36.50")
    assert found[-1]["BM3D"] == "2.0" and found[-1]["noisy input"] == "-"


def test_without_slow_systems_there_is_one_row_for_a_set():
    tables = {
        title: {name: files for name, files in table.items() if name != "BM3D"}
        for title, table in RESULT["tables"].items()
    }
    assert len(image_denoising_rows({"tables": tables})) == 5


def test_holes_have_a_column_for_each_method():
    assert filling_rows(RESULT)[0] == {
        "holes": "scratches",
        "files": "2",
        "edgeae": "24.50",
        "OpenCV Telea": "23.50",
    }
