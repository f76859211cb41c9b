"""Changed files and packets, checksums put right, through every decoder: `python -m tests.fuzz`.

A mutant either gives data of the shape it announces or raises an EdgeaeError of one line, in
bounded time. Prints what became of them; exit code 1 names the mutants that broke this.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeae import bitstream, onnx_wire
from edgeae.codec import Codec
from edgeae.errors import EdgeaeError

GOLDEN = Path(__file__).parent / "golden"
# Many times what the slowest takes on one slow core.
MAX_SECONDS = 2.0
# What conceals a large picture takes half a second and shows no more than a small one.
LIMITS = bitstream.Limits(pixels=1 << 16)

Outcome = str


def fuzz(count: int, seed: int = 0) -> tuple[Counter[Outcome], float, list[str]]:
    """(how many mutants ended how, seconds of the slowest, what broke the rule)"""
    model = Codec.load(GOLDEN / "tiny-codec")
    packets = {
        path.name: [bytes.fromhex(line) for line in path.read_text().split()]
        for path in sorted(GOLDEN.glob("*.hex"))
    }
    files = {path.name: path.read_bytes() for path in sorted(GOLDEN.glob("*.eae"))}
    graph = (GOLDEN / "tiny-codec" / "context0.fp32.onnx").read_bytes()
    outcomes: Counter[Outcome] = Counter()
    slowest, broken = 0.0, []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        kind = rng.randrange(10)
        decode: Callable[[], None]
        if kind < 6:
            data = mutated_file(rng, files[rng.choice([*files])])
            decode = reads_file(model, data, conceal=kind < 2)
        elif kind < 9:
            some = mutated_packets(rng, packets[rng.choice([*packets])], model._id)
            decode = reads_packets(model, some)
        else:
            data = changed(rng, graph)
            decode = lambda data=data: onnx_wire.check_graph(data, name="mutant")  # noqa: E731
        form = (
            ("conceal" if kind < 2 else "file" if kind < 6 else "packets") if kind < 9 else "graph"
        )
        began = time.process_time()
        try:
            decode()
            outcomes[f"{form}: data"] += 1
        except EdgeaeError as error:
            outcomes[f"{form}: refused"] += 1
            if "\n" in str(error):
                broken.append(f"{seed}/{number} {form}: an error of several lines")
        except Exception as error:
            broken.append(f"{seed}/{number} {form}: {type(error).__name__}: {error}")
        seconds = time.process_time() - began
        slowest = max(slowest, seconds)
        if seconds > MAX_SECONDS:
            broken.append(f"{seed}/{number} {form}: {seconds:.1f} s")
    return outcomes, slowest, broken


def reads_file(model: Codec, data: bytes, *, conceal: bool) -> Callable[[], None]:
    def decode() -> None:
        if conceal:
            image, mask = model.decompress(data, errors="conceal", limits=LIMITS)
            header = bitstream.salvage(data).header
            check(mask.shape == (header.height, header.width) and mask.dtype == np.bool_)
        else:
            image, header = model.decompress(data), bitstream.read_header(data)
        shape = (header.height, header.width, header.channels)
        check(image.shape == (shape if header.channels else shape[:2]))
        check(image.dtype == np.uint8)

    return decode


def reads_packets(model: Codec, packets: list[bytes]) -> Callable[[], None]:
    def decode() -> None:
        image, mask = model.receive(packets)
        check(image.shape[:2] == mask.shape and image.dtype == np.uint8)

    return decode


def check(right: bool) -> None:
    if not right:
        raise RuntimeError("data of another shape than announced")


def changed(rng: random.Random, data: bytes) -> bytes:
    """The bytes with one to three small changes."""
    for _ in range(rng.randint(1, 3)):
        at, noise = rng.randint(0, len(data)), rng.randbytes(rng.randint(1, 8))
        match rng.randrange(6):
            case 0 | 1:
                if at < len(data):
                    data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 2:
                data = data[:at] + noise + data[at + len(noise) :]
            case 3:
                data = data[:at]
            case 4:
                data = data[:at] + noise + data[at:]
            case 5:
                data = rng.randbytes(rng.randint(0, 60))
    return data


SIZES = (1, 4, 16, 17, 40, 300, 65_537, 2**32 - 1)


def mutated_file(rng: random.Random, data: bytes) -> bytes:
    if data.startswith(bitstream.SMALL_MAGIC):
        begin = 6  # the codec's id stays, or nothing else would be seen
        body = data[:begin] + changed(rng, data[begin:-4])
        return body + struct.pack("<I", zlib.crc32(body))
    chunks, at = [], len(bitstream.MAGIC)
    while at < len(data):
        length, kind = struct.unpack_from("<I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(chunks))
        kind, body = chunks[place]
        match rng.randrange(8):
            case 0 | 1 | 2:
                body = body[:1] + changed(rng, body[1:]) if kind == b"TILE" else changed(rng, body)
                chunks[place] = kind, body
            case 3:
                other = rng.randrange(len(chunks))
                chunks[place], chunks[other] = chunks[other], chunks[place]
            case 4:
                chunks.insert(rng.randrange(len(chunks)), (kind, body))
            case 5:
                if len(chunks) > 1:
                    del chunks[place]
            case 6:
                kinds = [b"TILE", b"HEAD", b"heAD", b"ALPH", b"DONE", b"noTE", b"WHAT"]
                chunks[place] = rng.choice(kinds), body
            case 7:
                picture = struct.pack(
                    "<BBII", rng.randrange(66), rng.randrange(6), rng.choice(SIZES),
                    rng.choice(SIZES),
                )  # fmt: skip
                chunks[0] = b"HEAD", data[16:32] + picture
    made = bitstream.MAGIC + b"".join(
        struct.pack("<I", len(body)) + kind + body + struct.pack("<I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    # Now and then as a radio link would have it.
    return changed(rng, made) if rng.random() < 0.2 else made


def mutated_packets(rng: random.Random, packets: list[bytes], codec_id: bytes) -> list[bytes]:
    came = [rng.choice(packets) for _ in range(rng.randint(1, len(packets) + 2))]
    for _ in range(rng.randint(0, 3)):
        body = changed(rng, rng.choice(packets)[:-4])
        came.insert(0, body + struct.pack("<I", zlib.crc32(codec_id + body)))
    return came


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other mutants")
    options = parser.parse_args()
    began = time.process_time()
    outcomes, slowest, broken = fuzz(options.n, options.seed)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:9,} {outcome}")
    seconds = time.process_time() - began
    print(f"{options.n:,} mutants in {seconds:.0f} s of CPU, the slowest {slowest:.3f} s")
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
