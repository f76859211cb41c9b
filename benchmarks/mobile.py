"""What the copies of `export.mobile` lose in quality against the graphs that ship.

    python -m benchmarks.mobile NOISY CLEAN PHOTOS --json benchmarks/results/mobile.json

Four forms of the graphs run on the CPU: as they ship ("fp32"), with operators that NNAPI, CoreML
and QNN have ("portable"), rounded to half precision after every operator, as NPUs and CoreML
compute ("fp16"), and in whole numbers, 16-bit activations and 8-bit weights ("a16w8"). The speech
denoiser hears every recording: SI-SDR and PESQ-WB against the clean one, and the SI-SDR of its
output against the shipped graph's. The photo codec, encoder and decoder replaced together, takes
the images of 768x512 pixels at qualities 3, 5 and 7: PSNR and bytes, means over all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.progress import track

from edgeae.bench.machine import machine, versions
from edgeae.bundle import Bundle, find
from edgeae.image.codec import ImageCodec
from edgeae.media import read_audio, read_image
from edgeae.metrics import psnr_db, si_sdr_db
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal.denoiser import SignalDenoiser
from export.a16w8 import INTEGER, integer_copy, typical_inputs
from export.bundle import markdown_table
from export.mobile import make_mobile

SIZE = 512, 768
QUALITIES = (3, 5, 7)
SHIPPED, HALF = "fp32", "fp16"
PACKAGES = ("edgeae", "numpy", "onnx", "onnxruntime", "pesq")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mobile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("noisy", type=Path, help="folder of noisy recordings at 16 kHz")
    parser.add_argument("clean", type=Path, help="folder of the clean recordings, same names")
    parser.add_argument("photos", type=Path, help="folder of images")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--speech-model", default="speech-denoiser")
    parser.add_argument("--photo-model", default="photo-codec")
    parser.add_argument("--files", type=int, help="take only the first so many of each")
    options = parser.parse_args(arguments)
    speech, photo = find(options.speech_model), find(options.photo_model)
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "speech": speech_rows(
                forms(speech, Path(folder) / "speech"),
                speech,
                [(file, options.clean / file.name) for file in _files(options.noisy)][
                    : options.files
                ],
            ),
            "photo": photo_rows(
                forms(photo, Path(folder) / "photo"),
                photo,
                _files(options.photos)[: options.files],
            ),
        }
    report = {
        "what": "quality of mobile copies",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "bundles": {bundle.manifest.name: bundle.id for bundle in (speech, photo)},
        **rows,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for found in rows.values():
        print(markdown_table(found), end="\n\n")


def forms(bundle: Bundle, folder: Path) -> dict[str, dict[str, Path]]:
    """The file of each role that leaves the CPU, by form; made in the folder."""
    found: dict[str, dict[str, Path]] = {}
    for copy in make_mobile(bundle, folder, size=SIZE):
        if not copy.role.startswith("context") and copy.form != "int8":
            found.setdefault(copy.form, {})[copy.role] = copy.file
    typical = typical_inputs(bundle, precision="fp32", size=SIZE)
    for role, file in found[SHIPPED].items():
        half = folder / f"{role}.{HALF}.onnx"
        onnx.save(rounded_to_half(onnx.load(file)), half)
        found.setdefault(HALF, {})[role] = half
        # make_mobile makes none of a step graph, for the reason that is measured here.
        if role not in found.get(INTEGER, {}):
            whole = folder / f"{role}.{INTEGER}.onnx"
            integer_copy(file, whole, typical[role])
            found.setdefault(INTEGER, {})[role] = whole
    return {form: found[form] for form in (SHIPPED, "portable", HALF, INTEGER) if form in found}


def rounded_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its weights and what every node gives rounded to half precision.

    A graph of float16 tensors would not do: onnxruntime's CPU computes runs of its nodes in
    float32 and rounds at their ends.
    """
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            node.output[i] = f"{name}_exact"
            nodes += [
                helper.make_node(
                    "Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16
                ),
                helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT),
            ]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def speech_rows(
    files: Mapping[str, Mapping[str, Path]], bundle: Bundle, pairs: Sequence[tuple[Path, Path]]
) -> list[Row]:
    """A row for each form: means over the recordings."""
    import pesq

    denoisers = {form: SignalDenoiser(bundle, precision=SHIPPED) for form in files}
    for form, denoiser in denoisers.items():
        denoiser._step = _graph(files[form]["step"], form)
    values: dict[str, dict[str, list[float]]] = {form: {} for form in denoisers}
    for noisy_file, clean_file in _progress("speech", pairs):
        noisy, rate = read_audio(noisy_file)
        clean, _ = read_audio(clean_file)
        shipped = denoisers[SHIPPED].denoise(noisy, sample_rate=rate)
        for form, denoiser in denoisers.items():
            out = denoiser.denoise(noisy, sample_rate=rate)
            told = {
                "si_sdr_db": si_sdr_db(clean, out),
                "pesq": pesq.pesq(rate, clean, out, "wb", on_error=pesq.PesqError.RETURN_VALUES),
            }
            if form != SHIPPED:
                told["to_shipped_db"] = si_sdr_db(shipped, out)
            for key, value in told.items():
                values[form].setdefault(key, []).append(float(value))
    return [
        {
            "form": form,
            "files": len(pairs),
            **{key: round(float(np.mean(listed)), 3) for key, listed in found.items()},
        }
        for form, found in values.items()
    ]


def photo_rows(
    files: Mapping[str, Mapping[str, Path]], bundle: Bundle, images: Sequence[Path]
) -> list[Row]:
    """A row for each form: means over the images of the right size and the qualities."""
    sized = [image for image in map(read_image, images) if image.shape[:2] == SIZE]
    rows = []
    for form, by_role in files.items():
        codec = ImageCodec(bundle, precision=SHIPPED)
        # A bundle's own graphs have free shapes; in this benchmark every image has one.
        encoder, decoder = (_graph(by_role[role], form) for role in ("encoder", "decoder"))
        codec._encoders.fast = replace(codec._encoders.fast, graph=encoder)
        codec._synthesis = replace(codec._synthesis, graph=decoder)
        quality_db, size_bytes = [], []
        for image in _progress(f"photos, {form}", sized):
            for quality in QUALITIES:
                blob = codec.compress(image, quality=quality)
                size_bytes.append(len(blob))
                quality_db.append(psnr_db(image, codec.decompress(blob)))
        rows.append(
            {
                "form": form,
                "images": len(sized),
                "psnr_db": round(float(np.mean(quality_db)), 3),
                "bytes": round(float(np.mean(size_bytes)), 1),
            }
        )
    return rows


def _graph(file: Path, form: str) -> Graph:
    # An optimizer would see that rounding changes no type in the end, and take it out.
    return Graph(read_graph(file), optimization="disabled" if form == HALF else "all")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and file.suffix != ".tsv")


def _progress(title: str, items: Sequence[Any]) -> Any:
    console = Console(stderr=True)
    return track(items, title, console=console, disable=not console.is_terminal)


if __name__ == "__main__":
    main()
