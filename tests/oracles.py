"""Plain reference implementations in NumPy: short, slow, float64, and independent of the package.

The compiled kernels, the layers and the model are compared with these, which test_oracles.py compares with
PyTorch and test_reference_oracles.py with the results of numpy-ml. Only the taps of a kernel are looped over.

Letters: N images, H W rows and cols, C input channels, K output channels, R S kernel rows and cols, OH OW
output rows and cols, T latent size, D pixels of an image. Padding is (top, bottom, left, right), dilation the
number of zeros between adjacent taps.
"""

import re

import numpy as np

NO_PAD = (0, 0, 0, 0)


def assert_equal_to_rounding(got, expected):
    """Assert that all numbers agree to 1e-10 of the largest one."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def assert_all_equal(got, expected):
    assert got.keys() >= expected.keys()
    for key, array in expected.items():
        assert_equal_to_rounding(got[key], array)


# ------------------------------------------------------------------ windows


def output_shape(X, kernel_shape, stride, pad, dilation=0):
    """Return (OH, OW) for X (N, H, W, C)."""
    (R, S), (top, bottom, left, right) = kernel_shape, pad
    span_rows, span_cols = R + (R - 1) * dilation, S + (S - 1) * dilation
    OH = (X.shape[1] + top + bottom - span_rows) // stride + 1
    OW = (X.shape[2] + left + right - span_cols) // stride + 1
    return OH, OW


def same_pad(in_shape, kernel_shape, stride):
    """Return the padding with which the output is as large as the input, with an odd row or col at the end."""
    rows, cols = (stride * (size - 1) + k - size for size, k in zip(in_shape, kernel_shape, strict=True))
    return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2


def padded(X, pad):
    """Return X (N, H, W, C) padded with zeros."""
    top, bottom, left, right = pad
    return np.pad(X, ((0, 0), (top, bottom), (left, right), (0, 0)))


def cropped(X_pad, pad):
    """Return X_pad without the padding that `padded` added."""
    top, bottom, left, right = pad
    return X_pad[:, top : X_pad.shape[1] - bottom, left : X_pad.shape[2] - right]


def tap(X_pad, r, s, out_shape, stride, dilation=0):
    """View the pixels (N, OH, OW, C) of X_pad that lie under tap (r, s) of the kernel."""
    (OH, OW), first_row, first_col = out_shape, r * (dilation + 1), s * (dilation + 1)
    rows = slice(first_row, first_row + stride * OH, stride)
    cols = slice(first_col, first_col + stride * OW, stride)
    # The slice may end beyond the image, but its last element is in the last window.
    return X_pad[:, rows, cols]


# -------------------------------------------------------------- convolution


def conv2d_forward(X, W, b, stride=1, pad=NO_PAD, dilation=0):
    """Return Z (N, OH, OW, K): X (N, H, W, C) cross-correlated with W (R, S, C, K), plus b (..., K)."""
    R, S, _, K = W.shape
    out_shape = output_shape(X, (R, S), stride, pad, dilation)
    X_pad = padded(X, pad)
    Z = np.zeros((len(X), *out_shape, K))
    for r, s in np.ndindex(R, S):
        Z += tap(X_pad, r, s, out_shape, stride, dilation) @ W[r, s]
    return Z + b


def conv2d_grad_input(dZ, W, X_shape, stride=1, pad=NO_PAD, dilation=0):
    """Return dX (N, H, W, C) from dZ (N, OH, OW, K)."""
    R, S, _, _ = W.shape
    dX_pad = padded(np.zeros(X_shape), pad)
    for r, s in np.ndindex(R, S):
        tap(dX_pad, r, s, dZ.shape[1:3], stride, dilation)[...] += dZ @ W[r, s].T
    return cropped(dX_pad, pad)


def conv2d_grad_weight(dZ, X, W_shape, stride=1, pad=NO_PAD, dilation=0):
    """Return dW (R, S, C, K) and db (1, 1, 1, K) from dZ (N, OH, OW, K)."""
    R, S, _, _ = W_shape
    X_pad = padded(X, pad)
    dW = np.zeros(W_shape)
    for r, s in np.ndindex(R, S):
        under_tap = tap(X_pad, r, s, dZ.shape[1:3], stride, dilation)
        dW[r, s] = np.einsum("nijc,nijk->ck", under_tap, dZ)
    return dW, dZ.sum(axis=(0, 1, 2), keepdims=True)


def conv_transpose2d_forward(X, W, b, out_shape, stride=1, pad=NO_PAD, dilation=0):
    """Return Z (N, H, W, C) from X (N, OH, OW, K) and b (..., C), out_shape being (H, W).

    Letters, W (R, S, C, K) and pad are those of the convolution from Z to X; the padding is cropped.
    """
    return conv2d_grad_input(X, W, (len(X), *out_shape, W.shape[2]), stride, pad, dilation) + b


def conv_transpose2d_backward(dZ, X, W, stride=1, pad=NO_PAD, dilation=0):
    """Return dX (N, OH, OW, K), dW (R, S, C, K) and db (1, 1, 1, C) from dZ (N, H, W, C)."""
    dX = conv2d_forward(dZ, W, 0.0, stride, pad, dilation)[:, : X.shape[1], : X.shape[2]]
    dW, _ = conv2d_grad_weight(X, dZ, W.shape, stride, pad, dilation)
    return dX, dW, dZ.sum(axis=(0, 1, 2), keepdims=True)


# --------------------------------------------------------------- upsampling


def upsample2d_forward(X, factor, mode):
    """Return Y (N, R * H, S * W, C) from X (N, H, W, C), for factors (R, S)."""
    return np.einsum("ih,jw,nhwc->nijc", *_mixtures(X.shape, factor, mode), X)


def upsample2d_backward(dY, X_shape, factor, mode):
    """Return dX (N, H, W, C) from dY (N, R * H, S * W, C)."""
    return np.einsum("ih,jw,nijc->nhwc", *_mixtures(X_shape, factor, mode), dY)


def _mixtures(X_shape, factor, mode):
    """For rows and cols, the matrix of how much each input pixel counts in each output pixel."""
    for size, f in zip(X_shape[1:3], factor, strict=True):
        centres = (np.arange(size * f) + 0.5) / f - 0.5
        distance = np.abs(np.clip(centres, 0, size - 1)[:, np.newaxis] - np.arange(size))
        yield np.maximum(1 - distance, 0) if mode == "bilinear" else np.repeat(np.eye(size), f, axis=0)


# ------------------------------------------------------------ normalization


def normalization_statistics(X, groups):
    """Return mean and variance (B, C) of X (B, M, C), those of a group of channels being the same."""
    B, M, C = X.shape
    grouped = X.reshape(B, M, groups, C // groups)
    return [statistic.repeat(C // groups, axis=1) for statistic in (grouped.mean((1, 3)), grouped.var((1, 3)))]


def normalize(X, mean, variance, scaler, intercept, epsilon):
    """Return Y (B, M, C) from X and statistics (B, C) or (1, C)."""
    return (X - mean[:, np.newaxis]) / np.sqrt(variance[:, np.newaxis] + epsilon) * scaler + intercept


def normalize_backward(dY, X, mean, variance, scaler, epsilon, groups=None):
    """Return dX, dscaler and dintercept; with `groups`, mean and variance are the statistics of X."""
    B, M, C = X.shape
    difference, inverse = X - mean[:, np.newaxis], 1 / np.sqrt(variance[:, np.newaxis] + epsilon)
    dN = dY * scaler
    dX = dN * inverse
    if groups is not None:
        members = groups, C // groups
        dmean = -(dN * inverse).reshape(B, M, *members).sum((1, 3)).repeat(members[1], 1)
        dvariance = (-0.5 * dN * difference * inverse**3).reshape(B, M, *members).sum((1, 3)).repeat(members[1], 1)
        dX += (dmean[:, np.newaxis] + 2 * difference * dvariance[:, np.newaxis]) / (M * members[1])
    return dX, (dY * difference * inverse).sum((0, 1)), dY.sum((0, 1))


def running_average(running, batch, momentum):
    return momentum * running + (1 - momentum) * batch


def add(a, b, relu=False):
    return np.maximum(a + b, 0) if relu else a + b


def scale(x, factor):
    return factor * x


# ------------------------------------------------------------------- labels


def condition_forward(X, labels):
    """Return X (N, pixels, C) with labels (N, L) as L more channels."""
    return np.concatenate([X, np.broadcast_to(labels[:, np.newaxis], (*X.shape[:2], labels.shape[1]))], axis=2)


def condition_backward(dY, n_labels):
    """Return dX (N, pixels, C) from dY (N, pixels, C + n_labels)."""
    return dY[..., :-n_labels]


# ------------------------------------------------------------------ pooling


def pool2d_max_forward(X, kernel_shape, stride=1, pad=NO_PAD):
    """Return Y (N, OH, OW, C) and argmax (N, OH, OW, C), the tap r * S + s of the maximum.

    The zeros of the padding are included. The first maximum in row-major order counts, and NaN is larger than
    any number.
    """
    windows = _pool_windows(X, kernel_shape, stride, pad)
    return windows.max(axis=0), windows.argmax(axis=0)


def pool2d_max_backward(dY, argmax, X_shape, kernel_shape, stride=1, pad=NO_PAD):
    """Return dX (N, H, W, C); each gradient goes to its window's maximum, and is lost if that is padding."""
    dX_pad = padded(np.zeros(X_shape), pad)
    for t, (r, s) in enumerate(np.ndindex(*kernel_shape)):
        tap(dX_pad, r, s, dY.shape[1:3], stride)[...] += np.where(argmax == t, dY, 0.0)
    return cropped(dX_pad, pad)


