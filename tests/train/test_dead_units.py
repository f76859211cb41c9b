"""Units that answer to nothing are reported by a validation and made anew by the next run."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import Config, config_from_dict
from train.denoiser.dead_units import dead_units, revive
from train.denoiser.network import DenoiserNetwork, PhotoDenoiser
from train.denoiser.recipe import DenoiserRecipe
from train.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network():
    config = DenoiserNetwork(channels=(16, 16), blocks=(1, 1), level_channels=8)
    network = PhotoDenoiser(config).eval()
    for conv in (network.enter, network.down[0], network.down_blocks[1][0].first):
        torch.nn.init.constant_(conv.bias, 1.0)
    for blocks in (network.down_blocks[0], network.up_blocks[0]):
        torch.nn.init.constant_(blocks[0].first.bias, 1.0)
    return network


@pytest.fixture
def see(network):
    pixels = torch.rand(2, 3, 32, 32)
    ones = torch.ones_like(pixels[:, :1])
    return lambda: network.restore(pixels, 0.1 * ones, ones)


def silence(network):
    """A block whose first convolution has half of its units off, which its second listens to."""
    block = network.down_blocks[1][0]
    with torch.no_grad():
        block.first.bias[:8] = -100.0
        torch.nn.init.normal_(block.second.weight, 0, 0.1)
        torch.nn.init.normal_(network.leave.weight, 0, 0.1)
    return block


def test_a_unit_that_is_never_on_is_found(network, see):
    assert not any(dead.any() for dead in dead_units(network, see).values())
    silence(network)
    found = dead_units(network, see)
    assert found["down_blocks.1.0.first"].tolist() == [True] * 8 + [False] * 8
    assert sum(int(dead.sum()) for dead in found.values()) == 8


def test_revived_units_in_blocks_answer_again_and_change_nothing_at_first(network, see):
    block = silence(network)
    with torch.no_grad():
        before = see()
        weights = block.first.weight.clone()
        assert revive(network, see) == 8
        torch.testing.assert_close(see(), before)
    assert not any(dead.any() for dead in dead_units(network, see).values())
    assert torch.equal(block.first.weight[8:], weights[8:])
    torch.nn.functional.mse_loss(see(), before + 1).backward()
    assert (block.second.weight.grad[:, :8].abs().amax(dim=(0, 2, 3)) > 0).all()


def test_revived_units_of_the_stream_begin_quietly(network, see):
    with torch.no_grad():
        network.enter.bias[:4] = -100.0
        torch.nn.init.normal_(network.leave.weight, 0, 0.1)
        before = see()
        assert revive(network, see) == 4
        after = see()
    assert 0 < float((after - before).std()) < 0.1 * float((after - after.mean()).std())


def smoke(**optimize) -> Config:
    return config_from_dict(
        {
            "name": "smoke",
            "task": "photo-denoiser",
            "network": {"channels": [16, 16], "blocks": [1, 1], "level_channels": 8},
            "data": {"folders": ["synthetic"], "crop_pixels": 32, "held_out": 2},
            "loss": {},
            "optimize": {"steps": 1, "batch_size": 1, "learning_rate": 1e-6, **optimize},
            "validate": {"every_steps": 1},
        }
    )


def test_a_validation_counts_dead_units_and_a_run_begun_from_them_revives_them(tmp_path, capsys):
    config = smoke(precision="float32")
    train(config, tmp_path / "first")
    file = tmp_path / "first" / "last.pt"
    _, state = load_checkpoint(file)
    alive = state["history"][-1]["dead_units"]
    state["averaged"]["down_blocks.1.0.first.bias"][:] = -100.0
    save_checkpoint(file, config, state)
    again = train(config, tmp_path / "second", start_from=file)
    made = re.search(r"dead units made anew: (\d+)", capsys.readouterr().out)
    assert made and int(made[1]) >= 16
    assert again["history"][-1]["dead_units"] <= alive
    # What is frozen stays as it is, dead units and all.
    frozen = smoke(precision="float32", freeze=("enter", "down", "up", "leave"))
    kept = train(frozen, tmp_path / "third", start_from=file)["averaged"]
    assert "made anew" not in capsys.readouterr().out
    assert (kept["down_blocks.1.0.first.bias"] == -100).all()


def test_a_validation_counts_a_block_that_answers_to_nothing():
    network = PhotoDenoiser(smoke().network)
    with torch.no_grad():
        network.down_blocks[1][0].first.bias[:] = -100.0
    recipe = DenoiserRecipe(smoke(), torch.device("cpu"))
    assert recipe.validate(network)["dead_units"] >= 16
