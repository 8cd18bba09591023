"""The plain reference implementations, compared with PyTorch in float64."""

import itertools
import math

import numpy as np
import pytest
from oracles import (
    NO_PAD,
    OPTIMIZERS,
    assert_equal_to_rounding,
    bce_with_logits,
    conv2d_forward,
    conv2d_grad_input,
    conv2d_grad_weight,
    conv_transpose2d_backward,
    conv_transpose2d_forward,
    dense_backward,
    dense_forward,
    kl_divergence,
    normalization_statistics,
    normalize,
    normalize_backward,
    pool2d_average_backward,
    pool2d_average_forward,
    pool2d_max_backward,
    pool2d_max_forward,
    same_pad,
    upsample2d_backward,
    upsample2d_forward,
    vae_step,
)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is the other side of this comparison")


def torch_images(torch, X):
    """Convert X (N, H, W, C) to a PyTorch tensor (N, C, H, W) that requires gradients."""
    return torch.tensor(X.transpose(0, 3, 1, 2).copy(), requires_grad=True)


def nhwc(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def torch_padded(torch, X, pad):
    top, bottom, left, right = pad
    return torch.nn.functional.pad(X, (left, right, top, bottom))


CONVOLUTIONS = list(
    itertools.product(
        [(1, 1), (3, 2), (4, 5)],  # kernel_shape
        [1, 2, 3],  # stride
        [NO_PAD, (1, 0, 2, 3)],  # pad
        [0, 1, 2],  # dilation
    )
)


@pytest.mark.parametrize(("kernel_shape", "stride", "pad", "dilation"), CONVOLUTIONS)
def test_conv2d_equals_torch(torch, kernel_shape, stride, pad, dilation):
    rng = np.random.default_rng(1)
    X, W = rng.normal(size=(2, 14, 15, 3)), rng.normal(size=(*kernel_shape, 3, 4))
    b = rng.normal(size=(1, 1, 1, 4))

    tX = torch_images(torch, X)
    tW = torch.tensor(W.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    tb = torch.tensor(b.ravel(), requires_grad=True)
    tZ = torch.nn.functional.conv2d(torch_padded(torch, tX, pad), tW, tb, stride=stride, dilation=dilation + 1)
    Z = conv2d_forward(X, W, b, stride, pad, dilation)
    assert_equal_to_rounding(Z, nhwc(tZ))

    dZ = rng.normal(size=Z.shape)
    tZ.backward(torch.tensor(dZ.transpose(0, 3, 1, 2).copy()))
    dW, db = conv2d_grad_weight(dZ, X, W.shape, stride, pad, dilation)
    dX = conv2d_grad_input(dZ, W, X.shape, stride, pad, dilation)
    assert_equal_to_rounding(dX, nhwc(tX.grad))
    assert_equal_to_rounding(dW, tW.grad.numpy().transpose(2, 3, 1, 0))
    assert_equal_to_rounding(db, tb.grad.numpy().reshape(1, 1, 1, 4))


@pytest.mark.parametrize(("kernel_shape", "stride", "pad", "dilation"), CONVOLUTIONS)
@pytest.mark.parametrize("output_pad", [0, 1])
def test_transposed_convolution_equals_torch(torch, kernel_shape, stride, pad, dilation, output_pad):
    output_pad = min(output_pad, max(stride, dilation + 1) - 1)
    rng = np.random.default_rng(1)
    X, W, b = rng.normal(size=(2, 5, 6, 4)), rng.normal(size=(*kernel_shape, 3, 4)), rng.normal(size=(1, 1, 1, 3))
    top, bottom, left, right = pad

    tX = torch_images(torch, X)
    tW = torch.tensor(W.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    tb = torch.tensor(b.ravel(), requires_grad=True)
    how = {"stride": stride, "dilation": dilation + 1, "output_padding": output_pad}
    full = torch.nn.functional.conv_transpose2d(tX, tW, tb, **how)
    tZ = full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]
    Z = conv_transpose2d_forward(X, W, b, tZ.shape[2:], stride, pad, dilation)
    assert_equal_to_rounding(Z, nhwc(tZ))

    dZ = rng.normal(size=Z.shape)
    tZ.backward(torch.tensor(dZ.transpose(0, 3, 1, 2).copy()))
    dX, dW, db = conv_transpose2d_backward(dZ, X, W, stride, pad, dilation)
    assert_equal_to_rounding(dX, nhwc(tX.grad))
    assert_equal_to_rounding(dW, tW.grad.numpy().transpose(2, 3, 1, 0))
    assert_equal_to_rounding(db, tb.grad.numpy().reshape(1, 1, 1, 3))


@pytest.mark.parametrize("factor", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_equals_torch(torch, factor, mode):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2, 4, 3, 5))
    tX = torch_images(torch, X)
    tY = torch.nn.functional.interpolate(tX, scale_factor=factor, mode=mode)
    assert_equal_to_rounding(upsample2d_forward(X, factor, mode), nhwc(tY))
    dY = rng.normal(size=nhwc(tY).shape)
    tY.backward(torch.tensor(dY.transpose(0, 3, 1, 2).copy()))
    assert_equal_to_rounding(upsample2d_backward(dY, X.shape, factor, mode), nhwc(tX.grad))


@pytest.mark.parametrize("groups", [1, 2, 6, None])
def test_normalization(torch, groups):
    rng = np.random.default_rng(5)
    X, dY = rng.normal(size=(3, 7, 6)), rng.normal(size=(3, 7, 6))
    leaves = [torch.tensor(array, requires_grad=True) for array in (X, rng.normal(size=6), rng.normal(size=6))]
    tX, tS, tb = leaves
    if groups is None:
        mean, variance = rng.normal(size=(1, 6)), rng.uniform(1, 2, (1, 6))
        constants = torch.tensor(mean[0]), torch.tensor(variance[0])
        tY = torch.nn.functional.batch_norm(tX.transpose(1, 2), *constants, tS, tb, eps=0.1)
    else:
        mean, variance = normalization_statistics(X, groups)
        tY = torch.nn.functional.group_norm(tX.transpose(1, 2), groups, tS, tb, eps=0.1)
    S, b = tS.detach().numpy(), tb.detach().numpy()
    tY = tY.transpose(1, 2)
    assert_equal_to_rounding(normalize(X, mean, variance, S, b, 0.1), tY.detach().numpy())
    tY.backward(torch.tensor(dY))
    for got, leaf in zip(normalize_backward(dY, X, mean, variance, S, 0.1, groups), leaves, strict=True):
        assert_equal_to_rounding(got, leaf.grad.numpy())


def test_same_padding_keeps_the_size_and_puts_the_odd_one_at_the_end():
    pad = same_pad((6, 5), kernel_shape=(3, 2), stride=2)
    assert pad == (3, 4, 2, 3)
    assert conv2d_forward(np.ones((1, 6, 5, 1)), np.ones((3, 2, 1, 1)), 0.0, 2, pad).shape[1:3] == (
        6,
        5,
    )


POOLINGS = list(itertools.product([(1, 1), (2, 2), (3, 2), (4, 5)], [1, 2, 3], [NO_PAD, (1, 0, 2, 3)]))


@pytest.mark.parametrize(("kernel_shape", "stride", "pad"), POOLINGS)
@pytest.mark.parametrize("values", ["normal", "ties"])
def test_max_pooling_equals_torch(torch, kernel_shape, stride, pad, values):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2, 9, 8, 3)) if values == "normal" else rng.integers(-2, 3, (2, 9, 8, 3))
    X = X.astype(np.float64)
    tX = torch_images(torch, X)
    tY = torch.nn.functional.max_pool2d(torch_padded(torch, tX, pad), kernel_shape, stride)
    Y, argmax = pool2d_max_forward(X, kernel_shape, stride, pad)
    np.testing.assert_array_equal(Y, nhwc(tY))

    dY = rng.normal(size=Y.shape)
    tY.backward(torch.tensor(dY.transpose(0, 3, 1, 2).copy()))
    dX = pool2d_max_backward(dY, argmax, X.shape, kernel_shape, stride, pad)
    assert_equal_to_rounding(dX, nhwc(tX.grad))


