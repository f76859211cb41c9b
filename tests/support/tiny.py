"""Tiny valid bundles, and ways to spoil them, made with onnx.helper alone: no torch, no weights."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 20
IR_VERSION = 10


def make_model(nodes, inputs, outputs, initializers=None) -> onnx.ModelProto:
    """A model of float32 tensors: ports are {name: shape}, initializers {name: array}."""
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side]
        for side in (inputs.items(), outputs.items())
    ]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(array), name)
        for name, array in (initializers or {}).items()
    ]
    graph = helper.make_graph(nodes, "tiny", *ports, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def relu_model(shape: Any = (1, 3)) -> onnx.ModelProto:
    """One Relu from `x` to `y`: the smallest graph that does something."""
    return make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})


def denoiser_step_model(
    *, bins: int, gain: float = 1.0, feedback: float = 0.0, lookahead_hops: int = 0, units: int = 4
) -> onnx.ModelProto:
    """One hop of a denoiser: spectrum and states in, clean spectrum and next states out.

    `h0` is a leaky mean of the spectrum's power, as a GRU's state would be. The clean spectrum is
    gain * (1 - feedback * h0_next / (1 + h0_next)) times the spectrum of `lookahead_hops` hops ago,
    so with feedback 0 it passes the signal through, and with more it depends on the whole past.
    """
    node = helper.make_node
    inputs = {"spectrum": (1, 2, bins), "h0": (1, 1, units)}
    outputs = {"clean": (1, 2, bins), "h0_next": (1, 1, units)}
    constants = {
        "leak": np.float32([0.9]),
        "input_gain": np.float32([0.1]),
        "one": np.float32([1.0]),
        "feedback": np.float32([feedback]),
        "gain": np.float32([gain]),
        "axes": np.int64([1, 2]),
    }
    nodes = [
        node("Mul", ["spectrum", "spectrum"], ["power"]),
        node("ReduceMean", ["power", "axes"], ["level"], keepdims=1),
        node("Mul", ["level", "input_gain"], ["entering"]),
        node("Mul", ["h0", "leak"], ["staying"]),
        node("Add", ["staying", "entering"], ["h0_next"]),
        node("ReduceMean", ["h0_next", "axes"], ["state"], keepdims=1),
        node("Add", ["state", "one"], ["above"]),
        node("Div", ["state", "above"], ["squashed"]),
        node("Mul", ["squashed", "feedback"], ["attenuation"]),
        node("Sub", ["one", "attenuation"], ["kept"]),
        node("Mul", ["kept", "gain"], ["mask"]),
    ]
    source = "spectrum"
    if lookahead_hops:
        inputs["past"] = outputs["past_next"] = (1, 2 * lookahead_hops, bins)
        constants["split"] = np.int64([2, 2 * lookahead_hops])
        nodes += [
            node("Concat", ["past", "spectrum"], ["all"], axis=1),
            node("Split", ["all", "split"], ["oldest", "past_next"], axis=1),
        ]
        source = "oldest"
    nodes.append(node("Mul", [source, "mask"], ["clean"]))
    return make_model(nodes, inputs, outputs, constants)


def tiny_denoiser_bundle(
    path: Path,
    *,
    window_samples: int = 512,
    hop_samples: int = 256,
    sample_rate_hz: int = 16_000,
    gain: float = 1.0,
    feedback: float = 0.0,
    lookahead_hops: int = 0,
    **sections: Any,
) -> Path:
    """A denoiser bundle in the directory `path`, which is made if need be; gives the path back.

    `sections` replace the manifest's; `denoiser_step_model` says what it does to the sound.
    """
    path.mkdir(parents=True, exist_ok=True)
    model = denoiser_step_model(
        bins=window_samples // 2 + 1, gain=gain, feedback=feedback, lookahead_hops=lookahead_hops
    )
    onnx.save(model, path / "step.fp32.onnx")
    (path / "CARD.md").write_text("# tiny\n\nPasses sound through.\n")
    # The second and later inputs are the states, in the manifest's order.
    state = {
        port.name: [axis.dim_value for axis in port.type.tensor_type.shape.dim]
        for port in model.graph.input[1:]
    }
    stream = {
        "window_samples": window_samples,
        "hop_samples": hop_samples,
        "window": "sqrt_hann",
        "state": state,
    }
    if lookahead_hops:
        stream["lookahead_hops"] = lookahead_hops
    manifest = {
        "task": "denoiser",
        "name": "tiny-denoiser",
        "layout": {"kind": "audio", "channels": 1, "sample_rate_hz": sample_rate_hz},
        "stream": stream,
        "graphs": {"step": {"fp32": "step.fp32.onnx"}},
        "files": ["CARD.md"],
    }
    return write_manifest(path, **{**manifest, **sections})


def write_manifest(path: Path, **sections: Any) -> Path:
    """Writes manifest.json in the directory with the right size and hash of every file; the path.

    `graphs` is {role: {precision: file name}} and `files` a list of file names; every other section
    is written as it is, over defaults that make the manifest complete. A section that is None is
    left out.
    """
    graphs = {
        role: {
            precision: {"file": file, **fingerprint(path / file)} for precision, file in of.items()
        }
        for role, of in sections.pop("graphs").items()
    }
    files = {file: fingerprint(path / file) for file in sections.pop("files", [])}
    manifest = {
        "format": 1,
        "version": "0.1.0",
        **sections,
        "graphs": graphs,
        "files": files,
        "provenance": sections.get("provenance", {"config": "tiny"}),
        "figures": sections.get("figures", {}),
    }
    save_manifest(path, {key: value for key, value in manifest.items() if value is not None})
    return path


def fingerprint(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def load_manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())


def save_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2))


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Lets `change` edit the manifest of the bundle in place."""
    manifest = load_manifest(path)
    change(manifest)
    save_manifest(path, manifest)
    return path


