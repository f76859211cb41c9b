"""The speech codec's bundle: step graphs, contexts and tables, each held against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edgeae.coding.rate import LEVELS
from edgeae.coding.single_lane import ALPHABET, FineTables
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal.codec_blocks import LatentCoder
from edgeae.signal.contexts import code_values
from edgeae.signal.speech_codec import SpeechCodec as Running
from edgeae.signal.speech_contexts import SpeechContexts
from edgeae.signal.speech_signal import MIDDLE_PITCH, Ear
from edgeae.signal.speech_stream import FRAMES_OF_A_GRAPH
from export.fine_tables import TABLES, counted, fine_tables
from export.parity import ExportError, check_close
from export.signal_context_graph import context_graphs
from export.speech_codec_graphs import decoder_graph, encoder_graph
from train.config import Config
from train.speech.codec_data import CodecSpeech, SpeechPieces
from train.speech.codec_network import SpeechCodec
from train.speech.codec_signal import FRAME_SAMPLES, SAMPLE_RATE_HZ

TASK = "codec"

# Levels at which tables and activation ranges are measured.
CALIBRATION_LEVELS = (0, 16, 24, 32, 48, 64)
_PIECES = 48
# The integer context model may cost this much more than the float one it stands for.
CONTEXT_BUDGET = 0.03
# Values of the encoder and of spectra are of the order of 1.
_TOLERANCE = 1e-3
_FINE_TOLERANCE = 0.1
# Frames that the graphs are given at a time.
_CHECKED = (1, 1, 3, FRAMES_OF_A_GRAPH, 2, FRAMES_OF_A_GRAPH, FRAMES_OF_A_GRAPH, 4)

Latents = dict[int, npt.NDArray[np.float32]]


def calibration(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders of speech to calibrate on; without any, those of the run are taken."""
    return () if folders == ("synthetic",) else folders


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: tuple[str, ...]
) -> dict[str, Any]:
    """What a codec's manifest needs, with all files written into the folder `out`.

    Raises:
        ExportError: a graph disagrees with torch, or integer contexts cost more than their budget.
        ValueError: there is no speech to calibrate on.
    """
    network = SpeechCodec(config.network)
    network.load_state_dict(weights)
    network.eval().float()
    # The bundle keeps these weights in half precision: what torch and the tables see is what ships.
    for part in (network.encoder, network.decoder):
        part.half().float()
    speech = _speech(config.data, inputs)
    with torch.no_grad():
        learned = network.steps(torch.linspace(0, 1, LEVELS))[:, :, 0, 0].numpy()
    # A step of the pitch is a step.
    steps = np.concatenate([np.ones((LEVELS, 1), np.float32), learned], axis=1)
    files = _write_steps(network, out, speech)
    latents = _latents(network, speech)
    symbols = {level: np.rint(x / steps[level][:, None]) for level, x in latents.items()}
    graphs = context_graphs(
        network.context,
        [torch.from_numpy(x)[:, :, None].float() for x in symbols.values()],
        [level / (LEVELS - 1) for level in symbols],
    )
    for i, graph in enumerate(graphs):
        onnx.save_model(graph, out / f"context{i}.fp32.onnx")
        files[f"context{i}"] = {"fp32": f"context{i}.fp32.onnx"}
    reach = 1 + sum(config.network.context_dilations)
    contexts = SpeechContexts(
        config.network.slices,
        reach,
        [Graph(read_graph(out / f"context{i}.fp32.onnx")) for i in range(len(graphs))],
    )
    plain = fine_tables(np.zeros((TABLES, ALPHABET)))
    tables = _fit(LatentCoder(contexts, plain, steps, exact_channels=1), latents)
    (out / "tables.bin").write_bytes(
        tables.frequencies.astype("<u2").tobytes()
        + tables.shifts.tobytes()
        + steps.astype("<f4").tobytes()
    )
    coder = LatentCoder(contexts, tables, steps, exact_channels=1)
    cost, rates = _check_contexts(network, coder, latents)
    return {
        "graphs": files,
        "files": ["tables.bin"],
        "layout": {"kind": "audio", "channels": 1, "sample_rate_hz": SAMPLE_RATE_HZ},
        "latent": {
            "model": "pulses-and-noise",
            "frame_samples": FRAME_SAMPLES,
            "slices": list(config.network.slices),
            "reach": reach,
        },
        "stream": {
            "encoder_state": {k: list(v) for k, v in network.encoder.stack.state_shapes().items()},
            "decoder_state": {k: list(v) for k, v in network.decoder.stack.state_shapes().items()},
        },
        "figures": {
            "context_integer_cost": cost,
            "bit_per_s_on_calibration": rates,
            "parameters": {
                name: sum(p.numel() for p in getattr(network, name).parameters())
                for name in ("encoder", "decoder", "context")
            },
        },
    }


