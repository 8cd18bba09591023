"""encode, decode, sample, elbo and related methods: shapes, types, determinism and values."""

import threading

import numpy as np
import pytest
from oracles import bce_with_logits, kl_divergence, sigmoid, vae_forward
from small_vae import (
    IMAGE_SHAPE,
    architecture,
    assert_same_model,
    initialized,
    layers,
    noise_of,
    parameters,
    random_images,
    small_vae,
)

import cvae
from cvae import NotFittedError, inference
from cvae.random import ImageNoise


@pytest.fixture(scope="module", params=["float32", "float64"])
def trained(request):
    return small_vae(dtype=request.param).fit(random_images(40), n_epochs=5)


@pytest.fixture(scope="module")
def wide():
    """Return a model whose layers are wide enough for all fast paths and for several threads."""
    vae = small_vae(T=20, latent_dim=70, enc_conv1_out_ch=17, enc_conv2_out_ch=33, enc_pool1_stride=1)
    return vae.fit(random_images(40, (19, 23, 3)), batchsize=20)


def expected_pass(vae, X, noise):
    """Return all values of the plain reference for the images, in float64."""
    params = {path: array.astype(np.float64) for path, array in parameters(vae).items()}
    return vae_forward(X.astype(np.float64), params, noise, architecture(vae))


def close(dtype):
    """Return the tolerance of a model of this dtype relative to the float64 reference."""
    return {"rtol": 2e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}


# ----------------------------------------------------------------- shapes, types


def test_shapes_and_types(trained):
    X, dtype = random_images(7), np.dtype(trained.dtype)
    mean, log_var = trained.encode(X)
    found = {
        "mean": mean,
        "log_var": log_var,
        "transform": trained.transform(X),
        "decode": trained.decode(mean),
        "inverse_transform": trained.inverse_transform(mean),
        "reconstruct": trained.reconstruct(X),
        "sample": trained.sample(7),
        "elbo": trained.elbo(X),
        "reconstruction": trained.elbo_terms(X)[0],
        "kl": trained.elbo_terms(X)[1],
        "score_samples": trained.score_samples(X),
        "log_likelihood": trained.log_likelihood(X, n_samples=3),
    }
    images, double = (7, *IMAGE_SHAPE), np.dtype(np.float64)
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        "mean": ((7, 2), dtype),
        "log_var": ((7, 2), dtype),
        "transform": ((7, 2), dtype),
        "decode": (images, dtype),
        "inverse_transform": (images, dtype),
        "reconstruct": (images, dtype),
        "sample": (images, dtype),
        "elbo": ((7,), double),
        "reconstruction": ((7,), double),
        "kl": ((7,), double),
        "score_samples": ((7,), double),
        "log_likelihood": ((7,), double),
    }
    for name in ("decode", "reconstruct", "sample"):
        assert found[name].min() >= 0
        assert found[name].max() <= 1
    assert all(np.isfinite(array).all() for array in found.values())
    assert type(trained.score(X)) is float


def test_the_relations_between_the_methods(trained):
    X = random_images(7)
    mean, _ = trained.encode(X)
    np.testing.assert_array_equal(trained.transform(X), mean)
    np.testing.assert_array_equal(trained.inverse_transform(mean), trained.decode(mean))
    np.testing.assert_array_equal(trained.reconstruct(X), trained.decode(mean))
    np.testing.assert_array_equal(trained.score_samples(X), trained.elbo(X))
    assert trained.score(X) == trained.score(X, y=np.zeros(7)) == trained.elbo(X).mean()
    reconstruction, kl = trained.elbo_terms(X)
    np.testing.assert_array_equal(-(reconstruction + kl), trained.elbo(X))
    assert (kl > 0).all()
    assert (trained.elbo_terms(X, random_state=1)[0] != reconstruction).all()


def test_results_are_the_callers_own(trained):
    """Results must not be views of buffers that the next call overwrites."""
    X = random_images(7)
    for compute in (lambda: trained.encode(X)[1], lambda: trained.reconstruct(X), lambda: trained.elbo(X)):
        first = compute()
        before = first.copy()
        trained.encode(random_images(7, seed=9))
        trained.reconstruct(random_images(7, seed=9))
        trained.elbo(random_images(7, seed=9))
        np.testing.assert_array_equal(first, before)
        first[...] = 0
        np.testing.assert_array_equal(compute(), before)


def test_inference_leaves_the_training_alone(trained):
    X = random_images()
    used, plain = small_vae().fit(X), small_vae().fit(X)
    used.sample(5)
    used.elbo(X)
    used.log_likelihood(X, n_samples=3)
    used.reconstruct(X)
    assert_same_model(used, plain, X)