def change_graph(
    path: Path,
    change: Callable[[onnx.ModelProto], None],
    role: str = "step",
    precision: str = "fp32",
) -> Path:
    """Lets `change` edit one graph of the bundle in place, and gives it the right hash again."""
    entry = load_manifest(path)["graphs"][role][precision]
    file = path / entry["file"]
    model = onnx.load(file, load_external_data=False)
    change(model)
    return replace_graph(path, model.SerializeToString(), role, precision)


def replace_graph(path: Path, data: bytes, role: str = "step", precision: str = "fp32") -> Path:
    """Puts these bytes in the place of one graph of the bundle, with the right hash."""
    manifest = load_manifest(path)
    entry = manifest["graphs"][role][precision]
    (path / entry["file"]).write_bytes(data)
    entry.update(fingerprint(path / entry["file"]))
    save_manifest(path, manifest)
    return path


# A tiny picture codec: a 4x4 cosine transform of which nine coefficients are kept.

CODEC_STRIDE = 4
# Channels, centered, phases: every kind of slice that there is.
CODEC_SLICES = ((2, True, 2), (3, False, 2), (4, False, 1))
_CHANNELS = sum(channels for channels, _, _ in CODEC_SLICES)


def tiny_codec_bundle(
    path: Path,
    *,
    tile: int = 4,
    int8: bool = False,
    best: bool = False,
    seed: int = 0,
    **sections: Any,
) -> Path:
    """A codec bundle in the directory `path`, which is made if need be; gives the path back.

    Encoder and decoder look one latent beyond a block, and roughly undo each other: smooth pictures
    come back. Contexts look one latent around, use every kind of slice and leave some symbols
    uncoded. `tile` is in latents of 4 pixels; `int8` adds a quantized encoder, `best` one of that
    effort, which sees nothing around a block and rounds otherwise; another `seed` is another
    transform, with another id. `sections` replace the manifest's.
    """
    path.mkdir(parents=True, exist_ok=True)
    blur = np.random.default_rng(seed).normal(0, 0.01, (_CHANNELS, _CHANNELS, 3, 3))
    onnx.save(_codec_encoder(blur), path / "encoder.fp32.onnx")
    onnx.save(_codec_decoder(blur), path / "decoder.fp32.onnx")
    graphs = {
        "encoder": {"fp32": "encoder.fp32.onnx"},
        "decoder": {"fp32": "decoder.fp32.onnx"},
    }
    if int8:
        onnx.save(_codec_encoder(blur, int8=True), path / "encoder.int8.onnx")
        graphs["encoder"]["int8"] = "encoder.int8.onnx"
    if best:
        onnx.save(_codec_encoder(0 * blur, int8=True), path / "encoder_best.int8.onnx")
        graphs["encoder_best"] = {"int8": "encoder_best.int8.onnx"}
    known = 0
    for i, (channels, centered, phases) in enumerate(CODEC_SLICES):
        model = _codec_context(known, channels, centered=centered, two_phases=phases == 2)
        onnx.save(model, path / f"context{i}.fp32.onnx")
        graphs[f"context{i}"] = {"fp32": f"context{i}.fp32.onnx"}
        known += channels
    frequencies, shifts = codec_tables()
    # From a coarsest step of half the range of a pixel to 32 times finer.
    steps = np.exp2(-1 - 5 * np.arange(65) / 64)[:, None] * np.ones(_CHANNELS) * (1 + seed / 64)
    (path / "tables.bin").write_bytes(
        frequencies.astype("<u2").tobytes() + shifts.tobytes() + steps.astype("<f4").tobytes()
    )
    (path / "CARD.md").write_text("# tiny\n\nKeeps nine coefficients of 48.\n")
    latent = {
        "stride": CODEC_STRIDE,
        "slices": [
            {"channels": channels, "centered": centered, "phases": phases}
            for channels, centered, phases in CODEC_SLICES
        ],
        "encoder_halo": 1,
        "decoder_halo": 1,
        "tile": tile,
    }
    manifest = {
        "task": "codec",
        "name": "tiny-codec",
        "layout": {
            "kind": "image",
            "channels": 3,
            "stride": CODEC_STRIDE,
            **({"encoder_halos": {"best": 0}} if best else {}),
        },
        "latent": latent,
        "codec_id": codec_id(path, latent, graphs),
        "graphs": graphs,
        "files": ["tables.bin", "CARD.md"],
    }
    return write_manifest(path, **{**manifest, **sections})


