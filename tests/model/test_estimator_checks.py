"""scikit-learn's own checks of estimators."""

import inspect

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import has_fit_parameter

import cvae

ONE_BY_ONE = {f"enc_{layer}_kernel_shape": 1 for layer in ("conv1", "pool1", "conv2", "pool2")}
OPTIONS = {"n_epochs": 2, "verbose": False}

# Of data that BernoulliVAE() does not take: pixels outside of [0, 1], and rows that its kernels of 5x5 do not fit.
REFUSED = {
    "check_dict_unchanged", "check_dont_overwrite_parameters", "check_dtype_object", "check_estimators_dtypes",
    "check_estimators_fit_returns_self", "check_estimators_nan_inf", "check_estimators_overwrite_params",
    "check_estimators_pickle", "check_f_contiguous_array_estimator", "check_fit2d_1feature", "check_fit2d_1sample",
    "check_fit2d_predict1d", "check_fit_check_is_fitted", "check_fit_idempotent", "check_fit_score_takes_y",
    "check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_n_features_in",
    "check_n_features_in_after_fitting", "check_pipeline_consistency", "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input", "check_transformer_data_not_an_array", "check_transformer_general",
    "check_transformer_preserve_dtypes",
}  # fmt: skip


def failures(vae):
    """Return the errors by the names of the checks that they belong to."""
    results = check_estimator(vae, on_fail=None, on_skip=None)
    assert len(results) > 40
    return [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]


@pytest.mark.parametrize(
    "vae",
    [
        cvae.VAE(likelihood="Gaussian", **OPTIONS),
        cvae.VAE(likelihood="Gaussian", dtype="float64", **OPTIONS),
        cvae.VAE("mlp", likelihood="Laplace", objective="IWAE(k=2)", T=3, lr=0.01, **OPTIONS),
        cvae.VAEOutlierDetector(n_samples=1),
        cvae.BernoulliVAE(value_range="data", warm_start=False, **ONE_BY_ONE, **OPTIONS),
    ],
    ids=repr,
)
def test_all_checks_pass(vae):
    assert failures(vae) == []


def test_numpy_mls_model_refuses_only_what_it_does_not_take():
    found = failures(cvae.BernoulliVAE(verbose=False))
    assert {name for name, _ in found} <= REFUSED
    for name, error in found:
        text = f"{error} {error.__cause__}"
        assert "X must hold values in [0, 1]" in text or "does not fit into a padded input" in text, name


@pytest.mark.filterwarnings("ignore:X .*feature names")
@pytest.mark.parametrize(
    "check",
    ["transformer_get_feature_names_out", "transformer_get_feature_names_out_pandas", "set_output_transform",
     "set_output_transform_pandas", "set_output_transform_polars"],
)  # fmt: skip
def test_names_of_outputs_pass_the_checks_that_are_only_for_scikit_learn(check):
    getattr(estimator_checks, f"check_{check}")("VAE", cvae.VAE(likelihood="Gaussian", **OPTIONS))


class Weighted(cvae.VAE):
    """A model whose signature shows the weights, so that scikit-learn checks them."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X, y, sample_weight=sample_weight)


def test_weights_pass_the_checks_but_for_images_that_are_repeated():
    """Images that are repeated are drawn, and go through other noise, more than once."""
    vae = Weighted(likelihood="Gaussian", **OPTIONS)
    assert has_fit_parameter(vae, "sample_weight")
    names = [name for name, _ in inspect.getmembers(estimator_checks) if name.startswith("check_sample_weight")]
    names.append("check_all_zero_sample_weights_error")
    names = [name for name in names if "equivalence" not in name]
    assert len(names) == 6
    for name in names:
        getattr(estimator_checks, name)("Weighted", vae)
