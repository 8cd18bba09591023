"""Models with every activation: a training step runs no Python within its programs, and equals that of the formulas."""

import numpy as np
import pytest
from small_vae import by_path, random_images

import cvae
from cvae import passes
from cvae.activations import ACTIVATIONS, GELU, Affine, Identity, ReLU
from cvae.layers import Conv2D, Flatten, FullyConnected
from cvae.runtime.programs import execute

ALL = [*(make() for make in ACTIVATIONS.values()), GELU(approximate=False), Affine(slope=0.5, intercept=0.1)]
each_activation = pytest.mark.parametrize("activation", ALL, ids=str)


def trained(activation, dtype):
    # The last layer of the encoder keeps codes small, which Exponential would let overflow in the decoder.
    encoder = [
        Conv2D(4, 3, act_fn=activation),
        Flatten(),
        FullyConnected(6, act_fn=activation),
        "FullyConnected(4, 'Tanh')",
    ]
    decoder = [FullyConnected(6, act_fn=activation)]
    vae = cvae.VAE(encoder, decoder, T=2, optimizer="SGD(lr=0.001)", batchsize=4, random_state=0, dtype=dtype)
    return vae.fit(random_images(), n_epochs=2, verbose=False)


@pytest.fixture
def programs(monkeypatch):
    """Return the programs that models run from now on."""
    seen = []

    def note(program, n_threads=None):
        seen.append(program)
        execute(program, n_threads)

    monkeypatch.setattr(passes, "execute", note)
    return seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_activation
def test_a_training_step_runs_no_python_within_its_programs(activation, dtype, programs):
    vae = trained(activation, dtype)
    assert len(programs) == 2 * 2 * 3  # epochs, up and down, batches of 4, 4 and 2
    assert [program.calls for program in programs] == [[]] * len(programs)
    assert np.isfinite(vae.history_["loss"]).all()


@each_activation
def test_training_equals_that_by_the_formulas(activation, programs):
    formulas = type(type(activation).__name__, (type(activation),), {})(**activation.arguments)
    assert formulas.compiled is None
    compiled, by_formulas = trained(activation, "float64"), trained(formulas, "float64")
    expected = by_path(by_formulas.parameters)
    for path, array in by_path(compiled.parameters).items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-10, atol=1e-13, err_msg=path)
    # Else the test above would prove nothing.
    assert any(program.calls for program in programs) == (activation not in [ReLU(), Identity(), Affine()])
