"""The checks of `edgeae verify` in a process of their own, with limits of time and memory.

A bundle may come from a stranger. What its graphs do once they run is onnxruntime's to bound, so
the first run is one that the system ends when it takes too much, or that may crash alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import edgeae
from edgeae import errors
from edgeae.bench.self_test import check_bundle
from edgeae.errors import EdgeaeError
from edgeae.providers import CPU, Provider

__all__ = ["check_in_child"]

# A bundled model takes about ten seconds and 2 GB of address space, most of it never touched.
MAX_CPU_SECONDS = 600
MAX_SECONDS = 1800
MAX_ADDRESS_BYTES = 8 << 30


def check_in_child(
    model: str | Path,
    *,
    providers: Sequence[Provider] | None = None,
    threads: int = 1,
    max_cpu_seconds: int = MAX_CPU_SECONDS,
    max_address_bytes: int = MAX_ADDRESS_BYTES,
) -> Iterator[str]:
    """The lines of `check_bundle`, from another process, as they come.

    Memory is limited where the system can (not on Windows) and where only the CPU is asked for:
    drivers of accelerators reserve more than any limit. A line says so where it is not.

    Raises:
        EdgeaeError: a check did not go well, as the class that `check_bundle` raises; or the
            process took too much time or memory, or crashed.
        ValueError, TypeError: the arguments are not those of `check_bundle`.
    """
    wanted = {
        "model": str(model),
        "is_path": isinstance(model, Path),
        "providers": None if providers is None else [_plain(provider) for provider in providers],
        "threads": threads,
        "cpu_seconds": max_cpu_seconds,
        "address_bytes": max_address_bytes if _on_the_cpu(providers) else None,
    }
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "edgeae.bench.limited"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(edgeae.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
            ).rstrip(os.pathsep),
            # Each of its threads reserves memory that a matrix product in here never uses.
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    if child.stdin is None or child.stdout is None:
        raise EdgeaeError("the checking process has no pipes")
    watchdog = threading.Timer(MAX_SECONDS, child.kill)
    watchdog.start()
    try:
        child.stdin.write(json.dumps(wanted))
        child.stdin.close()
        for line in child.stdout:
            told = json.loads(line)
            if "error" in told:
                raise _error(told["error"], told["message"])
            if "done" in told:
                return
            yield told["line"]
        code = child.wait()
    finally:
        watchdog.cancel()
        child.kill()
        child.stdout.close()
        child.wait()
    raise EdgeaeError(
        f"{model}: the checking process ended by {_how(code)}: the model takes over "
        f"{max_cpu_seconds} s or {max_address_bytes >> 20} MB, or it ends the process that runs it"
    )


def _on_the_cpu(providers: Sequence[Provider] | None) -> bool:
    return providers is None or all(provider == CPU for provider in providers)


def _plain(provider: Provider) -> Any:
    return provider if isinstance(provider, str) else [provider[0], dict(provider[1])]


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _error(kind: str, message: str) -> Exception:
    if kind in ("ValueError", "TypeError"):
        return {"ValueError": ValueError, "TypeError": TypeError}[kind](message)
    known = getattr(errors, kind) if kind in errors.__all__ else EdgeaeError
    made: Exception = known(message)
    return made


def _limit(cpu_seconds: int, address_bytes: int | None) -> str:
    """Limits this process; a line that says what is not limited, or nothing."""
    try:
        import resource
    except ImportError:
        return "this system limits neither memory nor processor time of the check"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    if address_bytes is None:
        return "the memory of the check is not limited: an accelerator's driver is in it"
    try:
        resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))
    except (OSError, ValueError):  # macOS has the limit and may refuse it
        return "this system does not limit the memory of the check"
    return ""


def main() -> int:
    """The child: reads what to check from stdin, writes a line of JSON for each that it says."""
    wanted = json.load(sys.stdin)

    def tell(**what: str) -> None:
        print(json.dumps(what), flush=True)

    if unlimited := _limit(wanted["cpu_seconds"], wanted["address_bytes"]):
        tell(line=unlimited)
    providers = wanted["providers"]
    try:
        for line in check_bundle(
            Path(wanted["model"]) if wanted["is_path"] else wanted["model"],
            providers=None
            if providers is None
            else [p if isinstance(p, str) else (p[0], p[1]) for p in providers],
            threads=wanted["threads"],
        ):
            tell(line=line)
    except (EdgeaeError, ValueError, TypeError) as error:
        tell(error=type(error).__name__, message=str(error))
        return 1
    except MemoryError:
        tell(error="EdgeaeError", message="the model takes more memory than the check may have")
        return 1
    tell(done="yes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
