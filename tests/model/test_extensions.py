"""A layer, a likelihood and an objective from outside the package: they need nothing but their protocols.

All three are written in NumPy. Their models train, and every gradient is held against finite differences.
"""

import re
import subprocess
import sys

import numpy as np
import pytest
from small_vae import assert_same_bits, by_path, random_images, subprocess_environment

import cvae
from cvae.activations import Identity
from cvae.layers import FullyConnected, LayerBase
from cvae.likelihoods import Likelihood
from cvae.objectives import Objective

IMAGE_SHAPE = (5, 4, 2)


class Scale(LayerBase):
    """y = gain * x for each feature, followed by tanh; the gain is learnt."""

    input_ndim = 2
    needs_output = True  # the derivative of tanh is 1 - y^2

    def __init__(self, start=1.5, optimizer=None, *, dtype="float32"):
        super().__init__(optimizer, dtype=dtype)
        self.start = start
        self.parameters = {"gain": None}

    def initialize(self, in_shape):
        if not self.is_initialized:
            self._set_parameters({"gain": np.full(in_shape[1], self.start)})

    def _set_parameters(self, parameters):
        self.parameters = {"gain": np.array(parameters["gain"], self.dtype)}
        self.gradients = {"gain": np.zeros_like(self.parameters["gain"])}
        self.is_initialized = True

    def output_shape(self, in_shape):
        return in_shape

    def record_forward(self, program, x, y, saved, *, training):
        program.call(lambda: np.tanh(self.parameters["gain"] * x, out=y))

    def record_backward(self, program, dx, dy, x, y, saved, grads):
        def backward():
            dy[:] *= 1 - y**2
            if grads is not None:
                grads["gain"][:] = (dy * x).sum(0)
            if dx is not None:
                np.multiply(dy, self.parameters["gain"], out=dx)

        program.call(backward)


