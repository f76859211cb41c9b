"""The streaming denoiser: noisy audio or sensor signals in, clean ones out, in blocks of any
length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.bundle import Bundle, find, reopened
from edgeae.errors import BundleError
from edgeae.opening import report_of
from edgeae.providers import Provider
from edgeae.runtime import Graph
from edgeae.signal.hop_schedule import hop_schedule
from edgeae.signal.sample_stream import (
    SampleSpec,
    SampleStream,
    check_sample_ports,
    check_samples,
    sample_spec,
)
from edgeae.signal.samples import MAX_CHANNELS, Array, check_audio, whole_number
from edgeae.signal.spec import MIN_RATE_HZ, StreamSpec, check_step_ports, stream_spec
from edgeae.signal.stream import Stream

__all__ = ["SignalDenoiser"]

MAX_RATE_HZ = 96_000

# `denoise` works through a long array in pieces, so that it needs little more than its result.
PIECE_SAMPLES = 1 << 16


class SignalDenoiser:
    """A denoiser of audio or of a sensor's signal: one model for any number of streams and threads.

    A sensor's model (the manifest's kind is "signal", as of `ecg-denoiser`) takes samples in its
    unit at its own rate, each channel by itself, and works on them without a transform.

    A model of audio works on one band, up to half its own sample rate (8 kHz for a 16 kHz model).
    The rest of the input is kept under a stated rule, so nothing is silently lost: what resampling
    to the model's rate cannot carry (at rates above the model's: everything above about 7.5 kHz) is
    the input less its resampled copy. It goes to the output at the right time, times one smooth
    gain: the square root of output over input energy of the model in the upper half of its band (4
    to 7 kHz), averaged over 25 ms, never above 1. Where the model removes noise up there, the band
    above falls with it; where it keeps speech, the band above stays.

    >>> denoiser = SignalDenoiser.load("speech-denoiser")  # doctest: +SKIP
    >>> clean = denoiser.denoise(noisy, sample_rate=48_000)  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        """See `load`."""
        if (manifest := bundle.manifest).task != "denoiser":
            raise BundleError(f"{manifest.name} is a {manifest.task}, expected a denoiser")
        self.bundle = bundle
        self._spec = _spec(bundle)  # another kind is refused before its graph is opened
        self._precision = bundle.precision(precision)
        self._settings = {
            "precision": self._precision,
            "providers": None if providers is None else list(providers),
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        graph = bundle.graph("step", self._precision)
        self._step = Graph(
            graph, providers=providers, device=device, threads=threads, strict=strict
        )
        if isinstance(self._spec, SampleSpec):
            check_sample_ports(bundle, self._spec, self._step)
        else:
            check_step_ports(bundle, self._spec, self._step)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> SignalDenoiser:
        """The denoiser in a bundle.

        Args:
            model: a bundled name or the bundle's directory.
            precision: "fp32" or what else the bundle has; None takes its own choice.
            providers: those of `Graph`, as are `device`, `threads` and `strict`.

        Raises:
            BundleError: missing, damaged, of another task or of another kind of data.
            ProviderError: a provider that this machine cannot give.
        """
        return cls(
            find(model),
            precision=precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies by the bundle's path and the settings of `load`: no weights."""
        return reopened, (SignalDenoiser, self.bundle.path, self.bundle.id, self._settings)

    def __repr__(self) -> str:
        manifest, spec = self.bundle.manifest, self._spec
        if isinstance(spec, SampleSpec):
            kind, late = "signals", spec.lookahead_samples + spec.hop_samples
        else:
            # As of signals, with the hop that is gathered first: what `Stream.delay` counts and it.
            kind, late = "audio", (2 + spec.lookahead_hops) * spec.hop_samples
        delay_ms = 1000 * late / spec.rate_hz
        nodes = ", ".join(
            f"{count} nodes on {p}" for p, count in self._step.report()["nodes"].items()
        )
        return (
            f"<SignalDenoiser {manifest.name} {manifest.version}: {kind} at {spec.rate_hz} Hz, "
            f"{delay_ms:.4g} ms delay, {self._precision}, {nodes}>"
        )

    def denoise(
        self,
        noisy: Array,
        *,
        sample_rate: int | None = None,
        attenuation_limit_db: float | None = None,
        link_channels: bool | None = None,
    ) -> Array:
        """The clean audio or signal, aligned with the input and of its shape, dtype and rate.

        Floats are not clipped: where the input is at full scale, some may lie beyond it.

        Args:
            noisy: (frames,) or (frames, channels): audio float32 or float64 in [-1, 1], or int16;
                of a sensor float32 or float64 in the model's unit.
            sample_rate: of audio, 8,000 to 96,000 Hz; of a sensor the model's, or None.
            attenuation_limit_db: keeps some of the noise: clean + 10^(-limit / 20) (noisy - clean),
                so 0 gives the input back and None removes all that the model can.
            link_channels: take the same away from all channels, so that every sound stays where it
                is between them; False cleans each channel by itself. None is True for audio and
                False for a sensor, whose channels are no sound and cannot be linked.

        Raises:
            ValueError: no frames, NaN, infinity, or a rate or limit outside those ranges.
            TypeError: another dtype, or no rate for audio.
        """
        if isinstance(self._spec, SampleSpec):
            noisy = check_samples(noisy, self._spec.unit)
        else:
            noisy = check_audio(noisy)
        if len(noisy) == 0:
            raise ValueError(f"noisy has shape {noisy.shape}, expected at least one frame")
        stream = self.stream(
            sample_rate=sample_rate,
            channels=1 if noisy.ndim == 1 else noisy.shape[1],
            attenuation_limit_db=attenuation_limit_db,
            link_channels=link_channels,
        )
        clean = np.empty(noisy.shape, noisy.dtype)
        end = -stream.delay
        for start in range(0, len(noisy), PIECE_SAMPLES):
            piece = stream.process(noisy[start : start + PIECE_SAMPLES])
            end += len(piece)
            if end > 0:
                piece = piece[-end:]
                clean[end - len(piece) : end] = piece
        tail = stream.flush()
        rest = len(clean) - max(end, 0)
        clean[len(clean) - rest :] = tail[len(tail) - rest :]
        return clean

    def stream(
        self,
        *,
        sample_rate: int | None = None,
        channels: int = 1,
        attenuation_limit_db: float | None = None,
        link_channels: bool | None = None,
        block_samples: int | None = None,
    ) -> Stream | SampleStream:
        """A new stream with its own state.

        Args:
            sample_rate: of the stream, as for `denoise`.
            channels: 1 to 64.
            attenuation_limit_db: as for `denoise`, as is `link_channels`.
            block_samples: for a live callback that must return as many samples as it gets: every
                `process` of a block of that many then returns a block, at the smallest delay that
                allows it. By default the delay is that of whole hops, and other blocks return now
                a hop more, now nothing.

        Raises:
            ValueError: a number outside those ranges.
            TypeError: no number.
        """
        spec = self._spec
        channels = whole_number(channels, "channels", 1, MAX_CHANNELS)
        if block_samples is not None:
            block_samples = whole_number(block_samples, "block_samples", 1, MAX_RATE_HZ)
        if isinstance(spec, SampleSpec):
            if sample_rate is not None and sample_rate != spec.rate_hz:
                raise ValueError(
                    f"sample_rate is {sample_rate!r}, expected {spec.rate_hz}, that of the model: "
                    "resample the signal first"
                )
            if link_channels:
                raise ValueError("link_channels is True, expected False: a sensor has no sound")
            return SampleStream(
                self._step,
                spec,
                channels=channels,
                keep=_kept_share(attenuation_limit_db),
                block_samples=block_samples,
            )
        if sample_rate is None:
            raise TypeError("sample_rate is None, expected that of the audio in Hz")
        rate = whole_number(sample_rate, "sample_rate", MIN_RATE_HZ, MAX_RATE_HZ)
        link_channels = True if link_channels is None else link_channels
        if not isinstance(link_channels, (bool, np.bool_)):
            raise TypeError(f"link_channels is {link_channels!r}, expected True or False")
        schedule = hop_schedule(rate, spec.rate_hz, spec.hop_samples, spec.lookahead_hops)
        return Stream(
            self._step,
            spec,
            schedule,
            rate_hz=rate,
            channels=channels,
            link_channels=link_channels,
            keep=_kept_share(attenuation_limit_db),
            delay=schedule.delay(block_samples),
        )

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        return {"step": self._step}

    def report(self) -> dict[str, Any]:
        """What was loaded and where it runs: {"bundle": id, "name", "precision", "graphs"}."""
        return report_of(self.bundle, self._precision, self.graphs)


def _spec(bundle: Bundle) -> StreamSpec | SampleSpec:
    """What the manifest says of the stream, by its kind. Raises BundleError."""
    if bundle.manifest.layout.get("kind") == "signal":
        return sample_spec(bundle)
    return stream_spec(bundle)


def _kept_share(attenuation_limit_db: float | None) -> float:
    """The share of the noise that stays in the output, 0 to 1."""
    if attenuation_limit_db is None:
        return 0.0
    try:
        limit_db = float(attenuation_limit_db)
    except (TypeError, ValueError):
        raise TypeError(
            f"attenuation_limit_db is {attenuation_limit_db!r}, expected None or a number"
        ) from None
    except OverflowError:  # an integer beyond every float
        limit_db = math.inf
    if not 0.0 <= limit_db < math.inf:
        raise ValueError(
            f"attenuation_limit_db is {limit_db:g}, expected None or a finite number from 0"
        )
    return float(10.0 ** (-limit_db / 20.0))
