"""Weights of images in the loss, and metadata that scikit-learn routes to models."""

import contextlib
from decimal import Decimal

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from small_vae import assert_same_bits, by_path, random_images

import cvae
from cvae.parts import shared_data

X = random_images(12, dtype=np.float64)
WEIGHTS = np.random.default_rng(2).random(12)
OBJECTIVES = [
    "ELBO(beta=2)",
    "ELBO(beta=Linear(start=0.5, end=4, steps=8), n_samples=3)",
    "ELBO(free_bits=0.05)",
    "IWAE(k=3)",
    "IWAE(k=3, gradient='doubly_reparameterized')",
]


def model(objective="ELBO(beta=1)", **changes):
    fixed = {"T": 2, "n_epochs": 1, "batchsize": 12, "dtype": "float64", "random_state": 0, "verbose": False}
    return cvae.VAE(["Flatten()"], ["FullyConnected(4, act_fn='Tanh')"], objective=objective, **fixed | changes)


def trained(vae, X=X, **kwargs):
    return by_path(vae.fit(X, **kwargs).parameters)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_is_the_weighted_mean_of_those_of_the_images(objective):
    """Without free bits, whose threshold is the batch's, a step of SGD is linear in the weights."""
    vaes = [model(objective, optimizer="SGD(lr=1)") for _ in range(3)]
    first, second = WEIGHTS, 1 - WEIGHTS
    untrained = model(objective)
    untrained.forward(X)
    start = by_path(untrained.parameters)
    both, one, other = (
        {path: array - start[path] for path, array in trained(vae, sample_weight=weights).items()}
        for vae, weights in zip(vaes, (None, first, second), strict=True)
    )
    if "free_bits" in objective:
        assert all(np.isfinite(step).all() for step in one.values())
        return
    for path, step in both.items():
        mean = (first.sum() * one[path] + second.sum() * other[path]) / 12
        np.testing.assert_allclose(mean, step, rtol=1e-8, atol=1e-12)
    history = [{k: v[0] for k, v in vae.history_.items() if k not in ("seconds", "images_per_second")} for vae in vaes]
    for name, value in history[0].items():
        mean = (first.sum() * history[1][name] + second.sum() * history[2][name]) / 12
        assert mean == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_images_without_weight_do_not_count(objective):
    spoilt, weights = X.copy(), np.arange(12) % 3 > 0
    spoilt[weights == 0] = 1
    one, other = model(objective, batchsize=4, n_epochs=2), model(objective, batchsize=4, n_epochs=2)
    assert_same_bits(trained(one, spoilt, sample_weight=weights), trained(other, sample_weight=weights))
    assert {k: v for k, v in one.history_.items() if k[:3] not in ("sec", "ima")} == {
        k: v for k, v in other.history_.items() if k[:3] not in ("sec", "ima")
    }


def test_only_proportions_matter_and_equal_weights_are_none():
    for equal in (np.full(12, 7), [0.1] * 12, 3, np.ones(12, bool)):
        assert_same_bits(trained(model(), sample_weight=equal), trained(model()))
    expected = trained(model(batchsize=5), sample_weight=WEIGHTS)
    assert_same_bits(trained(model(batchsize=5), sample_weight=WEIGHTS * 2**70), expected)
    vae = model(n_epochs=2).fit(X, sample_weight=WEIGHTS)
    by_parts = model(batchsize=12).partial_fit(X, sample_weight=WEIGHTS).partial_fit(X, sample_weight=WEIGHTS)
    assert_same_bits(by_path(by_parts.parameters), by_path(vae.parameters))


@pytest.mark.parametrize("given", [WEIGHTS.astype(object), [Decimal(weight) for weight in WEIGHTS]])
def test_weights_may_be_python_objects(given):
    assert_same_bits(trained(model(), sample_weight=given), trained(model(), sample_weight=WEIGHTS))


class Alone:
    """A team of one process."""

    rank, size, is_first = 0, 1, True
    together = staticmethod(contextlib.nullcontext)

    def gather(self, value):
        return [value]


@pytest.mark.parametrize(("y", "weights"), [(np.ma.masked_less(np.arange(12), 3), {}),
                                            (None, {"sample_weight": np.ma.masked_less(WEIGHTS, 0.1)})])  # fmt: skip
