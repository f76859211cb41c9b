"""Tables of what `python -m tests.soak.volumes` measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, str]


def guarantee_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each part of `python -m tests.soak.volumes` that was run to its end."""
    found: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
        "mutants": lambda r: (
            "mutated files, packets, graphs, manifests, sounds and images",
            f"no exception but `EdgeaeError`; the slowest {1000 * r['slowest_s']:.0f} ms",
        ),
        "flips": lambda r: (
            "files and packets with 1 to 8 flipped bits",
            f"all noticed; the {r['tiles_kept']:,} tiles salvaged from them are as they were",
        ),
        "bombs": lambda r: (
            "headers that claim much",
            f"each refused within {r['slowest_ms']:.2f} ms and {r['most_bytes'] / 1000:.0f} kB",
        ),
        "megabytes": lambda r: (
            "inputs of up to 1 MB made to be costly",
            f"refused or concealed within {r['hostile']['slowest_s']:.2f} s and"
            f" {r['hostile']['most_mb']} MB; sound ones below",
        ),
        "bundles": lambda r: ("changed and wrong bundles", "none loaded"),
        "races": lambda r: (
            "loads of a model whose graph is exchanged meanwhile",
            f"no unverified byte ran; {r['ends'].get('refused', 0):,} were refused",
        ),
        "encodings": lambda r: (
            "mutated and hand-made encodings of graphs",
            "what runs is what onnx's parser finds in the file, or it is refused",
        ),
        "symbols": lambda r: (
            "symbols, coded and decoded each",
            f"no mismatch between {len(r['settings'])} settings: four optimization levels, one and"
            " two threads",
        ),
        "kills": lambda r: (
            "`kill -9` of a writer",
            f"no torn file; {r['most_litter']} hidden file at most, none after the next write",
        ),
        "soak": lambda r: (
            "frames of one stream",
            f"memory within {r['memory_range_mb']:.2f} MB; p99 of a hop {r['p99_over_p50']:.1f}"
            f" times its median of {r['p50_ms']:.2f} ms; drift {r['drift_percent']:+.1f} %",
        ),
        "speech": lambda r: (
            "frames of speech, pauses, silence and noise through both ends of a live stream, a"
            " tenth of them lost",
            f"finite and at most {r['peak_ratio']:.2f} times what was sent;"
            f" {r['edges_that_stand_out']:,} edges of frames stand out, and"
            f" {r['middles_that_stand_out']:,} middles; the last ten minutes are"
            f" {r['distance_db'] + r['drift_db']:.2f} dB from what was sent, the first"
            f" {r['distance_db']:.2f}; states {100 * (r['state_growth'] - 1):+.1f} %, memory"
            f" {r['memory_growth_mb']:+.1f} MB; silence has {r['silence_bit_per_s']} bit/s, speech"
            f" {r['speech_bit_per_s']:,}, and comes out below"
            f" {20 * math.log10(r['silence_rms']):.0f} dB",
        ),
    }
    rows = []
    for part, row in found.items():
        if "cpu_s" in result.get(part, {}):
            what, outcome = row(result[part])
            broken = len(result[part]["broken"])
            rows.append(
                {
                    "part": f"`{part}`",
                    "how many": f"{result[part]['count']:,}",
                    "of what": what,
                    "outcome": outcome if not broken else f"{broken} broke the promise",
                }
            )
    return rows


def sound_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each sound input of a megabyte that claims as much as it may."""
    return [
        {
            "input": row["what"],
            "seconds": f"{row['cpu_s']:.2f}",
            "MB": str(row["mb"]),
            "end": "data" if row["end"] == "data" else "refused",
        }
        for row in result["megabytes"]["rows"]
        if row["kind"] == "sound"
    ]