@pytest.mark.parametrize(("kernel_shape", "stride", "pad"), POOLINGS)
def test_average_pooling_equals_torch(torch, kernel_shape, stride, pad):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2, 9, 8, 3))
    tX = torch_images(torch, X)
    tY = torch.nn.functional.avg_pool2d(torch_padded(torch, tX, pad), kernel_shape, stride)
    Y = pool2d_average_forward(X, kernel_shape, stride, pad)
    assert_equal_to_rounding(Y, nhwc(tY))

    dY = rng.normal(size=Y.shape)
    tY.backward(torch.tensor(dY.transpose(0, 3, 1, 2).copy()))
    dX = pool2d_average_backward(dY, X.shape, kernel_shape, stride, pad)
    assert_equal_to_rounding(dX, nhwc(tX.grad))


def test_max_pooling_passes_nan_on_and_sends_the_gradient_to_the_first_one():
    X = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, 9.0]]).reshape(1, 2, 3, 1)
    Y, argmax = pool2d_max_forward(X, (2, 2))
    assert np.isnan(Y).all()
    dX = pool2d_max_backward(np.array([[5.0, 7.0]]).reshape(1, 1, 2, 1), argmax, X.shape, (2, 2))
    assert dX[0, :, :, 0].tolist() == [[0.0, 12.0, 0.0], [0.0, 0.0, 0.0]]


