"""The comparison's networks: the frameworks that build them from layers compute what cvae computes."""

import numpy as np
import pytest
from oracles import sigmoid

# Each needs another way of padding or cropping. (encoder, decoder, rows and cols of 2 channels)
NETWORKS = {
    "halved and doubled": (
        ("Conv2D(4, 3, stride=2, pad=(0, 1, 0, 1), act_fn='ReLU')", "Flatten()"),
        (
            "FullyConnected(60, act_fn='ReLU')",
            "Reshape((4, 5, 3))",
            "ConvTranspose2D(4, 3, stride=2, pad='same', act_fn='ReLU')",
            "ConvTranspose2D(2, 3, pad='same')",
        ),
        (8, 10),
    ),
    "pixels left over": (
        ("Conv2D(4, 4, stride=2, act_fn='Tanh')", "Conv2D(3, (1, 2), stride=2)", "Flatten()"),
        (
            "FullyConnected(12)",
            "Reshape((1, 3, 4))",
            "ConvTranspose2D(3, (5, 4), stride=2, act_fn='Tanh')",
            "ConvTranspose2D(2, (4, 3), stride=2, pad=(2, 1), output_pad=1)",
        ),
        (9, 16),
    ),
    "dense": (
        ("Flatten()", "FullyConnected(20, act_fn='Tanh')"),
        ("FullyConnected(20, act_fn='Tanh')",),
        (5, 6),
    ),
    "'same' with a stride": (("Conv2D(3, 4, stride=2, pad='same', act_fn='ReLU')", "Flatten()"), (), (7, 6)),
}


@pytest.fixture(params=NETWORKS)
def network(request, modules):
    (cases,) = modules("cases")
    encoder, decoder, size = NETWORKS[request.param]
    return cases.Network(encoder, decoder, n_codes=3, image_shape=(*size, 2))


def through(layers, x, rearrange):
    """Compute layers in float64 from their description; dense layers see the pixels of `rearrange`d images."""
    for layer in layers:
        if layer.kind == "FullyConnected":
            x = x @ layer.W.astype(np.float64) + layer.b
        elif layer.kind == "Flatten":
            x = np.stack([rearrange(image).reshape(-1) for image in x])
        elif layer.kind == "Reshape":
            order = rearrange(np.arange(x.shape[1]).reshape(layer.out_shape)).reshape(-1)
            x = x[:, np.argsort(order)].reshape(-1, *layer.out_shape)
        else:
            x = spread(layer, x) if layer.kind == "ConvTranspose2D" else gathered(layer, x)
        x = {"": x, "ReLU": np.maximum(x, 0), "Tanh": np.tanh(x)}[layer.activation]
    return x


def padded(layer, shape):
    """Return zeros (n, rows, cols, channels) with a margin, and the part of it that is an image of a shape."""
    margin = 8
    zeros = np.zeros((shape[0], shape[1] + 2 * margin, shape[2] + 2 * margin, shape[3]))
    return zeros, margin - layer.pad[0], margin - layer.pad[1], zeros[:, margin:-margin, margin:-margin]


def gathered(layer, x):
    zeros, top, left, inside = padded(layer, x.shape)
    inside[...] = x
    y = np.empty((len(x), *layer.out_shape))
    for i, j in np.ndindex(*layer.out_shape[:2]):
        rows, cols = top + i * layer.stride, left + j * layer.stride
        window = zeros[:, rows : rows + layer.kernel[0], cols : cols + layer.kernel[1]]
        y[:, i, j] = np.einsum("nrsc,rsck->nk", window, layer.W) + layer.b.reshape(-1)
    return y


def spread(layer, x):
    zeros, top, left, inside = padded(layer, (len(x), *layer.out_shape))
    for i, j in np.ndindex(*layer.in_shape[:2]):
        rows, cols = top + i * layer.stride, left + j * layer.stride
        window = zeros[:, rows : rows + layer.kernel[0], cols : cols + layer.kernel[1]]
        window += np.einsum("nk,rsck->nrsc", x[:, i, j], layer.W)
    return inside + layer.b.reshape(-1)


@pytest.mark.parametrize("turned", [False, True], ids=["as they are", "turned"])
@pytest.mark.parametrize("is_first", [False, True], ids=["channels last", "channels first"])
def test_described_layers_compute_what_cvae_computes(network, modules, turned, is_first):
    layers_module, cvae_peer = modules("layers", "peers.cvae_peer")
    rng = np.random.default_rng(0)
    images = rng.random((4, *network.image_shape), np.float32)
    peer = cvae_peer.CvaePeer(network, 4, 1, images, seed=1)
    mean, log_var, probabilities = peer.outputs(images, codes := rng.normal(size=(4, 3)).astype(np.float32))

    layers = peer.layers()
    direction = slice(None, None, -1) if turned else slice(None)
    layers = layers.mirrored() if turned else layers
    rearrange = layers_module.channels_first if is_first else np.asarray
    layers = layers.rearranged(rearrange)
    code = through(layers.encoder, images[:, direction, direction], rearrange)
    pixels = sigmoid(through(layers.decoder, codes, rearrange))
    if pixels.ndim == 2:
        order = rearrange(np.arange(pixels.shape[1]).reshape(network.image_shape)).reshape(-1)
        pixels = pixels[:, np.argsort(order)].reshape(-1, *network.image_shape)

    np.testing.assert_allclose(code, np.hstack([mean, log_var]), rtol=0, atol=2e-6)
    np.testing.assert_allclose(pixels[:, direction, direction], probabilities, rtol=0, atol=2e-6)


def test_installed_frameworks_compute_what_cvae_computes(network, modules, tmp_path):
    measure, command, peers, cases = modules("measure", "command", "peers", "cases")
    case = cases.Case("a case", "encode", 8, network)
    rivals = [v for v in peers.RIVALS if v.is_installed and command.suits(v, case, "full")]
    if not rivals:
        pytest.skip("needs PyTorch or ONNX Runtime to compare with")
    with command.started([peers.CVAE, *rivals], 1) as workers:
        ready, notes = measure.agreeing(case, workers, tmp_path)
    assert [worker.variant for worker in ready] == [peers.CVAE, *rivals], notes
