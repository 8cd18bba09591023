"""The update of all parameters as one program: when it is recorded again, and that a step is atomic."""

import numpy as np
import pytest
from small_vae import assert_same_bits, initialized, layers, parameters, random_images, small_vae, steps_by_hand

import cvae
from cvae._kernels import dispatch
from cvae.layers import FullyConnected
from cvae.optim.updates import Updates
from cvae.optimizers import SGD, Adam
from cvae.schedulers import SchedulerBase


def dense_layers(optimizer="Adam(lr=0.1)"):
    """Return two dense layers with gradients."""
    made = [FullyConnected(n_out=3, optimizer=optimizer, dtype="float64", random_state=i) for i in range(2)]
    rng = np.random.default_rng(0)
    for layer in made:
        layer.initialize((1, 4))
        for grad in layer.gradients.values():
            grad[:] = rng.standard_normal(grad.shape)
    return made


def arrays(layers):
    return {f"{i}/{name}": array.copy() for i, layer in enumerate(layers) for name, array in layer.parameters.items()}


def states(layers):
    """Copy the state of the optimizers."""
    return [(layer.optimizer.cur_step, layer.optimizer.copy().cache) for layer in layers]


# ---------------------------------------------------------------- recording


def nothing(layer):
    pass


def new_optimizer(layer):
    layer.optimizer = SGD(lr=0.25)


def new_parameters(layer):
    layer.set_params({"W": np.full((4, 3), 2.0), "b": np.ones((1, 3))})


def new_gradient(layer):
    layer.gradients["b"] = np.full((1, 3), 0.5)


def new_state(layer):
    layer.optimizer.set_params(cache_dict={"W": {"t": 3, "mean": np.ones((4, 3)), "var": np.ones((4, 3))}})


def no_state(layer):
    layer.optimizer.cache.clear()


def another_rate(layer):
    layer.optimizer.set_params({"lr": 0.5})


def clipping(layer):
    layer.optimizer.set_params({"clip_norm": 0.1})


@pytest.mark.parametrize(
    "change", [nothing, new_optimizer, new_parameters, new_gradient, new_state, no_state, another_rate, clipping]
)
def test_steps_go_on_with_what_is_there(change):
    """The reference is the update of one parameter after another by the optimizer itself."""
    together, alone, updates = dense_layers(), dense_layers(), Updates()
    for step in range(4):
        if step == 2:
            change(together[1])
            change(alone[1])
        updates.apply(together, None)
        for layer in alone:
            layer.optimizer.step()
            for name, parameter in layer.parameters.items():
                parameter[:] = layer.optimizer.update(parameter, layer.gradients[name], name)
        assert_same_bits(arrays(together), arrays(alone))
    assert [layer.optimizer.cur_step for layer in together] == [layer.optimizer.cur_step for layer in alone]


def test_a_step_is_recorded_again_only_after_a_change(monkeypatch):
    recorded = []
    record_update = Adam.record_update

    def observed(optimizer, program, parameter, grad, name, scalars):
        recorded.append(name)
        record_update(optimizer, program, parameter, grad, name, scalars)

    monkeypatch.setattr(Adam, "record_update", observed)
    both, updates = dense_layers(), Updates()
    expected = []
    for change in (nothing, nothing, another_rate, clipping, another_rate, new_gradient, nothing, new_state, nothing):
        change(both[0])
        updates.apply(both, None)
        expected += ["W", "b"] * 2 * (change is not nothing or not expected)
        assert recorded == expected
    updates.apply(both[1:], None)
    assert recorded == [*expected, "W", "b"]


# ---------------------------------------------------------------- all or nothing


class Failing(SchedulerBase):
    """A scheduler that fails after a given number of steps."""

    def __init__(self, good_steps=0):
        self.good_steps = good_steps

    def __call__(self, step=None, cur_loss=None):
        if step > self.good_steps:
            raise ArithmeticError("no rate")
        return 0.01


def fail(layer):
    layer.optimizer.lr_scheduler = Failing()


def lose_eps(layer):
    layer.optimizer.eps = 0.0


def misfit(layer):
    layer.gradients["b"] = np.ones(5)


def change_type(layer):
    layer.gradients["b"] = layer.gradients["b"].astype(np.float32)


@pytest.mark.parametrize(("spoil", "error"), [
    (fail, ArithmeticError), (lose_eps, ValueError), (misfit, ValueError), (change_type, TypeError),
])  # fmt: skip
@pytest.mark.parametrize("steps", [1, 0])
def test_an_error_leaves_parameters_and_optimizers_as_they_were(spoil, error, steps):
    both, updates = dense_layers(), Updates()
    for _ in range(steps):
        updates.apply(both, None)
    before, known, gradient = arrays(both), states(both), both[1].gradients["b"]
    eps, scheduler = both[1].optimizer.eps, both[1].optimizer.lr_scheduler
    spoil(both[1])
    for _ in range(2):
        with pytest.raises(error):
            updates.apply(both, None)
        assert_same_bits(arrays(both), before)
        for (step, cache), (known_step, known_cache) in zip(states(both), known, strict=True):
            assert step == known_step == steps
            np.testing.assert_equal(cache, known_cache)
    both[1].gradients["b"], both[1].optimizer.eps, both[1].optimizer.lr_scheduler = gradient, eps, scheduler
    expected = dense_layers()
    for _ in range(steps + 1):
        Updates().apply(expected, None)
    updates.apply(both, None)
    assert_same_bits(arrays(both), arrays(expected))


