"""The photo codec's bundle: graphs, tables, int8 encoder, each held against torch before it is
kept."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeae.coding import context, entropy
from edgeae.coding.context import TABLES
from edgeae.coding.rate import LEVELS
from edgeae.coding.rounding import rounding
from edgeae.image.codec import ImageCodec
from edgeae.image.efforts import encoder_role
from edgeae.metrics import psnr_db
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.context_graph import activation_peaks, context_graph
from export.graph_writer import store_half
from export.image_graphs import decoder_graph, encoder_graph
from export.parity import ExportError, check_close
from export.quantize import even_inputs, quantize
from export.tables import count_symbols, fit_tables, logistic_tables
from train.config import Config
from train.entropy_model import CENTERED_SLICES, SliceContext
from train.image.data import made_images, middle_square, read_photos, spread
from train.image.network import STRIDE, Analysis, Encoder, PhotoCodec, PhotoNetwork

# Latents a side of the square that is coded on its own: 1024 pixels.
TILE = 64
# Levels at which tables and activation ranges are measured.
CALIBRATION_LEVELS = (0, 8, 16, 24, 32, 40, 48, 56, 64)
# How many inputs activation ranges are taken from.
CALIBRATION_INPUTS = 24
# How many activations of a tensor the range of 8 bits holds: of 99.9, 99.99, 99.999 and 99.9999 the
# decoder loses least with this.
CALIBRATION_PERCENTILE = 99.99
# Calibration: squares cut from the middle of at most so many images, of so many made ones where
# no folder is given; and so many of them for the last check.
CALIBRATION_IMAGES, CALIBRATION_SIDE = 48, 256
MADE_IMAGES, MADE_CALIBRATION = 40, 16
VERIFIED_IMAGES = 12
_SMALLEST_SIDE = 128
# The integer context model may cost this much more than the float one it stands for.
CONTEXT_BUDGET = 0.02
# What the int8 encoder and decoder may lose, and what they may add in bytes.
INT8_BUDGET_DB, INT8_BUDGET_BYTES = 0.15, 0.02

TASK = "codec"

Pixels = npt.NDArray[np.uint8]


def calibration(folders: tuple[str, ...]) -> list[Pixels]:
    """Squares (side, side, 3) from the middle of images spread over folders, as many as there
    are, up to 48; of images made in code for ("synthetic",).

    Raises ValueError if there is none.
    """
    side = CALIBRATION_SIDE // STRIDE * STRIDE
    if folders == ("synthetic",):
        images, most = made_images(MADE_IMAGES), MADE_CALIBRATION
    else:
        images, skipped = read_photos(folders, smallest=min(CALIBRATION_SIDE, _SMALLEST_SIDE))
        most = CALIBRATION_IMAGES
        if not images:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
            raise ValueError(
                f"0 images of {_SMALLEST_SIDE} pixels or more a side found in "
                f"{', '.join(folders)}, expected at least 1 for calibration"
                + (f" (left out {reasons})" if reasons else "")
            )
    chosen = spread(len(images), min(most, len(images)))
    return [middle_square(images[i], side) for i in chosen]


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, images: Sequence[Pixels]
) -> dict[str, Any]:
    """What a codec's manifest needs, with all files written; see `export_photo_codec`."""
    network = PhotoCodec(config.network)
    network.load_state_dict(weights)
    return export_photo_codec(network, config.network, out, images)


def verify(bundle: Path, images: Sequence[Pixels]) -> dict[str, Any]:
    """What the written bundle is worth, found through the package; see `verify_photo_codec`."""
    return verify_photo_codec(bundle, images[:VERIFIED_IMAGES])