def codec_id(path: Path, latent: Mapping[str, Any], graphs: Mapping[str, Any]) -> str:
    """The first 32 hex digits of the hash over all that a reader must share with the writer."""
    digest = hashlib.sha256(json.dumps(latent, sort_keys=True).encode())
    digest.update((path / "tables.bin").read_bytes())
    for role in sorted(graphs):
        if role.startswith("context"):
            digest.update((path / graphs[role]["fp32"]).read_bytes())
    return digest.hexdigest()[:32]


def codec_tables() -> tuple[np.ndarray, np.ndarray]:
    """Frequencies uint16 (384, 64) and shifts uint8 (384,): logistic, wider with every index.

    The first 64 tables are of magnitudes; then five for each index, whose middle lies 0 to 4
    eighths off an integer, of offsets in the order 0, 1, -1, 2, -2.
    """
    frequencies, shifts = [], []
    for table in range(64 + 64 * 5):
        index, fraction = (table, 0) if table < 64 else divmod(table - 64, 5)
        scale = 0.06 * np.exp(0.13 * index)
        reach = 10 * scale * (1 if table < 64 else 2)
        shift = max(0, int(np.ceil(np.log2(reach / 63))))
        values = np.arange(63 << shift)
        offsets = values if table < 64 else np.where(values % 2, (values + 1) // 2, -(values // 2))
        edges = (offsets[:, None] - fraction / 8 + [-0.5, 0.5]) / scale
        masses = np.diff(1 / (1 + np.exp(-np.clip(edges, -60, 60)))).ravel()
        if table < 64:
            masses[1:] *= 2
        symbols = np.append(masses.reshape(63, -1).sum(axis=1), 0)
        whole = 1 + np.floor(symbols / symbols.sum() * (4096 - 64)).astype(np.int64)
        whole[whole.argmax()] += 4096 - whole.sum()
        frequencies.append(whole)
        shifts.append(shift)
    return np.array(frequencies, np.uint16), np.array(shifts, np.uint8)


def _codec_basis() -> np.ndarray:
    """Nine orthonormal patterns of a 4x4 block of pixels, (9, 3, 4, 4)."""
    k, n = np.mgrid[0:4, 0:4]
    cosines = np.cos(np.pi * k * (2 * n + 1) / 8) * np.where(k == 0, 0.5, np.sqrt(0.5))
    light, orange, green = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    parts = [
        (light, 0, 0), (orange, 0, 0), (green, 0, 0), (light, 0, 1), (light, 1, 0),
        (light, 1, 1), (light, 0, 2), (light, 2, 0), (orange, 0, 1),
    ]  # fmt: skip
    return np.stack([np.einsum("c,y,x->cyx", c, cosines[y], cosines[x]) for c, y, x in parts])


def _codec_encoder(blur: np.ndarray, *, int8: bool = False) -> onnx.ModelProto:
    node = helper.make_node
    constants = {"basis": np.float32(_codec_basis()), "blur": np.float32(blur)}
    nodes = []
    source = "pixels"
    if int8:
        # Pixels are multiples of 1/255, so these eight bits hold them exactly.
        constants |= {"unit": np.float32(1 / 255), "zero": np.uint8(0)}
        nodes += [
            node("QuantizeLinear", ["pixels", "unit", "zero"], ["eight_bits"]),
            node("DequantizeLinear", ["eight_bits", "unit", "zero"], ["exact"]),
        ]
        source = "exact"
    nodes += [
        node("Conv", [source, "basis"], ["blocks"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Conv", ["blocks", "blur"], ["around"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Add", ["blocks", "around"], ["latents"]),
    ]
    inputs = {"pixels": (1, 3, "height", "width")}
    return make_model(nodes, inputs, {"latents": (1, _CHANNELS, "h", "w")}, constants)


def _codec_decoder(blur: np.ndarray) -> onnx.ModelProto:
    """Takes back most of what the encoder added, all of it at the finest level."""
    node = helper.make_node
    constants = {
        "inverse": np.float32(_codec_basis().reshape(_CHANNELS, 48).T[:, :, None, None]),
        "blur": np.float32(blur),
        "half": np.float32([0.5]),
    }
    nodes = [
        node("Conv", ["latents", "blur"], ["around"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Mul", ["level", "half"], ["half_level"]),
        node("Add", ["half_level", "half"], ["part"]),
        node("Mul", ["around", "part"], ["added"]),
        node("Sub", ["latents", "added"], ["blocks"]),
        node("Conv", ["blocks", "inverse"], ["cells"], kernel_shape=[1, 1]),
        node("DepthToSpace", ["cells"], ["pixels"], blocksize=4, mode="CRD"),
    ]
    inputs = {"latents": (1, _CHANNELS, "h", "w"), "level": (1, 1, 1, 1)}
    return make_model(nodes, inputs, {"pixels": (1, 3, "height", "width")}, constants)


def _codec_context(known: int, own: int, *, centered: bool, two_phases: bool) -> onnx.ModelProto:
    """Index (and middle) of one slice, in integers.

    The index rises with the level and with the magnitudes around. Where little is around, the last
    channel of a centered slice and all of a slice in one phase have index 0, so they are not coded.
    The middle is the mean of the four neighbours.
    """
    node = helper.make_node
    inputs: dict[str, Any] = {"setting": (1, 2, 1, 1)}
    outputs: dict[str, Any] = {"index": (1, own, "h", "w")}
    planes = []
    if known:
        inputs["known"] = (1, known, "h", "w")
        planes.append("known")
    if two_phases:
        inputs["own"] = (1, own, "h", "w")
        planes.append("own")
    seen = known * bool(known) + own * two_phases
    # In 64ths of an index: the steps of 64 levels differ by a factor of 32, about 26 indices.
    setting = np.zeros((own, 2, 1, 1), np.float32)
    setting[:, 0], setting[:, 1] = 22, -640 if centered else 0
    start = 64 * np.full(own, 14 if two_phases else -2)
    if centered:
        start[:] = 64 * np.linspace(30, 4, own)
    constants = {
        "limit": np.float32(32),
        "weights": np.full((own, seen, 3, 3), 3, np.float32),
        "start": np.float32(start),
        "setting_weights": setting,
        "unit": np.float32(1 / 64),
        "lowest": np.float32(0),
        "highest": np.float32(63),
    }
    nodes = [
        node("Concat", planes, ["planes"], axis=1),
        node("Abs", ["planes"], ["absolute"]),
        node("Min", ["absolute", "limit"], ["magnitudes"]),
        node("Conv", ["magnitudes", "weights", "start"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Conv", ["setting", "setting_weights"], ["b"], kernel_shape=[1, 1]),
        node("Add", ["a", "b"], ["sum"]),
        node("Mul", ["sum", "unit"], ["scaled"]),
        node("Floor", ["scaled"], ["whole"]),
        node("Clip", ["whole", "lowest", "highest"], ["clipped"]),
        node("Cast", ["clipped"], ["index"], to=TensorProto.INT32),
    ]
    if centered:
        outputs["middle"] = (1, own, "h", "w")
        cross = 2 * np.float32([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
        constants["cross"] = np.eye(own, dtype=np.float32)[:, :, None, None] * cross
        constants |= {"most": np.float32(4088), "least": np.float32(-4088)}
        nodes += [
            node("Conv", ["own", "cross"], ["neighbours"], kernel_shape=[3, 3], pads=[1] * 4),
            node("Clip", ["neighbours", "least", "most"], ["near"]),
            node("Cast", ["near"], ["middle"], to=TensorProto.INT32),
        ]
    model = make_model(nodes, inputs, outputs, constants)
    for port in model.graph.output:
        port.type.tensor_type.elem_type = TensorProto.INT32
    return model


def picture(height=50, width=70, channels=3, noise=0, seed=0):
    """Smooth light of all colors, uint8, with as much noise as asked."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [128 + 80 * np.sin(x / 11) + 30 * np.cos(y / 9), 128 + 90 * np.cos(x / 17 + y / 13)]
    planes += [60 + 2 * x, 3 * y + x]
    whole = np.stack(planes[: channels or 1], axis=-1) + rng.normal(0, 1 + noise, (1, 1, 1))
    whole = (whole + noise * rng.normal(size=whole.shape)).clip(0, 255).astype(np.uint8)
    return whole if channels else whole[:, :, 0]


# The .eae file from its description alone: what the package writes is read with these, and files
# that it would never write are made.

EAE_MAGIC = bytes.fromhex("894541450D0A1A0A")


def eae_file(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A file of these chunks, (type, body), every length and checksum right."""
    parts = [EAE_MAGIC]
    for kind, body in chunks:
        crc = zlib.crc32(kind + body)
        parts += [len(body).to_bytes(4, "little"), kind, body, crc.to_bytes(4, "little")]
    return b"".join(parts)


def eae_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a sound file, (type, body)."""
    chunks, position = [], len(EAE_MAGIC)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "little")
        kind = data[position + 4 : position + 8]
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def eae_head(
    codec_id: bytes, *, level: int = 0, channels: int = 3, height: int = 1, width: int = 1
) -> tuple[bytes, bytes]:
    """A header chunk, (type, body)."""
    size = height.to_bytes(4, "little") + width.to_bytes(4, "little")
    return b"HEAD", codec_id + bytes([level, channels]) + size


def tiny_image_denoiser_bundle(
    path: Path, *, tile: int = 1024, halo: int = 8, **sections: Any
) -> Path:
    """A bundle that blurs what is known of an image by 5x5 pixels and then darkens it by its level.

    Its estimator says of a square of 8x8 pixels a tenth of its mean. The graphs need 2 and 0 pixels
    around what they give.
    """
    path.mkdir(parents=True, exist_ok=True)
    node = helper.make_node
    free = ("height", "width")
    blur = np.full((3, 1, 5, 5), 1 / 25, np.float32)
    denoiser = make_model(
        [
            node("Mul", ["pixels", "known"], ["seen"]),
            node("Conv", ["seen", "blur"], ["smooth"], group=3, pads=[2, 2, 2, 2]),
            node("Sub", ["smooth", "level"], ["restored"]),
        ],
        {"pixels": (1, 3, *free), "level": (1, 1, *free), "known": (1, 1, *free)},
        {"restored": (1, 3, *free)},
        {"blur": blur},
    )
    square = np.full((1, 3, 8, 8), 0.1 / (3 * 64), np.float32)
    estimator = make_model(
        [node("Conv", ["pixels", "square"], ["levels"], strides=[8, 8])],
        {"pixels": (1, 3, *free)},
        {"levels": (1, 1, "rows", "columns")},
        {"square": square},
    )
    onnx.save(denoiser, path / "denoiser.fp32.onnx")
    onnx.save(estimator, path / "estimator.fp32.onnx")
    manifest = {
        "task": "denoiser",
        "name": "tiny-blur",
        "layout": {
            "kind": "image",
            "channels": 3,
            "stride": 8,
            "level_stride": 8,
            "tile": tile,
            "halo": halo,
            "level_halo": 0,
            "highest_level": 60,
            "smooth_holes": True,
        },
        "graphs": {
            "denoiser": {"fp32": "denoiser.fp32.onnx"},
            "estimator": {"fp32": "estimator.fp32.onnx"},
        },
        "files": [],
    }
    return write_manifest(path, **{**manifest, **sections})
