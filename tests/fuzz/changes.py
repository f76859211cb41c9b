"""Changes of bytes, and of files of chunks whose checksums are put right."""

from __future__ import annotations

import random
import struct
import zlib

__all__ = ["changed", "mutated_chunks"]


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


def mutated_chunks(rng: random.Random, data: bytes, magic: bytes, small_magic: bytes) -> bytes:
    """A changed file whose checksums are right; its codec's id stays."""
    if data.startswith(small_magic):
        body = data[:6] + changed(rng, data[6:-4])
        return body + struct.pack("<I", zlib.crc32(body))
    chunks, at = [], len(magic)
    while at < len(data):
        length, kind = struct.unpack_from("<I4s", data, at)
        if kind != b"crCS":
            chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = rng.randrange(len(chunks))
    kind, body = chunks[place]
    kept = 16 if kind == b"HEAD" else 0
    chunks[place] = kind, body[:kept] + changed(rng, body[kept:])
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    framed = [
        struct.pack("<I", len(body)) + kind + body + struct.pack("<I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return magic + b"".join(framed)