def pool2d_average_forward(X, kernel_shape, stride=1, pad=NO_PAD):
    """Return Y (N, OH, OW, C); the zeros of the padding are included."""
    return _pool_windows(X, kernel_shape, stride, pad).mean(axis=0)


def pool2d_average_backward(dY, X_shape, kernel_shape, stride=1, pad=NO_PAD):
    """Return dX (N, H, W, C); each gradient is distributed equally over its window."""
    dX_pad = padded(np.zeros(X_shape), pad)
    for r, s in np.ndindex(*kernel_shape):
        tap(dX_pad, r, s, dY.shape[1:3], stride)[...] += dY / np.prod(kernel_shape)
    return cropped(dX_pad, pad)


def _pool_windows(X, kernel_shape, stride, pad):
    """Return all windows as (R * S, N, OH, OW, C), the taps in row-major order."""
    out_shape = output_shape(X, kernel_shape, stride, pad)
    X_pad = padded(X, pad)
    return np.stack([tap(X_pad, r, s, out_shape, stride) for r, s in np.ndindex(*kernel_shape)])


# ---------------------------------------- convolution, ReLU and max pooling in one

INACTIVE = 255  # instead of the place of a maximum that is not positive


def conv_pool_forward(X, W, b, conv, pool):
    """Y (N, PH, PW, K) and argmax (N, PH, PW, K), `INACTIVE` where Y is not positive.

    conv: stride, pad and dilation; pool: kernel_shape, stride and pad.
    """
    Y, argmax = pool2d_max_forward(relu(conv2d_forward(X, W, b, **conv)), **pool)
    return Y, np.where(Y > 0, argmax, INACTIVE)


