"""The signal codec's bundle: graphs and tables, each held against torch before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeae.coding.context import FRACTIONS
from edgeae.coding.rate import LEVELS
from edgeae.coding.single_lane import ALPHABET, FineTables
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal import exact
from edgeae.signal.codec import SignalCodec
from edgeae.signal.codec_blocks import LatentCoder
from edgeae.signal.contexts import Contexts, Distribution, code_values
from edgeae.signal.exact import BINS, ExactTables
from edgeae.signal.matches import MatchRule
from export.fine_tables import TABLES, counted, fine_tables, scale_of_index
from export.graph_writer import store_half
from export.parity import ExportError, check_close
from export.signal_context_graph import context_graphs
from export.torch_graph import write_torch_graph
from train.config import Config
from train.signal.codec_data import CodecData, has_records, normalized
from train.signal.codec_network import (
    PHASES,
    STRIDE,
    SignalCodecNetwork,
    SignalNetwork,
    folded,
)
from train.signal.ecg import HELD_OUT, SAMPLE_RATE_HZ, read_records
from train.signal.files import read_folders

TASK = "codec"

# Levels at which tables and activation ranges are measured.
CALIBRATION_LEVELS = (0, 16, 24, 32, 48, 64)
# Of each record so much, from so far into it; of that so much for latents.
_CALIBRATION_SAMPLES, _BEGIN = 16 * 1026, 200_000
_LATENT_SAMPLES = 16 * 512
# Of plain folders so many series, and none that is shorter.
_SERIES, _LEAST_SAMPLES = 16, 2 * 16 * 24
# The integer context model may cost this much more than the float one it stands for.
CONTEXT_BUDGET = 0.03
# Errors of a bin are blended with as many of what its edges say.
_BIN_PRIOR = 20.0

Counts = npt.NDArray[np.float64]
Leads = npt.NDArray[np.int64]


def calibration(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders to calibrate on, see `pieces_of`; without any, those of the run are taken."""
    return () if folders == ("synthetic",) else folders


def pieces_of(data: CodecData) -> list[Leads]:
    """Pieces (samples, leads) in whole numbers of the training records of an electrocardiogram, or
    of the beginnings of series of plain folders.

    Raises ValueError if the folders are not there any more or hold nothing that is long enough.
    """
    for folder in data.folders:
        if not Path(folder).exists():
            raise ValueError(f"{folder} is not there any more: --calibration names another folder")
    if has_records(data.folders):
        pieces = []
        for folder in data.folders:
            for record in read_records(Path(folder), "DS1", without=HELD_OUT):
                piece = record.counts[_BEGIN : _BEGIN + _CALIBRATION_SAMPLES]
                pieces.append(piece.astype(np.int64))
        return pieces
    found = read_folders(data.folders, columns=data.columns, leave_out=data.leave_out)
    series = [one[:_CALIBRATION_SAMPLES] for one in found.series if len(one) >= _LEAST_SAMPLES]
    if not series:
        raise ValueError(
            f"no series in {', '.join(data.folders)} has {_LEAST_SAMPLES} samples to calibrate on"
        )
    return [in_whole_numbers(one) for one in series[:_SERIES]]


def in_whole_numbers(series: npt.NDArray[np.float32]) -> Leads:
    """A series (samples, channels) as a converter would give it: whole numbers stay, others are
    counted in hundredths of their channel's deviation."""
    wide = series.astype(np.float64)
    if np.array_equal(wide, np.rint(wide)):
        return wide.astype(np.int64)
    deviation = np.maximum(wide.std(0), 1e-30)
    return np.rint((wide - wide.mean(0)) * (100 / deviation)).astype(np.int64)


