"""The whole model, compared with PyTorch: outputs, loss terms, all gradients, and parameters after several steps.

Relative to the largest value of each array, float64 must agree to 1e-10, and float32 to 1e-5 with PyTorch in float64.
"""

import copy

import numpy as np
import pytest
from small_vae import by_path, noise_of, parameters, random_images

from cvae import BernoulliVAE

torch = pytest.importorskip("torch", reason="PyTorch is the second opinion here; the package does not need it")
F = torch.nn.functional

ARCHITECTURES = {
    "default": ({}, (28, 28, 1), 3),
    "colour": ({"enc_conv1_out_ch": 9, "enc_conv2_out_ch": 10, "latent_dim": 30, "T": 7}, (16, 16, 3), 5),
    "same padding": (
        {"enc_conv1_pad": "same", "enc_conv2_pad": "same", "enc_conv1_out_ch": 5, "enc_conv2_out_ch": 17},
        (14, 11, 1),
        4,
    ),
    "same padding, strides": (
        {"enc_conv1_pad": "same", "enc_conv1_stride": 2, "enc_conv2_pad": "same", "enc_conv2_stride": 3}
        | {"enc_conv1_kernel_shape": (4, 3), "enc_conv2_kernel_shape": (3, 2), "enc_conv2_out_ch": 8},
        (10, 13, 2),
        3,
    ),
    "four-sided padding": (
        {"enc_conv1_pad": (2, 0, 1, 3), "enc_conv2_pad": (1, 2), "enc_conv1_kernel_shape": (3, 5)}
        | {"enc_conv2_kernel_shape": 3, "enc_conv1_stride": 2, "enc_pool1_stride": 1},
        (21, 12, 3),
        2,
    ),
    "kernels of 1": (
        {"enc_conv1_kernel_shape": 1, "enc_conv2_kernel_shape": 1, "enc_pool1_kernel_shape": 1}
        | {"enc_pool2_kernel_shape": 1, "enc_pool1_stride": 1, "T": 1, "latent_dim": 1},
        (5, 7, 4),
        6,
    ),
    "kernels of 7": (
        {"enc_conv1_kernel_shape": 7, "enc_conv2_kernel_shape": (6, 7), "enc_pool1_kernel_shape": (3, 2)}
        | {"enc_conv1_out_ch": 16, "enc_conv2_out_ch": 15, "T": 20},
        (24, 26, 1),
        3,
    ),
    "overlapping pools": (
        {"enc_pool1_kernel_shape": (3, 3), "enc_pool1_stride": 2, "enc_pool2_kernel_shape": (2, 3)}
        | {"enc_conv1_kernel_shape": (2, 3), "enc_conv2_kernel_shape": (3, 2), "beta": 4.0},
        (17, 18, 2),
        4,
    ),
    "no divergence": ({"beta": 0.0, "enc_conv1_kernel_shape": 3, "enc_conv2_kernel_shape": 3}, (12, 12, 1), 4),
    "one image": ({"enc_conv1_kernel_shape": 3, "enc_conv2_kernel_shape": 3, "beta": 0.5}, (12, 15, 3), 1),
    "130 images": (
        {"enc_conv1_kernel_shape": 3, "enc_conv2_kernel_shape": 3, "enc_conv1_out_ch": 8, "enc_conv2_out_ch": 16},
        (12, 10, 1),
        130,
    ),
    "130 small images, wide layers": (
        {"enc_conv1_kernel_shape": (3, 1), "enc_conv2_kernel_shape": 2, "enc_conv1_out_ch": 33, "latent_dim": 130},
        (8, 6, 2),
        130,
    ),
}
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def made(name, dtype, **more):
    """Return an architecture's model, images and noise, with random biases so that none is 0."""
    arguments, image_shape, n = ARCHITECTURES[name]
    vae = BernoulliVAE(**{"random_state": 0, **arguments, **more}, dtype=dtype, verbose=False)
    X = random_images(n, image_shape, seed=2, dtype=np.dtype(dtype))
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((n, vae.T)).astype(dtype)
    vae.forward(X, retain_derived=False, noise=noise)
    for layers in (vae.encoder, vae.decoder):
        for layer in layers.values():
            if layer.parameters:
                layer.set_params({"parameters": {"b": rng.uniform(-0.05, 0.15, layer.parameters["b"].shape)}})
    return vae, X, noise


def torch_parameters(vae):
    return {path: torch.tensor(array.astype(np.float64), requires_grad=True) for path, array in parameters(vae).items()}


def same_pad(size, kernel, stride):
    total = stride * (size - 1) + kernel - size
    return total // 2, total - total // 2


def convolution(A, params, i, vae):
    """Apply the model's i-th convolution and ReLU to A (N, C, H, W)."""
    kernel = params[f"encoder/Conv{i}/W"].permute(3, 2, 0, 1)
    pad, stride = (getattr(vae, f"enc_conv{i}_{what}") for what in ("pad", "stride"))
    if pad == "same":
        rows, cols = (same_pad(A.shape[axis], kernel.shape[axis], stride) for axis in (2, 3))
    elif isinstance(pad, int):
        rows = cols = (pad, pad)
    elif len(pad) == 2:
        rows, cols = (pad[0],) * 2, (pad[1],) * 2
    else:
        rows, cols = pad[:2], pad[2:]
    bias = params[f"encoder/Conv{i}/b"].reshape(-1)
    return torch.relu(F.conv2d(F.pad(A, (*cols, *rows)), kernel, bias, stride=stride))


