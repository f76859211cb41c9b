"""The photo codec in training: configurations, checkpoints, the loop, and where it starts from."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from benchmarks import training_curve
from train.__main__ import main
from train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from train.config import ConfigError, Optimize, config_from_dict, read_config
from train.image.loss import RateDistortion, rate_distortion
from train.image.network import PhotoCodec, level_of_quality
from train.image.recipe import ImageRecipe
from train.loop import learning_rate, train
from train.recipes import RECIPES
from train.run import make_optimizer, parameter_groups

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
SMOKE = CONFIGS / "smoke-photo.toml"


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # For the module, so that the runs which its fixtures share have one thread as well.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


def smoke(**changes):
    """The smoke configuration, smaller still; changes are `section__key=value`."""
    raw = tomllib.loads(SMOKE.read_text())
    raw["network"]["slices"] = [2, 3, 4, 5]
    raw["data"] |= {"crop_pixels": 32, "held_out": 2}
    raw["optimize"] |= {"steps": 4, "batch_size": 2, "warmup_steps": 2}
    for place, value in changes.items():
        section, _, key = place.rpartition("__")
        (raw[section] if section else raw)[key] = value
    return config_from_dict(raw)


def run(*arguments, monkeypatch, capsys):
    """Exit code and stderr of `python -m train`."""
    monkeypatch.setattr("sys.argv", ["train", *map(str, arguments)])
    code = main()
    return code, capsys.readouterr().err


# --- configurations


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda file: file.stem)
def test_every_configuration_that_ships_is_understood(file):
    assert read_config(file).name == file.stem


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (
            "task",
            "photo",
            f"task is 'photo', expected one of {', '.join(sorted(RECIPES))}",
        ),
        ("task", None, "task is None"),
        ("name", ..., "missing key name"),
        ("name", 5, "name is 5, expected str"),
        ("sed", 1, "unknown key sed; known: name, network"),
        ("seed", 1.5, "seed is 1.5, expected int"),
        ("seed", True, "seed is True, expected int"),
        ("network", 3, "network is 3, expected a table"),
        ("network__slice", [1], "unknown key network.slice; known: slices"),
        ("network__slices", 5, "network.slices is 5, expected a list"),
        ("network__slices", [4, "8"], r"network.slices\[1\] is '8', expected int"),
        ("network__context_channels", "16", "network.context_channels is '16', expected a list"),
        ("network__components", "16", "network.components is '16', expected int"),
        ("data__folders", ..., "missing key data.folders"),
        ("data__folders", "photos", "data.folders is 'photos', expected a list"),
        ("data__held_out", [4], r"data.held_out is \[4\], expected int"),
        ("loss__balance", "half", "loss.balance is 'half', expected float"),
        ("optimize__bfloat16", 1, "unknown key optimize.bfloat16; known: steps"),
        ("optimize__precision", 1, "optimize.precision is 1, expected str"),
        ("optimize__precision", "half", "precision is 'half', expected auto, float32, bfloat16"),
        ("optimize__steps", ..., "missing key optimize.steps"),
        ("optimize__steps", 0, "optimize.steps is 0, expected at least 1"),
        ("optimize__decay_steps", -1, "optimize.decay_steps is -1, expected at least 0"),
        (
            "optimize__algorithm",
            "sgd",
            "optimize.algorithm is 'sgd', expected one of adamw, muon, soap",
        ),
        ("optimize__batch_size", -1, "optimize.batch_size is -1, expected at least 1"),
        ("validate__every_steps", 0, "validate.every_steps is 0, expected at least 1"),
        ("validate__patience", 0, "validate.patience is 0, expected at least 1"),
    ],
)
def test_a_configuration_error_names_its_key(place, value, match):
    raw = tomllib.loads(SMOKE.read_text())
    section, _, key = place.rpartition("__")
    there = raw[section] if section else raw
    if value is ...:
        del there[key]
    else:
        there[key] = value
    with pytest.raises(ConfigError, match=match):
        config_from_dict(raw)


@pytest.mark.parametrize("text", ["name = ", "= 1", "[network", b"name = '\xff'"])
def test_what_is_not_toml_is_refused(text, tmp_path):
    file = tmp_path / "c.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_config(file)


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the config .*none.toml"):
        read_config(tmp_path / "none.toml")


def test_a_whole_number_will_do_for_a_float():
    assert smoke(optimize__learning_rate=1).optimize.learning_rate == 1.0


def test_a_configuration_comes_back_from_its_dict():
    config = read_config(SMOKE)
    assert config_from_dict(dataclasses.asdict(config)) == config


# --- checkpoints


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A run of four steps, and its configuration."""
    out = tmp_path_factory.mktemp("short")
    train(smoke(), out)
    return out