def test_an_error_within_a_layer_leaves_it_as_it_was():
    layer = dense_layers()[0]
    layer.update()
    for grad in layer.gradients.values():
        grad.fill(1)
    before, known = arrays([layer]), states([layer])
    misfit(layer)
    with pytest.raises(ValueError, match="grad must have the shape of param"):
        layer.update()
    assert_same_bits(arrays([layer]), before)
    np.testing.assert_equal(states([layer]), known)


def test_training_stops_between_steps_if_a_scheduler_fails():
    X = random_images()
    whole, stopped = small_vae().fit(X, n_epochs=1, batchsize=10), small_vae()
    stopped.decoder["FC1"].optimizer.lr_scheduler = Failing(good_steps=1)
    with pytest.raises(ArithmeticError, match="no rate"):
        stopped.fit(X, n_epochs=3, batchsize=10)
    assert_same_bits(parameters(stopped), parameters(whole))
    assert {layer.optimizer.cur_step for layer in layers(stopped).values()} == {1}
    assert stopped.encoder["FC4"].optimizer.cache["W"]["t"] == 1


@pytest.mark.parametrize("good_steps", [1, 2, 4])
def test_training_stops_within_an_epoch_if_a_scheduler_fails(good_steps):
    X, rngs = random_images(), [np.random.default_rng(0) for _ in range(2)]
    by_hand, stopped = (small_vae(random_state=rng) for rng in rngs)
    for _ in zip(range(good_steps), steps_by_hand(by_hand, X, rngs[0], batchsize=4, n_epochs=2), strict=False):
        pass
    initialized(stopped).encoder["FC5"].optimizer.lr_scheduler = Failing(good_steps)
    for layer in layers(stopped).values():  # the same rate as that of the failing scheduler
        layer.optimizer.lr = 0.01
    with pytest.raises(ArithmeticError, match="no rate"):
        stopped.fit(X, n_epochs=2, batchsize=4)
    assert_same_bits(parameters(stopped), parameters(by_hand))
    assert {layer.optimizer.cur_step for layer in layers(stopped).values()} == {good_steps}


class AsksForThreads(SchedulerBase):
    """A scheduler that records the number of threads and sets another one."""

    def __init__(self, found):
        self.found = found

    def __call__(self, step=None, cur_loss=None):
        self.found.append(cvae.get_num_threads())
        cvae.set_num_threads(1 + step % 3)
        return 0.01


@pytest.mark.skipif(not dispatch.has_openmp(), reason="the kernels were built without OpenMP")
def test_the_number_of_threads_stays_the_same_within_an_epoch():
    vae, threads = initialized(small_vae(optimizer="SGD(lr=0.01)")), []
    vae.encoder["FC4"].optimizer.lr_scheduler = AsksForThreads(threads)
    cvae.set_num_threads(2)
    try:
        vae.fit(random_images(8), n_epochs=2, batchsize=2)
        last = cvae.get_num_threads()
    finally:
        cvae.set_num_threads(None)
    assert threads == [2] * 4 + [1 + 4 % 3] * 4
    assert last == 1 + 8 % 3


def test_a_callback_may_change_the_rate_between_epochs():
    def speed_up(vae, *_):
        for layer in layers(vae).values():
            another_rate(layer)

    X = random_images()
    changed, in_two_parts = small_vae(optimizer="SGD(lr=0.01)"), small_vae(optimizer="SGD(lr=0.01)")
    changed.fit(X, n_epochs=2, callbacks=[speed_up])
    in_two_parts.fit(X, n_epochs=1)
    speed_up(in_two_parts)
    in_two_parts.fit(X, n_epochs=1)
    unchanged = small_vae(optimizer="SGD(lr=0.01)").fit(X, n_epochs=2)
    assert_same_bits(parameters(changed), parameters(in_two_parts))
    assert not np.array_equal(parameters(changed)["encoder/FC4/W"], parameters(unchanged)["encoder/FC4/W"])


def test_an_error_in_a_step_by_hand_leaves_the_whole_model_as_it_was():
    images = random_images(4)
    vae = initialized(small_vae())
    vae.backward(images, vae.forward(images))
    before, gradient = parameters(vae), vae.decoder["FC2"].gradients["W"].copy()
    vae.encoder["Conv1"].optimizer.lr_scheduler = Failing()  # the last layer to be updated
    with pytest.raises(ArithmeticError):
        vae.update()
    assert_same_bits(parameters(vae), before)
    np.testing.assert_array_equal(vae.decoder["FC2"].gradients["W"], gradient)
    assert all(layer.optimizer.cur_step == 0 for layer in layers(vae).values())
