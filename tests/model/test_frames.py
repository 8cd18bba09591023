"""Models among data frames and columns: rows of pixels, names, outputs of `transform`, and what notebooks show."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from small_vae import random_images, small_vae, subprocess_environment

import cvae

N_FEATURES = 12
NAMES = [f"pixel {i}" for i in range(N_FEATURES)]
ROWS = np.random.default_rng(0).random((20, N_FEATURES))
FRAME = pd.DataFrame(ROWS, columns=NAMES, index=range(100, 120))


def model(**changes):
    fixed = {"likelihood": "Gaussian", "T": 2, "n_epochs": 1, "batchsize": 8, "random_state": 0, "verbose": False}
    return cvae.VAE("mlp", **fixed | changes)


@pytest.fixture
def of_frame():
    return model().fit(FRAME)


# ----------------------------------------------------------------- rows of pixels


def test_rows_without_image_shape_are_images_of_one_row():
    vae = model().fit(ROWS)
    np.testing.assert_array_equal(vae.transform(ROWS), vae.transform(ROWS.reshape(20, 1, N_FEATURES, 1)))
    assert vae.reconstruct(ROWS).shape == vae.decode(np.zeros((20, 2))).shape == (20, 1, N_FEATURES, 1)
    assert vae.n_features_in_ == N_FEATURES
    with pytest.raises(ValueError, match=r"^X has 11 features, but VAE is expecting 12 features as input"):
        vae.transform(ROWS[:, 1:])
    with pytest.raises(
        ValueError, match=r"^validation_data has 11 features, but VAE is expecting 12 features as input"
    ):
        model().fit(ROWS, validation_data=ROWS[:, 1:])


def test_kernels_that_do_not_fit_rows_ask_for_image_shape():
    with pytest.raises(ValueError, match=r"\(rows of 72 features are images of 1x72 pixels without image_shape\)$"):
        small_vae().fit(random_images().reshape(10, -1))


@pytest.mark.parametrize("image_shape", [None, (3, 4), (2, 2, 3)])
def test_images_come_back_as_fit_got_them(image_shape, tmp_path):
    vae = model(image_shape=image_shape).fit(ROWS)
    codes = vae.transform(ROWS)
    for same in (vae, pickle.loads(pickle.dumps(vae)), saved_and_loaded(vae, tmp_path)):
        images = same.inverse_transform(codes)
        np.testing.assert_array_equal(images, vae.decode(codes).reshape(20, N_FEATURES))
    images = random_images()
    assert small_vae().fit(images).inverse_transform(np.zeros((3, 2))).shape == (3, 9, 8, 1)
    pipeline = make_pipeline(MinMaxScaler(), model(image_shape=image_shape)).fit(7 * ROWS)
    assert pipeline.inverse_transform(pipeline.transform(7 * ROWS)).shape == ROWS.shape


def saved_and_loaded(vae, folder):
    vae.save(folder / "model.safetensors")
    return cvae.load(folder / "model.safetensors")


# -------------------------------------------------------------------- names


def test_names_of_columns_are_kept(of_frame, tmp_path):
    assert of_frame.feature_names_in_.tolist() == NAMES
    assert saved_and_loaded(of_frame, tmp_path).feature_names_in_.tolist() == NAMES
    for vae in (model(), model(T=0), model().fit(ROWS), model().fit(pd.DataFrame(ROWS)), clone(of_frame)):
        assert not hasattr(vae, "feature_names_in_")


def use_all_ways(vae, X):
    return [lambda: vae.transform(X), lambda: vae.score(X), lambda: vae.elbo(X), lambda: vae.partial_fit(X)]


def test_other_columns_are_refused(of_frame, tmp_path):
    backwards, renamed = FRAME[NAMES[::-1]], FRAME.rename(columns={"pixel 0": "first"})
    for vae in (of_frame, saved_and_loaded(of_frame, tmp_path)):
        for call in use_all_ways(vae, backwards):
            with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
                call()
        for call in use_all_ways(vae, renamed):
            with pytest.raises(ValueError, match=r"unseen at fit time:\n- first\n.*now missing:\n- pixel 0$"):
                call()
        with pytest.raises(ValueError, match="same order"):
            vae.encode(pl.DataFrame(ROWS[:, ::-1], schema=NAMES[::-1]))
    with pytest.raises(ValueError, match="validation_data: The feature names should match"):
        of_frame.partial_fit(FRAME).set_params(warm_start=True).fit(FRAME, validation_data=backwards)
    with pytest.raises(TypeError, match="X must have strings as names of all columns, or of none, got int and str"):
        model().fit(FRAME.rename(columns={"pixel 3": 3}))
    assert of_frame.set_params(warm_start=False).fit(backwards).feature_names_in_.tolist() == NAMES[::-1]  # anew


@pytest.mark.parametrize(
    "validation",
    [lambda frame: frame, lambda frame: (frame, range(20)), lambda frame: iter([frame])],
    ids=["frame", "pair", "blocks"],
)
@pytest.mark.parametrize("library", [pd.DataFrame, lambda frame: pl.DataFrame(frame.to_dict("list"))])
def test_validation_data_of_a_first_fit_have_its_columns(library, validation):
    X, backwards = library(FRAME), library(FRAME[NAMES[::-1]])
    vae = model()
    with pytest.raises(ValueError, match=r"validation_data: The feature names should match.*\n.*same order"):
        vae.fit(X, validation_data=validation(backwards))
    assert not vae.__sklearn_is_fitted__()
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- first\n"):
        vae.fit(X, validation_data=validation(library(FRAME.rename(columns={"pixel 0": "first"}))))
    assert vae.fit(X, validation_data=validation(X)).history_["val_loss"]


def test_names_on_one_side_only_warn(of_frame):
    with pytest.warns(UserWarning, match="X does not have valid feature names, but VAE was fitted with feature names"):
        codes = of_frame.transform(ROWS)
    np.testing.assert_array_equal(codes, of_frame.transform(FRAME))
    with pytest.warns(UserWarning, match="X has feature names, but VAE was fitted without feature names"):
        model().fit(ROWS).transform(FRAME)
    of_frame.transform(ROWS.reshape(20, 1, N_FEATURES, 1))  # images have no columns


# ------------------------------------------------------------- data frames come out


@pytest.mark.parametrize(("library", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_set_output(library, frame, of_frame):
    expected = of_frame.transform(FRAME)
    vae = clone(of_frame).set_output(transform=library)
    for found in (vae.fit_transform(FRAME), vae.transform(FRAME), clone(vae).fit(FRAME).transform(FRAME)):
        assert type(found) is frame
        assert list(found.columns) == ["vae0", "vae1"]
        np.testing.assert_array_equal(found, expected)
    assert type(vae.encode(FRAME)[0]) is type(vae.reconstruct(FRAME)) is np.ndarray
    assert vae.inverse_transform(vae.transform(FRAME)).shape == ROWS.shape
    with sklearn.config_context(transform_output=library):
        assert type(of_frame.transform(FRAME)) is frame
        assert of_frame.active_units(FRAME).shape == (2,)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_codes_keep_the_order_of_their_columns(library):
    vae = model(T=3).set_output(transform=library).fit(FRAME)
    codes = vae.transform(FRAME)
    images = vae.decode(codes)
    for backwards in (codes[["vae2", "vae1", "vae0"]], codes[["vae1", "vae0", "vae2"]]):
        for use in (vae.decode, vae.inverse_transform):
            with pytest.raises(ValueError, match=r"^Z: The feature names should match .* same order, got vae"):
                use(backwards)
    named = codes.rename(**{"columns" if library == "pandas" else "mapping": {"vae0": "x", "vae1": "y", "vae2": "z"}})
    np.testing.assert_array_equal(vae.decode(named), images)
    np.testing.assert_array_equal(vae.decode(named[["z", "y", "x"]]), vae.decode(codes.to_numpy()[:, ::-1]))


def test_ends_of_an_interpolation_keep_the_order_of_their_columns(of_frame):
    expected = of_frame.interpolate(ROWS[0], ROWS[1], 3)
    backwards = FRAME[NAMES[::-1]]
    polars = pl.DataFrame(FRAME.to_dict("list"))
    for take in (lambda frame, i: frame.iloc[i], lambda frame, i: frame.iloc[[i]]):
        np.testing.assert_array_equal(of_frame.interpolate(take(FRAME, 0), take(FRAME, 1), 3), expected)
        with pytest.raises(ValueError, match=r"^b: The feature names should match"):
            of_frame.interpolate(take(FRAME, 0), take(backwards, 1))
    np.testing.assert_array_equal(of_frame.interpolate(polars[0], polars[1], 3), expected)
    codes = pd.DataFrame([[0.0, 1.0]], columns=["vae0", "vae1"])
    np.testing.assert_array_equal(of_frame.interpolate(codes, codes.iloc[0], 2), of_frame.decode([[0, 1], [0, 1]]))
    with pytest.raises(ValueError, match=r"^a: The feature names should match"):
        of_frame.interpolate(codes[["vae1", "vae0"]], codes)


def test_pandas_keeps_the_index(of_frame):
    assert of_frame.set_output(transform="pandas").transform(FRAME).index.tolist() == FRAME.index.tolist()


def test_a_column_transformer_encodes_some_columns():
    transformer = make_column_transformer(
        (model(), NAMES[:9]), remainder="passthrough", verbose_feature_names_out=False
    )
    found = transformer.set_output(transform="pandas").fit_transform(FRAME)
    assert found.columns.tolist() == ["vae0", "vae1", *NAMES[9:]]
    np.testing.assert_array_equal(found[["vae0", "vae1"]], model().fit(FRAME[NAMES[:9]]).transform(FRAME[NAMES[:9]]))


# --------------------------------------------------------- fitted or not, on sight


def test_the_text_tells_whether_a_model_is_trained():
    vae = model()
    assert repr(vae).startswith("VAE(encoder='mlp', ")
    text = repr(vae.fit(ROWS))
    assert text == f"<{clone(vae)!r} trained for 1 epoch on images of 1x12x1>"


def test_notebooks_show_html(of_frame):
    for vae in (model(), of_frame, cvae.BernoulliVAE(T=-1), make_pipeline(MinMaxScaler(), model())):
        assert "sk-top-container" in vae._repr_html_()
        assert set(vae._repr_mimebundle_()) == {"text/plain", "text/html"}
    of_frame.batchsize = -1
    assert "n_features_in_" in of_frame._repr_html_()


def test_the_error_of_an_unfitted_model_is_scikit_learns_too():
    for error in (cvae.NotFittedError, SklearnNotFittedError, ValueError, AttributeError):
        with pytest.raises(error, match="this VAE has no parameters yet: call fit"):
            model().transform(ROWS)
    with pytest.raises(cvae.NotFittedError) as caught:
        model().sample()
    again = pickle.loads(pickle.dumps(caught.value))  # as workers send it
    assert isinstance(again, SklearnNotFittedError)
    assert str(again) == str(caught.value)


# --------------------------------------------------- scikit-learn comes in later, or never


def run(code):
    """Return what code prints in a new process."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, text=True, capture_output=True, env=subprocess_environment()).stdout