def export_photo_codec(
    network: PhotoCodec, config: PhotoNetwork, out: Path, images: Sequence[Pixels]
) -> dict[str, Any]:
    """What a codec's manifest needs, with all files written into the folder `out`.

    Args:
        network: trained.
        config: its sizes.
        out: an existing folder.
        images: calibration images, uint8 (H, W, 3), sides multiples of 16.

    Raises:
        ExportError: a graph disagrees with torch, or integer contexts cost more than their budget.
    """
    # The bundle keeps the weights of the transforms in half precision, so they are rounded first:
    # what torch and the tables see is what ships.
    network = network.eval().cpu().float()
    for part in (*network.encoders.values(), network.synthesis):
        part.half().float()
    floats = [_planes(image) for image in images]
    with torch.no_grad():
        latents = [
            network.encoders["fast"](torch.from_numpy(planes)).numpy()[0] for planes in floats
        ]
        steps = network.steps(torch.linspace(0, 1, LEVELS))[:, :, 0, 0].numpy()

    files = _write_transforms(network, out, floats, latents, steps)
    files |= _write_contexts(network, config, out, latents, steps)
    model = _model(network, out)
    tables = _fit(model, latents, steps)
    (out / "tables.bin").write_bytes(
        tables.frequencies.astype("<u2").tobytes()
        + tables.shifts.tobytes()
        + steps.astype("<f4").tobytes()
    )
    figures = {
        "context_integer_cost": _check_contexts(network, model, tables, latents, steps),
        "parameters": {
            **{
                encoder_role(effort): sum(p.numel() for p in encoder.parameters())
                for effort, encoder in network.encoders.items()
            },
            "decoder": sum(p.numel() for p in network.synthesis.parameters()),
            "context": sum(p.numel() for p in network.context.parameters()),
        },
        "kilomacs_per_pixel": _kilomacs(network),
    }
    return {
        "graphs": files,
        "files": ["tables.bin"],
        "layout": {
            "kind": "image",
            "channels": 3,
            "stride": STRIDE,
            "encoder_halos": {
                effort: _encoder_halo(size)
                for effort, size in config.encoders.items()
                if effort != "fast"
            },
        },
        "latent": {
            "stride": STRIDE,
            "slices": [
                {
                    "channels": part.channels,
                    "centered": part.centered,
                    "phases": part.phases,
                }
                for part in _slices(network)
            ],
            "encoder_halo": _encoder_halo(config.fast),
            # A block reaches one cell of 8 pixels further; a latent is two cells wide.
            "decoder_halo": config.synthesis_deep_blocks + -(-config.synthesis_blocks // 2),
            "tile": TILE,
        },
        "figures": figures,
    }


def _encoder_halo(size: Encoder) -> int:
    """Latents around a tile that an encoder sees: each block reaches one place further, of 4, of 8
    or of 16 pixels."""
    pixels = 4 * size.fine_blocks + 8 * size.blocks + STRIDE * size.deep_blocks
    return -(-pixels // STRIDE)


def _planes(image: Pixels) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def _slices(network: PhotoCodec) -> list[context.SliceSpec]:
    parts = []
    for part in network.context.contexts:
        assert isinstance(part, SliceContext)
        parts.append(context.SliceSpec(part.own, part.centered, 2 if part.two_phases else 1))
    return parts


def _write_transforms(
    network: PhotoCodec,
    out: Path,
    floats: Sequence[npt.NDArray[np.float32]],
    latents: Sequence[npt.NDArray[np.float32]],
    steps: npt.NDArray[np.float32],
) -> dict[str, dict[str, str]]:
    files: dict[str, dict[str, str]] = {}
    pixels = [{"pixels": planes} for planes in floats]
    parts = [
        (encoder_role(effort), encoder_graph(analysis), pixels)
        for effort, analysis in network.encoders.items()
        if isinstance(analysis, Analysis)
    ]
    parts.append(("decoder", decoder_graph(network.synthesis), _decoder_inputs(latents, steps)))
    graphs: dict[str, Graph] = {}
    for role, (graph, in_float), inputs in parts:
        files[role] = {precision: f"{role}.{precision}.onnx" for precision in ("fp32", "int8")}
        fp32, int8 = (out / file for file in files[role].values())
        seen = inputs[:CALIBRATION_INPUTS]
        even, names = even_inputs(graph, seen)
        onnx.save_model(even, fp32)
        quantize(fp32, int8, seen, in_float=[*in_float, *names], percentile=CALIBRATION_PERCENTILE)
        onnx.save_model(graph, fp32)
        for file in (fp32, int8):
            model = onnx.load_model(file)
            store_half(model)
            onnx.save_model(model, file)
        graphs[role] = Graph(read_graph(fp32))
        if role.startswith("encoder_"):
            # A large encoder is there for power to spare, not for precision: one file is enough.
            fp32.unlink()
            files[role] = {"int8": int8.name}
    # The second shape is not square and smaller than the receptive field.
    for planes in (floats[0], floats[0][:, :, :48, :80]):
        planes = np.ascontiguousarray(planes)
        level = torch.full((1, 1, 1, 1), 0.375)
        with torch.no_grad():
            for effort, analysis in network.encoders.items():
                expected = analysis(torch.from_numpy(planes))
                found = graphs[encoder_role(effort)](planes)[0]
                check_close(encoder_role(effort), found, expected.numpy(), 2e-3)
            restored = network.synthesis(expected, level)
        found = graphs["decoder"](expected.numpy(), level.numpy())[0]
        check_close("decoder", found, restored.numpy(), 1e-3)
    return files


def _decoder_inputs(
    latents: Sequence[npt.NDArray[np.float32]], steps: npt.NDArray[np.float32]
) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Rounded latents, each at one of the calibration levels in turn."""
    inputs = []
    for latent, level in zip(latents, itertools.cycle(CALIBRATION_LEVELS), strict=False):
        step = steps[level][:, None, None]
        place = np.full((1, 1, 1, 1), level / (LEVELS - 1), np.float32)
        inputs.append({"latents": (np.rint(latent / step) * step)[None], "level": place})
    return inputs


def _write_contexts(
    network: PhotoCodec,
    config: PhotoNetwork,
    out: Path,
    latents: Sequence[npt.NDArray[np.float32]],
    steps: npt.NDArray[np.float32],
) -> dict[str, dict[str, str]]:
    symbols, levels = [], []
    for level in CALIBRATION_LEVELS:
        for latent in latents:
            symbols.append(torch.from_numpy(np.rint(latent / steps[level][:, None, None]))[None])
            levels.append(level / (LEVELS - 1))
    peaks = activation_peaks(network.context, symbols, levels)
    files = {}
    for i, part in enumerate(network.context.contexts):
        assert isinstance(part, SliceContext)
        known = sum(config.slices[:i])
        known_signed = sum(config.slices[: min(i, CENTERED_SLICES)])
        name = f"context{i}.fp32.onnx"
        onnx.save_model(context_graph(part, known, known_signed, peaks[i]), out / name)
        files[f"context{i}"] = {"fp32": name}
    return files


def _model(network: PhotoCodec, out: Path) -> context.ContextModel:
    parts = _slices(network)
    graphs = [Graph(read_graph(out / f"context{i}.fp32.onnx")) for i in range(len(parts))]
    return context.ContextModel(parts, graphs)


class _Recorder(entropy.Encoder):
    """An encoder that also keeps what it is given."""

    def __init__(self, tables: entropy.Tables) -> None:
        super().__init__(tables)
        self.stages: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def put(self, values: npt.NDArray[np.int64], tables: npt.NDArray[np.int64]) -> None:
        self.stages.append((tables, values))
        super().put(values, tables)


def _code(
    model: context.ContextModel,
    tables: entropy.Tables,
    latents: npt.NDArray[np.float32],
    steps: npt.NDArray[np.float32],
    level: int,
) -> tuple[_Recorder, context.Symbols]:
    """One latent coded at one level as the shipped codec would."""
    recorder = _Recorder(tables)
    quantized = latents / steps[level][:, None, None]
    choose = functools.partial(rounding(tables), quantized)
    shape = (latents.shape[1], latents.shape[2])
    return recorder, context.code(model, shape, level, recorder, choose)[:, 0]


def _fit(
    model: context.ContextModel,
    latents: Sequence[npt.NDArray[np.float32]],
    steps: npt.NDArray[np.float32],
) -> entropy.Tables:
    """Tables from what the context model's indices stand for on the calibration images."""
    start = logistic_tables()
    counts = np.zeros((TABLES, entropy.ALPHABET))
    for level in CALIBRATION_LEVELS:
        for latent in latents:
            recorder, _ = _code(model, start, latent, steps, level)
            count_symbols(recorder.stages, counts)
    return fit_tables(counts)


def _check_contexts(
    network: PhotoCodec,
    model: context.ContextModel,
    tables: entropy.Tables,
    latents: Sequence[npt.NDArray[np.float32]],
    steps: npt.NDArray[np.float32],
) -> float:
    """How much more real bytes are than what the float context model promises, as a ratio less
    one."""
    promised = written = 0.0
    for level in CALIBRATION_LEVELS:
        for latent in latents:
            recorder, symbols = _code(model, tables, latent, steps, level)
            written += 8 * len(recorder.finish())
            values = torch.from_numpy(symbols[None].astype(np.float32))
            with torch.no_grad():
                promised += float(
                    network.context(values, values, torch.tensor([level / (LEVELS - 1)]))
                )
    cost = written / promised - 1
    if cost > CONTEXT_BUDGET:
        raise ExportError(
            f"integer contexts and tables cost {cost:.1%} more than the float model, "
            f"expected at most {CONTEXT_BUDGET:.1%}"
        )
    return round(cost, 5)


def verify_photo_codec(bundle: Path, images: Sequence[Pixels]) -> dict[str, Any]:
    """What the int8 graphs cost, through the shipped package.

    Raises:
        ExportError: decompress(compress(x)) is not decode(encode(x)), or int8 is over its budget.
    """
    bytes_of, psnr_of = {}, {}
    for precision in ("fp32", "int8"):
        codec = ImageCodec.load(bundle, precision=precision)
        sizes, qualities = [], []
        for quality in (3, 5, 7):
            for image in images:
                blob = codec.compress(image, quality=quality)
                restored = codec.decompress(blob)
                sizes.append(len(blob))
                qualities.append(psnr_db(image, restored))
        if not np.array_equal(restored, codec.decode(codec.encode(image, quality=quality))):
            raise ExportError(
                f"{precision}: decompress(compress(x)) differs from decode(encode(x))"
            )
        bytes_of[precision], psnr_of[precision] = float(np.sum(sizes)), float(np.mean(qualities))
    loss_db = psnr_of["fp32"] - psnr_of["int8"]
    more = bytes_of["int8"] / bytes_of["fp32"] - 1
    if loss_db > INT8_BUDGET_DB or more > INT8_BUDGET_BYTES:
        raise ExportError(
            f"the int8 graphs lose {loss_db:.2f} dB and add {more:.1%} of bytes, "
            f"expected at most {INT8_BUDGET_DB} dB and {INT8_BUDGET_BYTES:.0%}"
        )
    return {"int8_loss_db": round(loss_db, 4), "int8_more_bytes": round(more, 5)}


def _kilomacs(network: PhotoCodec) -> dict[str, float]:
    """Thousands of multiply-adds per pixel, from the shapes of the convolutions."""
    totals = {
        encoder_role(effort): _part_kilomacs(encoder)
        for effort, encoder in network.encoders.items()
    }
    totals["decoder"] = _part_kilomacs(network.synthesis)
    # Contexts that are coded in two phases run twice.
    contexts = sum(
        sum(p.numel() for p in part.parameters()) * (2 if part.two_phases else 1)
        for part in network.context.contexts
    )
    totals["context"] = round(contexts / STRIDE**2 / 1000, 2)
    return totals


def _part_kilomacs(part: torch.nn.Module) -> float:
    macs = 0.0
    analysis = isinstance(part, Analysis)
    for path, layer in part.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and "condition" not in path:
            deep = path.startswith("deep_blocks") or path == ("leave" if analysis else "enter")
            fine = path.startswith(("fine_enter", "fine_blocks"))
            macs += layer.weight.numel() / (STRIDE**2 if deep else 16 if fine else 64)
    return round(macs / 1000, 2)