def made_signal(seed: int) -> Leads:
    """Two leads of pulses that repeat, a drift and noise, in whole numbers."""
    rng = np.random.default_rng(seed)
    time = np.arange(_CALIBRATION_SAMPLES) / SAMPLE_RATE_HZ
    phase = np.cumsum(1 + 0.05 * rng.standard_normal(len(time))) / SAMPLE_RATE_HZ * 1.2 % 1
    pulse = np.exp(-(((phase - 0.4) / 0.02) ** 2)) + 0.2 * np.exp(-(((phase - 0.7) / 0.06) ** 2))
    drift = 0.2 * np.sin(2 * np.pi * 0.2 * time + seed)
    leads = np.stack([pulse + drift, 0.6 * pulse - drift], axis=1)
    noisy = 200 * leads + 1024 + 2 * rng.standard_normal(leads.shape)
    return np.rint(noisy).astype(np.int64)


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: tuple[str, ...]
) -> dict[str, Any]:
    """What a codec's manifest needs, with all files written into the folder `out`.

    Raises:
        ExportError: a graph disagrees with torch, or integer contexts cost more than their budget.
    """
    network = SignalCodecNetwork(config.network)
    network.load_state_dict(weights)
    network.eval().float()
    # The bundle keeps these weights in half precision: what torch and the tables see is what ships.
    for part in (network.analysis, network.synthesis):
        part.half().float()
    pieces = pieces_of(replace(config.data, folders=inputs) if inputs else config.data)
    # Every first lead, and every fourth of the others.
    leads = [piece[:, 0] for piece in pieces]
    leads += [lead for piece in pieces[::4] for lead in piece.T[1:]]
    signals = [normalized(lead) for lead in leads]
    signals = [signal[: min(len(signal) // STRIDE * STRIDE, _LATENT_SAMPLES)] for signal in signals]
    with torch.no_grad():
        steps = network.steps(torch.linspace(0, 1, LEVELS))[:, :, 0, 0].numpy()
    files = _write_transforms(network, out, signals)
    latents = _latents(network, signals)
    files |= _write_contexts(network, out, latents, steps)
    coder = _coder(network, config.network, out, fine_tables(np.zeros((TABLES, ALPHABET))), steps)
    tables = _fit(coder, latents)
    exact_tables = fit_exact(pieces)
    (out / "tables.bin").write_bytes(
        _table_bytes(tables)
        + _table_bytes(exact_tables.fine)
        + exact_tables.scales.tobytes()
        + steps.astype("<f4").tobytes()
    )
    coder = LatentCoder(coder.contexts, tables, coder.steps)
    rule = network.context.rule
    return {
        "graphs": files,
        "files": ["tables.bin"],
        "layout": {"kind": "signal", "sample_rate_hz": _rate(config.data), "stride": STRIDE},
        "latent": {
            "stride": STRIDE,
            "phases": PHASES,
            "slices": list(config.network.slices),
            "reach": 1 + sum(config.network.context_dilations),
            "encoder_halo": _halo(2 + sum(config.network.analysis_dilations)),
            # The first layer looks one step further, the last one phase.
            "decoder_halo": 1 + _halo(1 + sum(config.network.synthesis_dilations)),
            "matches": {
                "nearest": rule.nearest,
                "furthest": rule.furthest,
                "history": list(rule.history),
                "refine_channels": rule.refine_channels,
                "refine_weight": rule.refine_weight,
            },
        },
        "figures": {
            "context_integer_cost": _check_contexts(network, coder, latents),
            "parameters": {
                name: sum(p.numel() for p in getattr(network, name).parameters())
                for name in ("analysis", "synthesis", "context")
            },
        },
    }


def _halo(cells: int) -> int:
    """Latent steps that so many places at the rate of the phases reach."""
    return -(-cells * PHASES // STRIDE)


def _rate(data: CodecData) -> float:
    """The sample rate in Hz, a whole number where it is one."""
    rate = data.sample_rate_hz
    return int(rate) if rate == int(rate) else rate


def verify(bundle: Path, inputs: tuple[str, ...]) -> dict[str, Any]:
    """Figures of the written bundle, through the package.

    Raises:
        ExportError: decompress(compress(x)) is not decode(encode(x)), or exact samples do not come
            back.
    """
    codec = SignalCodec.load(bundle)
    signal = made_signal(0)[:5000].astype(np.int32)
    for quality in (2, 6):
        blob = codec.compress(signal, quality=quality)
        restored = codec.decompress(blob)
        if not np.array_equal(restored, codec.decode(codec.encode(signal, quality=quality))):
            raise ExportError("decompress(compress(x)) differs from decode(encode(x))")
    if not np.array_equal(codec.decompress(codec.compress(signal, lossless=True)), signal):
        raise ExportError("exact samples do not come back")
    sizes = sum(file.stat().st_size for file in bundle.iterdir())
    return {"bundle_bytes_before_figures": sizes}


def _write_transforms(
    network: SignalCodecNetwork, out: Path, signals: Sequence[npt.NDArray[np.float32]]
) -> dict[str, dict[str, str]]:
    steps = torch.export.Dim("steps", min=1, max=1 << 16)
    level = torch.full((1, 1, 1, 1), 0.375)
    files = {role: {"fp32": f"{role}.fp32.onnx"} for role in ("encoder", "decoder")}
    phases = folded(torch.from_numpy(signals[0][None, : 24 * STRIDE]))
    channels = sum(network.config.slices)
    latents = torch.randn(1, channels, 1, 24)
    for role, module, example, size, names in (
        ("encoder", network.analysis, phases, STRIDE // PHASES * steps, ("phases", "latents")),
        ("decoder", network.synthesis, latents, steps, ("latents", "phases")),
    ):
        file = out / files[role]["fp32"]
        model = write_torch_graph(
            module,
            (example, level),
            file,
            name=role,
            inputs=[names[0], "level"],
            outputs=[names[1]],
            dynamic_shapes=({3: size}, None),
        )
        store_half(model)
        onnx.save_model(model, file)
        graph = Graph(read_graph(file))
        # The second shape is smaller than the receptive field.
        for length in (example.shape[3], example.shape[3] // 6):
            part = example[..., :length].contiguous()
            with torch.no_grad():
                expected = module(part, level)
            check_close(role, graph(part.numpy(), level.numpy())[0], expected.numpy(), 1e-3)
    return files


def _latents(
    network: SignalCodecNetwork, signals: Sequence[npt.NDArray[np.float32]]
) -> dict[int, list[npt.NDArray[np.float32]]]:
    """Latents (channels, steps) of all signals by level."""
    found: dict[int, list[npt.NDArray[np.float32]]] = {}
    with torch.no_grad():
        for level in CALIBRATION_LEVELS:
            plane = torch.full((1, 1, 1, 1), level / (LEVELS - 1))
            found[level] = [
                network.analysis(folded(torch.from_numpy(signal[None])), plane)[0, :, 0].numpy()
                for signal in signals
            ]
    return found


def _write_contexts(
    network: SignalCodecNetwork,
    out: Path,
    latents: dict[int, list[npt.NDArray[np.float32]]],
    steps: npt.NDArray[np.float32],
) -> dict[str, dict[str, str]]:
    symbols, levels = [], []
    for level, parts in latents.items():
        for part in parts[::2]:
            whole = np.rint(part / steps[level][:, None])
            symbols.append(torch.from_numpy(whole)[None, :, None])
            levels.append(level / (LEVELS - 1))
    files = {}
    for i, graph in enumerate(context_graphs(network.context, symbols, levels)):
        name = f"context{i}.fp32.onnx"
        onnx.save_model(graph, out / name)
        files[f"context{i}"] = {"fp32": name}
    return files


def _coder(
    network: SignalCodecNetwork,
    config: SignalNetwork,
    out: Path,
    tables: FineTables,
    steps: npt.NDArray[np.float32],
) -> LatentCoder:
    graphs = [
        Graph(read_graph(out / f"context{i}.fp32.onnx")) for i in range(1 + len(config.slices))
    ]
    rule = network.context.rule
    match_rule = MatchRule(
        rule.nearest, rule.furthest, rule.history, rule.refine_channels, rule.refine_weight
    )
    reach = 1 + sum(config.context_dilations)
    return LatentCoder(Contexts(config.slices, match_rule, reach, graphs), tables, steps)


def _coded(
    coder: LatentCoder, latent: npt.NDArray[np.float32], level: int
) -> tuple[npt.NDArray[np.int32], Distribution]:
    """The symbols of a latent as the codec picks them, and how they are distributed."""
    symbols = coder.quantize(latent, level, [slice(0, latent.shape[1])])
    return symbols, coder.contexts.distributions([(coder.contexts.past(), symbols)], level)


def _fit(coder: LatentCoder, latents: dict[int, list[npt.NDArray[np.float32]]]) -> FineTables:
    """Tables from what the context model's indices stand for on the calibration signals."""
    counts = np.zeros((TABLES, ALPHABET))
    for level, parts in latents.items():
        for part in parts:
            symbols, known = _coded(coder, part, level)
            counted(code_values(symbols, known).ravel(), known.tables.ravel(), counts)
    return fine_tables(counts)


def _check_contexts(
    network: SignalCodecNetwork,
    coder: LatentCoder,
    latents: dict[int, list[npt.NDArray[np.float32]]],
) -> float:
    """How much more real bytes are than what the float context model promises, as a ratio less
    one."""
    promised = written = 0.0
    for level, parts in latents.items():
        for part in parts[::4]:
            symbols, _ = _coded(coder, part, level)
            written += 8 * len(coder.encode(coder.contexts.past(), symbols, level))
            values = torch.from_numpy(symbols.astype(np.float32))[None, :, None]
            with torch.no_grad():
                place = torch.tensor([level / (LEVELS - 1)])
                promised += float(network.context(values, values, place))
    cost = written / promised - 1
    if cost > CONTEXT_BUDGET:
        raise ExportError(
            f"integer contexts and tables cost {cost:.1%} more than the float model, "
            f"expected at most {CONTEXT_BUDGET:.1%}"
        )
    return round(cost, 5)


def fit_exact(inputs: Sequence[Leads]) -> ExactTables:
    """Scales and tables of exact samples from what predictions miss on the calibration signals."""
    sums, numbers = np.zeros((BINS, BINS)), np.zeros((BINS, BINS))
    missed = []
    for piece in inputs:
        # The first samples have nothing before them, and say nothing of the others.
        first = exact.OWN_ORDER
        block = min(8192, len(piece) - first)
        for begin in range(first, len(piece) - block + 1, block):
            together = piece[begin - first : begin + block]
            for channel in range(piece.shape[1]):
                wanted, middle = exact.fitted_predictions(together, first, channel)
                errors = np.abs(8 * wanted - middle)
                short, long = exact.error_bins(errors)
                np.add.at(sums, (short, long), errors / 8)
                np.add.at(numbers, (short, long), 1)
                missed.append((short, long, wanted, middle))
    mean = (sums + _BIN_PRIOR * exact.bin_errors()) / (numbers + _BIN_PRIOR)
    scales = np.array([scale_of_index(index) for index in range(TABLES // FRACTIONS)])
    # The mean of |x| of a logistic distribution is 2 ln 2 times its scale.
    distance = np.abs(np.log(mean[..., None] / (2 * np.log(2))) - np.log(scales))
    chosen = distance.argmin(axis=-1).astype(np.uint8)
    counts = np.zeros((TABLES, ALPHABET))
    for short, long, wanted, middle in missed:
        values, fractions = exact.centered(wanted, middle)
        counted(values, chosen[short, long].astype(np.int64) * FRACTIONS + fractions, counts)
    return ExactTables(fine_tables(counts), chosen)


def _table_bytes(tables: FineTables) -> bytes:
    return tables.frequencies.astype("<u2").tobytes() + tables.shifts.tobytes()