class Laplacian(Likelihood):
    """Independent Laplace distributions of scale 1/2 around the outputs, whose sum over a pixel's channels is free."""

    activation = Identity()

    def n_outputs(self, image_shape):
        return int(np.prod(image_shape))

    def check(self, images, name):
        if not np.isfinite(images).all():
            raise ValueError(f"{name} must be finite")

    def record_loss(self, program, loss, doutputs, outputs, images, weights):
        def compute():
            difference = outputs - np.repeat(images, len(outputs) // len(images), axis=0)
            loss[:] = 2 * np.abs(difference).sum(1)
            if doutputs is not None:
                np.multiply(2 * np.sign(difference), weights[:, np.newaxis], out=doutputs)

        program.call(compute)

    def record_mean(self, program, mean, outputs):
        if mean is not outputs:
            program.call(np.copyto, mean, outputs)


class ImportanceWeighted(Objective):
    """-log mean over k codes of p(x, z) / q(z | x), whose gradient weighs the codes by their likelihoods."""

    terms = ("bound",)

    def __init__(self, k=3):
        self.k = k

    @property
    def codes(self):
        return self.k

    def prepare(self, batch):
        batch.weights.fill(1)

    def record_loss(self, program, batch, likelihood):
        n, k = len(batch.images), self.k
        likelihood.record_loss(
            program, batch.reconstruction, batch.doutputs, batch.outputs, batch.images, batch.weights
        )

        def compute():
            log_prior = -0.5 * (batch.z.astype(float) ** 2).sum(1)
            log_var = np.repeat(batch.log_var, k, axis=0)
            log_posterior = -0.5 * (batch.noise.astype(float) ** 2 + log_var).sum(1)
            log_w = (log_prior - log_posterior - batch.reconstruction).reshape(n, k)
            largest = log_w.max(1, keepdims=True)
            w = np.exp(log_w - largest)
            batch.totals[0] = -(largest[:, 0] + np.log(w.mean(1))).sum()
            batch.weights[:] = (w / w.sum(1, keepdims=True)).ravel() / n
            batch.doutputs *= batch.weights[:, np.newaxis]

        program.call(compute)

    def record_code_gradient(self, program, batch):
        k = self.k

        def compute():
            dz = batch.dz + batch.weights[:, np.newaxis] * batch.z
            deviation = np.repeat(batch.deviation, k, axis=0)
            by_code = len(batch.images), k, -1
            T = dz.shape[1]
            batch.dcode[:, :T] = dz.reshape(by_code).sum(1)
            batch.dcode[:, T:] = (0.5 * dz * batch.noise * deviation).reshape(by_code).sum(1)
            batch.dcode[:, T:] -= 0.5 / len(batch.images)

        program.call(compute)

    def loss(self, terms):
        return terms[0]


def model(likelihood="Laplacian", objective="ImportanceWeighted(k=3)", dtype="float64", **changes):
    encoder = ["Conv2D(out_ch=3, kernel_shape=2, act_fn='Tanh')", "Flatten()", "Scale()"]
    decoder = [FullyConnected(6, act_fn="SoftPlus"), Scale(0.7)]
    fixed = {"T": 2, "optimizer": "SGD(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    return cvae.VAE(encoder, decoder, likelihood, objective, dtype=dtype, **{"warm_start": True, **fixed, **changes})


def loss_of(vae, X, noise):
    """Return the objective's loss of images with given noise, as training computes it."""
    passes = vae._passes(len(X), training=True)
    passes.images[: len(X)] = X
    passes.noise[: len(noise)] = noise
    return vae._objective.loss(passes.loss(len(X))) / len(X)


COMBINATIONS = [
    ("Laplacian", "ImportanceWeighted(k=3)", 3),
    ("Laplacian", "ELBO(beta=0.5)", 1),
    ("Bernoulli", "ImportanceWeighted(k=2)", 2),
    ("Bernoulli", "ELBO", 1),
]


@pytest.mark.parametrize(("likelihood", "objective", "k"), COMBINATIONS)
def test_all_gradients_are_finite_differences_of_the_loss(likelihood, objective, k):
    X = random_images(4, IMAGE_SHAPE, dtype=np.float64)
    noise = np.random.default_rng(0).standard_normal((4 * k, 2))
    vae = model(likelihood, objective)
    dX = vae.backward(X, vae.forward(X, noise=noise))
    gradients = by_path(vae.gradients)
    assert len(gradients) == 10
    arrays = {path: vae._layers()[path.rpartition("/")[0]].parameters[path.rpartition("/")[2]] for path in gradients}
    rng, h = np.random.default_rng(1), 1e-6
    for path, array in arrays.items():
        for index in rng.permutation(array.size)[:6]:
            before = array.flat[index]
            losses = []
            for sign in (1, -1):
                array.flat[index] = before + sign * h
                losses.append(loss_of(vae, X, noise))
            array.flat[index] = before
            difference = (losses[0] - losses[1]) / (2 * h)
            assert gradients[path].flat[index] == pytest.approx(difference, rel=1e-5, abs=1e-7), path
    assert dX.shape == X.shape
    assert dX.any()


@pytest.mark.parametrize(("likelihood", "objective", "k"), COMBINATIONS)
def test_fit_takes_the_steps_of_forward_backward_and_update(likelihood, objective, k):
    X = random_images(4, IMAGE_SHAPE, dtype=np.float64)
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (model(likelihood, objective, random_state=rng, optimizer="Adam(lr=0.01)") for rng in rngs)
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=np.zeros((4 * k, 2)))  # creates the parameters
    fitted.fit(X, n_epochs=3, batchsize=2)
    for _ in range(3):
        for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(parameters_of(by_hand), parameters_of(fitted))


def parameters_of(vae):
    return by_path(vae.parameters)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("likelihood", "objective", "k"), COMBINATIONS)
