"""The complex taps on the speech denoiser's lowest bins, and what it sees of phases."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from train.speech.complex_filter import _phases
from train.speech.loss import SpeechLoss, spectrum_of, speech_loss
from train.speech.network import SpeechDenoiser, SpeechNetwork

SMALL = SpeechNetwork(
    band_widths=(8, 16), band_counts=(16, 8), channels=16, memory=12, hidden=20, wide=(0, 0)
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _spectrum(audio):
    return spectrum_of(torch.as_tensor(audio), window_samples=512, hop_samples=256)


def test_complex_taps_begin_by_changing_nothing_and_learn_from_the_first_step():
    torch.manual_seed(3)
    plain = SpeechDenoiser(SMALL)
    larger = SpeechDenoiser(dataclasses.replace(SMALL, filter_bands=18))
    larger.load_state_dict({**larger.state_dict(), **plain.state_dict()})
    spectrum = _spectrum(0.1 * torch.randn(1, 30 * 256))
    found = larger(spectrum)
    with torch.no_grad():
        assert torch.equal(plain(spectrum), found)
    found.square().mean().backward()
    assert larger.filter.decoder.grad.abs().max() > 0
    assert larger.filter.encoder.grad.abs().max() > 0


def test_complex_taps_reach_a_tone_under_noise_that_a_gain_cannot():
    # By hand: a tap of -1 on the bin itself and of 1 on it a frame ago gives the frame before.
    network = SpeechDenoiser(dataclasses.replace(SMALL, filter_bands=4, filter_frames=2)).eval()
    spectrum = _spectrum(0.1 * torch.randn(1, 20 * 256)).permute(3, 2, 0, 1)
    width = network.filter.width
    z = torch.ones(24, 19, 16)
    with torch.no_grad():
        columns = network.filter.decoder.view(4, 16, 8, width)
        columns[:, 0, 0], columns[:, 0, 2] = -20.0, 20.0
        filtered = network.filter(z, spectrum)
    low = slice(0, 4 * width)
    assert torch.allclose(filtered[low, 1:], spectrum[low, :-1], atol=1e-5)
    assert torch.equal(filtered[4 * width :], spectrum[4 * width :])


@pytest.mark.parametrize("offset_bins", [-0.3, 0.0, 0.3])
def test_the_phases_of_a_tone_say_where_in_its_bin_it_lies(offset_bins):
    frequency = 2 * torch.pi * (20 + offset_bins) / 512
    tone = torch.sin(frequency * torch.arange(20 * 256))[None]
    x = _spectrum(tone).permute(3, 2, 0, 1)
    turns = 1.0 - 2.0 * (torch.arange(len(x)) % 2)
    real, imaginary, _, _ = _phases(*x[:, 5].unbind(-1), *x[:, 4].unbind(-1), turns[:, None])
    angle = torch.atan2(imaginary, real)[20, 0]
    # Half a window further, a whole bin is half a turn.
    assert float(angle) == pytest.approx(torch.pi * offset_bins, abs=0.05)


def test_half_precision_gives_nearly_the_same_spectra_and_finite_gradients():
    torch.manual_seed(7)
    network = SpeechDenoiser(dataclasses.replace(SMALL, filter_bands=18, wide=(0, 10)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    clean = 0.1 * torch.randn(2, 16_000)
    noisy = clean + 0.05 * torch.randn(2, 16_000)
    with torch.autocast("cpu", torch.bfloat16):
        estimate = network(_spectrum(noisy)).float()
    with torch.no_grad():
        single = network(_spectrum(noisy))
    assert (estimate - single).square().mean() < 0.03**2 * single.square().mean()
    asked = SpeechLoss(levels=0.6, kept=1.0, pauses=0.1, loudness=0.5)
    # As the recipe does it: the loss in single precision.
    speech_loss(asked, estimate, noisy, clean)[0].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
