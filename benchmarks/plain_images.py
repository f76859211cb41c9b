"""Images that are no photographs: bytes and PSNR beside PNG and WebP without loss.

    python -m benchmarks.plain_images --json benchmarks/results/plain_images.json

The images are made here: pages of text, a screen with a photograph in it, line art, checkers,
stripes and noise. Each is compressed at qualities 1, 5 and 9, as a caller gets it by default. Exit
code 1 if one is larger than its PNG, or has less than 35 dB at quality 9.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeae import media, metrics
from edgeae.image.codec import ImageCodec

Pixels = NDArray[np.uint8]

QUALITIES = (1, 5, 9)
# A file adds its header to what PNG needs.
ROOM_BYTES = 16
LEAST_PSNR_DB = 35.0


def pages() -> dict[str, Pixels]:
    """Made images by name, uint8 (H, W, 3)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:512, :768]
    photo = media.read_image(files("edgeae").joinpath("assets/photo.webp").read_bytes())
    gray = {
        "checker of 1 pixel": (rows + columns) % 2 * 255,
        "checker of 8 pixels": (rows // 8 + columns // 8) % 2 * 255,
        "stripes of 1 pixel": columns % 2 * 255,
        "stripes of 3 pixels": columns % 3 * 127,
        "rings": 128 + 127 * np.sin((rows**2 + columns**2) / 300),
        "bilevel noise": rng.integers(0, 2, rows.shape) * 255,
    }
    found = {name: np.repeat(v.astype(np.uint8)[..., None], 3, 2) for name, v in gray.items()}
    found["page of text"] = text(1240, 1754, (20, 20, 30))
    found["page of text, scanned"] = np.clip(
        text(1240, 1754, (40, 40, 40)) - rng.integers(0, 6, (1754, 1240, 1)), 0, 255
    ).astype(np.uint8)
    screen = Image.fromarray(text(1280, 800, (0, 60, 160)))
    screen.paste(Image.fromarray(photo).resize((384, 256)), (820, 200))
    ImageDraw.Draw(screen).rectangle((0, 0, 1280, 40), fill=(40, 90, 200))
    found["screen with a photograph"] = np.asarray(screen)
    found["line art"] = lines(rng)
    found["color noise"] = rng.integers(0, 256, (256, 256, 3), np.uint8)
    return found


def text(width: int, height: int, color: tuple[int, int, int]) -> Pixels:
    """A page of small text."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for top in range(50, height - 40, 20):
        draw.text((60, top), f"{top:04d} The quick brown fox jumps over the lazy dog. " * 4, color)
    return np.asarray(picture)


def lines(rng: np.random.Generator) -> Pixels:
    """Thin lines in a few colors."""
    picture = Image.new("RGB", (768, 512), "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(150):
        x0, y0, x1, y1 = rng.integers(0, 768, 4)
        draw.line((x0, y0, x1, y1), fill=tuple(int(v) for v in rng.integers(0, 200, 3)))
    return np.asarray(picture)


def saved(image: Pixels, kind: str, **how: object) -> bytes:
    """The bytes that Pillow makes of an image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **how)
    return buffer.getvalue()


def main() -> int:
    """Measures and prints; 1 if an image is larger than its PNG or too bad."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="photo-codec")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    codec = ImageCodec.load(options.model)
    results, failed = [], []
    for name, image in pages().items():
        png = len(saved(image, "PNG", optimize=True))
        webp = len(saved(image, "WEBP", lossless=True))
        print(f"{name:26} PNG {png:,}  WebP {webp:,}", end="", flush=True)
        measured = []
        for quality in QUALITIES:
            size, psnr_db = at_quality(codec, image, quality)
            exact = math.isinf(psnr_db)
            print(
                f"  q{quality} {size:,} {'exact' if exact else round(psnr_db, 1)}",
                end="",
                flush=True,
            )
            if size > png + ROOM_BYTES or (quality == QUALITIES[-1] and psnr_db < LEAST_PSNR_DB):
                failed.append(f"{name} at {quality}: {size} bytes, PNG {png}, {psnr_db:.1f} dB")
            shown_db = None if exact else round(psnr_db, 2)
            measured.append({"quality": quality, "bytes": size, "psnr_db": shown_db})
        print()
        row = {"image": name, "png_bytes": png, "webp_lossless_bytes": webp, "qualities": measured}
        results.append(row)
    print("\n".join(failed) or "none larger than its PNG, none below 35 dB at quality 9")
    if options.json:
        told = {"model": codec.bundle.id, "images": results, "failed": failed}
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return bool(failed)


def at_quality(codec: ImageCodec, image: Pixels, quality: int) -> tuple[int, float]:
    """Bytes and PSNR in dB, infinite if every pixel is kept."""
    blob = codec.compress(image, quality=quality)
    return len(blob), metrics.psnr_db(image, codec.decompress(blob))


if __name__ == "__main__":
    sys.exit(main())
