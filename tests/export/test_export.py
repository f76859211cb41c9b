"""From a checkpoint to a bundle: it runs, it is exact, and what fails a check is never written."""

from __future__ import annotations

import hashlib
import json
import math
import shutil

import numpy as np
import onnx
import pytest
import tiny
from exact_sums import Bounds

torch = pytest.importorskip("torch")

from onnx.reference import ReferenceEvaluator
from small_photo import SMALL, shaken

import export.__main__ as exporting
import export.image
from edgeae import bundle
from edgeae.coding import context, entropy
from edgeae.coding.context import SYMBOL_LIMIT
from edgeae.errors import BundleError
from edgeae.image.codec import ImageCodec
from edgeae.metrics import psnr_db
from edgeae.onnx_check import read_graph
from edgeae.runtime import OPTIMIZATIONS, Graph
from export.bundle import add_figures, codec_id
from export.context_graph import (
    ACTIVATION_LIMIT,
    SUM_LIMIT,
    activation_peaks,
    context_graph,
)
from export.image_graphs import decoder_graph, encoder_graph
from export.parity import ExportError, check_close
from export.tables import count_symbols, fit_tables, logistic_tables
from train.entropy_model import (
    FIRST_LOG_SCALE,
    LOG_SCALE_STEP,
    ContextModel,
    logistic_bits,
    logistic_scale,
)
from train.image.data import PhotoData, Photos

# The image codecs; contexts of signals have tests of their own.
SHIPPED = [
    name
    for name in bundle.bundled_names()
    if (manifest := bundle.find(name).manifest).task == "codec"
    and manifest.layout["kind"] == "image"
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def exported(smoke_run, tmp_path_factory):
    """The smoke run's bundle, through the command line."""
    out = tmp_path_factory.mktemp("export") / "smoke"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["export", str(smoke_run / "best.pt"), str(out)])
        assert exporting.main() == 0
    return out


@pytest.fixture
def quick(monkeypatch):
    """Exports calibrate on less."""
    monkeypatch.setattr(export.image, "CALIBRATION_SIDE", 96)
    monkeypatch.setattr(export.image, "CALIBRATION_LEVELS", (0, 32, 64))


def pictures(count=2, side=96):
    photos = Photos(PhotoData(("synthetic",), crop_pixels=64, held_out=count))
    return photos.held_out_crops(side).permute(0, 2, 3, 1).contiguous().numpy()


# --- a bundle that runs


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_exported_codec_compresses_and_restores(exported, precision):
    codec = ImageCodec.load(exported, precision=precision)
    for image in [pictures(1)[0][:75, :90], np.zeros((1, 1, 3), np.uint8)]:
        for quality in (1, 5, 9):
            restored = codec.decompress(codec.compress(image, quality=quality))
            assert np.array_equal(restored, codec.decode(codec.encode(image, quality=quality)))
    assert psnr_db(pictures(1)[0], codec.decompress(codec.compress(pictures(1)[0]))) > 20


def test_both_precisions_read_each_other(exported):
    image = pictures(1)[0]
    exact, quantized = (ImageCodec.load(exported, precision=name) for name in ("fp32", "int8"))
    for writer in (exact, quantized):
        blob, latent = writer.compress(image), writer.encode(image)
        # Each reader finds the writer's own symbols, and shows them in its own arithmetic.
        for reader in (exact, quantized):
            assert np.array_equal(reader.decompress(blob), reader.decode(latent))
        assert psnr_db(exact.decompress(blob), quantized.decompress(blob)) > 40


def test_a_bundle_says_where_it_comes_from_and_what_it_is_worth(exported):
    manifest = bundle.find(exported).manifest
    assert manifest.name == "smoke" and manifest.task == "codec"
    assert manifest.provenance["steps"] > 0 and manifest.provenance["network"]["slices"]
    assert {"context_integer_cost", "int8_loss_db", "int8_more_bytes"} <= {*manifest.figures}
    card = (exported / "CARD.md").read_text()
    assert "smoke-photo" in card and "int8 loss db" in card


def test_every_changed_file_of_a_bundle_is_refused(exported, tmp_path):
    for file in sorted(exported.iterdir()):
        if file.name in ("manifest.json", "CARD.md"):
            continue
        copy = tmp_path / file.stem
        shutil.copytree(exported, copy)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        (copy / file.name).write_bytes(data)
        with pytest.raises(BundleError, match=f"{file.name} has changed"):
            ImageCodec.load(copy)


