"""The speech codec as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.config import Config
from train.speech.codec_data import CodecSpeech, SpeechPieces
from train.speech.codec_device import DevicePieces
from train.speech.codec_loss import SpeechCodecLoss, heard_loss, rate_loss
from train.speech.codec_network import DELAY_SAMPLES, SpeechCodec, SpeechCodecNetwork
from train.speech.codec_signal import FRAME_SAMPLES, SAMPLE_RATE_HZ
from train.speech.discriminator import adversarial_losses
from train.speech.pack import write_pack

# Levels that are validated: they aim at 3 and 6 kbit/s, where the logarithm of the rate, which is
# even in the level, is 1.5 times 2 and 4.
_VALIDATED = {3: 25 / 64, 6: 50 / 64}
# Pieces of speech whose lowest bins say how to begin.
_START_PIECES = 64
# The codec's start from silence says nothing of it.
_FIRST_SAMPLES = 2 * FRAME_SAMPLES


class SpeechCodecRecipe:
    """Trains `SpeechCodec` for every rate at once, with frames lost in bursts."""

    sections: ClassVar[dict[str, type]] = {
        "network": SpeechCodecNetwork,
        "data": CodecSpeech,
        "loss": SpeechCodecLoss,
    }
    network: SpeechCodec

    def __init__(self, config: Config, device: torch.device) -> None:
        if config.loss.adversarial and not config.network.discriminator_channels:
            raise ValueError("loss.adversarial is set, but network.discriminator_channels is 0")
        self.config, self.device = config, device
        self.pieces = SpeechPieces(config.data)
        self._packed = DevicePieces(self.pieces, device) if config.data.pack else None
        self.network = SpeechCodec(config.network)
        self._validation = torch.from_numpy(self.pieces.validation())

    def start(self) -> None:
        """The lowest bins begin with the best linear transform of some training speech."""
        rng = np.random.default_rng(self.config.seed)
        pieces = [
            self.batch(rng)[0] for _ in range(-(-_START_PIECES // self.config.optimize.batch_size))
        ]
        self.network.start(torch.cat(pieces).to(self.device))

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Speech (N, segment_samples), levels (N,), spread evenly over [0, 1], losses (N, T), and
        whether they are filled late (N,), which half of them are."""
        size = self.config.optimize.batch_size
        level = (rng.permutation(size) + rng.random(size)) / size
        if self._packed is not None:
            audio = self._packed.batch(rng, size)
        else:
            audio = torch.from_numpy(self.pieces.batch(rng, size))
        return (
            audio,
            torch.from_numpy((level * 64).round().astype(np.float32) / 64),
            torch.from_numpy(self.pieces.lost(rng, size)),
            torch.from_numpy(rng.random(size) < 0.5),
        )

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and its parts to plot."""
        audio, level, lost, late = batch
        restored, bits = network(audio, level, lost, late)
        # Spectra and powers of 0.3 need the full precision that autocast takes from the network.
        with torch.autocast(audio.device.type, enabled=False):
            found, reference = aligned(restored.float(), audio)
            total, parts = heard_loss(self.config.loss, found, reference)
            total = total + rate_loss(self.config.loss, bits, level)
            if hasattr(self.network, "discriminator"):
                total = total + self._adversarial(found, reference, step, parts)
        parts["kbit_per_s"] = bits.mean().detach() * (SAMPLE_RATE_HZ / FRAME_SAMPLES / 1000)
        return total, parts

    def _adversarial(
        self,
        found: torch.Tensor,
        reference: torch.Tensor,
        step: int,
        parts: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """What the adversary adds to the loss; before its time nothing, but for derivatives of 0,
        which several processes wait for."""
        config, judge = self.config.loss, self.network.discriminator
        if not config.adversarial or step < config.adversarial_from:
            return 0.0 * torch.stack([p.sum() for p in judge.parameters()]).sum()
        some = slice(0, config.adversarial_items)
        lost, far, wrong = adversarial_losses(judge, found[some], reference[some])
        parts |= {"fooled": lost.detach(), "features": far.detach(), "judge": wrong.detach()}
        return config.adversarial * lost + config.features * far + wrong

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """What is heard and bits a second at the levels that aim at 3 and 6 kbit/s, on held-out
        speakers. The score is the mean of the losses, each overshoot of its rate included."""
        figures: dict[str, float] = {}
        scores = []
        for kbit, place in _VALIDATED.items():
            losses, rates, understood, loudness = [], [], [], []
            # The same noise at each validation, and what training draws is left as it was.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(kbit)
                for piece in torch.split(self._validation, 8):
                    audio = piece.to(self.device)
                    level = torch.full((len(audio),), place, device=self.device)
                    restored, bits = network(audio, level)
                    heard, parts = heard_loss(self.config.loss, *aligned(restored, audio))
                    losses.append(float(heard + rate_loss(self.config.loss, bits, level)))
                    rates.append(float(bits.mean()) * SAMPLE_RATE_HZ / FRAME_SAMPLES)
                    understood.append(1 - float(parts.get("intelligibility", torch.ones(()))))
                    loudness.append(float(parts.get("loudness", torch.zeros(()))))
            scores.append(float(np.mean(losses)))
            figures |= {
                f"bit_per_s_{kbit}k": float(np.mean(rates)),
                f"intelligibility_{kbit}k": float(np.mean(understood)),
                f"loudness_shortfall_{kbit}k": float(np.mean(loudness)),
            }
        return {**figures, "score": float(np.mean(scores))}

    def data_summary(self) -> dict[str, Any]:
        """How many recordings of speech there are, and where they are from."""
        return self.pieces.summary()

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Write the config's speech and noise into one compact file; what it holds and lost."""
        return write_pack(config.data, out)


def aligned(restored: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Restored audio and what it should be, at the level at which the audio has power 1.

    Args:
        restored: what `SpeechCodec` gives, float32 (N, samples).
        audio: what it was given, of that shape.
    """
    gain = torch.rsqrt(audio.square().mean(-1, keepdim=True) + 1e-8)
    found = restored[:, DELAY_SAMPLES + _FIRST_SAMPLES :] * gain
    return found, audio[:, _FIRST_SAMPLES:-DELAY_SAMPLES] * gain
