"""Models for clusters: callables for `ray.data.Dataset.map_batches`, one loaded model an actor.

Ray's own readers bring the rows (images, Parquet, WebDataset, binary files, from a disk or an
object store) and its writers take them; these classes turn one column into another. Nothing here
imports Ray: they are plain callables of a batch, a dict of columns, so Dask and Spark run them as
well. docs/clusters.md shows all three. A row that cannot be done gets None and its error's line in
the column "error", so that one bad file does not end a job of a million.

>>> import ray
>>> from edgeae.ray import Compress
>>> ray.data.read_images("s3://photos", include_paths=True).map_batches(  # doctest: +SKIP
...     Compress, fn_constructor_kwargs={"quality": 4}, concurrency=8, batch_size=16
... ).write_parquet("s3://codes")
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeae
from edgeae import media
from edgeae.errors import EdgeaeError
from edgeae.image.codec import ImageCodec
from edgeae.signal.denoiser import SignalDenoiser

__all__ = ["Compress", "Decompress", "Denoise", "Score"]

Batch = Mapping[str, Any]
Column = npt.NDArray[Any]


class Compress:
    """Images to the bytes of .eae files, one for each row.

    An image is an array uint8 (H, W), (H, W, C), or the bytes of a file that
    `edgeae.media.read_image` reads.

    Args:
        model: a bundled codec's name, or a folder that every node sees.
        column, into: where images are, and where codes go; the images leave the rows.
        quality, max_bytes: as for `ImageCodec.compress`.
        load: options of `edgeae.load`, such as providers and threads.
    """

    def __init__(
        self,
        model: str = "photo-codec",
        *,
        column: str = "image",
        into: str = "code",
        quality: float | None = None,
        max_bytes: int | None = None,
        load: Mapping[str, Any] | None = None,
    ) -> None:
        codec = edgeae.load(model, **(load or {}))
        if not isinstance(codec, ImageCodec):
            raise ValueError(f"{model} is {type(codec).__name__}, expected a codec of images")
        self._codec, self._column, self._into = codec, column, into
        self._options: dict[str, Any] = {"quality": quality, "max_bytes": max_bytes}

    def __call__(self, batch: Batch) -> dict[str, Column]:
        """The rows of a batch, with "code" and "error" in the place of the images."""
        return _each(batch, self._column, self._into, self._compress)

    def _compress(self, image: Any) -> bytes:
        if isinstance(image, bytes):
            image = media.read_image(io.BytesIO(image))
        return self._codec.compress(np.asarray(image), **self._options)


class Decompress:
    """The bytes of .eae files to what they hold: images as uint8 arrays.

    Args:
        model: a codec's name or folder; None takes the bundled one that each file names.
        column, into: where codes are, and where images go; the codes leave the rows.
        load: options of `edgeae.load`, if there is a model.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        column: str = "code",
        into: str = "image",
        load: Mapping[str, Any] | None = None,
    ) -> None:
        self._column, self._into = column, into
        codec: Any = edgeae if model is None else edgeae.load(model, **(load or {}))
        self._decompress = codec.decompress

    def __call__(self, batch: Batch) -> dict[str, Column]:
        """The rows of a batch, with "image" and "error" in the place of the codes."""
        return _each(batch, self._column, self._into, self._decompress)


class Denoise:
    """Noisy audio to clean audio of the same shape, rate and length.

    Sound is the bytes of a file that `edgeae.media.read_audio` reads, and comes back as those of a
    WAV file of float32; or an array as `SignalDenoiser.denoise` takes it, of `sample_rate`.

    Args:
        model: a bundled denoiser's name, or a folder that every node sees.
        column: where the audio is, and stays.
        sample_rate: of arrays, in Hz.
        attenuation_limit_db: as for `SignalDenoiser.denoise`.
        load: options of `edgeae.load`.
    """

    def __init__(
        self,
        model: str = "speech-denoiser",
        *,
        column: str = "bytes",
        sample_rate: int | None = None,
        attenuation_limit_db: float | None = None,
        load: Mapping[str, Any] | None = None,
    ) -> None:
        denoiser = edgeae.load(model, **(load or {}))
        if not isinstance(denoiser, SignalDenoiser):
            raise ValueError(f"{model} is {type(denoiser).__name__}, expected a denoiser of audio")
        self._denoiser, self._column, self._rate = denoiser, column, sample_rate
        self._limit_db = attenuation_limit_db

    def __call__(self, batch: Batch) -> dict[str, Column]:
        """The rows of a batch, with clean sound and "error"."""
        return _each(batch, self._column, self._column, self._denoise)

    def _denoise(self, audio: Any) -> Any:
        if not isinstance(audio, bytes):
            if self._rate is None:
                raise ValueError("sample_rate is None, expected that of the arrays in Hz")
            return self._clean(np.asarray(audio), self._rate)
        samples, rate = media.read_audio(io.BytesIO(audio))
        file = io.BytesIO()
        media.write_audio(file, self._clean(samples, rate), rate, format="wav", subtype="FLOAT")
        return file.getvalue()

    def _clean(self, samples: npt.NDArray[Any], rate: int) -> npt.NDArray[Any]:
        return self._denoiser.denoise(
            samples, sample_rate=rate, attenuation_limit_db=self._limit_db
        )


class Score:
    """How strange each row is, the highest score in it: higher is stranger.

    Args:
        model: a detector's name, or a folder that every node sees.
        column, into: where the data are, and where scores go; the data stay.
        load: options of `edgeae.load`.
    """

    def __init__(
        self,
        model: str,
        *,
        column: str = "x",
        into: str = "score",
        load: Mapping[str, Any] | None = None,
    ) -> None:
        detector: Any = edgeae.load(model, **(load or {}))
        if not callable(getattr(detector, "score", None)):
            raise ValueError(f"{model} is {type(detector).__name__}, expected a detector")
        self._detector, self._column, self._into = detector, column, into

    def __call__(self, batch: Batch) -> dict[str, Column]:
        """The rows of a batch, with "score" and "error"."""
        return _each(batch, self._column, self._into, self._score, keep=True)

    def _score(self, x: Any) -> float:
        return float(self._detector.score(np.asarray(x)).windows.max())


def _each(batch: Batch, column: str, into: str, work: Any, *, keep: bool = False) -> dict[str, Any]:
    """The columns of a batch with `into` made of `column`, one row after the other.

    Raises ValueError if there is no such column.
    """
    if column not in batch:
        raise ValueError(f"there is no column {column!r}, expected one of {sorted(batch)}")
    results, errors = [], []
    for value in batch[column]:
        result, error = None, None
        try:
            result = work(value)
        except (EdgeaeError, ValueError, TypeError, OSError) as raised:
            error = str(raised) or type(raised).__name__
        results.append(result)
        errors.append(error)
    rest = {name: values for name, values in batch.items() if keep or name != column}
    return {**rest, into: _column(results), "error": _column(errors)}


def _column(values: list[Any]) -> Column:
    """A column of objects: numpy would make one array of rows that happen to have one shape."""
    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column
