"""What a new process pays before its first result, and the memory that it holds.

Run as a program it does that and prints it as JSON: imports, loading, first calls. Nothing but the
standard library is imported before the clock starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeae.providers import Provider

__all__ = ["cold_start"]


def cold_start(
    model: str | Path,
    *,
    precision: str,
    providers: Sequence[Provider] | None = None,
    threads: int = 1,
    source: Path | None = None,
) -> dict[str, Any]:
    """What a new process took to run a model: milliseconds, and megabytes (10^6) resident.

    {"import_edgeae_ms", "import_onnxruntime_ms", "load_ms", "first_ms": {workload: ms},
    "imported_mb", "loaded_mb", "peak_mb"}. The import of edgeae includes numpy's; memory is None
    where the system does not tell. Raises EdgeaeError if the process fails.
    """
    from edgeae.errors import EdgeaeError

    asked = {
        "model": str(model),
        "options": {"precision": precision, "providers": providers, "threads": threads},
        "source": None if source is None else str(source),
    }
    package = Path(__file__).parent.parent.parent
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from edgeae.bench.cold_start import main; main()",
            json.dumps(asked),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *_python_path()])},
    )
    if found.returncode != 0:
        last = found.stderr.strip().splitlines()[-1:] or [f"exit code {found.returncode}"]
        raise EdgeaeError(f"a new process could not run {model}: {last[0]}")
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def main() -> None:
    """Measures in this process what the first argument, JSON, asks for, and prints JSON."""
    asked = json.loads(sys.argv[1])
    start = time.perf_counter()
    from importlib import import_module

    from edgeae.loading import DOORS, load, trials_of

    for door in DOORS.values():
        import_module(door.module)
    edgeae_ms = _since(start)
    start = time.perf_counter()
    from edgeae.runtime import available_providers

    available_providers()
    onnxruntime_ms = _since(start)
    imported_mb = _resident_mb("VmRSS")
    options = asked["options"]
    # JSON has no tuples.
    options["providers"] = options["providers"] and [
        provider if isinstance(provider, str) else tuple(provider)
        for provider in options["providers"]
    ]
    start = time.perf_counter()
    model = load(asked["model"], **options)
    load_ms = _since(start)
    loaded_mb = _resident_mb("VmRSS")

    source = None if asked["source"] is None else Path(asked["source"])
    first_ms = {}
    for workload in trials_of(model.bundle).workloads(model, source=source):
        start = time.perf_counter()
        workload.call()
        first_ms[workload.name] = _since(start)
    told = {
        "import_edgeae_ms": edgeae_ms,
        "import_onnxruntime_ms": onnxruntime_ms,
        "load_ms": load_ms,
        "first_ms": first_ms,
        "imported_mb": imported_mb,
        "loaded_mb": loaded_mb,
        "peak_mb": _resident_mb("VmHWM"),
    }
    print(json.dumps(told))


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1e3, 3)


def _resident_mb(field: str) -> float | None:
    """What Linux tells of this process: VmRSS is resident now, VmHWM was at most."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 2)
    return None
