"""A published model of how listeners rate speech, as something to train towards.

DNSMOS P.835 (Reddy et al., arXiv 2110.01763) predicts the mean opinion scores of speech, background
and overall quality from log power spectra. Its weights are read from the package `speechmos` and
are used in training alone; nothing of them is in what is exported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch.nn import functional

__all__ = ["ListeningModel", "listening_model_file"]

WINDOW_SAMPLES, HOP_SAMPLES = 320, 160
# Layers before which the original halves both axes.
POOLED = (4, 5, 6)
# Raw output to opinion score, a polynomial each for speech, background and overall, highest first.
SCALES = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


def listening_model_file() -> Path:
    """The model in the installed package `speechmos`. Raises ValueError without that package."""
    found = importlib.util.find_spec("speechmos")
    if found is None or not found.submodule_search_locations:
        raise ValueError("loss.listening needs the package speechmos: pip install speechmos")
    return Path(found.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"


class ListeningModel:
    """DNSMOS P.835 in torch, with gradients to its input and none to its weights."""

    def __init__(self, file: Path) -> None:
        import onnx

        try:
            tensors = {
                tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
                for tensor in onnx.load(file).graph.initializer
            }
            transform = [
                tensors[f"time2freq/stft-{part}/kernel:0"][..., 0] for part in ("real", "imag")
            ]
            self._transform = torch.cat(transform).T.contiguous()
            self._convolutions = [
                (
                    tensors[f"conv2d{suffix}/kernel:0"].to(memory_format=torch.channels_last),
                    tensors[f"conv2d{suffix}/bias:0"],
                )
                for suffix in ("", "_1", "_2", "_3", "_4", "_5", "_6")
            ]
            self._dense = [
                (
                    tensors[f"mos_estimator_logpow/{name}/MatMul/ReadVariableOp/resource:0"],
                    tensors[f"mos_estimator_logpow/{name}/BiasAdd/ReadVariableOp/resource:0"],
                )
                for name in ("dense", "dense_1", "dense_3")
            ]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{file} is not the model DNSMOS P.835: {error}") from None

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        """Opinion scores 1 to 5 of speech, background and overall, (batch, 3): audio at 16 kHz.

        Audio (batch, samples) may be of any length from 0.1 s on: scores are maxima over time, so
        a recording scores about what its repetition to the nine seconds of the original does.
        """
        frames = audio.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES)
        real, imaginary = (frames @ self._transform).chunk(2, dim=-1)
        power = (real.square() + imaginary.square()).clamp_min(1e-12)
        x = torch.log10(power)[:, None].contiguous(memory_format=torch.channels_last)
        # bfloat16 moves the scores by less than 0.01 and takes half the time.
        x = x.bfloat16()
        for i, (kernel, bias) in enumerate(self._convolutions):
            x = functional.max_pool2d(x, 2) if i in POOLED else x
            x = functional.relu(functional.conv2d(x, kernel.to(x), bias.to(x), padding=1))
        x = x.amax((2, 3)).float()
        for weight, bias in self._dense[:-1]:
            x = functional.relu(x @ weight + bias)
        weight, bias = self._dense[-1]
        raw = x @ weight + bias
        scale = torch.tensor(SCALES)
        return (scale[:, 0] * raw + scale[:, 1]) * raw + scale[:, 2]