def test_training_lowers_the_loss(likelihood, objective, k, dtype):
    X = np.zeros((32, *IMAGE_SHAPE), bool)
    X[::2] = True
    vae = model(likelihood, objective, dtype, optimizer="Adam(lr=0.01)").fit(X, n_epochs=60)
    assert np.mean(vae.history_["loss"][-3:]) < np.mean(vae.history_["loss"][:3]) - 2
    assert set(vae.history_) == {"loss", *vae._objective.terms, "seconds", "images_per_second"}


def test_derived_variables_are_right_though_the_last_layer_overwrites_the_gradient_it_gets():
    X = random_images(4, IMAGE_SHAPE, dtype=np.float64)
    vae = model().fit(X, n_epochs=1)
    vae.decoder_["Last"] = Scale(dtype="float64")
    vae.backward(X, vae.forward(X))
    d_output = vae.derived_variables["dDecoder_Output_out"]
    np.testing.assert_allclose(vae.decoder_["Output"].gradients["b"][0], d_output.sum(0), rtol=1e-10)


def test_inference_is_that_of_the_layer_and_the_likelihood():
    X = random_images(6, IMAGE_SHAPE, dtype=np.float64)
    vae = model().fit(X)
    Z = vae.transform(X)
    hidden = vae.decoder_["FullyConnected_1"].forward(Z, retain_derived=False)
    hidden = np.tanh(vae.decoder_["Scale_2"].parameters["gain"] * hidden)
    expected = hidden @ vae.decoder_["Output"].W + vae.decoder_["Output"].b
    np.testing.assert_allclose(vae.decode(Z).reshape(6, -1), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="X must be finite"):
        vae.encode(np.full((1, *IMAGE_SHAPE), np.nan))


def test_a_model_of_such_parts_is_saved_and_goes_on_with_the_same_bits(tmp_path):
    X = random_images(8, IMAGE_SHAPE)
    vae = model(dtype="float32", optimizer="Adam(lr=0.01)").fit(X)
    vae.save(tmp_path / "model.safetensors")
    loaded = cvae.load(tmp_path / "model.safetensors")
    assert type(loaded) is cvae.VAE
    np.testing.assert_array_equal(loaded.decode(np.ones((3, 2))), vae.decode(np.ones((3, 2))))
    assert_same_bits(parameters_of(loaded.fit(X)), parameters_of(vae.fit(X)))


class Shifted(FullyConnected):
    """A subclass that overrides what the protocol documents."""

    def record_affine(self, program, x, z, *, relu, training):
        super().record_affine(program, x, z, relu=False, training=training)
        program.call(lambda: np.add(z, 10, out=z))


class Doubled(cvae.layers.Conv2D):
    """A convolution that cannot be fused, for nobody else knows what it computes."""

    def record_forward(self, program, x, y, saved, *, training):
        super().record_forward(program, x, y, saved, training=training)
        program.call(lambda: np.multiply(y, 2, out=y))


def test_what_a_subclass_overrides_counts_in_every_pass():
    X = random_images(3, IMAGE_SHAPE, dtype=np.float64)
    vae = cvae.VAE(
        ["Doubled(out_ch=3, kernel_shape=2, act_fn='ReLU')", "Pool2D(kernel_shape=2)", "Flatten()", "Shifted(n_out=4)"],
        ["FullyConnected(n_out=4)"], T=2, dtype="float64", random_state=0, verbose=False, optimizer="SGD(lr=0)",
    ).fit(X, n_epochs=1)  # fmt: skip
    layers = list(vae.encoder_.values())
    below = X
    for layer in layers[:3]:
        below = layer.forward(below, retain_derived=False)
    conv = layers[0]
    plain = cvae.layers.Conv2D(3, 2, act_fn="ReLU", dtype="float64").set_params({"parameters": conv.parameters})
    pooled = layers[1].forward(2 * plain.forward(X), retain_derived=False)
    np.testing.assert_allclose(below, pooled.reshape(3, -1), rtol=1e-12)
    shifted = below @ layers[3].W + layers[3].b + 10
    expected = shifted @ layers[4].W + layers[4].b
    np.testing.assert_allclose(np.hstack(vae.encode(X)), expected, rtol=1e-10)
    vae.forward(X, noise=np.zeros((3, 2)))
    np.testing.assert_allclose(vae.derived_variables["t_mean"], expected[:, :2], rtol=1e-10)