def test_scikit_learn_may_be_imported_after_the_model_was_made():
    assert (
        run("""
import sys
import numpy as np
import cvae
vae = cvae.VAE("mlp", likelihood="Gaussian", T=2, n_epochs=1, verbose=False)
X = np.eye(5)
try:
    vae.encode(X)
except cvae.NotFittedError as error:
    print(type(error) is cvae.NotFittedError, "sklearn" in sys.modules, repr(vae.fit(X))[:5])
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
pipeline = make_pipeline(vae).set_output(transform="pandas").fit(X)
print(type(pipeline.transform(X)).__name__, isinstance(vae, BaseEstimator), isinstance(clone(vae), BaseEstimator))
""")
        == "True False <VAE(\nDataFrame True True\n"
    )


def test_what_needs_scikit_learn_imports_it():
    assert (
        run("""
import cvae
vae = cvae.VAE("mlp", likelihood="Gaussian", T=2, n_epochs=1, verbose=False).set_output(transform="pandas")
print(type(vae.fit_transform([[0.0, 1.0], [1.0, 0.5]])).__name__, "sample_weight" in str(vae.get_metadata_routing()))
""")
        == "DataFrame True\n"
    )


def test_without_scikit_learn_there_is_everything_else():
    assert (
        run("""
import sys
sys.modules["sklearn"] = None
import cvae
vae = cvae.VAE("mlp", likelihood="Gaussian", T=2, n_epochs=1, verbose=False, random_state=0)
for name in ("set_output", "_repr_html_", "get_metadata_routing", "colour"):
    print(hasattr(vae, name), end=" ")
vae.set_params(lr=0.01).fit([[0.0, 1.0], [1.0, 0.5]], sample_weight=[1, 2])
print(vae.n_features_in_, vae.inverse_transform(vae.transform([[0.0, 1.0]])).shape, vae.get_feature_names_out())
""")
        == "False False False False 2 (1, 2) ['vae0' 'vae1']\n"
    )


def test_models_are_estimators():
    assert isinstance(model(), BaseEstimator)
    assert issubclass(cvae.BernoulliVAE, BaseEstimator)
