"""Arrays that users assign to layers' parameters: any form will do, and what does not fit is named."""

import numpy as np
import pytest
from small_vae import layers, random_images, small_vae

import cvae

X = random_images()
ASSIGNED = {
    "float64": lambda W: W.astype(np.float64),
    "big-endian": lambda W: W.astype(">f4"),
    "Fortran": np.asfortranarray,
    "strided": lambda W: np.repeat(W, 2, axis=0)[::2],
    "read-only": lambda W: np.frombuffer(W.tobytes(), W.dtype).reshape(W.shape),
    "list": lambda W: W.tolist(),
}
USES = {
    "transform": lambda vae, path: vae,
    "partial_fit": lambda vae, path: vae.partial_fit(X),
    "by hand": lambda vae, path: (vae.backward(X, vae.forward(X)), vae.update(), vae)[-1],
    "save": lambda vae, path: (vae.save(path), cvae.load(path))[-1],
    "copy": lambda vae, path: vae.copy(),
    "summary": lambda vae, path: (vae.summary(), vae)[-1],
    "export": lambda vae, path: (cvae.export.to_npz(vae, path), cvae.export.from_npz(small_vae().fit(X), path))[-1],
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("form", ASSIGNED)
def test_parameters_may_be_assigned_in_any_form(form, use, tmp_path):
    plain, vae = small_vae().fit(X), small_vae().fit(X)
    for layer in layers(vae).values():
        if layer.parameters:
            layer.parameters["W"] = ASSIGNED[form](layer.parameters["W"])
    expected, found = (USES[use](each, tmp_path / "model") for each in (plain, vae))
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda W: W[:1], r"encoder/Conv1/W must have the shape \(3, 3, 1, 4\), got \(1, 3, 1, 4\)"),
        (lambda W: None, r"encoder/Conv1/W must have the shape \(3, 3, 1, 4\), got"),
        (lambda W: "W", "encoder/Conv1/W must be an array of real numbers, got the dtype <U1"),
    ],
)
def test_parameters_that_do_not_fit_are_named(value, message, use, tmp_path):
    vae = small_vae().fit(X)
    layer = vae.encoder["Conv1"]
    layer.parameters["W"] = value(layer.parameters["W"])
    with pytest.raises(ValueError, match=message):
        USES[use](vae, tmp_path / "model").transform(X)


@pytest.mark.parametrize("use", USES.keys() - {"export"})
@pytest.mark.parametrize("form", ["float64", "list", "the same"])
def test_parameters_of_blocks_may_be_assigned_to_the_block_or_its_layers(form, use, tmp_path):
    def blocks():
        layers = ["Flatten()", "Residual(layers=['FullyConnected(n_out=72)'])"]
        return cvae.VAE(layers, "mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(X)

    vaes = [blocks() for _ in range(3)]
    for vae in vaes:
        block = vae.encoder_["Residual_2"]
        W = np.full((72, 72), 0.01, np.float32)
        W = ASSIGNED.get(form, lambda W: W)(W)
        if vae is vaes[0]:
            block.layers[0].parameters["W"][...] = W
        elif vae is vaes[1]:
            block.layers[0].parameters["W"] = W
        else:
            block.parameters["FullyConnected_1/W"] = W
    expected, *found = (USES[use](vae, tmp_path / "model").transform(X) for vae in vaes)
    for codes in found:
        np.testing.assert_array_equal(codes, expected)
