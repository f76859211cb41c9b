"""The autoencoder as a step of a pipeline: scikit-learn's own functions take it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from test_autoencoder import BASIS, items, projection

from edgeae.errors import BundleError
from edgeae.transformer import AutoencoderTransformer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return projection(tmp_path_factory.mktemp("transformer") / "p")


def test_latents_and_back(bundle):
    step, x = AutoencoderTransformer(bundle), items(9)
    latents = step.fit(x).transform(x)
    np.testing.assert_allclose(latents, x @ BASIS.T, atol=1e-6)
    np.testing.assert_allclose(step.inverse_transform(latents), x, atol=1e-5)
    np.testing.assert_array_equal(step.fit_transform(x.astype(np.float64)), latents)
    assert list(step.get_feature_names_out()) == ["latent_0", "latent_1"]
    assert step.n_features_in_ == 4


def test_what_lies_off_the_data_scores_lower(bundle):
    step, x = AutoencoderTransformer(bundle), items(200)
    strange = x + np.array([1, 1, -1, -1], np.float32)
    assert step.score_samples(x).min() > step.score_samples(strange).max()
    np.testing.assert_allclose(step.score_samples(x), 0, atol=1e-9)


def test_images_may_be_flat(tmp_path):
    path = projection(tmp_path / "p", kind="image", shape=(2, 2, 1))
    step, x = AutoencoderTransformer(path), items(5)
    flat = step.transform(x)
    np.testing.assert_array_equal(step.transform(x.reshape(5, 2, 2, 1)), flat)
    assert step.inverse_transform(flat).shape == (5, 4)
    with pytest.raises(ValueError, match=r"expected \(N, 2, 2, 1\) or \(N, 4\)"):
        step.transform(x[:, :3])


def test_missing_values_pass_where_the_model_knows_them(bundle, tmp_path):
    x = items(5)
    x[2, 1] = np.nan
    step = AutoencoderTransformer(projection(tmp_path / "p", masked=True))
    np.testing.assert_allclose(step.transform(x), np.nan_to_num(x) @ BASIS.T, atol=1e-6)
    assert np.isfinite(step.score_samples(x)).all()
    with pytest.raises(ValueError, match="NaN"):
        AutoencoderTransformer(bundle).transform(x)


def test_parameters_and_pickling(bundle):
    step, x = AutoencoderTransformer(bundle), items(3)
    assert step.get_params() == {"model": bundle, "precision": None, "threads": 1}
    assert step.set_params(threads=2) is step and step.threads == 2
    with pytest.raises(ValueError, match="parameter is 'depth', expected one of model"):
        step.set_params(depth=3)
    latents = step.transform(x)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(step)).transform(x), latents)
    with pytest.raises(BundleError):
        AutoencoderTransformer("nothing-of-this-name").fit(x)


def test_it_sits_in_a_pipeline(bundle):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.utils.validation import check_is_fitted

    x = items(120)
    y = (x @ BASIS[0] > 0).astype(int)
    step = AutoencoderTransformer(bundle)
    copied = clone(step.set_params(threads=1))
    assert copied is not step and copied.get_params() == step.get_params()
    pipeline = make_pipeline(FunctionTransformer(), step, LogisticRegression())
    assert cross_val_score(pipeline, x, y, cv=3).min() > 0.9
    search = GridSearchCV(pipeline, {"autoencodertransformer__precision": [None, "fp32"]}, cv=2)
    assert search.fit(x, y).best_score_ > 0.9
    check_is_fitted(make_pipeline(FunctionTransformer(), step))
    assert "AutoencoderTransformer" in repr(pipeline)
    np.testing.assert_allclose(
        make_pipeline(step).fit(x).inverse_transform(step.transform(x)), x, atol=1e-5
    )