# ----------------------------------------------------------------- composition


@pytest.mark.parametrize("n", [1, 2, 40, 128, 129, 300])
def test_each_images_results_do_not_depend_on_the_others(wide, n):
    X = random_images(n, (19, 23, 3), seed=3)
    mean, log_var = wide.encode(X)
    images, elbo = wide.decode(mean), wide.elbo(X)
    for i in {0, n // 2, n - 1}:
        alone = wide.encode(X[i : i + 1])
        np.testing.assert_array_equal(mean[i : i + 1], alone[0])
        np.testing.assert_array_equal(log_var[i : i + 1], alone[1])
        np.testing.assert_array_equal(images[i : i + 1], wide.decode(mean[i : i + 1]))
        np.testing.assert_array_equal(elbo[: i + 1], wide.elbo(X[: i + 1]))
    reversed_mean, _ = wide.encode(X[::-1])
    np.testing.assert_array_equal(reversed_mean[::-1], mean)


@pytest.mark.parametrize("n_samples", [1, 3, 100, 300])
def test_scores_depend_on_the_image_alone(trained, n_samples):
    """Neither on the other images, nor on their order, nor on how many go through the network at once."""
    X = random_images(140)
    scores = {
        "elbo": trained.elbo,
        "elbo_terms": lambda X: np.transpose(trained.elbo_terms(X, random_state=7)),
        "log_likelihood": lambda X: trained.log_likelihood(X, n_samples, random_state=4),
    }
    order = np.random.default_rng(0).permutation(len(X))
    for name, score in scores.items():
        together = score(X)
        np.testing.assert_array_equal(score(X[order]), together[order], err_msg=name)
        np.testing.assert_array_equal(score(X[3:5]), together[3:5], err_msg=name)
        np.testing.assert_array_equal(score(X[[9, 9, 2]]), together[[9, 9, 2]], err_msg=name)


def test_noise_is_standard_normal_and_differs_between_images_seeds_and_codes():
    images = random_images(200)
    images[1] = images[0]
    images[2, 0, 0, 0] = np.nextafter(images[3, 0, 0, 0], 1)
    images[2].flat[1:] = images[3].flat[1:]
    noise = [noise_of(small_vae(), images, seed, 300) for seed in (0, 1)]
    np.testing.assert_array_equal(noise[0][0], noise[0][1])
    rows = np.concatenate([of_seed[1:] for of_seed in noise]).reshape(2 * 199, -1)
    assert abs(rows.mean()) < 0.01
    assert abs(rows.std() - 1) < 0.01
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.25


def test_negative_zeros_are_zeros():
    vae, X = small_vae().fit(random_images()), random_images(3)
    X[:, :4] = 0
    np.testing.assert_array_equal(vae.elbo(np.where(X == 0, -X, X)), vae.elbo(X))


def test_log_likelihood_shows_its_progress_if_it_takes_long_and_the_model_is_verbose(monkeypatch, capsys):
    X = random_images(4)
    vae = small_vae(verbose=True).fit(X, verbose=False)
    vae.log_likelihood(X, n_samples=3)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(inference, "PATIENCE", 0)
    vae.log_likelihood(X, n_samples=3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "log_likelihood: 100%" in err
    vae.set_params(verbose=False).log_likelihood(X, n_samples=3)
    assert capsys.readouterr() == ("", "")


def test_active_units_are_those_whose_mean_depends_on_the_image():
    X = random_images(30)
    vae = small_vae(T=3).fit(X)
    fc5 = vae.encoder["FC5"]
    W = fc5.W.copy()
    W[:, 1] = 0
    fc5.set_params({"parameters": {"W": W}})
    variances = vae.transform(X).var(0, dtype=np.float64)
    assert variances[1] < 1e-12 < min(variances[0], variances[2])
    np.testing.assert_array_equal(vae.active_units(X, 1e-12), [True, False, True])
    np.testing.assert_array_equal(vae.active_units(X, float(variances[2])), variances > variances[2])
    np.testing.assert_array_equal(vae.active_units(X), variances > 0.01)
    assert vae.active_units(X).dtype == bool


def test_the_number_of_threads_does_not_matter(wide):
    X, found = random_images(40, (19, 23, 3), seed=3), []
    for n_threads in (1, 2, 5):
        wide.set_params(n_threads=n_threads)
        found.append((*wide.encode(X), wide.reconstruct(X), wide.elbo(X), wide.log_likelihood(X[:2], n_samples=9)))
    wide.set_params(n_threads=None)
    for other in found[1:]:
        for array, expected in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(array, expected)


def test_several_python_threads_may_use_one_model(wide):
    """Each thread must get the results of its own images."""
    sets = [random_images(150, (19, 23, 3), seed=seed) for seed in range(3)]
    expected = [(wide.encode(X)[0], wide.elbo(X)) for X in sets]
    wrong = []

    def work(i):
        for _ in range(8):
            if not np.array_equal(wide.encode(sets[i])[0], expected[i][0]):
                wrong.append(("encode", i))
            if not np.array_equal(wide.elbo(sets[i]), expected[i][1]):
                wrong.append(("elbo", i))

    wide.set_params(n_threads=1)
    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(sets))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wide.set_params(n_threads=None)
    assert wrong == []


@pytest.mark.parametrize("kind", ["list", "bytes", "flat", "byte-swapped", "read-only", "strided"])
def test_all_kinds_of_arrays_are_taken(trained, kind):
    as_bytes = np.random.default_rng(0).integers(0, 256, (5, *IMAGE_SHAPE), dtype=np.uint8)
    X = (as_bytes / 255).astype(trained.dtype)
    given = {
        "list": X.tolist(),
        "bytes": as_bytes,
        "flat": X.reshape(5, -1),
        "byte-swapped": X.astype(X.dtype.newbyteorder()),
        "read-only": np.broadcast_to(X, (1, *X.shape))[0],
        "strided": np.asfortranarray(X),
    }[kind]
    for method in ("transform", "reconstruct", "elbo"):
        np.testing.assert_array_equal(getattr(trained, method)(given), getattr(trained, method)(X))
    np.testing.assert_array_equal(trained.log_likelihood(given, n_samples=3), trained.log_likelihood(X, n_samples=3))


# ---------------------------------------------------------------------- values


def test_codes_and_images_equal_the_reference(trained):
    X = random_images(7)
    v = expected_pass(trained, X, np.zeros((7, 2)))
    mean, log_var = trained.encode(X)
    np.testing.assert_allclose(mean, v["t_mean"], **close(trained.dtype))
    np.testing.assert_allclose(log_var, v["t_log_var"], **close(trained.dtype))
    np.testing.assert_allclose(trained.reconstruct(X).reshape(7, -1), v["X_recon"], **close(trained.dtype))


@pytest.mark.parametrize("random_state", [0, 5])
def test_elbo_equals_the_reference_with_the_same_noise(trained, random_state):
    X = random_images(130)
    v = expected_pass(trained, X, noise_of(trained, X, random_state)[:, 0])
    reconstruction, _ = bce_with_logits(v["logits"], X.reshape(130, -1).astype(np.float64))
    kl, _, _ = kl_divergence(v["t_mean"], v["t_log_var"])
    np.testing.assert_allclose(
        trained.elbo(X, random_state=random_state), -(reconstruction + kl), rtol=close(trained.dtype)["rtol"] / 10
    )


@pytest.mark.parametrize("n_samples", [1, 5, 130])
def test_log_likelihood_equals_the_reference_with_the_same_noise(trained, n_samples):
    X = random_images(3)
    parts = [noise_of(trained, X, 2, min(n_samples, 128))]
    if n_samples > 128:  # the noise of the codes after a batch of them, in a stream of its own
        later = ImageNoise(np.random.default_rng(2), 2, trained.dtype).draw(X.astype(trained.dtype), 2, first=128)
        parts.append(later.astype(np.float64).reshape(3, 2, 2))
    noise = np.concatenate(parts, axis=1)
    log_weights = np.empty((3, n_samples))
    for s in range(n_samples):
        v = expected_pass(trained, X, noise[:, s])
        log_likelihood = -bce_with_logits(v["logits"], X.reshape(3, -1).astype(np.float64))[0]
        log_prior = -0.5 * (v["FC1_in"] ** 2 + np.log(2 * np.pi)).sum(1)
        log_posterior = -0.5 * (noise[:, s] ** 2 + np.log(2 * np.pi) + v["t_log_var"]).sum(1)
        log_weights[:, s] = log_likelihood + log_prior - log_posterior
    np.testing.assert_allclose(
        trained.log_likelihood(X, n_samples=n_samples, random_state=2),
        np.log(np.exp(log_weights - log_weights.max()).mean(1)) + log_weights.max(),
        rtol=close(trained.dtype)["rtol"] / 10,
    )


def test_log_likelihood_is_above_the_elbo_and_rises_with_the_samples():
    """The model has a wide posterior, so that there is a gap to close."""
    X = random_images(200)
    vae = initialized(small_vae(dtype="float64", random_state=5))
    for path in ("decoder/FC1", "encoder/FC5"):
        layer = layers(vae)[path]
        layer.set_params({"parameters": {"W": 3 * layer.parameters["W"]}})
    means = [vae.elbo(X).mean(), *(vae.log_likelihood(X, n_samples=n).mean() for n in (1, 10, 100))]
    assert means[0] + 0.1 < means[3]
    assert means[1] + 0.1 < means[2] < means[3] - 0.01
    assert abs(means[1] - means[0]) < 0.5  # with one sample, the estimate is that of the ELBO


def test_elbo_does_not_depend_on_beta():
    X = random_images(7)
    vae = small_vae().fit(X)
    before = vae.elbo(X)
    np.testing.assert_array_equal(vae.set_params(beta=7.0).elbo(X), before)


def test_far_codes_give_images_in_range(trained):
    images = trained.decode([[1e6, -1e6], [-1e6, 1e6], [0, 0]])
    assert np.isfinite(images).all()
    assert images.min() >= 0
    assert images.max() <= 1


def test_decode_is_the_sigmoid_of_the_logits(trained):
    Z = np.random.default_rng(0).standard_normal((5, 2)).astype(trained.dtype)
    p = {path: array.astype(np.float64) for path, array in parameters(trained).items()}
    hidden = np.maximum(Z @ p["decoder/FC1/W"] + p["decoder/FC1/b"], 0)
    expected = sigmoid(hidden @ p["decoder/FC2/W"] + p["decoder/FC2/b"])
    np.testing.assert_allclose(trained.decode(Z).reshape(5, -1), expected, **close(trained.dtype))


# --------------------------------------------------------------- random numbers


def test_results_are_repeatable_unless_the_random_state_is_given(trained):
    X = random_images(20)
    np.testing.assert_array_equal(trained.elbo(X), trained.elbo(X))
    np.testing.assert_array_equal(trained.log_likelihood(X, 3), trained.log_likelihood(X, 3))
    for method in (trained.elbo, lambda X, random_state: trained.log_likelihood(X, 3, random_state)):
        np.testing.assert_array_equal(method(X, random_state=1), method(X, random_state=np.random.default_rng(1)))
        assert not np.array_equal(method(X, random_state=1), method(X, random_state=2))
        assert not np.array_equal(method(X, random_state=None), method(X, random_state=None))


def test_samples_continue_a_stream_that_the_models_seed_starts():
    X = random_images()
    first, second, other = (small_vae(random_state=seed).fit(X) for seed in (0, 0, 1))
    in_parts = np.concatenate([first.sample(2), first.sample(3)])
    np.testing.assert_array_equal(second.sample(5), in_parts)
    assert len(np.unique(in_parts, axis=0)) == 5
    assert not np.array_equal(other.sample(5), in_parts)
    np.testing.assert_array_equal(first.sample(4, random_state=3), first.sample(4, random_state=3))
    assert first.sample().shape == (1, *IMAGE_SHAPE)


def test_samples_decode_standard_normal_codes(trained):
    codes = np.random.default_rng(3).standard_normal((300, 2), dtype=trained.dtype)
    np.testing.assert_array_equal(trained.sample(300, random_state=3), trained.decode(codes))


# ---------------------------------------------------------------------- errors

CALLS = {
    "encode": lambda vae: vae.encode(random_images()),
    "transform": lambda vae: vae.transform(random_images()),
    "decode": lambda vae: vae.decode(np.zeros((1, 2))),
    "inverse_transform": lambda vae: vae.inverse_transform(np.zeros((1, 2))),
    "reconstruct": lambda vae: vae.reconstruct(random_images()),
    "sample": lambda vae: vae.sample(),
    "elbo": lambda vae: vae.elbo(random_images()),
    "elbo_terms": lambda vae: vae.elbo_terms(random_images()),
    "score_samples": lambda vae: vae.score_samples(random_images()),
    "score": lambda vae: vae.score(random_images()),
    "log_likelihood": lambda vae: vae.log_likelihood(random_images()),
    "active_units": lambda vae: vae.active_units(random_images()),
    "save": lambda vae: vae.save("never-written.safetensors"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_model_without_parameters_says_so(name):
    with pytest.raises(NotFittedError, match=r"^this BernoulliVAE has no parameters yet: call fit") as caught:
        CALLS[name](small_vae())
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AttributeError)
    assert cvae.NotFittedError is NotFittedError


@pytest.mark.parametrize(
    "method", ["encode", "transform", "reconstruct", "elbo", "score_samples", "score", "log_likelihood", "active_units"]
)
def test_wrong_images_are_refused(trained, method):
    call = getattr(trained, method)
    with pytest.raises(ValueError, match=r"^X must hold images of shape \(9, 8, 1\), got \(8, 9, 1\)"):
        call(random_images(2, (8, 9, 1)))
    with pytest.raises(ValueError, match=r"^X must hold values in \[0, 1\]"):
        call(random_images(2) + 1)
    with pytest.raises(ValueError, match=r"^X must hold at least one image"):
        call(random_images(0))
    with pytest.raises(ValueError, match=r"^X has 71 features, but BernoulliVAE is expecting 72 features as input"):
        call(np.zeros((2, 71)))


@pytest.mark.parametrize(
    ("Z", "error", "message"),
    [
        (np.zeros(2), ValueError, r"Z must have the shape \(n, 2\), got \(2,\)"),
        (np.zeros((3, 3)), ValueError, r"Z must have the shape \(n, 2\), got \(3, 3\)"),
        (0.0, ValueError, r"Z must have the shape \(n, 2\), got \(\)"),
        ([[np.nan, 0]], ValueError, "Z must be finite in float.., got infinite values or NaN"),
        ([[0, -np.inf]], ValueError, "Z must be finite"),
        ([["a", "b"]], TypeError, "Z must be an array of bool, int or float, got dtype <U1"),
        ([[1j, 0]], ValueError, "Z must hold real numbers, got dtype complex128"),
        ([[None, 0]], ValueError, "Z must not have missing values"),
    ],
    ids=str,
)
def test_wrong_codes_are_refused(trained, Z, error, message):
    with pytest.raises(error, match=message):
        trained.decode(Z)


def test_a_code_beyond_the_models_dtype_is_refused():
    vae = initialized(small_vae())
    with pytest.raises(ValueError, match="Z must be finite in float32"):
        vae.decode([[1e300, 0.0]])


def test_no_code_gives_no_image(trained):
    assert trained.decode(np.zeros((0, 2))).shape == (0, *IMAGE_SHAPE)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda vae: vae.sample(0), ValueError, "^n must be an int >= 1, got 0"),
        (lambda vae: vae.sample(1.5), TypeError, "^n must be an int >= 1, got 1.5"),
        (lambda vae: vae.sample(1, random_state="x"), ValueError, "^random_state must be"),
        (lambda vae: vae.elbo(random_images(), random_state=-1), ValueError, "^random_state must be"),
        (lambda vae: vae.log_likelihood(random_images(), n_samples=0), ValueError, "^n_samples must be"),
        (lambda vae: vae.log_likelihood(random_images(), random_state=0.5), ValueError, "^random_state must be"),
        (lambda vae: vae.active_units(random_images(), -1), ValueError, r"^threshold must be a number in \[0, inf\)"),
        (lambda vae: vae.active_units(random_images(1)), ValueError, "^X must hold at least two images, got 1"),
    ],
    ids=["sample n", "sample type", "sample rng", "elbo rng", "likelihood n", "likelihood rng", "active", "one image"],
)
def test_wrong_arguments_are_refused_by_name(trained, call, error, message):
    with pytest.raises(error, match=message):
        call(trained)