def conv_pool_backward(dY, argmax, X, W, conv, pool):
    """dX (N, H, W, C), dW (R, S, C, K) and db (1, 1, 1, K) from dY (N, PH, PW, K); nothing goes to inactive places."""
    Z_shape = conv2d_forward(X, W, 0.0, **conv).shape
    dZ = pool2d_max_backward(dY, argmax, Z_shape, **pool)
    return conv2d_grad_input(dZ, W, X.shape, **conv), *conv2d_grad_weight(dZ, X, W.shape, **conv)


# ------------------------------------------------------------- elementwise


def relu(Z):
    return np.maximum(Z, 0.0)


def relu_backward(dY, Y):
    return np.where(Y > 0, dY, 0.0)


def sigmoid(Z):
    small = np.exp(-np.abs(Z))
    return np.where(Z >= 0, 1.0, small) / (1.0 + small)


def map_pixels(pixels, offset, scale):
    """(pixels - offset) / scale, channels (., C) along the last axis."""
    return (np.asarray(pixels, np.float64) - offset) / scale


def unmap_pixels(mapped, offset, scale):
    """The inverse of `map_pixels`."""
    return np.asarray(mapped, np.float64) * scale + offset


def clip(X, low, high):
    return np.minimum(np.maximum(X, low), high)


def scale_bytes(images, dtype):
    """Bytes divided by 255, rounded once."""
    return images.astype(dtype) / dtype(255)