def test_dense_equals_torch(torch):
    rng = np.random.default_rng(4)
    X, W, b, dZ = (rng.normal(size=shape) for shape in ((5, 7), (7, 3), (1, 3), (5, 3)))
    tX, tW, tb = (torch.tensor(array, requires_grad=True) for array in (X, W, b))
    tZ = torch.nn.functional.linear(tX, tW.T, tb)
    tZ.backward(torch.tensor(dZ))
    assert_equal_to_rounding(dense_forward(X, W, b), tZ.detach().numpy())
    for got, tensor in zip(dense_backward(dZ, X, W), (tX, tW, tb), strict=True):
        assert_equal_to_rounding(got, tensor.grad.numpy())


def test_bce_with_logits_equals_torch_even_where_the_sigmoid_saturates(torch):
    logits = np.array([[-800.0, -40.0, -1.5, 0.0], [0.3, 37.0, 40.0, 800.0]])
    for y in (np.zeros_like(logits), np.full_like(logits, 0.4), np.ones_like(logits)):
        t_logits = torch.tensor(logits, requires_grad=True)
        t_loss = torch.nn.functional.binary_cross_entropy_with_logits(t_logits, torch.tensor(y), reduction="none").sum(
            axis=1
        )
        t_loss.sum().backward()
        loss, grad = bce_with_logits(logits, y)
        assert_equal_to_rounding(loss, t_loss.detach().numpy())
        assert_equal_to_rounding(grad, t_logits.grad.numpy())


def test_kl_divergence_equals_torch(torch):
    rng = np.random.default_rng(5)
    mean, log_var = rng.normal(size=(2, 6, 4))
    t_mean, t_log_var = (torch.tensor(a, requires_grad=True) for a in (mean, log_var))
    normal = torch.distributions.Normal
    t_kl = torch.distributions.kl_divergence(
        normal(t_mean, (t_log_var / 2).exp()), normal(torch.zeros(6, 4), torch.ones(6, 4))
    ).sum(axis=1)
    t_kl.sum().backward()
    kl, dmean, dlog_var = kl_divergence(mean, log_var)
    assert_equal_to_rounding(kl, t_kl.detach().numpy())
    assert_equal_to_rounding(dmean, t_mean.grad.numpy())
    assert_equal_to_rounding(dlog_var, t_log_var.grad.numpy())


