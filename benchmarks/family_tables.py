"""Tables of what `benchmarks.autoencoders` and `benchmarks.throughput` measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, str]


def autoencoder_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each claim about one's own autoencoders, with what a peer reaches beside it."""
    rows: list[Row] = []

    def row(what: str, found: str, aim: str) -> None:
        rows.append({"what": what, "found": found, "aim": aim})

    for one in result["digits"]["rows"]:
        row(
            f"digits, {one['latents']} latents: squared error over that of as many principal"
            " components",
            f"{one['ratio']:.2f}",
            "at most .70",
        )
    found = result["neighbors"]
    row(
        "digits named by their nearest neighbors in 16 latents, in 16 principal components, mean"
        f" over {len(found['rows'])} choices of test digits",
        f"{found['latents']:.4f}, {found['pca']:.4f}",
        "as good",
    )
    blobs = next(one for one in result["digits"]["rows"] if one["latents"] == 16)["compressed"]
    fifth = next(one for one in blobs if one["quality"] == 5)
    row(
        f"digits, a compressed one at quality 5 in a file of {result['digits']['test_items']},"
        " beside zlib on its pixels",
        f"{fifth['bytes_an_item']:.1f} B, {fifth['zlib_bytes_an_item']:.1f} B",
        "-",
    )
    row(
        "digits, samples that a classifier is as sure of as of 98 % of real ones",
        f"{result['samples']['samples_recognised']:.0%}",
        "90 %",
    )
    kinds = result["penalties"]
    row(
        "sparse: share of active units, error beside plain's",
        f"{kinds['sparse']['active_share']:.2f}, {kinds['sparse_error_ratio']:.2f}",
        "at most .10, 1.10",
    )
    clean = kinds["contractive"]["error"] / kinds["plain"]["error"]
    row(
        "contractive: what noise on the input adds, beside plain's; error without noise beside"
        " plain's",
        f"{kinds['contractive_growth_ratio']:.2f}, {clean:.2f}",
        "at most .50",
    )
    for name in ("breast_cancer", "wine"):
        table = result["gaps"][name]
        row(
            f"{name.replace('_', ' ')}: error of removed entries, beside IterativeImputer's",
            f"{table['rmse']:.3f}, {table['rmse_iterative_imputer']:.3f}",
            "below",
        )
    stars = result["ratings"]
    row(
        f"{stars['data']} ratings: RMSE in stars, beside scikit-surprise's SVD as it comes, with"
        " the best of 36 settings, and the items' means",
        f"{stars['rmse']:.3f}, {stars['rmse_svd']:.3f}, {stars['rmse_svd_tuned']:.3f},"
        f" {stars['rmse_item_mean']:.3f}",
        "as good",
    )
    return rows


def throughput_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each pool of processes, and for each number of files."""
    alone = {row["system"]: row["files_per_s"] for row in result["rows"] if row["jobs"] == 1}
    return [
        {
            "system": row["system"],
            "processes": str(row["jobs"]),
            "files": f"{row['files']:,}",
            "files a second": f"{row['files_per_s']:.1f}",
            "times one process": f"{row['files_per_s'] / alone[row['system']]:.2f}"
            if row["system"] in alone and row["files"] == result["files"]
            else "-",
            "largest process so far, MB": f"{row['peak_process_mb_so_far']:.0f}",
        }
        for row in (*result["rows"], *result["growth"])
    ]