def test_the_card_of_a_bundle_may_be_edited(exported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    with (copy / "CARD.md").open("a") as card:
        card.write("\nLicence of the photographs: CC0.\n")
    assert ImageCodec.load(copy).bundle.id == bundle.find(exported).id


def test_an_export_gives_the_same_bundle_again(smoke_run, tmp_path, quick):
    for name in ("one", "two"):
        exporting.export(
            smoke_run / "best.pt", tmp_path / name, calibration=("synthetic",), name="same"
        )
    assert bundle.find(tmp_path / "one").id == bundle.find(tmp_path / "two").id


def models(folder):
    return {file.name: onnx.load(file) for file in sorted(folder.glob("*.onnx"))}


def shipped_and_exported():
    return ["exported", *SHIPPED]


@pytest.fixture(params=shipped_and_exported())
def codec_folder(request):
    if request.param == "exported":
        return request.getfixturevalue("exported")
    return bundle.find(request.param).path


def test_graphs_are_whole_and_of_standard_operators(codec_folder):
    assert len(models(codec_folder)) >= 3
    for name, model in models(codec_folder).items():
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}, name
        assert not model.functions, name
        kinds = {node.op_type for node in model.graph.node}
        # Cast gives back the weights that are kept in half precision.
        allowed = {"Conv", "Relu", "Add", "DepthToSpace", "Identity", "Cast"}
        if name.startswith(("encoder", "decoder")):
            allowed |= {"Mul"}  # latents have units of their own
        if ".int8." in name:
            allowed |= {"QuantizeLinear", "DequantizeLinear"}
        if name.startswith("context"):
            allowed = {"Conv", "Add", "Mul", "Min", "Abs", "Floor", "Clip", "Concat", "Slice"}
            allowed |= {"Cast", "Identity", "Reshape"}
        assert kinds <= allowed, f"{name}: {kinds - allowed}"
        for tensor in model.graph.initializer:
            assert tensor.data_location == onnx.TensorProto.DEFAULT, name


@pytest.mark.parametrize("role", ["encoder", "encoder_best", "decoder"])
def test_the_int8_graphs_are_made_of_int8_convolutions(role, exported):
    model = models(exported)[f"{role}.int8.onnx"]
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [weight for weight in weights if weight.ndim == 4]
    quantized = [weight for weight in weights if weight.dtype == np.int8]
    network = load_network(exported)
    blocks = {
        "encoder": sum(network["fast"][f"{kind}blocks"] for kind in ("", "deep_")),
        "encoder_best": sum(network["best"][f"{kind}blocks"] for kind in ("", "deep_", "fine_")),
        "decoder": network["synthesis_blocks"] + network["synthesis_deep_blocks"],
    }[role]
    assert len(quantized) >= blocks
    # Two products of 8-bit activations with such weights fit 16 bits on every processor.
    assert max(np.abs(weight.astype(int)).max() for weight in quantized) <= 64


def load_network(folder):
    return bundle.find(folder).manifest.provenance["network"]


# --- checks that fail


