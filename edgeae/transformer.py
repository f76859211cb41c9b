"""An autoencoder as a step of a scikit-learn pipeline, without scikit-learn in this package."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.autoencoder import Autoencoder

__all__ = ["AutoencoderTransformer"]

Array = npt.NDArray[Any]
# Samples that tell the unit of each entry, by which errors are measured.
_UNIT_SAMPLES = 512


class AutoencoderTransformer:
    """Latents of a bundle's autoencoder as features: `transform`, `inverse_transform` and
    `score_samples`. It is trained already, so `fit` only checks its input.

    Items are (N, *shape) or flat, (N, entries), as other steps of a pipeline give them; NaN is a
    missing value where the model was trained with such.

        pipeline = make_pipeline(AutoencoderTransformer("my-model/"), LogisticRegression())
    """

    def __init__(
        self, model: str | Path, *, precision: str | None = None, threads: int = 1
    ) -> None:
        """Args: as those of `Autoencoder.load`; the model is loaded when it is first needed."""
        # As given and under their own names: `clone` compares them.
        self.model = model
        self.precision = precision
        self.threads = threads

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that it was made with."""
        return {"model": self.model, "precision": self.precision, "threads": self.threads}

    def set_params(self, **params: Any) -> AutoencoderTransformer:
        """Change arguments; the object itself. Raises ValueError for a name that is none."""
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(
                    f"parameter is {name!r}, expected one of {', '.join(self.get_params())}"
                )
            setattr(self, name, value)
        self.__dict__.pop("_loaded", None)
        return self

    def fit(self, x: Array, y: Any = None) -> AutoencoderTransformer:
        """The object itself, as it is; raises what `transform` raises of such input."""
        self._items(x)
        return self

    def fit_transform(self, x: Array, y: Any = None) -> Array:
        """As `transform`."""
        return self.transform(x)

    def transform(self, x: Array) -> Array:
        """Latents, float32 (N, latents).

        Args:
            x: items (N, *shape) or (N, entries), numbers of any type.

        Raises:
            ValueError: another shape, or NaN where the model knows no missing values.
        """
        items, known = self._items(x)
        return self._autoencoder.encode(items, known=known)

    def inverse_transform(self, x: Array) -> Array:
        """Items, float32 (N, entries), of latents (N, latents)."""
        items = self._autoencoder.decode(np.asarray(x, np.float32))
        return items.reshape(len(items), -1)

    def score_samples(self, x: Array) -> Array:
        """How well each item comes back, float64 (N,): the higher, the more it is like the training
        data. It is the negative mean squared error, in units of each entry's own spread."""
        items, known = self._items(x)
        model = self._autoencoder
        restored = model.decode(model.encode(items, known=known))
        spread = model.sample(_UNIT_SAMPLES, seed=0).std(axis=0)
        spread = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-12))
        errors = np.square((restored.astype(np.float64) - items) / spread)
        seen = np.ones(items.shape, bool) if known is None else known
        flat, counted = (
            np.where(seen, errors, 0).reshape(len(items), -1),
            seen.reshape(len(items), -1),
        )
        return np.asarray(-flat.sum(axis=1) / np.maximum(counted.sum(axis=1), 1))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Names of the latents."""
        return np.array([f"latent_{i}" for i in range(self._autoencoder.latents)], object)

    @property
    def n_features_in_(self) -> int:
        """Entries of an item."""
        return math.prod(self._autoencoder.shape)

    @property
    def _autoencoder(self) -> Autoencoder:
        if "_loaded" not in self.__dict__:
            self._loaded = Autoencoder.load(
                self.model, precision=self.precision, threads=self.threads
            )
        return self._loaded

    def _items(self, x: Array) -> tuple[npt.NDArray[np.float32], Array | None]:
        """Items (N, *shape) and what of them is known; None if all is."""
        model = self._autoencoder
        values = np.asarray(x, np.float32)
        if values.shape[1:] not in (model.shape, (math.prod(model.shape),)):
            raise ValueError(
                f"x has shape {values.shape}, expected (N, {str(model.shape)[1:-1].rstrip(',')}) "
                f"or (N, {math.prod(model.shape)})"
            )
        items = values.reshape(-1, *model.shape)
        known = ~np.isnan(items)
        if known.all() or not model.masked:
            return items, None
        return np.where(known, items, np.float32(0)), known

    def __sklearn_tags__(self) -> SimpleNamespace:
        """What scikit-learn asks of a step, in the shape of its `Tags`."""
        return SimpleNamespace(
            estimator_type="transformer",
            target_tags=SimpleNamespace(
                required=False,
                one_d_labels=False,
                two_d_labels=False,
                positive_only=False,
                multi_output=False,
                single_output=True,
            ),
            transformer_tags=SimpleNamespace(preserves_dtype=[]),
            classifier_tags=None,
            regressor_tags=None,
            array_api_support=False,
            no_validation=False,
            non_deterministic=False,
            requires_fit=False,
            _skip_test=False,
            input_tags=SimpleNamespace(
                one_d_array=False,
                two_d_array=True,
                three_d_array=True,
                sparse=False,
                categorical=False,
                string=False,
                dict=False,
                positive_only=False,
                allow_nan=True,
                pairwise=False,
            ),
        )
