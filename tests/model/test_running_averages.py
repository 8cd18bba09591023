"""Parameters that no optimizer updates, as a layer from outside the package has them: a running mean of its inputs."""

import copy
import pickle

import numpy as np
import pytest
from small_vae import assert_same_bits, by_path, random_images

import cvae
from cvae.layers import LayerBase

IMAGE_SHAPE = (5, 4, 2)
MOMENTUM = 0.75


class Centre(LayerBase):
    """y = gain * (x - mean of the batch) in training, with a running mean otherwise; the gain may be learnt."""

    input_ndim = 2

    def __init__(self, learns=True, optimizer=None, *, dtype="float32"):
        super().__init__(optimizer, dtype=dtype)
        self.learns = learns
        self.parameters = {"gain": None, "running_mean": None}

    def initialize(self, in_shape):
        if not self.is_initialized:
            self._set_parameters({"gain": np.ones(in_shape[1]), "running_mean": np.zeros(in_shape[1])})

    def _set_parameters(self, parameters):
        given = {name: np.array(value, self.dtype) for name, value in parameters.items()}
        self.parameters = {**self.parameters, **given}
        self.gradients = {"gain": np.zeros_like(self.parameters["gain"])} if self.learns else {}
        self._batch_mean = np.zeros_like(self.parameters["gain"])
        self.is_initialized = True

    def output_shape(self, in_shape):
        return in_shape

    def record_forward(self, program, x, y, saved, *, training):
        def forward():
            mean = x.mean(0) if training and self.trainable else self.parameters["running_mean"]
            np.multiply(self.parameters["gain"], x - mean, out=y)

        program.call(forward)

    def record_backward(self, program, dx, dy, x, y, saved, grads):
        def backward():
            if grads is not None:
                self._batch_mean[:] = x.mean(0)
            if grads:
                grads["gain"][:] = (dy * (x - x.mean(0))).sum(0)
            if dx is not None:
                np.multiply(self.parameters["gain"], dy - dy.mean(0) if self.trainable else dy, out=dx)

        program.call(backward)

    def record_statistics(self, program):
        def move():
            running = self.parameters["running_mean"]
            running[:] = MOMENTUM * running + (1 - MOMENTUM) * self._batch_mean

        program.call(move)


def make(learns=True, **changes):
    fixed = {"T": 2, "optimizer": "Adam(lr=0.01)", "n_epochs": 2, "batchsize": 4, "random_state": 0, "verbose": False}
    encoder = ["Flatten()", f"Centre(learns={learns})", "FullyConnected(n_out=5, act_fn='Tanh')"]
    return cvae.VAE(encoder, [f"Centre(learns={learns})"], **{"warm_start": True, **fixed, **changes})


def arrays(vae):
    return by_path(vae.parameters)


def running_means(vae):
    return {path: array for path, array in arrays(vae).items() if path.endswith("running_mean")}


each_kind = pytest.mark.parametrize("learns", [True, False], ids=["with gradients", "without gradients"])


@each_kind
def test_training_moves_them_once_a_batch(learns):
    X = random_images(8, IMAGE_SHAPE, dtype=np.float64)
    vae = make(learns, dtype="float64").fit(X, n_epochs=3, batchsize=8)
    expected = X.reshape(8, -1).mean(0) * (1 - MOMENTUM**3)
    np.testing.assert_allclose(arrays(vae)["encoder/Centre_2/running_mean"], expected, rtol=1e-12)
    cached = {name for layer in vae._layers().values() for name in layer.optimizer.cache}
    assert cached == {"W", "b", "gain"} if learns else {"W", "b"}


@each_kind
def test_steps_by_hand_give_the_bits_of_fit(learns):
    X = random_images(7, IMAGE_SHAPE)
    rngs = [np.random.default_rng(3) for _ in range(2)]
    by_hand, fitted = (make(learns, random_state=rng) for rng in rngs)
    for vae in (by_hand, fitted):
        vae.forward(X, retain_derived=False, noise=np.zeros((7, 2)))  # creates the parameters
    fitted.fit(X, n_epochs=3, batchsize=2)
    for _ in range(3):
        for indices in cvae.minibatch(X, 2, rng=rngs[0])[0]:
            by_hand.backward(X[indices], by_hand.forward(X[indices]))
            by_hand.update()
    assert_same_bits(arrays(by_hand), arrays(fitted))
    assert all(array.any() for array in running_means(fitted).values())


@each_kind
def test_only_training_steps_move_them(learns):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(learns).fit(X)
    before = arrays(vae)
    vae.encode(X), vae.elbo(X), vae.sample(3), vae.log_likelihood(X, 2)
    vae.backward(X, vae.forward(X))
    vae.flush_gradients()
    assert_same_bits(arrays(vae), before)


@each_kind
def test_a_batch_whose_loss_is_not_finite_leaves_them(learns):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(learns).fit(X)
    vae.decoder_["Output"].W[:] = np.inf
    before = arrays(vae)
    with pytest.raises(FloatingPointError):
        vae.fit(X)
    assert_same_bits(arrays(vae), before)


@each_kind
def test_a_frozen_layer_keeps_its_own(learns):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(learns).fit(X)
    vae.encoder_["Centre_2"].freeze()
    before = running_means(vae)
    vae.fit(X)
    vae.backward(X, vae.forward(X))
    vae.update()
    after = running_means(vae)
    np.testing.assert_array_equal(after["encoder/Centre_2/running_mean"], before["encoder/Centre_2/running_mean"])
    assert (after["decoder/Centre_1/running_mean"] != before["decoder/Centre_1/running_mean"]).all()


@each_kind
@pytest.mark.parametrize("how", ["saved", "copied", "pickled", "set_params"])
def test_they_go_with_the_model(learns, how, tmp_path):
    X = random_images(8, IMAGE_SHAPE)
    vae = make(learns).fit(X)
    if how == "saved":
        vae.save(tmp_path / "model.safetensors")
        other = cvae.load(tmp_path / "model.safetensors")
    elif how == "copied":
        other = copy.deepcopy(vae)
    elif how == "pickled":
        other = pickle.loads(pickle.dumps(vae))
    else:
        other = copy.deepcopy(vae)
        for name, layer in other._layers().items():
            for array in layer.parameters.values():
                array[:] = 7
            layer.set_params(vae._layers()[name].summary())
    assert_same_bits(arrays(other), arrays(vae))
    np.testing.assert_array_equal(other.elbo(X), vae.elbo(X))
    assert_same_bits(arrays(other.fit(X)), arrays(vae.fit(X)))
