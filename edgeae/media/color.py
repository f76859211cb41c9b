"""Colors of an image's own space as sRGB: ICC profiles, and the tags that stand for one.

Sources: ITU-T H.273 for code points, IEC 61966-2-1 for sRGB, the PNG specification (third edition)
for the order of its chunks, DCF 2.0 and the Adobe RGB (1998) encoding for cameras' Adobe RGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ADOBE_RGB", "SRGB_PRIMARIES", "Space", "UnreadableColor", "from_code_points"]
__all__ += ["from_png_chunks", "profile_is_srgb", "profile_to_srgb", "to_srgb"]

# x, y of white, red, green and blue.
Primaries = tuple[float, float, float, float, float, float, float, float]

_D65 = (0.3127, 0.3290)
SRGB_PRIMARIES: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# H.273 table 2. 2 is "unspecified", which every reader takes for 1.
_PRIMARIES: dict[int, Primaries] = {
    1: SRGB_PRIMARIES,
    2: SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
# H.273 table 3; None is sRGB's own curve, in which stills with a camera's curve (1, 6, 14, 15) or
# an unspecified one (2) are meant and shown.
_TRANSFERS: dict[int, float | None] = {
    1: None, 2: None, 6: None, 13: None, 14: None, 15: None, 4: 2.2, 5: 2.8, 8: 1.0,
}  # fmt: skip
_HIGH_RANGE = {16: "PQ", 18: "HLG"}

# Rows of one step of a conversion, so that its floats stay small beside the image.
_STRIP_PIXELS = 1 << 20
_ENCODE_STEPS = (1 << 16) - 1


class UnreadableColor(ValueError):
    """The colors cannot be made sRGB; the message says why."""


@dataclass(frozen=True)
class Space:
    """RGB colors: their primaries, and the exponent that makes them linear (None: sRGB's curve)."""

    primaries: Primaries
    exponent: float | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether a conversion would only round: within what chunks and tags round to."""
        same = np.allclose(self.primaries, SRGB_PRIMARIES, rtol=0, atol=2e-3)
        return same and (self.exponent is None or abs(self.exponent - 2.2) < 0.02)


# Gamma 563/256, from the Adobe RGB (1998) encoding, 4.3.4.2.
ADOBE_RGB = Space((*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256)


def from_code_points(primaries: int, transfer: int) -> Space:
    """The space of PNG's cICP and of AVIF's and HEIF's nclx; UnreadableColor names what is none."""
    if transfer in _HIGH_RANGE:
        raise UnreadableColor(
            f"its colors are {_HIGH_RANGE[transfer]}, brighter than sRGB holds; tone-map it first"
        )
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        raise UnreadableColor(
            f"its colors have primaries {primaries} and transfer {transfer} of H.273, expected"
            f" primaries {' '.join(map(str, _PRIMARIES))}"
            f" and transfer {' '.join(map(str, sorted(_TRANSFERS)))}"
        )
    return Space(_PRIMARIES[primaries], _TRANSFERS[transfer])


def from_png_chunks(gamma: int | None, chromaticities: tuple[int, ...] | None) -> Space:
    """The space of gAMA (100,000 times the encoding exponent) and cHRM (100,000 times x and y).

    Values that describe no color space count as not there, as the specification asks.
    """
    space = SRGB_PRIMARIES
    if chromaticities is not None and len(chromaticities) == 8:
        scaled = tuple(value / 100_000 for value in chromaticities)
        if _is_space(scaled):
            space = scaled  # type: ignore[assignment]
    # Ten times flatter or steeper than linear is nothing that an encoder means.
    exponent = 100_000 / gamma if gamma is not None and 10_000 <= gamma <= 1_000_000 else None
    return Space(space, exponent)


def _is_space(values: tuple[float, ...]) -> bool:
    if any(not 0 <= v <= 1 for v in values) or min(values[1::2]) <= 0:
        return False
    return bool(np.linalg.cond(_to_xyz(values)) < 1e4)


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    """Linear RGB to XYZ, (3, 3), with Y = 1 for white."""
    white, red, green, blue = (_xyz(*primaries[i : i + 2]) for i in range(0, 8, 2))
    columns = np.stack([red, green, blue], axis=1)
    try:
        return np.asarray(columns * np.linalg.solve(columns, white))
    except np.linalg.LinAlgError:
        return np.zeros((3, 3))


# Linear Bradford cone responses, as ICC.1:2022 annex E has them.
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _to_linear_srgb(primaries: Primaries) -> NDArray[np.float64]:
    """Linear RGB of the primaries to linear sRGB, (3, 3), white to white."""
    cones = [_BRADFORD @ _xyz(*white) for white in (primaries[:2], _D65)]
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones[1] / cones[0]) @ _BRADFORD
    return np.asarray(np.linalg.inv(_to_xyz(SRGB_PRIMARIES)) @ adapt @ _to_xyz(primaries))


def to_srgb(pixels: NDArray[np.uint8], space: Space) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) or (H, W, 1) of a space as sRGB, of the same shape, clipped to its colors."""
    if space.is_srgb:
        return pixels
    levels = np.linspace(0, 1, 256)
    decode = (_srgb_decode(levels) if space.exponent is None else levels**space.exponent).astype(
        np.float32
    )
    encode = np.rint(255 * _srgb_encode(np.linspace(0, 1, _ENCODE_STEPS + 1))).astype(np.uint8)
    if pixels.shape[2] == 1:  # a gray of any space is a gray of sRGB
        return encode[np.rint(decode * _ENCODE_STEPS).astype(np.uint16)][pixels]
    matrix = _to_linear_srgb(space.primaries).astype(np.float32)
    out = np.empty_like(pixels)
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        linear = decode[pixels[top : top + rows]] @ matrix.T
        steps = np.rint(np.clip(linear, 0, 1) * _ENCODE_STEPS).astype(np.uint16)
        out[top : top + rows] = encode[steps]
    return out


def _srgb_decode(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _srgb_encode(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def profile_is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile is sRGB's own by any name; not if it cannot be read."""
    from PIL import Image

    probe = Image.new("RGB", (1, 1))
    try:
        return profile_to_srgb(probe, profile) is probe
    except UnreadableColor:
        return False


def profile_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An L, RGB or CMYK image with an ICC profile in sRGB: L stays L, the others become RGB.

    UnreadableColor if the profile is broken or is not for pixels of this mode.
    """
    from PIL import Image, ImageCms

    gray = image.mode == "L"
    mode = image.mode
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if gray and space == "RGB":
            image = image.convert("RGB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if image.mode == "RGB":
            # A profile that is sRGB by another name would only add rounding errors.
            levels = np.linspace(0, 255, 9).round().astype(np.uint8)
            cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
            probe = np.asarray(transform.apply(Image.fromarray(cube)))
            if np.abs(probe.astype(int) - cube).max() <= 1:
                return image.getchannel("G") if gray else image
        moved = transform.apply(image)
        return moved.getchannel("G") if gray else moved  # a gray of any space is a gray of sRGB
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise UnreadableColor(
            f"its ICC profile does not fit {mode} pixels ({error}); convert it to sRGB first"
        ) from error