def test_a_checkpoint_describes_itself(short_run):
    config, state = load_checkpoint(short_run / "last.pt")
    assert config == smoke()
    assert state["step"] == 4 and state["history"][-1]["step"] == 4
    network = PhotoCodec(config.network)
    network.load_state_dict(state["averaged"])


def test_the_best_checkpoint_is_that_of_the_best_score(short_run):
    _, last = load_checkpoint(short_run / "last.pt")
    _, best = load_checkpoint(short_run / "best.pt")
    scores = {entry["step"]: entry["score"] for entry in last["history"]}
    assert last["best"] == min(scores.values()) == scores[best["step"]]


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda file: file.unlink(), "no checkpoint at "),
        (lambda file: file.write_bytes(b""), "not a readable checkpoint"),
        (lambda file: file.write_bytes(b"garbage" * 100), "not a readable checkpoint"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1000]), "not a readable checkpoint"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "not a readable checkpoint"),
        (lambda file: torch.save([1, 2], file), "not a checkpoint of format 1"),
        (lambda file: torch.save({"weights": 1}, file), "not a checkpoint of format 1"),
        (lambda file: torch.save({"format": 2}, file), "not a checkpoint of format 1"),
        (
            lambda file: torch.save({"format": 1}, file),
            "lacks averaged, best, config, history, seconds",
        ),
        (lambda file: torch.save({"format": 1, "object": Path("x")}, file), "not a readable"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused(spoil, match, short_run, tmp_path):
    file = tmp_path / "last.pt"
    file.write_bytes((short_run / "last.pt").read_bytes())
    spoil(file)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda config: config.update(name=3), "name is 3, expected str"),
        (lambda config: config["network"].update(depth=3), "unknown key network.depth"),
        (lambda config: config.clear(), "task is None"),
    ],
)
def test_a_checkpoint_of_a_configuration_no_longer_understood_is_refused(
    change, match, short_run, tmp_path
):
    state = torch.load(short_run / "last.pt", weights_only=True)
    change(state["config"])
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=f"last.pt: {match}"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_checkpoint_that_fails_to_be_written_leaves_the_old_one(short_run, tmp_path, monkeypatch):
    file = tmp_path / "last.pt"
    config, state = load_checkpoint(short_run / "last.pt")
    save_checkpoint(file, config, state)
    before = file.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="full"):
        save_checkpoint(file, config, state)
    assert file.read_bytes() == before


# --- the loop