def verify(bundle: Path, inputs: tuple[str, ...]) -> dict[str, Any]:
    """Figures of the written bundle, through the package.

    Raises:
        ExportError: what comes back of a file or a stream is not finite audio.
    """
    codec = Running.load(bundle)
    rng = np.random.default_rng(0)
    audio = (0.05 * rng.standard_normal(12_345)).astype(np.float32)
    for quality in (2, 6):
        restored = codec.decompress(codec.compress(audio, quality=quality))
        if restored.shape != audio.shape or not np.isfinite(restored).all():
            raise ExportError("the bundle gives back something else than finite audio")
        # The same frames, as a stream gives them.
        sender = codec.stream(quality=quality, packet_frames=3)
        receiver = codec.listen(sender.opening)
        said = [receiver.receive(packet) for packet in [*sender.send(audio), *sender.end()]]
        if not np.isfinite(np.concatenate(said)).all():
            raise ExportError("a stream gives back something else than finite audio")
    sizes = sum(file.stat().st_size for file in bundle.iterdir())
    return {"bundle_bytes_before_figures": sizes}


def _speech(config: CodecSpeech, folders: tuple[str, ...]) -> torch.Tensor:
    """Pieces of training speech, float32 (_PIECES, segment_samples), drawn as in training."""
    if folders:
        config = type(config)(speech=folders, cache="", segment_samples=config.segment_samples)
    pieces = SpeechPieces(config)
    return torch.from_numpy(pieces.batch(np.random.default_rng(1), _PIECES))


def _write_steps(
    network: SpeechCodec, out: Path, speech: torch.Tensor
) -> dict[str, dict[str, str]]:
    """Encoder and decoder, some frames after others, beside torch's whole passage on speech with
    losses."""
    encoder = _written(encoder_graph(network), out, "encoder")
    decoder = _written(decoder_graph(network), out, "decoder")
    frames = sum(_CHECKED)
    audio = speech[:1, : frames * FRAME_SAMPLES]
    level = torch.tensor([0.375])
    lost = torch.zeros(1, frames, dtype=torch.bool)
    lost[:, 20:24] = True
    with torch.no_grad():
        powers, correlation, index, fine = network.features(audio)
        whole = network.latents(powers, correlation, index, fine, level)
        tones = network.windows(torch.randn(audio.shape))
        noise = network.windows(torch.randn(audio.shape))
        given = whole * ~lost.T[..., None]
        seen = network.decoder.seen(
            given,
            index.T[..., None].float(),
            level.expand(len(whole), 1, 1),
            lost.T[..., None].float(),
        )
        shape = network.decoder.stack(seen).transpose(0, 1)
        shaped = network.decoder.shaped(shape, given.transpose(0, 1), tones, noise)[0]
    whole = whole[:, 0]
    heard, spoken = _zeros(network.encoder.stack), _zeros(network.decoder.stack)
    ear, begin = Ear(), 0
    for count in _CHECKED:
        here = slice(begin, begin + count)
        begin += count
        # The package's own ear: what it hears is what training heard.
        sound = audio[0].numpy().reshape(-1, FRAME_SAMPLES)[here]
        power, correlated, tracked, told = ear.hear(sound)
        if not np.array_equal(tracked, index[0, here]):
            raise ExportError(f"the package hears pitches {tracked}, torch {index[0, here]}")
        pitch = tracked[:, None].astype(np.float32)
        plane = np.full_like(pitch, float(level))
        # Where pulses are faint their phases are not sure to many digits.
        check_close("fine structure", told, fine[0, here].numpy(), _FINE_TOLERANCE)
        latents, *heard = encoder(power, correlated, pitch, plane, fine[0, here].numpy(), *heard)
        tolerance = _TOLERANCE * float(whole.abs().max())
        check_close("encoder", latents, whole[here].numpy(), tolerance)
        spectra, *spoken = decoder(
            whole[here].numpy(),
            pitch,
            plane,
            lost[0, here, None].float().numpy(),
            tones[0, here].numpy(),
            noise[0, here].numpy(),
            *spoken,
        )
        tolerance = _TOLERANCE * float(shaped.abs().max())
        check_close("decoder", spectra, shaped[here].numpy(), tolerance)
    return {role: {"fp32": f"{role}.fp32.onnx"} for role in ("encoder", "decoder")}