def philox(counters, key):
    """Philox-4x32-10 of Salmon et al. 2011: counters (n, 4) and a key of 64 bits give (n, 4) numbers of 32 bits."""
    counters = [counters[:, i].astype(np.uint64) for i in range(4)]
    low, high, bits = key & 0xFFFFFFFF, key >> 32, np.uint64(32)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * counters[0], np.uint64(0xCD9E8D57) * counters[2]
        counters = [
            (q >> bits) ^ counters[1] ^ np.uint64(low), q & np.uint64(0xFFFFFFFF),
            (p >> bits) ^ counters[3] ^ np.uint64(high), p & np.uint64(0xFFFFFFFF),
        ]  # fmt: skip
        low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
    return np.stack(counters, axis=1)


def image_hash(image):
    value = image.size
    for x in image.ravel().astype(np.float32).tolist():
        value = ((value ^ int(x * 2**24)) * 0x9E3779B97F4A7C15) % 2**64
        value ^= value >> 32
    return value


def binarize(images, key, by_content):
    """Images (n, m) whose element i is 1 where a number in [0, 1), by its key, image and place, is less than it is.

    Within 128 elements, the first numbers of 32 counters come first, then all their second numbers and so on.
    """
    n, m = images.shape
    counters = np.zeros((-(-m // 128) * 32, 4), np.uint64)
    counters[:, 0] = np.arange(len(counters))
    drawn = np.empty((n, m))
    for i, image in enumerate(images):
        stream = image_hash(image) if by_content else i
        counters[:, 2], counters[:, 3] = stream % 2**32, stream >> 32
        numbers = philox(counters, key).reshape(-1, 32, 4).transpose(0, 2, 1).ravel()[:m]
        drawn[i] = (numbers >> np.uint64(8)) / 2.0**24 < image.astype(np.float32)
    return drawn


def in_unit_range(X):
    """Whether all elements are in [0, 1]; NaN is not."""
    return all(0 <= x <= 1 for x in X.ravel().tolist())


# -------------------------------------------------------------- dense, losses


def dense_forward(X, W, b):
    """Return Z (N, n_out) from X (N, n_in), W (n_in, n_out), b (1, n_out)."""
    return X @ W + b


def dense_backward(dZ, X, W):
    """Return dX (N, n_in), dW (n_in, n_out), db (1, n_out) from dZ (N, n_out)."""
    return dZ @ W.T, X.T @ dZ, dZ.sum(axis=0, keepdims=True)


def bce_with_logits(logits, y, weights=1.0):
    """Binary cross-entropy (N * k,) in nats, summed over the pixels of logits (N * k, D), and its gradient (N * k, D),
    each row times its weight.

    Row r of the logits belongs to row r // k of y (N, D).
    """
    y = np.repeat(y, len(logits) // len(y), axis=0)
    pixels = np.maximum(logits, 0.0) - logits * y + np.log1p(np.exp(-np.abs(logits)))
    return pixels.sum(axis=1), (sigmoid(logits) - y) * np.reshape(weights, (-1, 1))


def _of_rows(y, outputs, per_pixel=1):
    """Return y, repeated for each row of outputs, and the outputs, per_pixel arrays (N * k, D)."""
    return np.repeat(y, len(outputs) // len(y), axis=0), *(outputs[:, i::per_pixel] for i in range(per_pixel))


def _weighted(pixels, gradients, weights):
    """Return the losses of all rows and the gradient of the outputs."""
    together = np.stack(gradients, axis=2).reshape(len(pixels), -1)
    return pixels.sum(axis=1), together * np.reshape(weights, (-1, 1))


def continuous_bernoulli(logits, y, weights=1.0):
    """Negative log density (N * k,) of y, exp(z y) z / (exp(z) - 1) for the logit z, and its gradient."""
    y, z = _of_rows(y, logits)
    a = np.maximum(np.abs(z), 1e-300)
    pixels = np.maximum(z, 0.0) - z * y + np.log(-np.expm1(-a) / a)
    return _weighted(pixels, [continuous_bernoulli_mean(z) - y], weights)


def continuous_bernoulli_mean(Z):
    """1 / (1 - exp(-z)) - 1 / z, or the beginning of its series."""
    small = np.abs(Z) < 1e-4
    a = np.where(small, 1.0, np.abs(Z))
    lower = 1 / a - np.exp(-a) / -np.expm1(-a)  # of -|z|
    return np.where(small, 0.5 + Z / 12, np.where(Z < 0, lower, 1 - lower))


def gaussian(means, y, weights=1.0, scale=1.0):
    """Negative log density (N * k,) of y under N(means, scale^2), and its gradient."""
    y, means = _of_rows(y, means)
    pixels = ((y - means) / scale) ** 2 / 2 + np.log(scale) + np.log(2 * np.pi) / 2
    return _weighted(pixels, [(means - y) / scale**2], weights)


def laplace(medians, y, weights=1.0, scale=1.0):
    """Negative log density (N * k,) of y under Laplace distributions, and its gradient."""
    y, medians = _of_rows(y, medians)
    return _weighted(np.abs(y - medians) / scale + np.log(2 * scale), [np.sign(medians - y) / scale], weights)


def soft_clip(s, bound):
    """bound * tanh(s / bound) and its derivative."""
    return bound * np.tanh(s / bound), 1 / np.cosh(np.minimum(np.abs(s / bound), 700)) ** 2


def gaussian_per_pixel(outputs, y, weights=1.0, bound=16.0):
    """The same as `gaussian`, the outputs being means and s, log variance = bound * tanh(s / bound)."""
    y, means, s = _of_rows(y, outputs, 2)
    log_var, slope = soft_clip(s, bound)
    square = (y - means) ** 2 / np.exp(log_var)
    pixels = (square + log_var + np.log(2 * np.pi)) / 2
    return _weighted(pixels, [(means - y) / np.exp(log_var), (1 - square) / 2 * slope], weights)


def laplace_per_pixel(outputs, y, weights=1.0, bound=8.0):
    """The same as `laplace`, the outputs being medians and s, log scale = bound * tanh(s / bound)."""
    y, medians, s = _of_rows(y, outputs, 2)
    log_scale, slope = soft_clip(s, bound)
    ratio = np.abs(y - medians) / np.exp(log_scale)
    gradients = [np.sign(medians - y) / np.exp(log_scale), (1 - ratio) * slope]
    return _weighted(ratio + log_scale + np.log(2), gradients, weights)


def shared_scale(outputs, y, weights=1.0, *, gaussian, bound):
    """`gaussian` or `laplace`, the last column of the outputs being s, log scale = bound * tanh(s / bound)."""
    log_scale, slope = soft_clip(outputs[:, -1:], bound)
    kind = globals()["gaussian" if gaussian else "laplace"]
    loss, gradient = kind(outputs[:, :-1], y, weights, np.exp(log_scale))
    y, means = _of_rows(y, outputs[:, :-1])
    ratio = np.abs((y - means) / np.exp(log_scale)) ** (2 if gaussian else 1)
    return loss, np.hstack([gradient, (1 - ratio).sum(1, keepdims=True) * slope * np.reshape(weights, (-1, 1))])


def optimal_scale(outputs, y, weights=1.0, *, gaussian, least):
    """The same, the scale being the best one for all rows; the last column of the gradient = the spread of a row."""
    kind, power = (globals()["gaussian"], 2) if gaussian else (globals()["laplace"], 1)
    y_rows, means = _of_rows(y, outputs[:, :-1])
    spread = np.abs(y_rows - means) ** power
    loss, gradient = kind(means, y, weights, max(least, spread.mean() ** (1 / power)))
    return loss, np.hstack([gradient, spread.mean(1, keepdims=True) * np.reshape(weights, (-1, 1))])


def discretized_logistic(outputs, y, weights=1.0, bound=8.0):
    """Negative log probability (N * k,) that a logistic variable rounds to y, a multiple of 1/255, and its gradient.

    The outputs are means and s, log scale = bound * tanh(s / bound); the bins at 0 and 1 are open.
    """
    y, means, s = _of_rows(y, outputs, 2)
    log_scale, slope = soft_clip(s, bound)
    k = np.rint(255 * y)
    upper, lower = (((k + half) / 255 - means) / np.exp(log_scale) for half in (0.5, -0.5))
    upper, lower = np.where(k == 255, np.inf, upper), np.where(k == 0, -np.inf, lower)
    # Both in the left tail, where the distribution function keeps its digits: P(lower..upper) = P(-upper..-lower).
    flip = np.where(upper + lower > 0, -1.0, 1.0)
    first, last = np.where(flip > 0, lower, -upper), np.where(flip > 0, upper, -lower)
    p = sigmoid(last) - sigmoid(first)
    density = [sigmoid(edge) * sigmoid(-edge) for edge in (first, last)]
    moment = [np.where(np.isfinite(x), x, 0.0) * f for x, f in zip((first, last), density, strict=True)]
    gradients = [flip * (density[1] - density[0]) / p / np.exp(log_scale), (moment[1] - moment[0]) / p * slope]
    return _weighted(-np.log(p), gradients, weights)


def kl_divergence(mean, log_var, weights=1.0):
    """KL(N(mean, exp(log_var)) || N(0, I)) (N,) in nats; its gradients dmean, dlog_var (N, T), each row times its
    weight."""
    kl = -0.5 * (1.0 + log_var - mean**2 - np.exp(log_var)).sum(axis=1)
    weights = np.reshape(weights, (-1, 1))
    return kl, mean * weights, 0.5 * (np.exp(log_var) - 1.0) * weights


def free_bits(mean, log_var, weights, least):
    """N times the weighted KL divergence, of which each dimension counts at least `least`, and which (T,) have more.

    The divergences of rows of mean and log_var (N, T) are added up with their weights (N,).
    """
    by_row = -0.5 * (1.0 + log_var - mean**2 - np.exp(log_var)) * weights[:, np.newaxis]
    by_dimension, allowance = by_row.sum(axis=0), least * weights.sum()
    return len(mean) * np.maximum(by_dimension, allowance).sum(), by_dimension > allowance


def importance_weighted(reconstruction, mean, log_var, noise, doubly):
    """The bounds (N,) log mean over k codes of p(x | z) p(z) / q(z | x), with all constants, the codes' normalized
    weights (N, k), and the gradients (N, T) of minus the bounds, but for what comes through the decoder.

    reconstruction (N * k,), -log p(x | z); mean and log_var (N, T); noise (N * k, T).
    """
    N, T = mean.shape
    noise, sigma = noise.reshape(N, -1, T), np.exp(0.5 * log_var)[:, np.newaxis]
    z = mean[:, np.newaxis] + sigma * noise
    log_prior = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=2)
    log_posterior = -0.5 * (noise**2 + np.log(2 * np.pi) + log_var[:, np.newaxis]).sum(axis=2)
    log_weights = log_prior - log_posterior - reconstruction.reshape(N, -1)
    largest = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - largest)
    bounds = largest[:, 0] + np.log(weights.mean(axis=1))
    weights /= weights.sum(axis=1, keepdims=True)
    # Of -log p(z) and, if q's parameters are held fixed, of log q(z | x) with respect to z.
    dz = (z - noise / sigma if doubly else z) * (weights**2 if doubly else weights)[:, :, np.newaxis]
    dmean, dlog_var = dz.sum(axis=1), (dz * noise * 0.5 * sigma).sum(axis=1)
    return bounds, weights, dmean, dlog_var if doubly else dlog_var - 0.5


# ---------------------------------------------------------------- latent code


def latent_sample(code, noise):
    """z (N * k, T), deviation, mean and log_var (N, T) of code (N, 2T), the means and the log variances.

    Row r of z and of noise (N * k, T) belongs to row r // k of the code.
    """
    mean, log_var = np.split(code, 2, axis=1)
    deviation, k = np.exp(0.5 * log_var), len(noise) // len(code)
    z = np.repeat(mean, k, axis=0) + noise * np.repeat(deviation, k, axis=0)
    return z, deviation, mean, log_var


def latent_backward(dz, noise, deviation, dmean, dlog_var, factors=1.0):
    """The gradient (N, 2T) of the code, from those of z (N * k, T), each row times its factor, and, not through z, of
    its mean and log variance."""
    N, T = deviation.shape
    dz = dz * np.reshape(factors, (-1, 1))
    dz, noise = dz.reshape(N, -1, T), noise.reshape(N, -1, T)
    through_log_var = (dz * noise * 0.5 * deviation[:, np.newaxis]).sum(axis=1)
    return np.hstack([dmean + dz.sum(axis=1), dlog_var + through_log_var])


# --------------------------------------------------------------- optimizers
# Each returns the new parameter and keeps its state in the dictionary `state`, which is initially empty.


def clipped(grad, clip_norm):
    """Return grad, scaled down to the L2 norm clip_norm if its norm is larger."""
    norm = np.sqrt((grad**2).sum())
    return grad if clip_norm is None or norm <= clip_norm else grad * (clip_norm / norm)


def sgd(param, grad, state, lr=0.01, momentum=0.0, clip_norm=None):
    state["velocity"] = momentum * state.get("velocity", 0.0) + lr * clipped(grad, clip_norm)
    return param - state["velocity"]


def adagrad(param, grad, state, lr=0.01, eps=1e-7, clip_norm=None):
    grad = clipped(grad, clip_norm)
    state["sum"] = state.get("sum", 0.0) + grad**2
    return param - lr * grad / (np.sqrt(state["sum"]) + eps)


def rmsprop(param, grad, state, lr=0.001, decay=0.9, eps=1e-7, clip_norm=None):
    grad = clipped(grad, clip_norm)
    state["mean"] = decay * state.get("mean", 0.0) + (1.0 - decay) * grad**2
    return param - lr * grad / (np.sqrt(state["mean"]) + eps)


def adam(param, grad, state, lr=0.001, decay1=0.9, decay2=0.999, eps=1e-7, clip_norm=None):
    grad = clipped(grad, clip_norm)
    t = state["t"] = state.get("t", 0) + 1
    state["mean"] = decay1 * state.get("mean", 0.0) + (1.0 - decay1) * grad
    state["var"] = decay2 * state.get("var", 0.0) + (1.0 - decay2) * grad**2
    mean, var = state["mean"] / (1.0 - decay1**t), state["var"] / (1.0 - decay2**t)
    return param - lr * mean / (np.sqrt(var) + eps)


def adamw(param, grad, state, lr=0.001, weight_decay=0.01, **others):
    return adam(param, grad, state, lr, **others) - lr * weight_decay * param


OPTIMIZERS = {"SGD": sgd, "AdaGrad": adagrad, "RMSProp": rmsprop, "Adam": adam, "AdamW": adamw}


class Updates:
    """The update of all parameters by the optimizer that a call string describes."""

    def __init__(self, call):
        name, arguments = re.fullmatch(r"(\w+)\((.*)\)", call).groups()
        pairs = (argument.split("=") for argument in arguments.split(", "))
        self.arguments = {key: float(value) for key, value in pairs}
        self.update = OPTIMIZERS[name]
        self.states = {}

    def __call__(self, params, grads):
        return {
            name: self.update(p, grads[name], self.states.setdefault(name, {}), **self.arguments)
            for name, p in params.items()
        }


# ------------------------------------------------------------ Bernoulli VAE


def vae_forward(X, params, noise, architecture, log_var_scale=0.5):
    """Return all values of a forward pass by name.

    X is (N, H, W, C) and noise (N, T); params maps paths such as "encoder/Conv1/W" to arrays; architecture
    contains BernoulliVAE's arguments such as enc_conv1_stride. The standard deviation of the code is
    exp(log_var_scale * log_var); a scale of 1 instead of 1/2 reproduces numpy-ml's incorrect sampling.
    """
    v = {"X": X, "noise": noise, "log_var_scale": log_var_scale}
    A = X
    for i in ("1", "2"):
        W, b = params[f"encoder/Conv{i}/W"], params[f"encoder/Conv{i}/b"]
        v[f"Conv{i}_in"] = A
        v[f"Conv{i}_Z"] = conv2d_forward(A, W, b, **_conv_arguments(A, i, architecture))
        A = relu(v[f"Conv{i}_Z"])
        v[f"Conv{i}_out"] = A
        A, v[f"Pool{i}_argmax"] = pool2d_max_forward(A, **_pool_arguments(i, architecture))
        v[f"Pool{i}_out"] = A
    v["Flatten3_out"] = A.reshape(len(A), -1)
    v["FC4_Z"] = _dense(v["Flatten3_out"], params, "encoder/FC4")
    v["FC4_out"] = relu(v["FC4_Z"])
    v["FC5_out"] = _dense(v["FC4_out"], params, "encoder/FC5")
    v["t_mean"], v["t_log_var"] = np.split(v["FC5_out"], 2, axis=1)

    v["FC1_in"] = v["t_mean"] + noise * np.exp(log_var_scale * v["t_log_var"])
    v["FC1_Z"] = _dense(v["FC1_in"], params, "decoder/FC1")
    v["FC1_out"] = relu(v["FC1_Z"])
    v["logits"] = _dense(v["FC1_out"], params, "decoder/FC2")
    v["X_recon"] = sigmoid(v["logits"])
    return v


def vae_step(X, params, noise, architecture, beta=1.0, log_var_scale=0.5):
    """Return the loss and all gradients of a training step by name, for the arguments of `vae_forward`.

    The result contains the values of the forward pass, loss (mean over images, nats), grads (by the paths of
    params), dX (N, H, W, C; through the encoder only) and the gradients between the layers under numpy-ml's
    names, such as dEncoder_Pool1_out.
    """
    v = vae_forward(X, params, noise, architecture, log_var_scale)
    N = len(X)
    reconstruction, dlogits = bce_with_logits(v["logits"], X.reshape(N, -1))
    kl, dmean, dlog_var = kl_divergence(v["t_mean"], v["t_log_var"])
    v["loss"] = (reconstruction + beta * kl).mean()

    grads = v["grads"] = {}
    v["dDecoder_FC1_out"] = _dense_backward(dlogits / N, v["FC1_out"], params, "decoder/FC2", grads)
    dZ = v["dDecoder_FC1_out"] * (v["FC1_Z"] > 0)
    dz = v["dDecoder_FC1_in"] = _dense_backward(dZ, v["FC1_in"], params, "decoder/FC1", grads)

    # The encoder's gradient is the sum of the decoder's and the KL divergence's; numpy-ml also names the former.
    v["dDecoder_t_mean"] = dz
    v["dDecoder_t_log_var"] = dz * noise * log_var_scale * np.exp(log_var_scale * v["t_log_var"])
    dmean, dlog_var = beta * dmean / N, beta * dlog_var / N
    dFC5 = np.hstack([v["dDecoder_t_mean"] + dmean, v["dDecoder_t_log_var"] + dlog_var])
    v["dEncoder_FC5_out"] = dFC5

    v["dEncoder_FC4_out"] = _dense_backward(dFC5, v["FC4_out"], params, "encoder/FC5", grads)
    dZ = v["dEncoder_FC4_out"] * (v["FC4_Z"] > 0)
    dA = _dense_backward(dZ, v["Flatten3_out"], params, "encoder/FC4", grads)
    v["dEncoder_Flatten3_out"] = dA
    v["dX"] = _convolutions_backward(dA.reshape(v["Pool2_out"].shape), v, params, architecture)
    return v


def _convolutions_backward(dA, v, params, architecture):
    """Return the images' gradient from that of Pool2's output, adding intermediate gradients to v."""
    for i in ("2", "1"):
        conv_in, conv_out, W = v[f"Conv{i}_in"], v[f"Conv{i}_out"], params[f"encoder/Conv{i}/W"]
        v[f"dEncoder_Pool{i}_out"] = dA
        pool = _pool_arguments(i, architecture)
        dA = pool2d_max_backward(dA, v[f"Pool{i}_argmax"], conv_out.shape, **pool)
        v[f"dEncoder_Conv{i}_out"] = dA
        dZ = dA * (v[f"Conv{i}_Z"] > 0)
        conv = _conv_arguments(conv_in, i, architecture)
        dW, db = conv2d_grad_weight(dZ, conv_in, W.shape, **conv)
        v["grads"] |= {f"encoder/Conv{i}/W": dW, f"encoder/Conv{i}/b": db}
        dA = conv2d_grad_input(dZ, W, conv_in.shape, **conv)
    return dA


def _conv_arguments(X, i, architecture):
    kernel_shape, stride, pad = (architecture[f"enc_conv{i}_{what}"] for what in ("kernel_shape", "stride", "pad"))
    if pad == "same":
        pad = same_pad(X.shape[1:3], kernel_shape, stride)
    elif isinstance(pad, int):
        pad = (pad,) * 4
    elif len(pad) == 2:
        pad = (pad[0], pad[0], pad[1], pad[1])
    return {"stride": stride, "pad": pad}


def _pool_arguments(i, architecture):
    return {what: architecture[f"enc_pool{i}_{what}"] for what in ("kernel_shape", "stride")}


def _dense(X, params, name):
    return dense_forward(X, params[f"{name}/W"], params[f"{name}/b"])


def _dense_backward(dZ, X, params, name, grads):
    dX, grads[f"{name}/W"], grads[f"{name}/b"] = dense_backward(dZ, X, params[f"{name}/W"])
    return dX
