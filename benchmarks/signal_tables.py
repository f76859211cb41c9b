"""The tables of docs/signals.md and docs/detectors.md, and of the signal bundles' cards, from the
files under benchmarks/results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, str]

_CODECS = {
    "ecg-codec": "ecg-codec",
    "wavelet, trained contexts": "wavelet codec",
    "SZ3": "SZ3",
    "FLAC": "FLAC",
}
_COMPRESSED = {
    "at 9 %": "whole record at PRD 9 %",
    "at 5 %": "whole record at PRD 5 %",
    "packets of 2.8 s at 9 %": "packets of 2.8 s that stand alone, 9 %",
    "packets of 1.02 s at 9 %": "packets of 1.02 s that stand alone, 9 %",
    "packets of 2.8 s, keys every 11.2 s at 9 %": "packets of 2.8 s, one in four stands alone, 9 %",
    "lossless": "without loss",
}
_NOISES = {"wander": "wander", "muscle": "muscle", "electrode": "electrode motion"}
_METHODS = {
    "edgeae": "ecg-denoiser",
    "band-pass, zero phase": "band-pass, zero phase, whole file",
    "band-pass, causal": "band-pass, causal",
    "wavelet": "wavelet shrinkage, whole file",
}
_FORMS = {"fp32": "as shipped", "all": "int8", "inner": "int8 but for the first and last layer"}


def compression_rows(result: Mapping[str, Any]) -> list[Row]:
    """Bits a sample: a row for each way, a column for each codec."""
    return [
        {
            "bits a sample": told,
            **{
                name: number(result["rows"].get(codec, {}).get(key), 3)
                for codec, name in _CODECS.items()
            },
        }
        for key, told in _COMPRESSED.items()
    ]


def encode_time_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each way to encode: CPU time of a second of one lead."""
    times = result["rows"]["ecg-codec"]["encode ms of CPU a second"]
    return [{"encoded": told, "ms a second": number(ms, 2)} for told, ms in times.items()]


def denoising_rows(result: Mapping[str, Any]) -> list[Row]:
    """Gain in dB: a row for each noise and method, a column for each ratio."""
    rows = []
    ratios = sorted({row["snr_db"] for row in result["rows"]})
    for kind, told in _NOISES.items():
        found = {row["snr_db"]: row for row in result["rows"] if row["noise"] == kind}
        for method, name in _METHODS.items():
            if any(method in row for row in found.values()):
                values = {f"{db} dB": number(found[db].get(method), 1) for db in ratios}
                rows.append({"noise": told, "method": name, **values})
    return rows


def detection_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each data set, a column for each method: areas under the curve, and SKAB's F1."""
    parts = {name: part["rows"] for name, part in result["parts"].items()}
    rows = []
    skab = {row["method"]: row for row in parts["skab"]}
    rows.append(_compared("SKAB, mean area of 34 experiments", skab, "auc_mean"))
    everything = skab["everything is an anomaly"]["f1"]
    rows.append(_compared(f"SKAB, F1 (everything an anomaly: {everything:.3f})", skab, "f1"))
    if (both := skab.get("edgeae, windows of 60 and 30")) is not None:
        told = "the same of two detectors' mean, windows of 60 and 30"
        rows.append(_compared(f"{told}: area", {"edgeae": both}, "auc_mean"))
        rows.append(_compared(f"{told}: F1", {"edgeae": both}, "f1"))
    for part in ("smd", "ceiling_fan", "walks"):
        for data in dict.fromkeys(row["data"] for row in parts.get(part, [])):
            found = {row.get("method"): row for row in parts[part] if row["data"] == data}
            if None not in found:
                rows.append(_compared(data, found, "auc"))
    for fitted in dict.fromkeys(row["fitted on"] for row in parts["fan"]):
        found = {row["method"]: row for row in parts["fan"] if row["fitted on"] == fitted}
        for key in found["edgeae"]:
            if isinstance(found["edgeae"][key], float):
                told = key.replace("silentA", "quiet room").replace("noisy", "noisy room")
                told = "the noisy room taken for a fault" if "taken" in key else told
                rows.append(_compared(f"fan that has heard {fitted}: {told}", found, key))
    return rows


def beat_rows(result: Mapping[str, Any]) -> list[Row]:
    """Areas of `beat-detector` on DS2 without record 202: a row for each kind of beats."""
    found = [row for row in result["parts"]["beats"]["rows"] if "auc" in row]
    return [
        {
            "beats": f"{row['beats']}",
            "strange against normal": row["classes"],
            "area under the curve": f"{row['auc']:.3f}",
        }
        for row in found
    ]


def int8_rows(result: Mapping[str, Any], model: str) -> list[Row]:
    """A row for each graph of a bundle and form, from `benchmarks.signals_int8`."""
    rows = []
    for row in result["rows"][model]:
        quality: Sequence[str] = [
            key for key in row if key not in ("graph", "form", "ms", "ms fp32", "bytes")
        ]
        shipped = row["form"] == "fp32"
        rows.append(
            {
                "graphs": "as shipped" if shipped else f"{row['graph']}: {_FORMS[row['form']]}",
                **{key: "not reached" if row[key] is None else f"{row[key]:g}" for key in quality},
                "time of the graph": "-" if shipped else f"{row['ms'] / row['ms fp32']:.0%}",
                "bytes of the graph": f"{row['bytes']:,}",
            }
        )
    return rows


def _compared(data: str, found: Mapping[Any, Mapping[str, Any]], key: str) -> Row:
    names = {"edgeae": "edgeae", "pca": "principal components", "forest": "isolation forest"}
    values = {told: found.get(name, {}).get(key) for name, told in names.items()}
    return {"data": data, **{told: number(value, 3) for told, value in values.items()}}


def number(value: float | None, digits: int = 1) -> str:
    """With so many digits behind the point, or - where nothing was measured."""
    return "-" if value is None else f"{value:.{digits}f}"