def test_masked_values_are_refused_in_parts_too(y, weights):
    with pytest.raises(ValueError, match=r"^(y|sample_weight) must not have masked elements, got "):
        shared_data(Alone(), True, X, y, weights)


def test_scores_are_weighted():
    vae = model().fit(X)
    assert vae.score(X, sample_weight=WEIGHTS) == pytest.approx(np.average(vae.elbo(X), weights=WEIGHTS))
    assert vae.score(X, np.zeros(12), sample_weight=np.full(12, 3)) == vae.score(X)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(11), ValueError, r"must have the shape \(12,\), a weight for each image, got \(11,\)"),
        (np.ones((12, 1)), ValueError, r"must have the shape \(12,\), a weight for each image, got \(12, 1\)"),
        ([1, [2]], ValueError, "must be an array: "),
        (np.zeros(12), ValueError, "must have a weight above 0, got only zeros"),
        (-np.arange(12), ValueError, "must hold finite numbers >= 0, got -1.0 for image 1"),
        (np.full(12, np.nan), ValueError, "must hold finite numbers >= 0, got nan for image 0"),
        (["1"] * 12, TypeError, "must be an array of bool, int or float, got dtype <U1"),
        (np.ma.masked_less(WEIGHTS, 0.1), ValueError, "must not have masked elements, got "),
        (np.array([None] * 12), ValueError, "must not have missing values"),
    ],
)
def test_wrong_weights_are_refused(weights, error, message):
    vae = model()
    for call in (vae.fit, vae.partial_fit, model().fit(X).score):
        with pytest.raises(error, match=f"^sample_weight {message}"):
            call(X, sample_weight=weights)
    assert not vae.__sklearn_is_fitted__()


def test_other_keywords_are_refused():
    for call in (model().fit, model().partial_fit):
        with pytest.raises(TypeError, match="unexpected keyword argument 'sample_weights'"):
            call(X, sample_weights=WEIGHTS)


@pytest.mark.parametrize(("theirs", "ours"), [("epochs", "n_epochs"), ("batch_size", "batchsize")])
def test_names_of_other_libraries_are_refused_with_those_of_this_one(theirs, ours):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{theirs}', which is {ours} here"):
        model().fit(X, **{theirs: 1})


# ----------------------------------------------------------------- metadata routing


def test_a_pipeline_passes_weights_by_the_step_s_name():
    flat = X.reshape(12, -1)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("vae", model())]).fit(flat, vae__sample_weight=WEIGHTS)
    assert_same_bits(
        by_path(pipeline["vae"].parameters),
        trained(model(), MinMaxScaler().fit_transform(flat), sample_weight=WEIGHTS),
    )


def test_metadata_are_routed():
    flat, y = X.reshape(12, -1), np.arange(12) % 2
    with sklearn.config_context(enable_metadata_routing=True):
        vae = model().set_fit_request(sample_weight=True, validation_data=True).set_score_request(sample_weight=True)
        pipeline = Pipeline([("scale", MinMaxScaler()), ("vae", vae)], transform_input=["validation_data"])
        pipeline.fit(flat, sample_weight=WEIGHTS, validation_data=flat[:5])
        scaled = MinMaxScaler().fit_transform(flat)
        expected = model().fit(scaled, sample_weight=WEIGHTS, validation_data=scaled[:5])
        assert pipeline["vae"].history_["val_loss"] == expected.history_["val_loss"]
        assert pipeline["vae"].history_["loss"] == expected.history_["loss"]
        search = GridSearchCV(vae, {"T": [1, 2]}, cv=2).fit(flat, sample_weight=WEIGHTS)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        conditional = model(condition="classes").set_transform_request(y=True).set_inverse_transform_request(y=True)
        pipeline = Pipeline([("scale", MinMaxScaler()), ("vae", conditional)]).fit(flat, y)
        codes = pipeline.transform(flat, y=y)
        np.testing.assert_array_equal(codes, pipeline["vae"].transform(pipeline["scale"].transform(flat), y))
        assert pipeline.inverse_transform(codes, y=y).shape == flat.shape