def snapshot(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def with_wrong_encoder(monkeypatch):
    honest = encoder_graph

    def wrong(analysis):
        model, in_float = honest(analysis)
        weight = model.graph.initializer[0]
        moved = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
        weight.CopyFrom(onnx.numpy_helper.from_array(moved, weight.name))
        return model, in_float

    monkeypatch.setattr(export.image, "encoder_graph", wrong)


def with_wrong_decoder(monkeypatch):
    honest = decoder_graph

    def wrong(synthesis):
        model, in_float = honest(synthesis)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "mode":
                    attribute.s = b"DCR"
        return model, in_float

    monkeypatch.setattr(export.image, "decoder_graph", wrong)


def with_wrong_contexts(monkeypatch):
    honest = context_graph

    def wrong(part, known, known_signed, peaks):
        # Activations are cut off far below what they reach, so contexts know next to nothing.
        return honest(part, known, known_signed, [1e6 * peak + 1e6 for peak in peaks])

    monkeypatch.setattr(export.image, "context_graph", wrong)
    monkeypatch.setattr(export.image, "fit_tables", lambda counts: logistic_tables())


FAILURES = {
    "the encoder graph": with_wrong_encoder,
    "the decoder graph": with_wrong_decoder,
    "integer contexts and tables cost": lambda patch: patch.setattr(
        export.image, "CONTEXT_BUDGET", -1.0
    ),
    "the int8 graphs lose": lambda patch: patch.setattr(export.image, "INT8_BUDGET_DB", -50.0),
    "expected at most 0.15 dB and -90%": lambda patch: patch.setattr(
        export.image, "INT8_BUDGET_BYTES", -0.9
    ),
}


@pytest.mark.parametrize(
    ("match", "old"),
    [(match, True) for match in FAILURES]
    # Early, when only graphs are there, and late, when the whole bundle is.
    + [("the encoder graph", False), ("the int8 graphs lose", False)],
)
def test_a_check_that_fails_leaves_no_bundle_and_keeps_an_old_one(
    match, old, smoke_run, exported, tmp_path, monkeypatch, quick
):
    out = tmp_path / "out"
    if old:
        shutil.copytree(exported, out)
    FAILURES[match](monkeypatch)
    with pytest.raises(ExportError, match=match) as caught:
        exporting.export(smoke_run / "best.pt", out, calibration=("synthetic",))
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == (["out"] if old else [])
    if old:
        assert snapshot(out) == snapshot(exported)


def test_contexts_that_know_nothing_are_over_their_budget(smoke_run, tmp_path, monkeypatch, quick):
    with_wrong_contexts(monkeypatch)
    with pytest.raises(
        ExportError, match="integer contexts and tables cost .* more than the float"
    ):
        exporting.export(smoke_run / "best.pt", tmp_path / "out", calibration=("synthetic",))


def test_a_new_bundle_replaces_an_old_one_whole(smoke_run, tmp_path, quick):
    out = tmp_path / "out"
    tiny.tiny_codec_bundle(out)
    exporting.export(smoke_run / "best.pt", out, calibration=("synthetic",))
    assert bundle.find(out).manifest.name == "out"
    assert not (out / "context9.fp32.onnx").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def said(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["export", *map(str, arguments)])
    return exporting.main(), capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_never_replaced(smoke_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.txt").write_text("three years")
    code, line = said([smoke_run / "best.pt", tmp_path], monkeypatch, capsys)
    assert code == 1 and "is there and is no bundle" in line and len(line.splitlines()) == 1
    file = tmp_path / "thesis.txt"
    code, line = said([smoke_run / "best.pt", file], monkeypatch, capsys)
    assert code == 1 and "is no bundle" in line
    assert file.read_text() == "three years"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["gone.pt", "out"], "no checkpoint at gone.pt"),
        (["garbage.pt", "out"], "garbage.pt is not a readable checkpoint"),
        (["last.pt", "out", "--calibration", "empty"], "0 images of .* found in empty"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    arguments, match, smoke_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.pt").write_bytes(b"garbage")
    (tmp_path / "empty").mkdir()
    (tmp_path / "last.pt").write_bytes((smoke_run / "last.pt").read_bytes())
    code, line = said(arguments, monkeypatch, capsys)
    assert code == 1 and line.startswith("export: ") and len(line.splitlines()) == 1
    with pytest.raises(ValueError, match=match):
        raise ValueError(line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (np.zeros((1, 3), np.float32), r"gives shape \(1, 3\), torch \(2, 3\)"),
        (np.full((2, 3), 0.02, np.float32), r"is 0.02 away from torch, expected at most 0.01"),
        (np.full((2, 3), np.nan, np.float32), "is nan away from torch"),
    ],
)
def test_a_graph_that_disagrees_with_torch_is_refused(found, match):
    with pytest.raises(ExportError, match=f"the step graph .*{match}"):
        check_close("step", found, np.zeros((2, 3), np.float32), 0.01)


# --- graphs against torch


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """A context model in torch, its integer graphs, and symbols that were its calibration."""
    torch.manual_seed(3)
    model = shaken(ContextModel(SMALL.slices, SMALL.context_channels))
    levels = [0.0, 0.5, 1.0]
    # Wider symbols in the first channels, and at finer levels.
    widths = torch.linspace(3.0, 0.3, sum(SMALL.slices))[:, None, None]
    symbols = [
        (torch.randn(4, sum(SMALL.slices), 12, 14) * widths * (1 + 4 * level)).round()
        for level in levels
    ]
    with torch.no_grad():
        model.start_scales(widths[:, 0, 0], torch.zeros(9, sum(SMALL.slices)))
        for part in model.contexts:
            part.scale.weight += 0.02 * torch.randn_like(part.scale.weight)
    peaks = activation_peaks(model, symbols, levels)
    folder, graphs = tmp_path_factory.mktemp("contexts"), []
    for i, part in enumerate(model.contexts):
        file = folder / f"context{i}.onnx"
        signed = sum(SMALL.slices[: min(i, 2)])
        onnx.save(context_graph(part, sum(SMALL.slices[:i]), signed, peaks[i]), file)
        graphs.append(Graph(read_graph(file)))
    return model, graphs, symbols, levels


def inputs_of(graph, part, before, own, level, phase):
    """What one slice's graph takes, in its order."""
    arrays = [np.array([level, phase], np.float32).reshape(1, 2, 1, 1)]
    if before.shape[1]:
        arrays.append(before)
    if part.two_phases:
        arrays.append(own)
    assert len(arrays) == len(graph.inputs)
    return [np.ascontiguousarray(array, np.float32) for array in arrays]


def test_integer_contexts_cost_what_the_float_ones_cost(contexts):
    model, graphs, symbols, levels = contexts
    rows, columns = np.ogrid[:12, :14]
    first = torch.from_numpy((rows + columns) % 2 == 0)
    promised, found = 0.0, 0.0
    for batch, level in zip(symbols, levels, strict=True):
        values = batch[:1]
        with torch.no_grad():
            promised += float(model(values, values, torch.tensor([level])))
        parts = list(values.split(SMALL.slices, dim=1))
        for i, (part, graph) in enumerate(zip(model.contexts, graphs, strict=True)):
            before = torch.cat([values[:, :0], *parts[:i]], dim=1).numpy()
            for phase in range(2 if part.two_phases else 1):
                own = (parts[i] * first if phase else 0 * parts[i]).numpy()
                index, *middles = graph(
                    *inputs_of(graph, part, before, own, round(64 * level), phase)
                )
                scale = logistic_scale(FIRST_LOG_SCALE + LOG_SCALE_STEP * torch.from_numpy(index))
                offset = parts[i] - torch.from_numpy(middles[0]) / 8 if middles else parts[i]
                turn = (~first if phase else first) if part.two_phases else first | True
                found += float((logistic_bits(offset, scale) * turn).sum())
    assert found == pytest.approx(promised, rel=0.02)


def extreme_inputs(graph, rng):
    """Integers as wide as symbols can be, in the shapes of the graph's ports."""
    arrays = [np.array([rng.integers(65), rng.integers(2)], np.float32).reshape(1, 2, 1, 1)]
    for port in graph.inputs[1:]:
        width = rng.choice([1, 10, 500, SYMBOL_LIMIT])
        arrays.append(rng.integers(-width, width + 1, (1, port.shape[1], 9, 11)).astype(np.float32))
    return arrays


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_integer_contexts_are_exact_however_they_run(codec_folder, optimization):
    for file in sorted(codec_folder.glob("context*.onnx")):
        plain = ReferenceEvaluator(onnx.load(file))
        one, two = (Graph(read_graph(file), optimization=optimization, threads=n) for n in (1, 2))
        rng = np.random.default_rng(0)
        for _ in range(3):
            arrays = extreme_inputs(one, rng)
            names = [port.name for port in one.inputs]
            expected = plain.run(None, dict(zip(names, arrays, strict=True)))
            for graph in (one, two):
                for found, wanted in zip(graph(*arrays), expected, strict=True):
                    assert np.array_equal(found, wanted), file.name


# --- the bound on every sum


def test_every_sum_in_a_context_graph_is_an_exact_float32(codec_folder):
    names = [name for name in models(codec_folder) if name.startswith("context")]
    assert len(names) >= 3
    for name in names:
        model = models(codec_folder)[name]
        bounds = Bounds(model)
        # The proof is not vacuous: weights use the room that there is.
        assert SUM_LIMIT / 4 < bounds.largest_sum < SUM_LIMIT, name
        low, high, whole = bounds.known["index"]
        assert whole and (low >= 0).all() and (high <= 63).all()
        if "middle" in bounds.known:
            low, high, whole = bounds.known["middle"]
            assert whole and (low >= -4088).all() and (high <= 4088).all()


def test_every_sum_is_exact_whatever_the_weights_are(contexts):
    model, _, symbols, levels = contexts
    for factor in (1e-6, 1.0, 100.0, 1e5):
        for i, part in enumerate(model.contexts):
            known, signed = sum(SMALL.slices[:i]), sum(SMALL.slices[: min(i, 2)])
            peaks = [np.full(SMALL.context_channels[i], factor)] * 3
            Bounds(context_graph(part, known, signed, peaks))


def test_weights_that_no_integer_can_carry_are_refused(contexts):
    model, *_ = contexts
    for value in (math.nan, math.inf, 1e30):
        part = ContextModel(SMALL.slices, SMALL.context_channels).contexts[0]
        with torch.no_grad():
            part.join.weight[0, 0] = value
        with pytest.raises(ExportError, match="weights"):
            context_graph(part, 0, 0, [np.ones(SMALL.context_channels[0])] * 3)


def test_activations_fill_their_range(contexts):
    # A channel's unit is the finest that holds its peak: between half of the range and all of it.
    model, graphs, *_ = contexts
    assert ACTIVATION_LIMIT == 1023 and len(graphs) == len(model.contexts)
    from export.context_graph import _exponents

    peaks = np.array([0.01, 0.5, 1.0, 7.0, 1000.0])
    units = 2.0 ** _exponents(peaks)
    assert ((peaks * units <= 1023) & (peaks * units > 511)).all()


# --- tables


def test_tables_without_counts_are_the_trainings_distributions():
    tables = logistic_tables()
    assert tables.frequencies.shape == (context.TABLES, 64)
    for index in (5, 20, 40, 63):
        scale = logistic_scale(torch.tensor(FIRST_LOG_SCALE + LOG_SCALE_STEP * index).double())
        values = torch.arange(0, 3).double()
        expected = torch.exp2(-logistic_bits(values, scale))
        expected[1:] *= 2
        width = 1 << int(tables.shifts[index])
        if width == 1:
            found = tables.frequencies[index, :3] / 4096
            assert found == pytest.approx(expected.numpy(), abs=0.02)
        # Nearly all of the mass is inside the alphabet.
        assert tables.frequencies[index, 63] <= 8


def test_tables_follow_what_was_counted():
    counts = np.zeros((context.TABLES, 64))
    table = 30
    shift = int(logistic_tables().shifts[table])
    values = np.full(100_000, 7 << shift)
    count_symbols([(np.full(100_000, table), values)], counts)
    assert counts[table, 7] == 100_000 == counts.sum()
    tables = fit_tables(counts)
    assert tables.frequencies[table, 7] > 3900
    others = np.arange(context.TABLES) != table
    assert np.array_equal(tables.frequencies[others], logistic_tables().frequencies[others])


def test_values_beyond_the_alphabet_count_as_escapes():
    counts = np.zeros((context.TABLES, 64))
    count_symbols([(np.array([3]), np.array([10_000]))], counts)
    assert counts[3, entropy.ESCAPE] == 1


# --- manifest


def test_the_codec_id_is_over_what_a_reader_must_share_and_nothing_else(exported, tmp_path):
    manifest = json.loads((exported / "manifest.json").read_text())
    files = {
        r: {"fp32": of["fp32"]["file"]} for r, of in manifest["graphs"].items() if "fp32" in of
    }
    assert tiny.codec_id(exported, manifest["latent"], files) == manifest["codec_id"]
    for file in sorted(exported.iterdir()):
        copy = tmp_path / file.stem
        shutil.copytree(exported, copy)
        (copy / file.name).write_bytes(file.read_bytes() + b"\0")
        shared = file.name == "tables.bin" or file.name.startswith("context")
        assert (codec_id(copy, manifest) != manifest["codec_id"]) == shared, file.name
    wider = {**manifest, "latent": {**manifest["latent"], "tile": 32}}
    assert codec_id(exported, wider) != manifest["codec_id"]


def test_the_manifest_vouches_for_every_file(exported):
    manifest = json.loads((exported / "manifest.json").read_text())
    entries = {**manifest["files"], **manifest["documents"]}
    assert {*manifest["documents"]} == {"CARD.md"}
    for precisions in manifest["graphs"].values():
        entries |= {entry["file"]: entry for entry in precisions.values()}
    assert {*entries} | {"manifest.json"} == {file.name for file in exported.iterdir()}
    for name, entry in entries.items():
        data = (exported / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest() and entry["bytes"] == len(data)


def test_figures_are_added_without_touching_the_codec(exported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    rows = [{"codec": "this", "saved": "25 %"}, {"codec": "JPEG", "saved": "0 %"}]
    add_figures(copy, [{"command": "python -m benchmarks.something", "rows": rows}])
    before, after = bundle.find(exported), bundle.find(copy)
    assert after.manifest.codec_id == before.manifest.codec_id and after.id != before.id
    assert after.manifest.figures["measured"][0]["rows"] == rows
    assert "| this | 25 % |" in (copy / "CARD.md").read_text()
    assert snapshot(copy).keys() == snapshot(exported).keys()
