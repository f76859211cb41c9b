"""The numbers of GUARANTEES.md: what tests do a thousand times, a million times.

    python -m tests.volumes PART ... [--json benchmarks/results/guarantees.json]

Each part writes its own section of the file and leaves the others. Long parts save as they go; with
`--resume` they go on where an earlier run ended. Exit code 1 if anything that is promised broke.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# The tests are no package for pytest: they find each other by name.
sys.path.insert(0, str(Path(__file__).parent))

import fuzz

from edgeae.machine import machine, versions

PACKAGES = ("edgeae", "numpy", "onnxruntime", "pillow", "soundfile")
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "guarantees.json"

Section = dict[str, Any]
Save = Callable[[Section], None]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.volumes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", nargs="+", choices=[*PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, default=RESULTS, help="write or change this file")
    parser.add_argument("--count", type=int, help="another number than the one promised")
    parser.add_argument("--resume", action="store_true", help="go on where the file ends")
    options = parser.parse_args()
    broken = 0
    for name in options.part:
        run, count = PARTS[name]

        def save(section: Section, name: str = name) -> None:
            write(options.json, name, section)

        began = time.process_time()
        before = read(options.json).get(name) if options.resume else None
        section = run(options.count or count, before or {}, save)
        spent = (before or {}).get("cpu_s", 0) + time.process_time() - began
        save({**section, "cpu_s": round(spent, 1)})
        broken += len(section["broken"])
        shown = {key: value for key, value in section.items() if not isinstance(value, list)}
        print(f"{name}: {json.dumps(shown)}", flush=True)
        for line in section["broken"]:
            print(f"{name}: {line}", file=sys.stderr)
    return 1 if broken else 0


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, name: str, section: Section) -> None:
    """Put a section in its place in the file, with the machine that made it."""
    made = {"machine": machine(), "versions": versions(PACKAGES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"what": "guarantees", **read(path), name: {**section, **made}}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


# --- changed files, packets and graphs with right checksums

STEP = 10_000


def mutants(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """`tests.fuzz` over all decoders."""
    outcomes = Counter(before.get("outcomes", {}))
    slowest = (before.get("slowest_s", 0.0), before.get("slowest", ""))
    broken, done = list(before.get("broken", [])), before.get("count", 0)
    spent = before.get("cpu_s", 0.0)
    section: Section = {**before, "broken": broken}
    while done < count:
        began = time.process_time()
        step = min(STEP, count - done)
        found, slow, wrong = fuzz.fuzz(step, seed=1, first=done)
        done, outcomes, slowest = done + step, outcomes + found, max(slowest, slow)
        broken += wrong
        spent += time.process_time() - began
        section = {
            "count": done,
            "outcomes": dict(sorted(outcomes.items())),
            "slowest_s": round(slowest[0], 4),
            "slowest": slowest[1],
            "broken": broken,
        }
        save({**section, "cpu_s": round(spent, 1)})
    return section


PARTS: dict[str, tuple[Callable[[int, Mapping[str, Any], Save], Section], int]] = {
    "mutants": (mutants, 1_000_000),
}


if __name__ == "__main__":
    sys.exit(main())
