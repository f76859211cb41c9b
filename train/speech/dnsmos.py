"""A published model of speech quality, as something to train towards.

DNSMOS P.835 (Reddy et al., arXiv 2110.01763) predicts the mean opinion scores of speech, background
and overall quality from log power spectra. Its weights come from the package `speechmos` by way of
`python -m export.dnsmos` and serve training alone; nothing of them is in what is exported.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

__all__ = ["QualityModel", "quality_arrays"]

WINDOW_SAMPLES, HOP_SAMPLES = 320, 160
CONVOLUTIONS, DENSE = 7, 3
# Convolutions before which both axes are halved.
POOLED = (4, 5, 6)
# Raw output to opinion score, a polynomial each for speech, background and overall, highest first.
SCALES = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


def quality_arrays() -> dict[str, str]:
    """The arrays that `QualityModel` reads: name in its file, name in the published graph."""
    names = {f"{part}": f"time2freq/stft-{part}/kernel:0" for part in ("real", "imag")}
    for i in range(CONVOLUTIONS):
        for part in ("kernel", "bias"):
            names[f"conv{i}_{part}"] = f"conv2d{f'_{i}' if i else ''}/{part}:0"
    for i, name in enumerate(("dense", "dense_1", "dense_3")):
        for part, operator in (("kernel", "MatMul"), ("bias", "BiasAdd")):
            names[f"dense{i}_{part}"] = (
                f"mos_estimator_logpow/{name}/{operator}/ReadVariableOp/resource:0"
            )
    return names


def _fast_bfloat16(device: torch.device | None) -> bool:
    if device is not None and device.type != "cpu":
        return True
    capability = torch.backends.cpu.get_cpu_capability()
    return bool(torch.cpu._is_avx512_bf16_supported()) and "AVX512" in capability


class QualityModel:
    """DNSMOS P.835 in torch, with gradients to its input and none to its weights."""

    def __init__(self, file: Path, device: torch.device | None = None) -> None:
        """Raises ValueError if the file is not one that `python -m export.dnsmos` wrote."""
        try:
            with np.load(file) as stored:
                arrays = {
                    name: torch.from_numpy(stored[name]).to(device) for name in quality_arrays()
                }
        except OSError as error:
            raise ValueError(
                f"cannot read the quality model {file}: {error.strerror or error}"
            ) from None
        except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
            raise ValueError(
                f"cannot read the quality model {file}: `python -m export.dnsmos {file}` writes one"
            ) from None
        transform = torch.cat((arrays["real"], arrays["imag"]))[..., 0]
        self._transform = transform.T.contiguous()
        # bfloat16 moves the scores by less than 0.02; where the processor has no products of it, it
        # takes many times as long instead of half.
        self._type = torch.bfloat16 if _fast_bfloat16(device) else torch.float32
        self._convolutions = [
            (
                arrays[f"conv{i}_kernel"]
                .to(self._type)
                .contiguous(memory_format=torch.channels_last),
                arrays[f"conv{i}_bias"].to(self._type),
            )
            for i in range(CONVOLUTIONS)
        ]
        self._scales = torch.tensor(SCALES, device=device)
        self._dense = [(arrays[f"dense{i}_kernel"], arrays[f"dense{i}_bias"]) for i in range(DENSE)]

    def __call__(self, audio: torch.Tensor, *, floor: float = 1e-12) -> torch.Tensor:
        """Opinion scores 1 to 5 of speech, background and overall, (batch, 3): audio at 16 kHz.

        Audio (batch, samples) may be of any length from 0.1 s on: scores are maxima over time, so
        a recording scores about what its repetition to the nine seconds of the original does.
        `floor` is added to every power; 1e-6 is what noise at -80 dB of full scale has.
        """
        frames = audio.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES)
        real, imaginary = (frames @ self._transform).chunk(2, dim=-1)
        x = (
            torch.log10(real.square() + imaginary.square() + floor)[:, None]
            .contiguous(memory_format=torch.channels_last)
            .to(self._type)
        )
        for i, (kernel, bias) in enumerate(self._convolutions):
            x = functional.max_pool2d(x, 2) if i in POOLED else x
            x = functional.relu(functional.conv2d(x, kernel, bias, padding=1))
        x = x.amax((2, 3)).float()
        for i, (weight, bias) in enumerate(self._dense):
            x = x @ weight + bias
            x = functional.relu(x) if i + 1 < DENSE else x
        scale = self._scales
        return (scale[:, 0] * x + scale[:, 1]) * x + scale[:, 2]
