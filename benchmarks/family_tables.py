"""Tables of what `benchmarks.autoencoders`, `throughput`, `speech_codec` and `speech_codec_int8`
measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.signal_tables import number

Row = dict[str, str]


def speech_codec_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each codec at each rate: what is heard of it, with losses too, and its speed."""

    def pair(found: Mapping[str, Any], keys: tuple[str, str], digits: int) -> str:
        values = [found.get(key) for key in keys]
        return " / ".join("-" if value is None else f"{value:.{digits}f}" for value in values)

    def heard(found: Mapping[str, Any], how: str) -> str:
        if f"pesq_{how}" not in found:
            return "-"
        return f"{found[f'pesq_{how}']:.2f} / {found[f'stoi_{how}']:.3f}"

    lossy = f"{result['loss']:.0%} lost"
    late = any("pesq_late" in told for told in result["systems"].values())
    rows = [
        {
            "codec": name,
            "kbit/s": f"{found['bit_per_s'] / 1000:.2f}",
            "PESQ-WB / STOI": f"{found['pesq']:.2f} / {found['stoi']:.3f}",
            "ESTOI": f"{found['estoi']:.3f}",
            **({"ViSQOL": f"{found['visqol']:.2f}"} if "visqol" in found else {}),
            **({"DNSMOS": f"{found['dnsmos']:.2f}"} if "dnsmos" in found else {}),
            f"PESQ-WB / STOI, {lossy}": heard(found, "lossy"),
            **({"gaps filled late": heard(found, "late")} if late else {}),
            "kbit/s in such packets": (
                f"{found['packet_bit_per_s'] / 1000:.2f}" if "packet_bit_per_s" in found else "-"
            ),
            "times real time, encode / decode": pair(found, ("encode_speed", "decode_speed"), 0),
        }
        for name, found in result["systems"].items()
    ]
    if "dnsmos" in result.get("original", {}):
        itself = {"codec": "the recordings", "DNSMOS": f"{result['original']['dnsmos']:.2f}"}
        rows.append({key: itself.get(key, "-") for key in rows[0]})
    return rows


_FORMS = {
    "weights": "weights in 8 bits",
    "all": "all products in 8 bits",
    "inner": "all products but the first and last in 8 bits",
}


def speech_int8_rows(result: Mapping[str, Any], model: str) -> list[Row]:
    """A row for each graph of a speech codec in each form, from `benchmarks.speech_codec_int8`."""

    def time(row: Mapping[str, Any]) -> str:
        if "ms" not in row:
            return "-"
        shares = (row[key] / row[f"{key} fp32"] for key in ("ms", "live ms"))
        return " / ".join(f"{share:.0%}" for share in shares)

    return [
        {
            "graphs": "as shipped"
            if row["form"] == "fp32"
            else f"{row['graph']}: {_FORMS[row['form']]}",
            "kbit/s": f"{row['bit/s'] / 1000:.2f}",
            "PESQ-WB / STOI": f"{row['PESQ-WB']:.2f} / {row['STOI']:.3f}",
            "time, as files / live": time(row),
            "bytes of the graph": f"{row['bytes']:,}" if "bytes" in row else "-",
        }
        for row in result["rows"][model]
    ]


def autoencoder_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each claim about one's own autoencoders, of the parts that were measured."""
    return [
        {"what": what, "found": found, "aim": aim}
        for part, rows in _PARTS.items()
        if part in result
        for what, found, aim in rows(result[part])
    ]


Claims = list[tuple[str, str, str]]


def _digits(found: Mapping[str, Any]) -> Claims:
    errors = [
        (
            f"digits, {row['latents']} latents: squared error over that of as many principal"
            " components",
            f"{row['ratio']:.2f}",
            "at most .70",
        )
        for row in found["rows"]
    ]
    blobs = next(row for row in found["rows"] if row["latents"] == 16)["compressed"]
    fifth = next(blob for blob in blobs if blob["quality"] == 5)
    size = (
        f"digits, a compressed one at quality 5 in a file of {found['test_items']}, beside zlib on"
        " its pixels",
        f"{fifth['bytes_an_item']:.1f} B, {fifth['zlib_bytes_an_item']:.1f} B",
        "-",
    )
    return [*errors, size]


