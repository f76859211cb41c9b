"""The Python side of cross.test.ts.

    python cross.py make FOLDER    writes files and what they hold
    python cross.py read FOLDER    reads what JavaScript wrote, and says what is wrong

Pictures are kept as RGBA, masks as bytes, both raw.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import edgeae
from edgeae.media import read_image

ROOT = Path(__file__).resolve().parent.parent.parent
BUNDLES = {
    "tiny": ROOT / "tests" / "golden" / "tiny-codec",
    "photo": ROOT / "edgeae" / "models" / "photo-codec",
}


def pictures():
    """Small ones of every number of channels for the tiny codec, a real one for the photo codec."""
    rng = np.random.default_rng(5)
    for shape in ((1, 1, 3), (16, 16, 3), (37, 50, 3), (23, 31), (9, 40, 1), (33, 21, 4)):
        rows, columns = np.indices(shape[:2])
        ramp = (4 * rows + 3 * columns + 40) % 256
        noise = rng.integers(-50, 51, shape)
        flat = ramp if len(shape) == 2 else ramp[:, :, None]
        yield "tiny", "x".join(map(str, shape)), np.clip(flat + noise, 0, 255).astype(np.uint8)
    photo = read_image(ROOT / "edgeae" / "assets" / "photo.webp")
    yield "photo", "photo", np.ascontiguousarray(photo[:200, :300, :3])


def rgba(image):
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if image.shape[2] == 3:
        image = np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)
    return np.ascontiguousarray(image)


def make(folder: Path) -> None:
    codecs = {name: edgeae.load(path, precision="fp32") for name, path in BUNDLES.items()}
    cases = []

    def keep(codec, kind, blobs, image, mask=None, **more):
        name = f"case{len(cases)}"
        for i, blob in enumerate(blobs):
            (folder / f"{name}.{i}").write_bytes(blob)
        (folder / f"{name}.rgba").write_bytes(rgba(image).tobytes())
        if mask is not None:
            (folder / f"{name}.mask").write_bytes(mask.astype(np.uint8).tobytes())
        height, width = image.shape[:2]
        shape = {"height": height, "width": width}
        cases.append(
            {"name": name, "codec": codec, "kind": kind, "blobs": len(blobs), **shape, **more}
        )

    originals = []
    for name, title, image in pictures():
        codec = codecs[name]
        (folder / f"{title}.rgba").write_bytes(rgba(image).tobytes())
        height, width = image.shape[:2]
        # What a browser would write: gray pictures have a form of their own.
        same = image.ndim == 3 and image.shape[2] > 1
        written = {}
        for quality in (1, 4.5, 9):
            blob = codec.compress(image, quality=quality, lossless=False)
            keep(name, "file", [blob], codec.decompress(blob))
            written[str(quality)] = blob.hex()
            if len(blob) > 60 and blob[1:2] == b"E":
                for at in (70, len(blob) // 2, len(blob) - 30):
                    hurt = blob[:at] + bytes([blob[at] ^ 0x55]) + blob[at + 1 :]
                    found, mask = codec.decompress(hurt, errors="conceal")
                    keep(name, "conceal", [hurt], found, mask)
                cut = blob[: 2 * len(blob) // 3]
                found, mask = codec.decompress(cut, errors="conceal")
                keep(name, "conceal", [cut], found, mask)
        exact = codec.compress(image, lossless=True)
        keep(name, "exact", [exact], codec.decompress(exact))
        if height > 20:
            region = (height // 3, width // 4, height // 2, width // 3)
            found = codec.decompress(blob, region=region)
            keep(name, "region", [blob], found, region=region)
        originals.append(
            {
                "name": title, "codec": name, "height": height, "width": width,
                "gray": image.ndim == 2, "same": same or image.ndim == 2, "written": written,
            }
        )  # fmt: skip
        if same and image.shape[2] == 3 and height > 20:
            size = 80 if name == "tiny" else 700
            packets = codec.packets(image, max_packet_bytes=size, quality=3, number=7)
            keep(name, "packets", packets, *codec.receive(packets))
            some = packets[::-2] + packets[:1]
            keep(name, "packets", some, *codec.receive(some))
    (folder / "cases.json").write_text(json.dumps({"cases": cases, "originals": originals}))


def read(folder: Path) -> None:
    """Prints the largest difference of a gray level for each file, as JSON."""
    codecs = {name: edgeae.load(path, precision="fp32") for name, path in BUNDLES.items()}
    found = {}
    for entry in json.loads((folder / "written.json").read_text()):
        codec = codecs[entry["codec"]]
        blobs = [(folder / f"{entry['name']}.{i}").read_bytes() for i in range(entry["blobs"])]
        if entry["kind"] == "packets":
            image, mask = codec.receive(blobs)
            assert not mask.any()
        else:
            image = codec.decompress(blobs[0])
        assert (blobs[0][:2] == b"\x89x") == (entry["kind"] == "exact")
        expected = np.frombuffer((folder / f"{entry['name']}.rgba").read_bytes(), np.uint8)
        difference = expected.astype(int) - rgba(image).ravel()
        found[entry["name"]] = int(np.abs(difference).max())
    print(json.dumps(found))


if __name__ == "__main__":
    {"make": make, "read": read}[sys.argv[1]](Path(sys.argv[2]))
