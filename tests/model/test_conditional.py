"""Conditional models: values and gradients, labels of all kinds, what needs them, saving, and errors."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from oracles import bce_with_logits, kl_divergence
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from small_vae import IMAGE_SHAPE, assert_same_bits, by_path, checked, noise_of, random_images, small_vae

import cvae
from cvae import NotFittedError
from cvae.conditions import restored
from cvae.layers import Condition

T = 3
X = random_images(11)
CLASSES = np.array([2, 0, 5, 5, 0, 2, 2, 0, 5, 5, 2])
VALUES = np.random.default_rng(4).normal(size=(11, 2))
ENCODER = ["Flatten()", "FullyConnected(n_out=6, act_fn='Tanh')"]
DECODER = ["FullyConnected(n_out=5, act_fn='Tanh')"]
ON_IMAGES = ["Condition()", "Conv2D(out_ch=3, kernel_shape=3, stride=2, act_fn='Tanh')", "Condition()", "Flatten()"]
PLACES = {
    "added": (ENCODER, DECODER),
    "first": (["Condition()", *ON_IMAGES[1:2], "Flatten()"], ["Condition()", *DECODER]),
    "twice": (ON_IMAGES, ["Condition()", *DECODER, "Condition()"]),
    "on images": (
        ON_IMAGES,
        ["FullyConnected(n_out=18, act_fn='Tanh')", "Reshape((9, 2, 1))", "Condition()", "Upsample2D((1, 4))",
         "Conv2D(out_ch=1, kernel_shape=3, pad='same')"],
    ),
    "in blocks": (
        ["Residual([Condition(), Conv2D(1, 3, pad=1, act_fn='Tanh')], 'Conv2D(1, 1)')", "Flatten()"],
        ["Residual([Residual([Condition(), FullyConnected(3)], act_fn='Tanh'), Condition(), FullyConnected(3)])"],
    ),
}  # fmt: skip
PLACES["in a block"] = (
    ["Residual(['Condition()', 'Conv2D(out_ch=1, kernel_shape=3, pad=1)'], act_fn='Tanh')", "Flatten()"],
    ["Residual([FullyConnected(3, act_fn='Tanh'), Condition(), FullyConnected(5)], Residual([Condition(), "
     "FullyConnected(5)], 'FullyConnected(5)'))"],
)  # fmt: skip
each_place = pytest.mark.parametrize(("encoder", "decoder"), PLACES.values(), ids=PLACES.keys())
LABELS = {"classes": CLASSES, "values": VALUES}
each_condition = pytest.mark.parametrize("condition", LABELS)


def model(condition="classes", encoder=ENCODER, decoder=DECODER, **changes):
    fixed = {"T": T, "optimizer": "Adam(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    return cvae.VAE(encoder, decoder, condition=condition, **{"warm_start": True, **fixed, **changes})


def parameters(vae):
    return by_path(vae.parameters)


def numbers_of(y):
    """What layers read of labels."""
    return y if y.ndim == 2 else (y[:, np.newaxis] == np.unique(y)).astype(float)


def noise_for(vae, n, seed=0):
    return np.random.default_rng(seed).standard_normal((n * vae._objective.codes, T))


def loss_of(vae, images, numbers, noise):
    """The loss of images, as training computes it."""
    n = len(images)
    passes = vae._passes(n, training=True)
    passes.images[:n], passes.labels[:n], passes.noise[: len(noise)] = images, numbers, noise
    return vae._objective.loss(passes.loss(n)) / n


def dense(values, path, params):
    return values @ params[f"{path}/W"] + params[f"{path}/b"]


def expected_terms(params, images, numbers, noise):
    """The terms of the ELBO of the model with added layers, in plain NumPy and float64."""
    params = {path: array.astype(np.float64) for path, array in params.items()}
    flat = images.reshape(len(images), -1).astype(np.float64)
    hidden = np.tanh(dense(flat, "encoder/FullyConnected_2", params))
    code = dense(np.hstack([hidden, numbers]), "encoder/Code", params)
    mean, log_var = code[:, :T], code[:, T:]
    z = mean + noise * np.exp(log_var / 2)
    hidden = np.tanh(dense(np.hstack([z, numbers]), "decoder/FullyConnected_1", params))
    logits = dense(hidden, "decoder/Output", params)
    return bce_with_logits(logits, flat)[0], kl_divergence(mean, log_var)[0]


# ------------------------------------------------------------- values and gradients


@each_condition
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_terms_of_the_elbo_are_those_of_the_reference(condition, dtype):
    y = LABELS[condition]
    vae = model(condition, dtype=dtype).fit(X, y)
    expected = expected_terms(parameters(vae), X, numbers_of(y), noise_of(vae, X)[:, 0])
    found = vae.elbo_terms(X, random_state=0, y=y)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for term, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(term, reference, rtol=tolerance)


@each_place
@each_condition
@pytest.mark.parametrize("objective", ["ELBO", "IWAE(k=3)", "IWAE(k=3, gradient='doubly_reparameterized')"])
def test_gradients_are_differences(encoder, decoder, condition, objective):
    y = LABELS[condition][:4]
    vae = model(condition, encoder, decoder, objective=objective, dtype="float64")
    vae.forward(X, y=LABELS[condition], retain_derived=False, noise=noise_for(vae, len(X)))
    noise = noise_for(vae, 4)
    vae.backward(X[:4], vae.forward(X[:4], y=y, noise=noise))
    checked = vae.parameters["components"]
    if "doubly" in objective:  # that of the encoder is no derivative of the loss for given noise
        checked = {"decoder": checked["decoder"]}
    for part, layers in checked.items():
        for name, arrays in layers.items():
            for key, array in arrays.items():
                gradient = vae.gradients["components"][part][name][key]
                rng = np.random.default_rng(1)
                for index in {tuple(rng.integers(0, array.shape)) for _ in range(12)}:
                    value, losses = array[index], []
                    for step in (1e-5, -1e-5):
                        array[index] = value + step
                        losses.append(loss_of(vae, X[:4], numbers_of(LABELS[condition])[:4], noise))
                    array[index] = value
                    assert gradient[index] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5, abs=1e-8)


@each_place
@each_condition
@pytest.mark.parametrize("objective", ["ELBO(n_samples=2)", "IWAE(k=3)"])
def test_the_number_of_threads_does_not_matter(encoder, decoder, condition, objective):
    y = LABELS[condition]
    fitted = {n: model(condition, encoder, decoder, objective=objective, n_threads=n).fit(X, y) for n in (1, 2, 3, 7)}
    for vae in fitted.values():
        assert_same_bits(parameters(vae), parameters(fitted[1]))
        np.testing.assert_array_equal(
            vae.log_likelihood(X, n_samples=130, y=y), fitted[1].log_likelihood(X, n_samples=130, y=y)
        )


def test_wide_layers_give_the_same_bits_on_any_number_of_threads():
    """With enough work for threads to share what `Condition` does."""
    images, y = random_images(64, (40, 40, 3)), np.arange(64) % 7
    encoder = ["Condition()", "Conv2D(out_ch=8, kernel_shape=3, stride=2)", "Flatten()"]
    fitted = [model(encoder=encoder, batchsize=32, n_epochs=1, n_threads=n).fit(images, y) for n in (1, 2, 3, 7)]
    for vae in fitted[1:]:
        assert_same_bits(parameters(vae), parameters(fitted[0]))


@each_place
@pytest.mark.parametrize("objective", ["ELBO(beta=0.5)", "IWAE(k=3)"])
def test_steps_by_hand_are_those_of_fit(encoder, decoder, objective):
    arguments = {"encoder": encoder, "decoder": decoder, "objective": objective}
    vae = model(**arguments, random_state=np.random.default_rng(7)).fit(X, CLASSES)
    rng = np.random.default_rng(7)
    by_hand = model(**arguments, random_state=rng)
    start(by_hand)
    for _ in range(2):
        for indices in cvae.minibatch(X, 4, rng=rng)[0]:
            X_recon = by_hand.forward(X[indices], y=CLASSES[indices])
            by_hand.backward(X[indices], X_recon)
            by_hand.update()
    assert_same_bits(parameters(by_hand), parameters(vae))


def start(vae):
    """Create parameters and learn all classes without drawing noise."""
    vae.forward(X, y=CLASSES, retain_derived=False, noise=noise_for(vae, len(X)))


def test_the_labels_of_each_code_are_those_of_its_image():
    """The importance-weighted estimate of one image does not depend on the others of its batch."""
    vae = model(objective="IWAE(k=3)").fit(X, CLASSES)
    mean, log_var = vae.encode(X, CLASSES)
    passes = vae._passes(128, training=False)
    noise = np.random.default_rng(0).standard_normal((11, 5, T)).astype(np.float32)
    passes.images[:11], passes.labels[:11] = X, numbers_of(CLASSES)
    together = passes.log_weights(mean, log_var, noise.reshape(55, T)).reshape(11, 5)
    for i in range(11):
        passes.images[:1], passes.labels[:1] = X[i], numbers_of(CLASSES)[i]
        alone = passes.log_weights(mean[i : i + 1], log_var[i : i + 1], noise[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-5)


def test_parameters_may_be_given_to_a_layer_of_a_block_that_reads_labels():
    vae = model(encoder=["Flatten()", "Residual([Condition(), FullyConnected(72)])"]).fit(X, CLASSES)
    block = vae.encoder_["Residual_2"]
    block.layers[1].set_params({"parameters": {"W": np.zeros((75, 72))}})
    vae.fit(X, CLASSES)
    assert block.parameters["FullyConnected_2/W"] is block.layers[1].W
    assert block.layers[1].W.any()
    assert np.abs(block.layers[1].W).max() < 0.2  # six steps of Adam away from 0


def test_labels_change_what_is_encoded_and_decoded():
    vae = model().fit(X, CLASSES, n_epochs=20)
    codes = {label: vae.transform(X, label) for label in (0, 2, 5)}
    assert all(np.abs(codes[0] - codes[label]).min() > 0 for label in (2, 5))
    np.testing.assert_array_equal(vae.transform(X, CLASSES)[CLASSES == 2], codes[2][CLASSES == 2])
    samples = [vae.sample(4, random_state=0, y=label) for label in (0, 2, 5)]
    assert np.abs(samples[0] - samples[1]).max() > 0.01
    mixed = vae.sample(4, random_state=0, y=[5, 0, 0, 2])
    np.testing.assert_array_equal(mixed, [samples[2][0], samples[0][1], samples[0][2], samples[1][3]])


def test_a_conditional_model_learns_what_labels_say():
    """Images whose classes differ in their grey: with its label, an image needs no code."""
    y = np.arange(200) % 2
    images = np.where(y[:, np.newaxis, np.newaxis, np.newaxis] == 1, 0.9, 0.1) * np.ones((200, *IMAGE_SHAPE))
    vae = model(n_epochs=60, optimizer="Adam(lr=0.02)").fit(images, y)
    assert vae.sample(20, y=1).mean() > 0.85
    assert vae.sample(20, y=0).mean() < 0.15
    assert vae.history_["kl"][-1] < 0.5


# ------------------------------------------------------------------- kinds of labels

KINDS = {
    "ints": (CLASSES, [0, 2, 5]),
    "list": (CLASSES.tolist(), [0, 2, 5]),
    "small ints": (CLASSES.astype(np.int8), [0, 2, 5]),
    "strings": (np.array(["zero", "two", "five"])[np.searchsorted([0, 2, 5], CLASSES)], ["five", "two", "zero"]),
    "bools": (CLASSES > 1, [False, True]),
    "floats": (CLASSES / 2, [0.0, 1.0, 2.5]),
    "objects": (np.array([str(label) for label in CLASSES], object), ["0", "2", "5"]),
    "objects of ints": (CLASSES.astype(object), [0, 2, 5]),
    "column": (CLASSES[:, np.newaxis], [0, 2, 5]),
    "one class": (np.zeros(11, int), [0]),
}


@pytest.mark.parametrize(("y", "classes"), KINDS.values(), ids=KINDS.keys())
def test_classes_of_any_kind(tmp_path, y, classes):
    vae = model().fit(X, y, validation_data=(X, y))
    assert vae.classes_.tolist() == classes
    assert vae.encoder_["Condition"].n_labels == len(classes)
    vae.save(tmp_path / "model")
    loaded = cvae.load(tmp_path / "model")
    assert loaded.classes_.tolist() == classes
    assert loaded.classes_.dtype == vae.classes_.dtype
    np.testing.assert_array_equal(loaded.elbo(X, y=y), vae.elbo(X, y=y))
    np.testing.assert_array_equal(vae.sample(2, 0, y=classes[-1]), vae.sample(2, 0, y=[classes[-1]] * 2))


def test_lists_of_large_integers_are_told_apart():
    y = [2**63, 2**63 + 1, 5] * 4
    vae = cvae.VAE("mlp", T=2, condition="classes", random_state=0, n_epochs=1, verbose=False)
    assert vae.fit(np.zeros((12, 4, 4)), y).classes_.tolist() == [5, 2**63, 2**63 + 1]
    for wrong in ([2**64, 1], [2**63, -1]):
        with pytest.raises(ValueError, match="y must hold integers that fit in int64 or in uint64"):
            vae.fit(np.zeros((2, 4, 4)), wrong)


def test_pandas_columns():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for column in (pandas.Series(CLASSES), pandas.Series(map(str, CLASSES)), pandas.Series(CLASSES, dtype="category")):
        vae = model().fit(X, column)
        assert [*map(int, vae.classes_)] == [0, 2, 5]


def test_columns_of_values_keep_their_names_and_order(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(VALUES, columns=[f"v{i}" for i in range(VALUES.shape[1])])
    vae = model("values").fit(X, frame)
    vae.save(tmp_path / "model")
    for each in (vae, cvae.load(tmp_path / "model")):
        np.testing.assert_array_equal(each.elbo(X, y=frame), each.elbo(X, y=VALUES))
        for other in (frame[frame.columns[::-1]], frame.rename(columns={"v0": "w"})):
            with pytest.raises(ValueError, match="the columns of the first fit in their order, v0, v1, got "):
                each.elbo(X, y=other)


def test_a_file_of_many_classes_loads_without_a_word(tmp_path):
    labels = np.arange(len(X))
    many, y = np.concatenate([X] * 4), np.concatenate([labels + i * len(X) for i in range(4)])
    with pytest.warns(UserWarning, match="of which a model learns little"):
        model().fit(many, y).save(tmp_path / "model")
    assert len(cvae.load(tmp_path / "model").classes_) == 4 * len(X)


def test_as_many_samples_as_labels():
    vae = model().fit(X, CLASSES)
    np.testing.assert_array_equal(vae.sample(random_state=0, y=[5, 0, 2]), vae.sample(3, 0, y=[5, 0, 2]))
    np.testing.assert_array_equal(vae.sample(random_state=0, y=5), vae.sample(1, 0, y=5))
    vae = model("values").fit(X, VALUES)
    assert vae.sample(y=VALUES[:3]).shape == (3, *X.shape[1:])
    assert vae.sample(y=VALUES[0]).shape == (1, *X.shape[1:])


VALUE_KINDS = {
    "vectors": VALUES, "numbers": VALUES[:, 0], "column": VALUES[:, :1], "list": VALUES.tolist(), "ints": CLASSES,
    "objects": VALUES.astype(object),
}  # fmt: skip


@pytest.mark.parametrize("y", VALUE_KINDS.values(), ids=VALUE_KINDS.keys())
def test_values_of_any_kind(y):
    vae = model("values").fit(X, y, validation_data=(X, y))
    found, array = vae.elbo(X, y=y), np.asarray(y, float)
    np.testing.assert_array_equal(found, vae.elbo(X, y=array))
    one = y[3]
    np.testing.assert_array_equal(vae.sample(2, 0, y=one), vae.sample(2, 0, y=[one, one]))
    assert not hasattr(vae, "classes_")


@pytest.mark.parametrize("y", [CLASSES + 20, np.stack([CLASSES, -CLASSES - 10.5], 1)], ids=["numbers", "vectors"])
def test_values_that_are_large_for_layers_are_named_once(y):
    largest = 25 if y.ndim == 1 else 15.5
    with pytest.warns(UserWarning, match=f"^y holds numbers of up to {largest} in size, which go into layers") as seen:
        vae = model("values").fit(X, y, validation_data=(X, y))
    assert len(seen) == 1
    vae.elbo(X, y=y)
    model("values").fit(X, CLASSES / 0.5)  # up to 10


def test_the_condition_of_numpy_mls_model():
    vae = small_vae(condition="classes").fit(X, CLASSES)
    assert [*vae.encoder][-3:] == ["FC4", "Condition", "FC5"]
    assert [*vae.decoder] == ["Condition", "FC1", "FC2"]
    vae.backward(X, vae.forward(X, y=CLASSES))
    derived = vae.derived_variables
    assert derived["dDecoder_Condition_in"].shape == (11, 2)
    assert derived["dEncoder_Condition_out"].shape == (11, 8 + 3)
    assert vae.decoder["FC1"].X[0].shape == (11, 2 + 3)
    np.testing.assert_array_equal(vae.decoder["FC1"].X[0][:, 2:], numbers_of(CLASSES))


def test_layers_run_one_by_one_read_the_labels_of_all_codes():
    vae = model(objective="IWAE(k=3)")
    start(vae)
    X_recon = vae.forward(X, y=CLASSES)
    (first,) = vae.decoder_["FullyConnected_1"].X
    np.testing.assert_array_equal(first[:, T:], numbers_of(CLASSES).repeat(3, axis=0))
    vae.forward(X[:2], y=[0, 5], retain_derived=False)  # which leaves its labels in the same memory
    vae.encode(X[:3], 0)
    vae.backward(X, X_recon)
    other = model(objective="IWAE(k=3)")
    start(other)
    other.backward(X, other.forward(X, y=CLASSES))
    assert_same_bits(by_path(vae.gradients), by_path(other.gradients))


# ------------------------------------------------------------- models among their peers


@each_condition
@pytest.mark.parametrize("place", ["added", "in blocks"])
def test_a_loaded_or_copied_model_goes_on_with_the_same_bits(tmp_path, condition, place):
    y = LABELS[condition]
    vae = model(condition, *PLACES[place]).fit(X, y)
    vae.save(tmp_path / "model")
    joblib.dump(vae, tmp_path / "dumped")
    others = [cvae.load(tmp_path / "model"), copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))]
    others.append(joblib.load(tmp_path / "dumped"))
    expected = parameters(vae.fit(X, y))
    for other in others:
        assert_same_bits(parameters(other.fit(X, y)), expected)
        with pytest.raises(ValueError, match="y must"):
            other.encode(X)


def test_layers_of_instances_are_saved_with_their_labels(tmp_path):
    vae = model(encoder=[*ON_IMAGES[:-1], Condition(), "Flatten()"]).fit(X, CLASSES)
    vae.save(tmp_path / "model")
    np.testing.assert_array_equal(cvae.load(tmp_path / "model").encode(X, CLASSES), vae.encode(X, CLASSES))


def test_clones_and_new_arguments_start_anew():
    vae = model().fit(X, CLASSES)
    cloned = clone(vae)
    assert cloned.condition == "classes"
    assert not hasattr(cloned, "classes_")
    assert_same_bits(parameters(cloned.fit(X, CLASSES)), parameters(vae))
    vae.set_params(T=4)
    assert vae.fit(X, CLASSES > 1).classes_.tolist() == [False, True]
    vae.set_params(condition=None)
    assert "Condition" not in vae.fit(X).encoder_
    vae.encode(X)
    vae.condition = "values"
    assert vae.fit(X, CLASSES).encode(X, 0.5)[0].shape == (11, 4)
    assert "condition='values'" in repr(vae)


def test_a_pipeline_passes_labels_on():
    flat = X.reshape(11, -1)
    pipeline = make_pipeline(MinMaxScaler(clip=True), model(image_shape=(9, 8))).fit(flat, CLASSES)
    assert pipeline[-1].classes_.tolist() == [0, 2, 5]
    assert pipeline.score(flat, CLASSES) == pipeline[-1].score(pipeline[0].transform(flat), CLASSES)
    assert pipeline.fit_transform(flat, CLASSES).shape == (11, T)


def test_models_without_condition_ignore_labels_of_scikit_learn():
    vae = model(None).fit(X, CLASSES)
    assert_same_bits(parameters(vae), parameters(model(None).fit(X)))
    assert vae.score(X, "anything") == vae.score(X)
    vae.partial_fit(X, CLASSES).fit_transform(X, CLASSES)


def test_training_goes_on_with_fewer_classes_and_smaller_batches():
    vae = model().fit(X, CLASSES, n_epochs=1)
    vae.partial_fit(X[CLASSES == 5], CLASSES[CLASSES == 5]).partial_fit(X[:1], CLASSES[:1])
    vae.fit(X, CLASSES, batchsize=11, validation_data=(X[:1], CLASSES[:1]))
    assert vae.classes_.tolist() == [0, 2, 5]
    assert vae.encoder_["Code"].optimizer.cur_step == 3 + 1 + 1 + 2


def test_frozen_layers_and_bytes():
    vae = model()
    start(vae)
    for layer in vae.encoder_.values():
        layer.freeze()
    before = parameters(vae)
    vae.fit((X * 255).astype(np.uint8), CLASSES)
    changed = {path.split("/")[0] for path, array in parameters(vae).items() if not np.array_equal(array, before[path])}
    assert changed == {"decoder"}


# --------------------------------------------------------------------------- errors

USES = {
    "fit": lambda vae, y: vae.fit(X, y),
    "partial_fit": lambda vae, y: vae.partial_fit(X, y),
    "fit_transform": lambda vae, y: vae.fit_transform(X, y),
    "forward": lambda vae, y: vae.forward(X, y=y),
    "score": lambda vae, y: vae.score(X, y),
    "encode": lambda vae, y: vae.encode(X, y),
    "transform": lambda vae, y: vae.transform(X, y),
    "decode": lambda vae, y: vae.decode(np.zeros((11, T)), y),
    "inverse_transform": lambda vae, y: vae.inverse_transform(np.zeros((11, T)), y),
    "reconstruct": lambda vae, y: vae.reconstruct(X, y),
    "sample": lambda vae, y: vae.sample(11, y=y),
    "elbo": lambda vae, y: vae.elbo(X, y=y),
    "elbo_terms": lambda vae, y: vae.elbo_terms(X, y=y),
    "score_samples": lambda vae, y: vae.score_samples(X, y),
    "log_likelihood": lambda vae, y: vae.log_likelihood(X, 2, y=y),
    "active_units": lambda vae, y: vae.active_units(X, y=y),
    "fit_prior": lambda vae, y: vae.fit_prior(X, 2, y=y),
    "validation": lambda vae, y: vae.fit(X, CLASSES, validation_data=(X, y)),
}
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
WRONG = {
    "none": (None, ValueError, "this model is conditional: .* must be a class label, or one for each image, got None"),
    "unseen": ([2] * 10 + [7], ValueError, r"must hold labels of the first fit, 0, 2, 5, got 7"),
    "strings": (list("25052205505"), ValueError, r"must hold labels of the first fit, 0, 2, 5, got '0', '2', '5'"),
    "too few": (CLASSES[:5], ValueError, "must be one label, or one for each of 11, got 5 labels"),
    "mixed": (["a", *CLASSES[1:].tolist()], TypeError, "must hold labels of one kind, strings or numbers, got int and"),
    "missing": ([*CLASSES[:10], None], ValueError, "must not have missing labels, got 1, the first of them None"),
    "missing text": ([*"a" * 10, np.nan], ValueError, "must not have missing labels, got 1, the first of them nan"),
    "NA": (pd.Series([*CLASSES[:9], None, None], dtype="Int64"), ValueError, r"not have missing values \(NaN\), got 2"),
    "NaN": ([*CLASSES[:10], np.nan], ValueError, "must hold labels, got infinite values or NaN"),
    "table": (VALUES, ValueError, r"must be a label or have the shape \(n,\), got \(11, 2\)"),
    "one-hot": (np.eye(3)[CLASSES % 3], ValueError, r"got \(11, 3\); classes are those of .*\.argmax\(axis=1\)"),
    "sparse": (sparse.csr_matrix(np.eye(11)), TypeError, r"is sparse: use .*\.toarray\(\)"),
    "complex": (CLASSES * 1j, TypeError, "must hold ints, strings, bools or floats as labels, got dtype complex128"),
}


@each_use
@pytest.mark.parametrize(("y", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_labels_are_refused_and_change_nothing(use, y, error, message):
    vae = model().fit(X, CLASSES)
    before, history = parameters(vae), copy.deepcopy(vae.history_)
    with pytest.raises(error, match=message):
        use(vae, y)
    assert_same_bits(parameters(vae), before)
    assert vae.history_ == history


@each_use
def test_every_use_takes_right_labels(use):
    use(model().fit(X, CLASSES), CLASSES)
    use(model().fit(X, CLASSES), 5)


@pytest.mark.parametrize("name", [name for name in USES if name not in
                                  ("fit", "partial_fit", "fit_transform", "score", "validation")])  # fmt: skip
def test_models_without_condition_refuse_labels(name):
    vae = model(None).fit(X)
    with pytest.raises(ValueError, match="y must be None for a model without condition, got ndarray"):
        USES[name](vae, CLASSES)


WRONG_VALUES = {
    "none": (None, ValueError, "this model is conditional: y must be a number or a vector of numbers"),
    "width": (VALUES[:, :1], ValueError, r"y must be 2 numbers, or 2 numbers for each of 11, got the shape \(11, 1\)"),
    "length": (VALUES[:3], ValueError, r"y must be 2 numbers, or 2 numbers for each of 11, got the shape \(3, 2\)"),
    "NaN": (np.where(VALUES > 1, np.nan, VALUES), ValueError, "y must be finite in float32, got infinite"),
    "large": (VALUES * 1e200, ValueError, "y must be finite in float32, got infinite"),
    "text": (np.full((11, 2), "a"), TypeError, "y must hold real numbers, got dtype <U1"),
    "deep": (np.zeros((11, 2, 1)), ValueError, r"y must have the shape \(n,\) or \(n, numbers of a label\), got"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "y must be an array: "),
}


@pytest.mark.parametrize(("y", "error", "message"), WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_wrong_values_are_refused(y, error, message):
    vae = model("values").fit(X, VALUES)
    for use in (vae.fit, vae.encode, vae.score):
        with pytest.raises(error, match=message):
            use(X, y)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda vae: vae.fit(X, CLASSES[:5]),
        lambda vae: vae.fit(X, 5),
        lambda vae: vae.fit(X, CLASSES, validation_data=(X, CLASSES + 1)),
        lambda vae: vae.fit(X, CLASSES, validation_data=X),
        lambda vae: vae.fit(X - 3, CLASSES),
        lambda vae: vae.fit(X, CLASSES, batchsize=0),
        lambda vae: vae.forward(X, y=CLASSES, noise=[1]),
    ],
    ids=["too few", "single", "validation", "no validation labels", "images", "batchsize", "noise"],
)
def test_a_failed_first_fit_leaves_classes_open(attempt):
    vae = model()
    with pytest.raises(ValueError, match="must"):
        attempt(vae)
    assert not hasattr(vae, "classes_")
    assert vae.encoder_["Condition"].n_labels is None
    other = np.array(list("abcabcabcab"))
    assert_same_bits(parameters(vae.fit(X, other)), parameters(model().fit(X, other)))


def test_layers_that_do_not_fit_leave_classes_open():
    vae = model(decoder=["Condition()", "Reshape((2, 2))", "Flatten()"])
    with pytest.raises(ValueError, match="Reshape"):
        vae.fit(X, CLASSES)
    assert not hasattr(vae, "classes_")
    assert vae.decoder_["Condition_1"].n_labels is None
    with pytest.raises(NotFittedError):
        vae.encode(X, CLASSES)


@pytest.mark.parametrize("condition", ["class", 3, ["classes"], True])
def test_other_conditions_are_refused(condition):
    with pytest.raises(ValueError, match="condition must be 'classes', 'values' or None, got"):
        checked(model(condition))


def test_layers_that_read_labels_need_a_condition():
    with pytest.raises(
        ValueError, match="condition must be 'classes' or 'values' for layers that read labels, got Non"
    ):
        checked(model(None, encoder=["Condition()", "Flatten()"]))
    used = Condition()
    used.forward(np.ones((2, 3)), labels=np.ones((2, 8)))
    with pytest.raises(ValueError, match="labels must be of 8 numbers for this Condition layer, got 3"):
        model(decoder=[used]).fit(X, CLASSES)


WRONG_CLASSES = {
    "none": {"classes": []},
    "a number": {"classes": 3},
    "twice the same": {"classes": [0, 1, 1]},
    "not sorted": {"classes": [2, 1, 0]},
    "text for numbers": {"classes": ["a", "b", "c"]},
    "numbers for text": {"dtype": "<U3"},
    "a record": {"dtype": [["a", "<i4"]]},
    "bool": {"dtype": "|b1"},
    "no dtype": {"dtype": ",<i8"},
    "two axes": {"classes": [[0, 1], [2, 3]]},
}


@pytest.mark.parametrize("change", WRONG_CLASSES)
def test_classes_of_a_file_are_checked(change):
    state = {"classes": [0, 1, 2], "dtype": "<i8"}
    assert restored("classes", state).state() == state
    with pytest.raises((TypeError, ValueError), match=r"classes|dtype|invalid literal|2- or 3-tuples"):
        restored("classes", state | WRONG_CLASSES[change])


def test_the_width_of_text_in_a_file_takes_no_memory():
    kind = restored("classes", {"classes": ["a", "bc"], "dtype": "<U100000000"})
    assert kind.classes.tolist() == ["a", "bc"]
    assert kind.classes.nbytes < 100


@pytest.mark.parametrize("n_labels", [0, -1, 1.5, "a", None, 1 << 63])
def test_numbers_of_labels_of_a_file_are_checked(n_labels):
    with pytest.raises((TypeError, ValueError), match="n_labels must be an int"):
        restored("values", {"n_labels": n_labels})
