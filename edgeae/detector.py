"""How strange each moment of a signal is, by a model of what is normal, and alarms from that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.detection import Alarm, Scores, detection_spec, merged
from edgeae.errors import BundleError
from edgeae.opening import report_of
from edgeae.providers import Provider
from edgeae.runtime import Graph
from edgeae.scoring import DetectorStream, Scorer

__all__ = ["Alarm", "Detector", "DetectorStream", "Scores"]

Array = npt.NDArray[Any]


class Detector:
    """A model of normal data that says how strange other data are; safe to use from many threads.

    A signal is cut into windows of `window_samples` every `hop_samples`, or one around each heart
    beat. What the model cannot give back of a window is its error; how the error becomes a score
    is in the manifest and in docs/detectors.md. Higher is stranger.
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
        if bundle.manifest.task != "detector":
            raise BundleError(
                f"{bundle.manifest.name} is a {bundle.manifest.task}, expected a detector"
            )
        self.bundle = bundle
        self._settings = {
            "precision": precision,
            "providers": None if providers is None else list(providers),
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self.precision = bundle.precision(precision)
        manifest = bundle.manifest
        self.spec = detection_spec(manifest.name, manifest.layout, manifest.detection or {})
        self._graph = Graph(
            bundle.graph("errors", self.precision),
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )
        if len(self._graph.inputs) != 1 or len(self._graph.outputs) != 1:
            raise BundleError(
                f"{bundle.manifest.name}: the graph has {len(self._graph.inputs)} inputs and "
                f"{len(self._graph.outputs)} outputs, expected one of each"
            )
        port, window = self._graph.inputs[0], (self.spec.window_samples, self.spec.channels)
        if port.dtype != "float32" or port.shape[1:] != window:
            raise BundleError(
                f"{manifest.name}: the graph takes {port.dtype} {port.shape}, expected float32 "
                f"(N, {window[0]}, {window[1]}) as the manifest says"
            )
        self._scorer = Scorer(self._graph, self.spec)

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
    ) -> Detector:
        """The detector of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8"; None takes int8 where there is one.
            providers: onnxruntime's provider names, or pairs of a name and its options.
            device: "cpu", "gpu", "npu" or "auto" instead of `providers`.
            threads: threads of one graph.
            strict: refuse to run any node elsewhere than on `providers`.

        Raises:
            BundleError: not there, damaged, or not a detector.
            ProviderError: a provider is not available or takes no node.
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
        return reopened, (Detector, self.bundle.path, self.bundle.id, self._settings)

    @property
    def threshold(self) -> float:
        """The score above which a window is flagged: calibrated on held-back normal data, at the
        rate of false alarms that the manifest's section `detection` states."""
        return self.spec.threshold

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        return {"errors": self._graph}

    def __repr__(self) -> str:
        spec = self.spec
        at = "around beats" if spec.beats else f"every {spec.hop_samples}"
        return (
            f"<Detector {self.bundle.manifest.name}: windows of {spec.window_samples} samples x "
            f"{spec.channels} channels {at}, threshold {spec.threshold:.4g}, {self.precision}>"
        )

    def score(self, x: Array, *, beats: npt.NDArray[np.integer[Any]] | None = None) -> Scores:
        """How strange each window and each sample of a signal is.

        Args:
            x: (samples, channels), or (samples,) of one channel, float32 or float64 in the units of
                the training data.
            beats: of a detector of beats, their places in samples, rising; None finds them.

        Raises:
            TypeError, ValueError: another dtype or shape, NaN or infinity, a signal shorter than
                one window, or beats for a detector of something else.
            EdgeaeError: the graph gave something else than errors.
        """
        return self._scorer.score(x, beats)

    def flag(
        self,
        x: Array,
        *,
        beats: npt.NDArray[np.integer[Any]] | None = None,
        threshold: float | None = None,
    ) -> list[Alarm]:
        """The stretches of a signal that are stranger than the threshold; close ones are one.

        Args:
            x, beats: as for `score`: numbers (samples,) or (samples, channels) in physical units,
                and sample numbers (count,).
            threshold: instead of the detector's own.

        Raises:
            TypeError, ValueError, EdgeaeError: as `score`, or a threshold that is no finite number.
        """
        return self.alarms(self.score(x, beats=beats), threshold=threshold)

    def alarms(self, scores: Scores, *, threshold: float | None = None) -> list[Alarm]:
        """The alarms of scores that are there already, see `flag`."""
        limit = self.threshold if threshold is None else float(threshold)
        if not np.isfinite(limit):
            raise ValueError(f"threshold is {threshold!r}, expected a finite number")
        return merged(scores, limit, self.spec)

    def stream(self) -> DetectorStream:
        """A new stream with its own state, for a signal that comes in blocks."""
        return DetectorStream(self._scorer)

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        return report_of(self.bundle, self.precision, self.graphs)