# ------------------------------------------------------ numbers that go wrong


def test_results_that_are_not_finite_warn():
    X = random_images(6)
    vae = small_vae().fit(X)
    code, output = vae.encoder["FC5"].parameters, vae.decoder["FC2"].parameters
    code["W"][...] = 0
    code["b"][:, 2:] = 200  # whose exponential is beyond float32
    for call in (vae.elbo, vae.elbo_terms, vae.score, vae.score_samples):
        with pytest.warns(RuntimeWarning, match="^the bounds of 6 of 6 images are infinite or NaN, the first at"):
            call(X)
    with pytest.warns(RuntimeWarning, match="^the log likelihoods of 6 of 6 images are infinite or NaN"):
        vae.log_likelihood(X, 3)
    code["b"][...] = np.inf
    with pytest.warns(RuntimeWarning, match="^the codes of 6 of 6 images are infinite or NaN"):
        vae.transform(X)
    output["b"][...] = np.nan
    with pytest.warns(RuntimeWarning, match="^the images of 2 of 2 codes are infinite or NaN"):
        vae.decode(np.zeros((2, 2)))


def test_large_sums_are_finite():
    images = np.full((3, 4, 4, 1), 3e38, np.float32)
    inference.warn_unless_finite(images, "the images of {} codes")
    images[1, 2] = np.inf
    with pytest.warns(RuntimeWarning, match="^the images of 1 of 3 codes are infinite or NaN, the first at index 1"):
        inference.warn_unless_finite(images, "the images of {} codes")
