"""A real Ray cluster of several nodes on this machine, of which parts die in the middle."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

ray = pytest.importorskip("ray", reason="needs Ray: the extra ray")
pytest.importorskip("ray.data", reason="needs Ray's data: the extra ray")

from edgeae.image.codec import ImageCodec
from edgeae.media import read_audio, write_audio, write_image
from edgeae.ray import Compress, Decompress, Denoise

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of many kinds
CODEC = Path(__file__).parent.parent / "golden" / "tiny-codec"
DENOISER = CODEC.with_name("tiny-denoiser")
ROWS = 120
# The least that Ray takes.
STORE_BYTES = 80 << 20


def started_cluster():
    """A cluster of two nodes, of two processors each by their own account."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    except BaseException:
        cluster.shutdown()
        raise
    return cluster


@pytest.fixture(scope="module")
def cluster():
    # Workers import the tests' modules, and Ray sends nothing home.
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(Path(__file__).parent), str(root / "tests/support")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", path)
        try:
            started = started_cluster()
        except Exception:  # Ray gives a node half a minute, which a busy machine may need
            started = started_cluster()
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            assert len(ray.nodes()) == 2
            yield started
        finally:
            ray.shutdown()
            started.shutdown()


class SlowCompress(Compress):
    """Says in a folder which process works on what, and takes its time."""

    def __init__(self, folder, model):
        super().__init__(model)
        self._folder = Path(folder)

    def __call__(self, batch):
        (self._folder / f"{os.getpid()}-{time.time_ns()}").touch()
        time.sleep(0.2)
        return super().__call__(batch)


def first_pid(folder, after):
    """The process that began the batch of that number, once one has."""
    for _ in range(3000):
        begun = sorted(folder.iterdir(), key=lambda path: int(path.name.split("-")[1]))
        if len(begun) > after:
            return int(begun[after].name.split("-")[0])
        time.sleep(0.1)
    raise TimeoutError("no batch begins")


def test_every_row_comes_out_once_though_a_worker_is_killed(cluster, tmp_path):
    images = np.stack([tiny.picture(24, 32, 3, noise=9, seed=i) for i in range(ROWS)])
    rows = ray.data.from_items([{"id": i, "image": images[i]} for i in range(ROWS)])
    begun = tmp_path / "begun"
    begun.mkdir()
    killed = []

    def kill():
        killed.append(first_pid(begun, after=4))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = (
        rows.repartition(20)
        .map_batches(
            SlowCompress,
            fn_constructor_kwargs={"folder": str(begun), "model": str(CODEC)},
            concurrency=2,
            batch_size=6,
        )
        .take_all()
    )
    killer.join()
    pids = {int(path.name.split("-")[0]) for path in begun.iterdir()}
    assert len(killed) == 1 and killed[0] in pids and len(pids) >= 3
    # What the killed one had begun was begun again.
    assert len(list(begun.iterdir())) > 20
    codec = ImageCodec.load(CODEC)
    assert sorted(row["id"] for row in done) == list(range(ROWS))
    for row in done:
        assert row["error"] is None
        assert row["code"] == codec.compress(images[row["id"]])


def test_folders_and_parquet_go_through_rays_own_readers_and_writers(cluster, tmp_path):
    codec = ImageCodec.load(CODEC)
    photos, sounds = tmp_path / "photos", tmp_path / "sounds"
    photos.mkdir()
    sounds.mkdir()
    images = [tiny.picture(24, 32, 3, seed=i) for i in range(4)]
    for index, image in enumerate(images):
        write_image(photos / f"{index}.png", image)
        noise = np.random.default_rng(index).normal(0, 0.1, 3000).astype(np.float32)
        write_audio(sounds / f"{index}.wav", noise, 16_000)

    once = {"concurrency": 1, "batch_size": 2}
    model = {"model": str(CODEC)}
    ray.data.read_images(str(photos), include_paths=True).map_batches(
        Compress, fn_constructor_kwargs=model, **once
    ).write_parquet(str(tmp_path / "codes"))
    restored = (
        ray.data.read_parquet(str(tmp_path / "codes"))
        .map_batches(Decompress, fn_constructor_kwargs=model, **once)
        .take_all()
    )
    assert len(restored) == 4
    for row in restored:
        image = images[int(Path(row["path"]).stem)]
        assert np.array_equal(row["image"], codec.decompress(codec.compress(image)))

    clean = (
        ray.data.read_binary_files(str(sounds), include_paths=True)
        .map_batches(Denoise, fn_constructor_kwargs={"model": str(DENOISER)}, **once)
        .take_all()
    )
    assert len(clean) == 4
    for row in clean:
        samples, rate = read_audio(io.BytesIO(row["bytes"]))
        assert row["error"] is None and rate == 16_000 and len(samples) == 3000
