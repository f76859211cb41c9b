"""A page that shows latents in two dimensions, with what each point stands for beside it."""

from __future__ import annotations

import base64
import html
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeae.autoencoder import Autoencoder

__all__ = ["page", "principal_plane"]

# Points that a browser still moves smoothly; of more, so many evenly spread ones are drawn.
MAX_POINTS = 2000
THUMBNAIL_PIXELS = 48

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 60rem;
  padding: 0 1rem; color: #1c313a; background: #fff; }}
svg {{ width: 100%; height: auto; border: 1px solid #cfd8dc; border-radius: 8px; }}
circle {{ fill: #00897b; fill-opacity: .55; }} circle:hover, circle:focus {{ fill: #d84315;
  fill-opacity: 1; outline: none; }}
#shown {{ min-height: 60px; display: flex; gap: 1rem; align-items: center; }}
@media (max-width: 30rem) {{ circle {{ r: 9px; }} }}
#shown img {{ image-rendering: pixelated; width: 96px; height: 96px; object-fit: contain; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #eceff1; background: #1c2427; }} }}
</style></head><body>
<h1>{title}</h1>
<p>{count} items of {latents} latents, seen from the two directions in which they differ most
({share:.0%} of their variance). Point at a dot to see what it stands for.</p>
<svg viewBox="0 0 1000 640" role="img" aria-label="Latents in two dimensions">{dots}</svg>
<div id="shown" aria-live="polite"></div>
<script>
const items = {items};
const shown = document.getElementById("shown");
for (const dot of document.querySelectorAll("circle")) {{
  const show = () => {{
    const item = items[dot.dataset.i];
    shown.textContent = "";
    if (item.image) {{ const image = new Image(); image.src = item.image; image.alt = "";
      shown.append(image); }}
    if (item.line) {{ shown.insertAdjacentHTML("beforeend", item.line); }}
    const name = document.createElement("span"); name.textContent = item.name; shown.append(name);
  }};
  dot.addEventListener("pointerenter", show); dot.addEventListener("focus", show);
}}
</script></body></html>
"""


def principal_plane(codes: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Places in the plane of most variance, and the share of the variance that it holds.

    Args:
        codes: latents, float32 (N, latents), finite, N at least 1.

    Returns:
        float64 (N, 2) in units of the latents, zero in the mean, and a share from 0 to 1.
    """
    centred = codes.astype(np.float64) - codes.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(codes), 2))
    kept = min(2, len(s))
    places[:, :kept] = u[:, :kept] * s[:kept]
    return places, float((s[:kept] ** 2).sum() / max(float((s**2).sum()), 1e-12))


def page(
    model: Autoencoder,
    items: NDArray[np.float32],
    codes: NDArray[np.float32],
    names: list[str],
) -> str:
    """An HTML page of its own, which loads nothing from elsewhere.

    Args:
        model: what the items and latents are of.
        items: float32 (N, *model.shape) in the model's units, finite; images in [0, 1].
        codes: their latents, float32 (N, model.latents), finite.
        names: N texts, shown with the points.
    """
    places, share = principal_plane(codes)
    chosen = np.unique(np.linspace(0, len(codes) - 1, min(len(codes), MAX_POINTS)).astype(int))
    spread = np.maximum(np.ptp(places, axis=0), 1e-9)
    xy = (places - places.min(axis=0)) / spread * [940, 580] + [30, 30]
    dots = "".join(
        f'<circle cx="{xy[i, 0]:.1f}" cy="{640 - xy[i, 1]:.1f}" r="5" tabindex="0" data-i="{k}">'
        f"<title>{html.escape(names[i])}</title></circle>"
        for k, i in enumerate(chosen)
    )
    told = [{"name": names[i], **_thumbnail(model, items[i])} for i in chosen]
    return _PAGE.format(
        title=html.escape(f"Latents of {model.bundle.manifest.name}"),
        count=len(codes),
        latents=model.latents,
        share=share,
        dots=dots,
        # A name must not be able to end the script.
        items=json.dumps(told).replace("<", "\\u003c"),
    )


def _thumbnail(model: Autoencoder, item: NDArray[np.float32]) -> dict[str, Any]:
    if model.kind == "image":
        low, high = float(item.min()), float(item.max())
        if model.bundle.manifest.layout["dtype"] == "uint8":
            low, high = 0.0, 1.0
        pixels = np.clip((item - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] != 3 else pixels)
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return {"image": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}
    values = item[:, 0] if model.kind == "signal" else item
    low, high = float(values.min()), float(values.max())
    y = 44 - (values - low) / max(high - low, 1e-9) * 40
    x = np.linspace(2, 158, len(values))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return {
        "line": f'<svg viewBox="0 0 160 48" style="width:160px;border:0"><polyline '
        f'points="{points}" fill="none" stroke="#00897b" stroke-width="1.5"/></svg>'
    }
