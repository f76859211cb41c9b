"""One run of `benchmarks.throughput` on Ray, in a process of its own: start, read, compress, write.

python -m benchmarks.throughput_ray MODEL IMAGES OUT WORKERS
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeae.ray import Compress

STORE_BYTES = 1 << 28


def main(arguments: Sequence[str] | None = None) -> None:
    """Compress a folder's images with so many actors, and write a file for each."""
    import ray

    model, images, folder, workers = sys.argv[1:] if arguments is None else arguments
    out = Path(folder)
    out.mkdir()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # A processor more, by Ray's account, for what reads.
    ray.init(
        num_cpus=int(workers) + 1,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_images(images, include_paths=True).map_batches(
        Compress,
        fn_constructor_kwargs={"model": model},
        concurrency=int(workers),
        batch_size=16,
    )
    for row in rows.iter_rows():
        if row["error"] is not None:
            raise RuntimeError(f"{row['path']}: {row['error']}")
        (out / f"{Path(row['path']).stem}.eae").write_bytes(row["code"])
    ray.shutdown()


if __name__ == "__main__":
    main()
