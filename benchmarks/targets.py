"""The rows of a card that say which target takes a model's graphs: run, checked or documented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Environments of benchmarks.provider_matrix, in words.
RUN = {
    "cpu": "onnxruntime, CPU",
    "openvino": "OpenVINO, its CPU device",
    "qnn": "QNN HTP, Qualcomm's simulator",
    "node": "onnxruntime-node, CPU",
    "web": "onnxruntime-web, WebAssembly",
}
# Verdicts of export.mobile, by what they rest on.
KNOWN_BY = {"checker": "checked", "documentation": "documented"}
MOST_OPERATORS = 3

Row = dict[str, str]


def target_rows(result: Mapping[str, Any], model: str) -> list[Row]:
    """A row for each target, a column for each graph that may leave the CPU.

    Args:
        result: what `benchmarks.provider_matrix` wrote.
        model: the name of the bundle.
    """
    ran = [row for row in result["results"] if row["model"] == model]
    listed = [row for row in result["listed"] if row["model"] == model]
    graphs = dict.fromkeys(row["graph"] for row in ran if not row["graph"].startswith("context"))
    found = {(row["environment"], row["graph"]): _ran(row) for row in ran}
    found |= {(row["target"], row["graph"]): _listed(row) for row in listed}
    targets = {name: (RUN[name], "run") for name in dict.fromkeys(r["environment"] for r in ran)}
    targets |= {row["target"]: (row["target"], KNOWN_BY[row["by"]]) for row in listed}
    return [
        {
            "target": words,
            "known by": known_by,
            **{_short(graph): found.get((target, graph), "-") for graph in graphs},
        }
        for target, (words, known_by) in targets.items()
    ]


def variant_rows(result: Mapping[str, Any], kind: str) -> list[Row]:
    """A row for each form of a model's graphs, from `benchmarks.mobile`; "speech" or "photo"."""
    titles = {
        "form": "graphs",
        "si_sdr_db": "SI-SDR dB",
        "pesq": "PESQ-WB",
        "to_shipped_db": "SI-SDR to the shipped graph's output, dB",
        "psnr_db": "PSNR dB",
        "bytes": "bytes",
    }
    digits = {"bytes": 0, "to_shipped_db": 0}
    rows = []
    for row in result[kind]:
        shown = {}
        for key, title in titles.items():
            if any(key in other for other in result[kind]):
                value = row.get(key)
                shown[title] = (
                    FORMS[value] if key == "form"
                    else "-" if value is None
                    else f"{value:,.{digits.get(key, 2)}f}"
                )  # fmt: skip
        rows.append(shown)
    return rows


FORMS = {
    "fp32": "as shipped",
    "portable": "portable: operators that NNAPI, CoreML and QNN have",
    "fp16": "fp16: half precision throughout",
    "a16w8": "a16w8: 16-bit activations, 8-bit weights",
}


def _ran(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return "none: it fails"
    same = "identical" if row["signal_db"] is None else f"{row['signal_db']:.0f} dB"
    nodes = row.get("nodes") or {}
    # node and web do not tell; they have one provider, so that all nodes run there or none.
    if len(nodes) < 2:
        where = "all"
    else:
        taken = sum(count for name, count in nodes.items() if name != "CPUExecutionProvider")
        where = f"{taken} of {sum(nodes.values())}"
    return f"{where}, {same}{'' if row['agrees'] else ', too far off'}"


def _listed(row: Mapping[str, Any]) -> str:
    if row["taken"] == row["nodes"]:
        return "all"
    left = row["left"]
    more = len(left) - MOST_OPERATORS
    named = ", ".join(left if more <= 1 else left[:MOST_OPERATORS])
    # The checker names operators alone: what has too many axes is left without a name.
    told = f": not {named}{f' and {more} others' if more > 1 else ''}" if left else ""
    return f"{row['taken']} of {row['nodes']}{told}" if row["taken"] else f"none{told}"


def _short(graph: str) -> str:
    """The graph's name without the size of its copy."""
    return ".".join(graph.split(".")[:2])