def _neighbors(found: Mapping[str, Any]) -> Claims:
    what = (
        "digits named by their nearest neighbors in 16 latents, in 16 principal components, mean"
        f" over {len(found['rows'])} choices of test digits"
    )
    return [(what, f"{found['latents']:.4f}, {found['pca']:.4f}", "as good")]


def _samples(found: Mapping[str, Any]) -> Claims:
    what = "digits, samples that a classifier is as sure of as of 98 % of real ones"
    return [(what, f"{100 * found['samples_recognised']:.0f} %", "90 %")]


def _penalties(found: Mapping[str, Any]) -> Claims:
    clean = found["contractive"]["error"] / found["plain"]["error"]
    return [
        (
            "sparse: share of active units, error beside plain's",
            f"{found['sparse']['active_share']:.2f}, {found['sparse_error_ratio']:.2f}",
            "at most .10, 1.10",
        ),
        (
            "contractive: what noise on the input adds, beside plain's; error without noise beside"
            " plain's",
            f"{found['contractive_growth_ratio']:.2f}, {clean:.2f}",
            "at most .50",
        ),
    ]


def _gaps(found: Mapping[str, Any]) -> Claims:
    return [
        (
            f"{name.replace('_', ' ')}: error of removed entries, beside IterativeImputer's",
            f"{found[name]['rmse']:.3f}, {found[name]['rmse_iterative_imputer']:.3f}",
            "below",
        )
        for name in ("breast_cancer", "wine")
    ]


def _ratings(found: Mapping[str, Any]) -> Claims:
    errors = (found[name] for name in ("rmse", "rmse_svd", "rmse_svd_tuned", "rmse_item_mean"))
    what = (
        f"{found['data']} ratings: RMSE in stars, beside scikit-surprise's SVD as it comes, with"
        " the best of 36 settings, and the items' means"
    )
    if "sets" in found:
        what += f"; mean over {len(found['sets'])} sets"
    return [(what, ", ".join(f"{error:.4f}" for error in errors), "as good")]


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], Claims]] = {
    "digits": _digits,
    "neighbors": _neighbors,
    "samples": _samples,
    "penalties": _penalties,
    "gaps": _gaps,
    "ratings": _ratings,
}


def held_out_denoiser_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each denoiser's weights that were judged on held-out mixes."""
    rows = []
    for judged in result["checkpoints"]:
        means = judged["means"]
        kept = [means[f"kept_{speed}_worst_db"] for speed in ("1.4", "1.6")]
        rows.append(
            {
                "weights": judged["checkpoint"],
                "PESQ-WB": number(means["pesq"], 2),
                "STOI": number(means["stoi"], 3),
                "SI-SDR dB": number(means["si_sdr_db"], 2),
                "with a rumble": number(means["rumble_si_sdr_db"], 2),
                "one stream, PESQ-WB": number(means["stream_pesq"], 2),
                "pauses dB": number(means["pauses_db"], 1),
                "clean speech, PESQ-WB": number(means["clean_pesq"], 2),
                "least kept at 1.4 / 1.6 times the speed, dB": " / ".join(
                    number(value, 1) for value in kept
                ),
            }
        )
    return rows


def held_out_codec_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each codec's weights on held-out recordings and each quality."""
    rows = []
    for judged in result["checkpoints"]:
        all_means = judged["means"]
        for means in all_means["qualities"]:
            last = means is all_means["qualities"][-1]
            rows.append(
                {
                    "weights": judged["checkpoint"],
                    "quality": f"{means['quality']:g}",
                    "bit/s": f"{means['bit_per_s']:,.0f}",
                    "PESQ-WB": number(means["pesq"], 2),
                    "STOI": number(means["stoi"], 3),
                    "PESQ-WB, 10 % lost": number(means["lossy_pesq"], 2),
                    "filled late": number(means["late_pesq"], 2),
                    "PESQ-WB, color made flat": number(all_means["flat_pesq"], 2) if last else "-",
                }
            )
    return rows


def throughput_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each pool of processes, and for each number of files."""
    return [
        {
            "system": row["system"],
            "processes": str(row["jobs"]),
            "files": f"{row['files']:,}",
            "files a second": f"{row['files_per_s']:.1f}",
            "times one process": f"{row['times_one_process']:.2f}"
            if "times_one_process" in row
            else "-",
            "largest process so far, MB": f"{row['peak_process_mb_so_far']:.0f}",
        }
        for row in (*result["rows"], *result["growth"])
    ]