def same(one, other):
    """Whether two nested states are equal, bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_resumed_run_goes_on_exactly(short_run, tmp_path):
    # A time budget of nothing ends a run after one step.
    for step in range(1, 4):
        state = train(smoke(), tmp_path, max_minutes=0, resume=step > 1)
        assert state["step"] == step
    train(smoke(), tmp_path, resume=True)
    _, whole = load_checkpoint(short_run / "last.pt")
    _, parts = load_checkpoint(tmp_path / "last.pt")
    assert parts["step"] == 4
    for part in ("network", "averaged", "optimizer"):
        assert same(whole[part], parts[part]), part
    assert whole["history"][-1]["score"] == parts["history"][-1]["score"]


def test_a_resumed_run_of_soap_goes_on_exactly(tmp_path):
    config = smoke(optimize__algorithm="soap")
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", max_minutes=0)
    parts = train(config, tmp_path / "parts", resume=True)
    for part in ("network", "averaged", "optimizer"):
        assert same(whole[part], parts[part]), part


def test_another_seed_is_another_run(short_run, tmp_path):
    state = train(smoke(seed=1), tmp_path)
    _, other = load_checkpoint(short_run / "last.pt")
    assert not same(state["network"], other["network"])


def test_a_best_checkpoint_is_nothing_to_go_on_from(short_run, tmp_path):
    (tmp_path / "last.pt").write_bytes((short_run / "best.pt").read_bytes())
    with pytest.raises(CheckpointError, match="holds weights alone"):
        train(smoke(), tmp_path, resume=True)


def test_a_finished_run_that_is_resumed_stays_as_it_is(short_run, tmp_path):
    (tmp_path / "last.pt").write_bytes((short_run / "last.pt").read_bytes())
    state = train(smoke(), tmp_path, resume=True)
    _, before = load_checkpoint(short_run / "last.pt")
    assert state["step"] == 4 and same(dict(state["network"]), dict(before["network"]))


def test_a_run_that_does_not_improve_stops(tmp_path):
    # A step of this size spoils what the linear start has found.
    config = smoke(
        optimize__steps=20, optimize__learning_rate=1.0, optimize__ema_decay=0.0,
        validate__every_steps=1, validate__patience=2,
    )  # fmt: skip
    state = train(config, tmp_path)
    assert state["stale"] == 2 and state["step"] < 20


def test_a_step_without_a_finite_gradient_is_left_out(tmp_path, monkeypatch):
    honest = ImageRecipe.loss

    def loss(self, network, batch, step):
        found, scalars = honest(self, network, batch, step)
        return (found * math.nan if step == 1 else found), scalars

    monkeypatch.setattr(ImageRecipe, "loss", loss)
    state = train(smoke(optimize__steps=3), tmp_path)
    assert all(torch.isfinite(value).all() for value in state["network"].values())
    assert state["step"] == 3


def test_an_error_in_making_a_batch_ends_the_run(tmp_path, monkeypatch):
    def batch(self, rng):
        raise OSError("a picture is gone")

    monkeypatch.setattr(ImageRecipe, "batch", batch)
    with pytest.raises(OSError, match="a picture is gone"):
        train(smoke(), tmp_path)


def test_a_new_run_starts_from_another_ones_weights(short_run, tmp_path):
    tiny_steps = smoke(optimize__learning_rate=1e-12, optimize__ema_decay=0.0, optimize__steps=1)
    state = train(tiny_steps, tmp_path, start_from=short_run / "best.pt")
    _, best = load_checkpoint(short_run / "best.pt")
    for name, value in best["averaged"].items():
        assert torch.allclose(state["network"][name], value, atol=1e-6), name


def test_a_run_that_starts_from_another_keeps_its_history(short_run, tmp_path):
    _, earlier = load_checkpoint(short_run / "best.pt")
    config = smoke()
    train(config, tmp_path / "second", start_from=short_run / "best.pt")
    train(config, tmp_path / "third", start_from=tmp_path / "second" / "best.pt")
    train(config, tmp_path / "third", resume=True)
    _, state = load_checkpoint(tmp_path / "third" / "last.pt")
    assert [run["step"] for run in state["before"]] == [earlier["step"], config.optimize.steps]
    assert state["before"][0]["history"] == earlier["history"]
    points = training_curve.curve([*state["before"], state])
    steps = [point["steps"] for point in points]
    assert (
        steps == sorted(set(steps))
        and steps[-1] == sum(r["step"] for r in state["before"]) + (state["step"])
    )
    assert points[-1]["steps"] > points[0]["steps"]


def test_a_wider_context_model_begins_as_the_narrow_one(short_run, tmp_path):
    wider = smoke(
        network__context_channels=[24] * 4, optimize__learning_rate=1e-12, optimize__steps=1
    )
    state = train(wider, tmp_path, start_from=short_run / "best.pt")
    narrow, wide = PhotoCodec(smoke().network), PhotoCodec(wider.network)
    narrow.load_state_dict(load_checkpoint(short_run / "best.pt")[1]["averaged"])
    wide.load_state_dict(state["network"])
    pixels, levels = torch.rand(2, 3, 64, 64), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        expected, found = narrow.eval()(pixels, levels), wide.eval()(pixels, levels)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointError, match="holds another network"):
        train(smoke(network__context_channels=[8] * 4), tmp_path, start_from=short_run / "best.pt")


def test_another_network_is_neither_resumed_nor_started_from(short_run, tmp_path):
    (tmp_path / "last.pt").write_bytes((short_run / "last.pt").read_bytes())
    other = smoke(network__slices=[2, 3, 4, 6])
    for options in ({"resume": True}, {"start_from": tmp_path / "last.pt"}):
        with pytest.raises(CheckpointError, match="holds another network than the config"):
            train(other, tmp_path, **options)


def test_the_rate_warms_up_and_falls_to_its_end():
    optimize = Optimize(steps=100, batch_size=1, learning_rate=2.0, warmup_steps=10)
    rates = [learning_rate(step, optimize) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == rates[10] == rates[9] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(2.0 * optimize.final_ratio)


def test_with_decay_steps_the_rate_is_constant_and_falls_in_a_line():
    optimize = Optimize(steps=100, batch_size=1, learning_rate=2.0, warmup_steps=10, decay_steps=20)
    rates = [learning_rate(step, optimize) for step in range(101)]
    assert set(rates[10:81]) == {2.0}
    assert rates[90] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(2.0 * optimize.final_ratio)
    # A longer run of the same rate goes on from where the shorter one began to fall.
    longer = dataclasses.replace(optimize, steps=200)
    assert [learning_rate(step, longer) for step in range(81)] == rates[:81]


def _left_over(algorithm, rate):
    """What 60 steps leave of a badly conditioned quadratic in a matrix, from 1."""
    rng = np.random.default_rng(0)
    turn = [np.linalg.qr(rng.normal(size=(16, 16)))[0] for _ in range(2)]
    rows, columns = (torch.from_numpy(q * np.geomspace(1, 30, 16)).float() for q in turn)
    layer = torch.nn.Conv2d(16, 16, 1)
    torch.nn.init.zeros_(layer.weight)
    goal = torch.from_numpy(rng.normal(size=(16, 16))).float()

    def loss():
        return (rows.T @ (layer.weight[:, :, 0, 0] - goal) @ columns).square().mean()

    before = float(loss().detach())
    optimize = Optimize(steps=60, batch_size=1, learning_rate=rate, algorithm=algorithm)
    optimizer = make_optimizer(layer, optimize)
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return float(loss().detach()) / before


def test_soap_turns_a_matrix_into_its_curvature():
    rates = (0.01, 0.03, 0.1)
    best = {name: min(_left_over(name, rate) for rate in rates) for name in ("adamw", "soap")}
    assert best["soap"] < 0.5 * best["adamw"], best


def test_soap_is_adam_for_vectors_and_for_layers_that_move_slowly():
    changes = []
    for algorithm in ("adamw", "soap"):
        torch.manual_seed(0)
        network = PhotoCodec(smoke().network)
        optimize = Optimize(steps=3, batch_size=1, learning_rate=0.01, algorithm=algorithm)
        optimizer = make_optimizer(network, optimize)
        for _ in range(3):
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter) * parameter.detach().sin()
            optimizer.step()
        changes.append(dict(network.named_parameters()))
    for name, value in changes[0].items():
        if value.ndim == 1 or name.endswith("linear.weight"):
            assert torch.allclose(value, changes[1][name], atol=1e-5), name


def test_vectors_do_not_decay_and_the_linear_path_moves_slowly():
    network = PhotoCodec(smoke().network)
    optimize = smoke(optimize__weight_decay=0.1).optimize
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    seen = []
    for group in parameter_groups(network, optimize):
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0), name
            slow = bool(re.match(r"(encoders\.\w+|synthesis)\.(enter|leave)\.", name))
            assert group["relative_rate"] == (optimize.slow_ratio if slow else 1.0), name
    assert sorted(seen) == sorted(names.values())


# --- the command


def test_the_smoke_configuration_trains_from_the_command_line(smoke_run):
    config, state = load_checkpoint(smoke_run / "last.pt")
    assert config == read_config(SMOKE) and state["step"] == config.optimize.steps
    assert [entry["step"] for entry in state["history"]] == [75, 150]
    assert (smoke_run / "best.pt").is_file()
    assert list((smoke_run / "tensorboard").glob("events*"))


def test_training_makes_it_better(smoke_run):
    config, state = load_checkpoint(smoke_run / "last.pt")
    task = ImageRecipe(config, torch.device("cpu"))
    task.start()
    before = task.validate(task.network.eval())["score"]
    assert state["history"][-1]["score"] < before - 0.01


def test_a_time_budget_ends_a_run_with_a_checkpoint(tmp_path, monkeypatch, capsys):
    file = tmp_path / "small.toml"
    file.write_text(SMOKE.read_text().replace("crop_pixels = 64", "crop_pixels = 32"))
    patched = {"monkeypatch": monkeypatch, "capsys": capsys}
    code, _ = run(file, "--out", tmp_path, "--max-minutes", "0", **patched)
    assert code == 0
    _, state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 1 and len(state["history"]) == 1
    assert (tmp_path / "best.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["none.toml"], "cannot read the config none.toml"),
        ([SMOKE, "--photos", "nowhere"], "nowhere is not a folder"),
        ([SMOKE, "--speech", "."], "--speech is not for the task photo-codec"),
        ([CONFIGS / "smoke-speech.toml", "--photos", "."], "--photos is not for the task speech"),
        ([SMOKE, "--resume"], "no checkpoint at .*last.pt"),
        ([SMOKE, "--start-from", "gone.pt"], "no checkpoint at gone.pt"),
        ([CONFIGS / "photo-codec.toml"], "0 images of 256 pixels .* found in no folders"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(
    arguments, match, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    code, said = run(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and len(said.splitlines()) == 1
    pytest.raises(ValueError, _raise, said).match(f"^train: {match}")
    assert not list(tmp_path.rglob("*.pt"))


def _raise(message):
    raise ValueError(message)


# --- the network


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"data__crop_pixels": 40}, "crop_pixels is 40, expected a multiple of 16"),
        ({"data__crop_pixels": 0}, "crop_pixels is 0"),
        ({"data__held_out": 0}, "held_out is 0, expected at least 1"),
        ({"data__held_out_share": 1.0}, "held_out_share is 1.0, expected between 0 and 1"),
    ],
)
def test_data_that_cannot_be_cut_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        ImageRecipe(smoke(**changes), torch.device("cpu"))


def test_a_linear_start_reconstructs():
    changes = {"slices": [8, 24, 64, 96], "components": 96, "synthesis_channels": 96}
    encoders = {"fast": {"channels": 96}, "best": {"channels": 104, "fine_channels": 8}}
    config = smoke(**{f"network__{key}": value for key, value in {**changes, **encoders}.items()})
    task = ImageRecipe(config, torch.device("cpu"))
    task.start()
    pixels = task.photos.held_out_crops(128).float() / 255
    with torch.no_grad():
        restored, bits = task.network.eval()(pixels, torch.ones(len(pixels)))
    # Of both efforts: neither has learned anything yet.
    error = (restored.clamp(0, 1) - pixels.repeat(2, 1, 1, 1)).square().mean((1, 2, 3))
    assert (-10 * error.log10()).min() > 28
    assert torch.allclose(*error.chunk(2), rtol=0.05)
    # And it knows how widely its latents spread: far from eight bits a value.
    assert float(bits.mean()) / 128**2 < 3


def test_every_part_of_the_network_learns():
    task = ImageRecipe(smoke(), torch.device("cpu"))
    task.start()
    network = task.network
    # Last layers begin at zero, and what lies in front of them learns once they have moved.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    loss, _ = task.loss(network, task.batch(np.random.default_rng(0)), 0)
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_steps_are_interpolated_between_levels():
    network = PhotoCodec(smoke().network)
    with torch.no_grad():
        network.log_steps[3] = 1.0
        network.log_steps[4] = 2.0
    levels = torch.tensor([3 / 8, 3.5 / 8, 4 / 8, 1.0])
    finest = network.log_steps[8, 0].item()
    found = network.steps(levels)[:, 0, 0, 0].log().tolist()
    assert found == pytest.approx([1.0, 1.5, 2.0, finest], abs=1e-5)


@pytest.mark.parametrize("quality", [0, 9.5, math.nan])
def test_a_quality_out_of_range_is_refused(quality):
    with pytest.raises(ValueError, match="expected 1 to 9"):
        level_of_quality(quality)


def test_a_picture_does_not_depend_on_the_others_in_its_batch():
    network = PhotoCodec(smoke().network).eval()
    pixels, levels = torch.rand(3, 3, 32, 48), torch.tensor([0.0, 0.5, 1.0])
    with torch.no_grad():
        together, bits = network(pixels, levels)
        alone, own_bits = network(pixels[1:2], levels[1:2])
    # Three of one effort, then three of the other.
    assert torch.allclose(together[1::3], alone, atol=1e-5)
    assert torch.allclose(bits[1::3], own_bits, rtol=1e-4)


def test_a_finer_level_weighs_distortion_more():
    pixels, restored = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.1)
    bits = torch.tensor([100.0])
    losses, rate = [], 100 / 256
    for level in (0.0, 0.5, 1.0):
        found, per_pixel = rate_distortion(
            pixels, restored, bits, torch.tensor([level]), RateDistortion(balance=0.0)
        )
        assert float(per_pixel) == pytest.approx(rate)
        losses.append(float(found) - rate)
    assert losses[2] == pytest.approx(200 * losses[0], rel=1e-4)
    assert losses[0] == pytest.approx(0.0008 * 255**2 * 0.01, rel=1e-4)