TORCH_OPTIMIZERS = [
    ("SGD", {"lr": 0.1}, "SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}, "SGD", {"lr": 0.1, "momentum": 0.9}),
    ("AdaGrad", {"lr": 0.1}, "Adagrad", {"lr": 0.1, "eps": 1e-7}),
    ("RMSProp", {}, "RMSprop", {"lr": 0.001, "alpha": 0.9, "eps": 1e-7}),
    ("Adam", {}, "Adam", {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7}),
]


@pytest.mark.parametrize(("name", "arguments", "torch_name", "torch_arguments"), TORCH_OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [None, 2.0])
def test_optimizers_equal_torch(torch, name, arguments, torch_name, torch_arguments, clip_norm):
    rng = np.random.default_rng(6)
    param, state = rng.normal(size=(3, 4)), {}
    t_param = torch.tensor(param, requires_grad=True)
    t_optimizer = getattr(torch.optim, torch_name)([t_param], **torch_arguments)
    for _ in range(6):
        grad = rng.normal(size=(3, 4))
        param = OPTIMIZERS[name](param, grad, state, **arguments, clip_norm=clip_norm)
        norm = math.sqrt((grad**2).sum())
        factor = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
        t_param.grad = torch.tensor(grad * factor)
        t_optimizer.step()
        assert_equal_to_rounding(param, t_param.detach().numpy())


SMALL = {
    "enc_conv1_kernel_shape": (3, 3),
    "enc_conv1_stride": 1,
    "enc_conv1_pad": 0,
    "enc_pool1_kernel_shape": (2, 2),
    "enc_pool1_stride": 2,
    "enc_conv2_kernel_shape": (3, 2),
    "enc_conv2_stride": 1,
    "enc_conv2_pad": (1, 0, 0, 2),
    "enc_pool2_kernel_shape": (2, 3),
    "enc_pool2_stride": 1,
}
STRIDED = SMALL | {
    "enc_conv1_stride": 2,
    "enc_conv1_pad": (1, 2),
    "enc_pool1_stride": 1,
    "enc_conv2_stride": 2,
    "enc_conv2_pad": "same",
}


# The padding of both convolutions on all sides, and the size of Flatten3's output, for 12x11 images.
ARCHITECTURES = [
    pytest.param(SMALL, (0, 0, 0, 0), (1, 0, 0, 2), 36, id="small"),
    pytest.param(STRIDED, (1, 1, 2, 2), (3, 3, 3, 3), 64, id="strided"),
]


@pytest.mark.parametrize(("architecture", "pad1", "pad2", "n_flat"), ARCHITECTURES)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_vae_step_equals_torch(torch, architecture, pad1, pad2, n_flat, beta):
    rng = np.random.default_rng(7)
    X, noise = rng.random((3, 12, 11, 2)), rng.normal(size=(3, 2))
    shapes = {
        "encoder/Conv1": (3, 3, 2, 3),
        "encoder/Conv2": (3, 2, 3, 4),
        "encoder/FC4": (n_flat, 5),
        "encoder/FC5": (5, 4),
        "decoder/FC1": (2, 5),
        "decoder/FC2": (5, 264),
    }
    params = {f"{name}/W": rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        params[f"{name}/b"] = rng.normal(0, 0.3, (1,) * (len(shape) - 1) + shape[-1:])
    v = vae_step(X, params, noise, architecture, beta)

    t_params = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    tX = torch_images(torch, X)
    logits, mean, log_var = torch_vae(torch, tX, t_params, torch.tensor(noise), architecture, pad1, pad2)
    t_loss = torch_loss(torch, logits, mean, log_var, torch.tensor(X.reshape(3, -1)), beta)
    t_loss.backward()
    assert_equal_to_rounding(v["X_recon"], torch.sigmoid(logits).detach().numpy())
    assert_equal_to_rounding(v["loss"], t_loss.detach().numpy())
    assert_equal_to_rounding(v["dX"], nhwc(tX.grad))
    assert v["grads"].keys() == params.keys()
    for name, grad in v["grads"].items():
        assert_equal_to_rounding(grad, t_params[name].grad.numpy())


def torch_vae(torch, X, params, noise, architecture, pad1, pad2):
    """Return the logits, mean and log_var of the same model, written with PyTorch."""
    functional = torch.nn.functional
    A = X
    for i, pad in (("1", pad1), ("2", pad2)):
        W, b = params[f"encoder/Conv{i}/W"], params[f"encoder/Conv{i}/b"]
        stride = architecture[f"enc_conv{i}_stride"]
        A = torch_padded(torch, A, pad)
        A = functional.conv2d(A, W.permute(3, 2, 0, 1), b.flatten(), stride).relu()
        kernel_shape = architecture[f"enc_pool{i}_kernel_shape"]
        A = functional.max_pool2d(A, kernel_shape, architecture[f"enc_pool{i}_stride"])
    A = A.permute(0, 2, 3, 1).flatten(1)
    A = (A @ params["encoder/FC4/W"] + params["encoder/FC4/b"]).relu()
    mean, log_var = (A @ params["encoder/FC5/W"] + params["encoder/FC5/b"]).chunk(2, dim=1)
    z = mean + noise * torch.exp(log_var / 2)
    A = (z @ params["decoder/FC1/W"] + params["decoder/FC1/b"]).relu()
    return A @ params["decoder/FC2/W"] + params["decoder/FC2/b"], mean, log_var


def torch_loss(torch, logits, mean, log_var, y, beta):
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    kl = 0.5 * (log_var.exp() + mean**2 - 1 - log_var).sum()
    return (bce + beta * kl) / len(y)