def _zeros(stack: nn.Module) -> list[npt.NDArray[np.float32]]:
    shapes = stack.state_shapes()  # type: ignore[operator]
    return [np.zeros(shape, np.float32) for shape in shapes.values()]


def _written(model: onnx.ModelProto, out: Path, role: str) -> Graph:
    file = out / f"{role}.fp32.onnx"
    onnx.save_model(model, file)
    return Graph(read_graph(file))


def _latents(network: SpeechCodec, speech: torch.Tensor) -> Latents:
    """Pitch and latents (pieces, channels, frames) by level."""
    found = {}
    with torch.no_grad():
        powers, correlation, index, fine = network.features(speech)
        pitch = (index - MIDDLE_PITCH).float()[:, None]
        for level in CALIBRATION_LEVELS:
            plane = torch.full((len(speech),), level / (LEVELS - 1))
            latents = network.latents(powers, correlation, index, fine, plane).permute(1, 2, 0)
            found[level] = torch.cat([pitch, latents], dim=1).numpy()
    return found


def _fit(coder: LatentCoder, latents: Latents) -> FineTables:
    """Tables from what the context model's indices stand for on the calibration speech."""
    counts = np.zeros((TABLES, ALPHABET))
    for level, pieces in latents.items():
        for piece in pieces:
            symbols = coder.quantize(piece, level, [slice(0, piece.shape[1])])
            known = coder.contexts.distributions([(coder.contexts.past(), symbols)], level)
            counted(code_values(symbols, known).ravel(), known.tables.ravel(), counts)
    return fine_tables(counts)


def _check_contexts(
    network: SpeechCodec, coder: LatentCoder, latents: Latents
) -> tuple[float, dict[str, int]]:
    """How much more real bytes are than what the float context model promises, as a ratio less
    one; and bits a second at each level."""
    promised = written = 0.0
    rates = {}
    for level, pieces in latents.items():
        here = 0
        for piece in pieces[::4]:
            symbols = coder.quantize(piece, level, [slice(0, piece.shape[1])])
            here += 8 * len(coder.encode(coder.contexts.past(), symbols, level))
            values = torch.from_numpy(symbols.astype(np.float32))[None, :, None]
            with torch.no_grad():
                place = torch.tensor([level / (LEVELS - 1)])
                promised += float(network.context(values, values, place))
        written += here
        seconds = len(pieces[::4]) * pieces.shape[2] * FRAME_SAMPLES / SAMPLE_RATE_HZ
        rates[str(level)] = round(here / seconds)
    cost = written / promised - 1
    if cost > CONTEXT_BUDGET:
        raise ExportError(
            f"integer contexts and tables cost {cost:.1%} more than the float model, "
            f"expected at most {CONTEXT_BUDGET:.1%}"
        )
    return round(cost, 5), rates