class Leaky(FullyConnected):
    """A dense layer whose weights' gradient is another one."""

    def record_affine_backward(self, program, dx, dz, x, grads):
        super().record_affine_backward(program, dx, dz, x, grads)
        if grads is not None:
            program.call(lambda: np.multiply(grads["W"], 0.5, out=grads["W"]))


class Reversed(FullyConnected):
    """A dense layer whose gradients have the other sign, and that writes dx before it has read x."""

    def record_backward(self, program, dx, dy, x, y, saved, grads):
        kept = np.empty_like(dy)
        program.call(lambda: np.negative(dy, out=dy))
        program.call(np.copyto, kept, dy)
        if dx is not None:
            super().record_backward(program, dx, kept, x, y, saved, None)
        super().record_backward(program, None, dy, x, y, saved, grads)


class Damped(cvae.layers.Conv2D):
    def record_backward(self, program, dx, dy, x, y, saved, grads):
        program.call(lambda: np.multiply(dy, 0.25, out=dy))
        super().record_backward(program, dx, dy, x, y, saved, grads)


@pytest.mark.parametrize("name", ["Leaky", "Reversed", "Damped"])
def test_fit_takes_the_gradients_of_a_subclass(name):
    X = random_images(4, IMAGE_SHAPE, dtype=np.float64)
    if name == "Damped":
        encoder, decoder = (
            ["Damped(out_ch=3, kernel_shape=2, act_fn='ReLU')", "Pool2D(kernel_shape=2)", "Flatten()"],
            [],
        )
    else:
        encoder, decoder = ["Flatten()", f"{name}(n_out=5, act_fn='ReLU')"], [f"{name}(n_out=4)"]
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (
        cvae.VAE(encoder, decoder, T=2, dtype="float64", random_state=rng, verbose=False, optimizer="SGD(lr=0.1)")
        for rng in rngs
    )
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=np.zeros((4, 2)))
    fitted.set_params(warm_start=True).fit(X, n_epochs=1, batchsize=2)
    for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
        by_hand.backward(X[indices], by_hand.forward(X[indices]))
        by_hand.update()
    assert_same_bits(parameters_of(by_hand), parameters_of(fitted))


def test_an_objective_and_a_likelihood_do_not_change():
    vae = model(objective=ImportanceWeighted(k=3))
    for constant, name in ((vae._objective, "k"), (cvae.objectives.ELBO(beta=2), "beta")):
        with pytest.raises(AttributeError, match=f"^{name} of .* cannot change"):
            setattr(constant, name, 5)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({"encoder": ["Flatten()", "Leaky(n_out=5)"]}, "the layer must be one of .*, got 'Leaky'"),
        ({"likelihood": "Laplacian"}, "the likelihood must be one of .*, got 'Laplacian'"),
        ({"objective": "ImportanceWeighted(k=3)"}, "the objective must be one of .*, got 'ImportanceWeighted'"),
    ],
)
def test_a_file_says_which_class_a_program_has_to_import(arguments, missing, tmp_path):
    vae = cvae.VAE(**{"encoder": "mlp", "T": 2, "verbose": False, "random_state": 0, "n_epochs": 1, **arguments})
    vae.fit(random_images(4, IMAGE_SHAPE)).save(tmp_path / "model")
    program = f"""
import cvae
try:
    cvae.load({str(tmp_path / "model")!r})
except ValueError as error:
    print(error)
"""
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, env=subprocess_environment(), capture_output=True, text=True, timeout=60)
    message = f"model is of a class that is not defined here: .*{missing}; import the module that defines it first"
    assert re.search(message, done.stdout), done.stdout + done.stderr
    assert cvae.load(tmp_path / "model").history_["loss"] == vae.history_["loss"]
