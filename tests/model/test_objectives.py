"""The objectives: their values and gradients, what a history shows of them, and schedules of beta."""

import sys

import numpy as np
import pytest
from oracles import kl_divergence
from small_vae import IMAGE_SHAPE, assert_same_bits, by_path, checked, noise_of, random_images, small_vae

import cvae
from cvae.annealing import Annealing, Cyclical, Linear
from cvae.objectives import ELBO, IWAE, Objective
from cvae.parsing import made
from cvae.runtime.programs import execute

T = 4
OBJECTIVES = [
    "ELBO(beta=0.7, n_samples=3)",
    "ELBO(beta=0.7, free_bits=0.3)",
    "ELBO(beta=Linear(start=0.25, end=4, steps=6), n_samples=2, free_bits=0.3)",
    "IWAE(k=1)",
    "IWAE(k=3)",
]
DOUBLY = "IWAE(k=3, gradient='doubly_reparameterized')"
each_objective = pytest.mark.parametrize("objective", [*OBJECTIVES, DOUBLY])


def model(objective, **changes):
    encoder = ["Conv2D(out_ch=3, kernel_shape=3, stride=2, act_fn='Tanh')", "Flatten()"]
    fixed = {"T": T, "optimizer": "Adam(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    fixed["warm_start"] = True
    return cvae.VAE(
        encoder,
        ["FullyConnected(n_out=8, act_fn='Tanh')"],
        objective=objective,
        **{**fixed, **changes},
    )


def ready(objective, X, **changes):
    """Return a model with parameters, whose codes' dimensions differ in their KL divergence."""
    vae = model(objective, dtype="float64", **changes)
    vae.forward(X[:1], retain_derived=False, noise=noise_for(vae, 1))
    code = vae.encoder_["Code"]
    scale = np.tile(np.linspace(0.1, 3, T), 2)
    code.set_params({"parameters": {"W": code.W * scale, "b": np.linspace(-0.5, 0.5, 2 * T)[np.newaxis]}})
    return vae


def noise_for(vae, n, seed=0):
    return np.random.default_rng(seed).standard_normal((n * vae._objective.codes, T))


def terms_of(vae, X, noise):
    """Return the objective's terms, mean over images, of the program that training runs."""
    passes = vae._passes(len(X), training=True)
    passes.images[: len(X)], passes.noise[: len(noise)] = X, noise
    return [total / len(X) for total in passes.loss(len(X))]


def loss_of(vae, X, noise):
    return vae._objective.loss(terms_of(vae, X, noise))


def gradients_of(vae, X, noise):
    vae.flush_gradients()
    vae.backward(X, vae.forward(X, noise=noise))
    return by_path(vae.gradients)


def parameters_of(vae):
    return by_path(vae.parameters)


# ------------------------------------------------------------------ values


def test_several_codes_average_the_reconstruction():
    X = random_images(5, dtype=np.float64)
    vae = ready("ELBO(n_samples=3)", X)
    noise = noise_for(vae, 5)
    of_each = [ready("ELBO", X) for _ in range(3)]
    single = [terms_of(each, X, noise[i::3]) for i, each in enumerate(of_each)]
    reconstruction, kl = terms_of(vae, X, noise)
    assert reconstruction == pytest.approx(np.mean([terms[0] for terms in single]), rel=1e-12)
    assert kl == single[0][1]
    # The gradient is the mean of theirs, too.
    got, expected = gradients_of(vae, X, noise), [gradients_of(each, X, noise[i::3]) for i, each in enumerate(of_each)]
    for path, gradient in got.items():
        mean = np.mean([each[path] for each in expected], axis=0)
        np.testing.assert_allclose(gradient, mean, rtol=1e-10, atol=1e-12, err_msg=path)


def test_free_bits_hold_the_gate_of_each_dimension_over_the_batch():
    X = random_images(6, dtype=np.float64)
    vae = ready("ELBO(beta=0.7, free_bits=0.3)", X)
    mean, log_var = vae.encode(X)
    by_dimension = np.array([kl_divergence(mean[:, [j]], log_var[:, [j]])[0].mean() for j in range(T)])
    assert 0 < (by_dimension > 0.3).sum() < T
    terms = terms_of(vae, X, noise_for(vae, 6))
    assert terms[1] == pytest.approx(by_dimension.sum(), rel=1e-12)
    assert terms[2] == pytest.approx(0.7 * np.maximum(by_dimension, 0.3).sum(), rel=1e-12)
    assert vae._objective.loss(terms) == terms[0] + terms[2]
    # A closed dimension feels the decoder alone.
    dcode = []
    for objective in ("ELBO(beta=0.7, free_bits=0.3)", "ELBO(beta=0.7)", "ELBO(beta=0)"):
        each = ready(objective, X)
        gradients_of(each, X, noise_for(each, 6))
        dcode.append(each.derived_variables["dEncoder_Code_out"])
    is_open = np.tile(by_dimension > 0.3, 2)
    np.testing.assert_allclose(dcode[0], np.where(is_open, dcode[1], dcode[2]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("k", [1, 4])
def test_the_importance_weighted_bound_is_that_of_log_likelihood(k):
    X = random_images(5, dtype=np.float64)
    for objective in (f"IWAE(k={k})", f"IWAE(k={k}, gradient='doubly_reparameterized')"):
        vae = ready(objective, X)
        noise = noise_of(vae, X, 3, codes=k).reshape(-1, T)
        terms = terms_of(vae, X, noise)
        assert terms[0] == pytest.approx(vae.log_likelihood(X, n_samples=k, random_state=3).mean(), rel=1e-13)
        assert vae._objective.loss(terms) == -terms[0]
        assert terms[2] == pytest.approx(vae.elbo_terms(X)[1].mean(), rel=1e-13)
    elbo = ready(f"ELBO(n_samples={k})", X)
    assert terms[1] == terms_of(elbo, X, noise)[0]
    assert np.isclose(terms_of(elbo, X, noise)[1], terms[2])


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_gradients_are_finite_differences_of_the_loss(objective):
    X = random_images(4, dtype=np.float64)
    vae = ready(objective, X)
    noise, h = noise_for(vae, 4), 1e-6
    gradients, rng = gradients_of(vae, X, noise), np.random.default_rng(1)
    assert len(gradients) == 8
    for path, gradient in gradients.items():
        layer, _, name = path.rpartition("/")
        array = vae._layers()[layer].parameters[name]
        for index in rng.permutation(array.size)[:8]:
            before, losses = array.flat[index], []
            for sign in (1, -1):
                array.flat[index] = before + sign * h
                losses.append(loss_of(vae, X, noise))
            array.flat[index] = before
            assert gradient.flat[index] == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-5, abs=1e-7), path


def test_the_doubly_reparameterized_gradient_leaves_the_decoders_as_it_is():
    X = random_images(4, dtype=np.float64)
    vaes = [ready(objective, X) for objective in ("IWAE(k=3)", DOUBLY)]
    plain, doubly = (gradients_of(vae, X, noise_for(vae, 4)) for vae in vaes)
    for path, gradient in plain.items():
        assert np.array_equal(doubly[path], gradient) == path.startswith("decoder"), path


def test_the_doubly_reparameterized_gradient_has_the_same_expectation_and_less_variance():
    """Of the gradient with respect to an image's code, for as many independent draws as there are copies of it."""
    n, found = 20_000, []
    X = np.repeat(random_images(1, dtype=np.float64), n, axis=0)
    for seed, objective in enumerate(("IWAE(k=3)", DOUBLY)):
        vae = ready(objective, X)
        passes = vae._passes(n, training=True)
        passes.images[:n] = X
        passes.noise[:] = noise_for(vae, n, seed)
        passes.forward(n, passes.codes)
        passes.backward(X)
        found.append(n * passes.batch_of(n).dcode)
    means, variances = ([statistic(gradient, axis=0) for gradient in found] for statistic in (np.mean, np.var))
    errors = np.sqrt(sum(variances) / n)
    assert (np.abs(means[0] - means[1]) < 4 * errors).all()
    assert (np.abs(means[0]) > 8 * errors).sum() > T  # or the line above would say little
    assert (variances[1] < variances[0]).all()
    assert variances[1].sum() < 0.7 * variances[0].sum()


def test_with_one_code_the_doubly_reparameterized_gradient_lacks_only_the_score():
    """It is that of Roeder et al. 2017, which vanishes where q is the posterior whatever the noise."""
    X = random_images(3, dtype=np.float64)
    vae = ready("IWAE(k=1, gradient='doubly_reparameterized')", X)
    noise = noise_for(vae, 3)
    gradients_of(vae, X, noise)
    dz = vae.derived_variables["dDecoder_FullyConnected_1_in"]
    mean, log_var = vae.encode(X)
    sigma = np.exp(log_var / 2)
    total = dz + (mean + noise * sigma - noise / sigma) / 3
    expected = np.hstack([total, 0.5 * total * noise * sigma])
    np.testing.assert_allclose(vae.derived_variables["dEncoder_Code_out"], expected, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------ training


@each_objective
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_lowers_the_loss_and_shows_the_terms(objective, dtype):
    X = random_images(32) > 0.5
    vae = model(objective, dtype=dtype, batchsize=16).fit(X, n_epochs=40)
    assert np.mean(vae.history_["loss"][-3:]) < np.mean(vae.history_["loss"][:3]) - 1
    assert set(vae.history_) == {"loss", *vae._objective.terms, "seconds", "images_per_second"}
    columns = zip(*(vae.history_[name] for name in vae._objective.terms), strict=True)
    np.testing.assert_allclose(vae.history_["loss"], [vae._objective.loss(terms) for terms in columns], rtol=1e-12)


@each_objective
def test_fit_takes_the_steps_of_forward_backward_and_update(objective):
    X = random_images(4, dtype=np.float64)
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (model(objective, random_state=rng, dtype="float64") for rng in rngs)
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=noise_for(vae, 4))  # creates the parameters
    fitted.fit(X, n_epochs=3, batchsize=2)
    for _ in range(3):
        for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(parameters_of(by_hand), parameters_of(fitted))


@each_objective
def test_the_number_of_threads_does_not_matter(objective):
    X = random_images(70, (24, 24, 3))
    found = [
        parameters_of(model(objective, T=20, batchsize=32, n_threads=n_threads).fit(X)) for n_threads in (1, 2, 3, 7)
    ]
    for other in found[1:]:
        assert_same_bits(other, found[0])


@each_objective
def test_no_python_runs_within_a_program(objective):
    vae, called = small_vae(), set()  # its layers run none either
    vae._make_objective = lambda: made(objective, Objective, "objective")
    vae._objective = vae._make_objective()
    vae.fit(random_images(4))
    for program in vae._passes(4, training=True)._programs.values():
        sys.setprofile(lambda frame, event, argument: called.add(frame.f_code.co_name) if event == "call" else None)
        try:
            execute(program, 1)
        finally:
            sys.setprofile(None)
    assert called == {"execute", "startable", "reserve"}


@each_objective
def test_a_saved_model_goes_on_with_the_same_bits(objective, tmp_path):
    X = random_images(8)
    vae = model(objective).fit(X)
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors")
    assert loaded._objective == vae._objective
    assert_same_bits(parameters_of(loaded.fit(X)), parameters_of(vae.fit(X)))
    assert loaded.history_["loss"] == vae.history_["loss"]
    vae.set_params(objective=vae._objective).save(tmp_path / "again.safetensors")  # as an object, too
    assert cvae.load(tmp_path / "again.safetensors")._objective == vae._objective


def test_the_default_is_that_of_one_code_without_free_bits():
    X = random_images()
    expected = small_vae(beta=0.5).fit(X)
    vae = small_vae()
    vae._make_objective = lambda: ELBO(beta=Linear(0.5, 0.5), free_bits=0)
    vae._objective = vae._make_objective()
    assert_same_bits(parameters_of(vae.fit(X)), parameters_of(expected))
    np.testing.assert_allclose(vae.history_["loss"], expected.history_["loss"], rtol=1e-12)


# ------------------------------------------------------------------ schedules of beta


def of_one_image(objective, **changes):
    """Return a model that does not learn, and copies of one image: all batches have the same KL divergence."""
    return model(objective, optimizer="SGD(lr=0)", **changes), np.repeat(random_images(1), 8, axis=0)


def test_each_batch_has_the_beta_of_its_step(tmp_path):
    schedule = Linear(start=1, end=3, steps=5)
    vae, X = of_one_image(ELBO(beta=schedule))
    vae.fit(X, batchsize=2, n_epochs=1)
    vae.save(tmp_path / "model.safetensors")
    vae = cvae.load(tmp_path / "model.safetensors").fit(X, batchsize=4, n_epochs=2)
    h = {name: np.array(column) for name, column in vae.history_.items()}
    betas = [np.mean([schedule(step) for step in steps]) for steps in ([0, 1, 2, 3], [4, 5], [6, 7])]
    assert betas == pytest.approx([1.6, 2.8, 3.0])
    np.testing.assert_allclose(h["penalty"], betas * h["kl"], rtol=1e-6)
    np.testing.assert_allclose(h["loss"], h["reconstruction"] + h["penalty"], rtol=1e-12)


def test_an_unequal_last_batch_counts_for_its_images_alone():
    vae, X = of_one_image("ELBO(beta=Linear(start=0, end=1, steps=1))")
    vae.fit(X, batchsize=6, n_epochs=1)  # 6 images with beta = 0, 2 with beta = 1
    assert vae.history_["penalty"][0] == pytest.approx(0.25 * vae.history_["kl"][0], rel=1e-5)


def test_frozen_layers_do_not_hold_the_schedule_back():
    vae, X = of_one_image("ELBO(beta=Linear(start=0, end=1, steps=2))")
    vae.encoder_["Code"].freeze()
    vae.fit(X, batchsize=2, n_epochs=2)
    assert vae.history_["penalty"] == pytest.approx(np.array([0.625, 1]) * vae.history_["kl"], rel=1e-5)


def test_images_that_are_not_trained_on_are_judged_with_the_last_beta():
    X = random_images(8)
    vae = model("ELBO(beta=Cyclical(end=2, steps=1000), free_bits=5)").fit(X, validation_data=X[:4])
    h = {name: np.array(column) for name, column in vae.history_.items()}
    np.testing.assert_allclose(h["val_loss"], h["val_reconstruction"] + 2 * h["val_kl"], rtol=1e-12)
    assert model("IWAE")._objective.validation_loss(3.0, 2.0) == 5.0


def test_schedules_start_and_end_where_they_should():
    assert [Linear(2, 1, 4)(step) for step in range(6)] == [2, 1.75, 1.5, 1.25, 1, 1]
    cyclical = Cyclical(start=1, end=2, steps=4, ratio=0.5, cycles=2)
    assert [cyclical(step) for step in range(10)] == [1, 1.5, 2, 2, 1, 1.5, 2, 2, 2, 2]
    whole = Cyclical(steps=4, ratio=1, cycles=1)
    assert [whole(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]


class Halving(Annealing):
    """A schedule from outside the package."""

    end = 0.0

    def __call__(self, step):
        return 0.5**step


def test_schedules_are_named_by_call_strings():
    assert ELBO("Linear(steps=7)") == ELBO(beta=Linear(0, 1, 7))
    nested = made("elbo(beta=cyclical(end=2, steps=10), free_bits=0.25)", Objective, "objective")
    assert nested == ELBO(Cyclical(0.0, 2, 10), free_bits=0.25)
    assert made(str(nested), Objective, "objective") == nested
    assert ELBO("Halving").beta(3) == 0.125


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ELBO(beta=-1), ValueError, r"^beta must be a number in \[0, inf\), got -1"),
        (lambda: ELBO(beta=None), TypeError, r"^beta must be a number in \[0, inf\), got None"),
        (lambda: ELBO(beta="Quadratic()"), ValueError, r"^the schedule of beta must be one of .*Linear.*Cyclical"),
        (lambda: ELBO(n_samples=0), ValueError, "^n_samples must be an int >= 1, got 0"),
        (lambda: ELBO(free_bits=-0.1), ValueError, r"^free_bits must be a number in \[0, inf\), got -0.1"),
        (lambda: IWAE(k=1.5), TypeError, "^k must be an int >= 1, got 1.5"),
        (lambda: IWAE(gradient="score"), ValueError, "^gradient must be 'reparameterized' or .*, got 'score'"),
        (lambda: Linear(start=-1), ValueError, "^start must be a number in"),
        (lambda: Linear(end="1"), TypeError, "^end must be a number in"),
        (lambda: Linear(steps=0), ValueError, "^steps must be an int >= 1, got 0"),
        (lambda: Cyclical(ratio=0), ValueError, r"^ratio must be a number in \(0, 1\], got 0"),
        (lambda: Cyclical(cycles=0), ValueError, "^cycles must be an int >= 1, got 0"),
        (lambda: Cyclical(start=-1), ValueError, "^start must be a number in"),
        (
            lambda: checked(small_vae(beta="Linear(steps=5)")),
            TypeError,
            r"^beta must be a number in .*, got 'Linear\(steps=5\)'",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_changing_the_objective_keeps_what_was_learnt():
    X = random_images()
    vae = model("ELBO").fit(X)
    before = parameters_of(vae)
    vae.set_params(objective="IWAE(k=2)")
    assert_same_bits(parameters_of(vae), before)
    vae.fit(X, n_epochs=1)
    assert vae.history_["bound"][-1] == -vae.history_["loss"][-1]
    assert np.isnan(vae.history_["bound"][0])
    assert vae.decode(vae.transform(X)).shape == (10, *IMAGE_SHAPE)
