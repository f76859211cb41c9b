"""The parsers under libFuzzer: `python -m tests.fuzz.libfuzzer [CORPUS] [-max_total_time=60]`.

Needs `pip install atheris`, which has wheels for some Pythons on Linux only. Inputs are the bytes
of a file, a packet, a graph or a manifest, after one byte that says which; the corpus is made of
the golden files. Coverage leads libFuzzer to what `tests.fuzz.decoders` does not think of.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from pathlib import Path

from edgeae import bundle
from edgeae.errors import EdgeaeError
from edgeae.image import file as image_file
from edgeae.image.packets import read_packet
from edgeae.onnx_check import check_graph

GOLDEN = Path(__file__).parent.parent / "golden"
CODEC_ID = bytes(range(16))
FORMS = ("file", "salvage", "packet", "graph", "manifest", "file, checksums right")


def one_input(data: bytes) -> str | None:
    """Gives the bytes to the parser that the first of them names; what it said if it refused them.

    Raises whatever is no EdgeaeError, and for an error of several lines.
    """
    if not data:
        return None
    form, body = FORMS[data[0] % len(FORMS)], data[1:]
    try:
        if form == "file":
            image_file.read(body)
        elif form == "salvage":
            image_file.salvage(body)
        elif form == "packet":
            crc = zlib.crc32(CODEC_ID + body)
            read_packet(body + crc.to_bytes(4, "little"), CODEC_ID)
        elif form == "graph":
            check_graph(body, name="input")
        elif form == "manifest":
            bundle._manifest(body, Path("manifest.json"))
        else:
            image_file.read(with_checksums(body))
    except EdgeaeError as error:
        if "\n" in str(error):
            raise RuntimeError(f"an error of several lines: {error}") from error
        return str(error)
    return None


def with_checksums(data: bytes) -> bytes:
    """The bytes as chunks of a file, each checksum put right: libFuzzer finds no CRC-32."""
    if data.startswith(image_file.SMALL_MAGIC):
        return data + zlib.crc32(data).to_bytes(4, "little")
    parts, at = [image_file.MAGIC], 0
    while at + 8 <= len(data):
        # A length of one byte keeps small changes small.
        length, kind = data[at], data[at + 1 : at + 5]
        body = data[at + 5 : at + 5 + length]
        crc = zlib.crc32(kind + body).to_bytes(4, "little")
        parts += [len(body).to_bytes(4, "little"), kind, body, crc]
        at += 5 + length
    return b"".join(parts)


def corpus() -> list[bytes]:
    """Inputs to begin with, each form a few."""
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.eae"))]
    lines = [line for path in sorted(GOLDEN.glob("*.hex")) for line in path.read_text().split()]
    found = [bytes([i]) + data for data in files for i in (0, 1)]
    found += [b"\2" + bytes.fromhex(line)[:-4] for line in lines]
    for i, name in ((3, "context0.fp32.onnx"), (4, "manifest.json")):
        found.append(bytes([i]) + (GOLDEN / "tiny-codec" / name).read_bytes())
    head = bytes([26]) + b"HEAD" + CODEC_ID + bytes([32, 3]) + bytes([9, 0, 0, 0] * 2)
    found.append(b"\5" + head + bytes([4]) + b"TILE\0abc" + b"\0DONE")
    return found


def main() -> None:
    import atheris

    atheris.instrument_all()
    given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(corpus()):
            (Path(folder) / f"{number}").write_bytes(data)
        atheris.Setup([*sys.argv, *([] if given else [folder])], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