def torch_forward(params, X, noise, vae):
    """Return logits (n, N), mean and log_var (n, T)."""

    def dense(A, name):
        return A @ params[f"{name}/W"] + params[f"{name}/b"]

    A = X.permute(0, 3, 1, 2)
    for i in "12":
        pool = (getattr(vae, f"enc_pool{i}_{what}") for what in ("kernel_shape", "stride"))
        A = F.max_pool2d(convolution(A, params, i, vae), *pool)
    A = torch.relu(dense(A.permute(0, 2, 3, 1).flatten(1), "encoder/FC4"))
    mean, log_var = dense(A, "encoder/FC5").chunk(2, dim=1)
    z = mean + noise * torch.exp(log_var / 2)
    return dense(torch.relu(dense(z, "decoder/FC1")), "decoder/FC2"), mean, log_var


def torch_terms(params, X, target, noise, vae):
    """Return the terms of each image's loss, (n,), and the values that they are computed from."""
    logits, mean, log_var = torch_forward(params, X, noise, vae)
    reconstruction = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    posterior = torch.distributions.Normal(mean, torch.exp(log_var / 2))
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1)
    return reconstruction, kl, (logits, mean, log_var)


def as_double(array):
    return torch.tensor(np.asarray(array, np.float64))


def assert_close(got, expected, tolerance, name=""):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    largest = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * largest, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_loss_and_all_gradients_equal_autograd(name, dtype):
    vae, X, noise = made(name, dtype)
    tolerance = TOLERANCE[dtype]
    params, X_torch = torch_parameters(vae), as_double(X).requires_grad_()
    y = X.reshape(len(X), -1)
    reconstruction, kl, (logits, mean, log_var) = torch_terms(params, X_torch, as_double(y), as_double(noise), vae)
    loss = (reconstruction + vae.beta * kl).mean()
    loss.backward()

    X_recon = vae.forward(X, noise=noise)
    dX = vae.backward(X, X_recon)
    derived = vae.derived_variables
    assert_close(X_recon, torch.sigmoid(logits), tolerance)
    assert_close(derived["t_mean"], mean, tolerance)
    assert_close(derived["t_log_var"], log_var, tolerance)
    assert vae.loss(y, X_recon, derived["t_mean"], derived["t_log_var"], beta=vae.beta) == pytest.approx(
        loss.item(), rel=tolerance
    )
    for path, gradient in by_path(vae.gradients).items():
        assert_close(gradient, params[path].grad, tolerance, path)
    assert_close(dX, X_torch.grad, tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_terms_of_the_elbo_equal_pytorchs(name, dtype):
    """The ELBO uses the buffers of inference and the noise of random_state 7, and ignores beta."""
    vae, X, _ = made(name, dtype)
    noise = noise_of(vae, X, random_state=7)[:, 0]
    with torch.no_grad():
        X_torch = as_double(X)
        reconstruction, kl, (_, mean, log_var) = torch_terms(
            torch_parameters(vae), X_torch, X_torch.flatten(1), as_double(noise), vae
        )
    assert_close(vae.elbo(X, random_state=7), -(reconstruction + kl), TOLERANCE[dtype])
    for got, expected in zip(vae.encode(X), (mean, log_var), strict=True):
        assert_close(got, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("optimizer", ["RMSProp", "Adam", "AdaGrad", "SGD"])
def test_fit_equals_pytorchs_training(optimizer):
    """Five steps of fit in float64, compared with torch.optim for the same noise and order of images."""
    call, torch_class, arguments = {
        "RMSProp": ("RMSProp(lr=0.01)", torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-7}),
        "Adam": ("Adam(lr=0.01)", torch.optim.Adam, {"lr": 0.01, "eps": 1e-7}),
        "AdaGrad": ("AdaGrad(lr=0.01)", torch.optim.Adagrad, {"lr": 0.01, "eps": 1e-7}),
        "SGD": ("SGD(lr=0.01, momentum=0.9)", torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    }[optimizer]
    rng = np.random.default_rng(11)
    vae, X, _ = made("colour", "float64", optimizer=call, beta=0.5, random_state=rng)
    params = torch_parameters(vae)
    of_torch = torch_class(params.values(), **arguments)
    replay, losses, X_all = copy.deepcopy(rng), [], as_double(X)
    for _ in range(5):
        order = np.arange(5)
        replay.shuffle(order)
        of_torch.zero_grad()
        batch, noise = X_all[order], as_double(replay.standard_normal((5, vae.T)))
        reconstruction, kl, _ = torch_terms(params, batch, batch.flatten(1), noise, vae)
        loss = (reconstruction + 0.5 * kl).mean()
        loss.backward()
        of_torch.step()
        losses.append(loss.item())
    vae.fit(X, n_epochs=5)
    np.testing.assert_allclose(vae.history_["loss"], losses, rtol=1e-9)
    for path, array in parameters(vae).items():
        assert_close(array, params[path], 1e-8, path)
