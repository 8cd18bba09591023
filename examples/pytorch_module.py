"""A `torch.nn.Module` with the layers of a cvae model, whose weights it loads.

    python examples/pytorch_module.py MODEL

prints the module of a model file. In a program of one's own::

    vae = cvae.load("model.safetensors")
    module = Autoencoder(vae)
    module.load_state_dict(as_tensors(to_state_dict(vae)))
    mean, log_var = module.encode(images)          # (n, channels, rows, cols), as PyTorch's images are
    from_state_dict(vae, module.state_dict())      # and back, after training in PyTorch

Attributes of a layer, such as `stride`, are those of `cvae.layers`.
"""

import argparse
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

import cvae
from cvae import activations, layers
from cvae.export import to_state_dict
from cvae.nn.appended_number import AppendedNumber
from cvae.nn.geometry import kernel_span

ACTIVATIONS = {
    activations.Sigmoid: lambda act_fn: nn.Sigmoid(),
    activations.ReLU: lambda act_fn: nn.ReLU(),
    activations.LeakyReLU: lambda act_fn: nn.LeakyReLU(act_fn.alpha),
    activations.GELU: lambda act_fn: nn.GELU("tanh" if act_fn.approximate else "none"),
    activations.Tanh: lambda act_fn: nn.Tanh(),
    activations.ELU: lambda act_fn: nn.ELU(act_fn.alpha),
    activations.SELU: lambda act_fn: nn.SELU(),
    activations.SoftPlus: lambda act_fn: nn.Softplus(threshold=100),
    activations.Exponential: lambda act_fn: Function(torch.exp),
    activations.HardSigmoid: lambda act_fn: Function(lambda z: torch.clamp(0.2 * z + 0.5, 0, 1)),
    activations.Affine: lambda act_fn: Function(lambda z: act_fn.slope * z + act_fn.intercept),
    activations.Identity: lambda act_fn: nn.Identity(),
}


def as_tensors(state):
    """Return a state dict of tensors from one of arrays."""
    return {name: torch.from_numpy(array) for name, array in state.items()}


class Function(nn.Module):
    """A function without parameters as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Autoencoder(nn.Module):
    """The encoder and the decoder of a model with parameters, with new weights.

    Parameters
    ----------
    vae : cvae.VAE
    """

    def __init__(self, vae):
        super().__init__()
        image_shape = vae._require_fitted()
        self.image_shape, self.T, self.likelihood = image_shape, vae.T, vae._likelihood
        dtype = torch.float64 if vae.dtype == "float64" else torch.float32
        self.encoder = Row(vae.encoder_, image_shape, stops_early=True)
        self.decoder = Row(vae.decoder_, (vae.T,), stops_early=True)
        self.to(dtype)
        # In double, as in cvae.
        self.register_buffer("pixel_offset", torch.zeros(image_shape[2], dtype=torch.float64))
        self.register_buffer("pixel_scale", torch.ones(image_shape[2], dtype=torch.float64))

    def encode(self, images, labels=None):
        """Return mean and log variance (n, T) of images (n, channels, rows, cols).

        `labels` (n, L) are those of a conditional model: a 1 among zeros for a class, or values.
        """
        by_channel = (-1, 1, 1)
        mapped = (images.double() - self.pixel_offset.reshape(by_channel)) / self.pixel_scale.reshape(by_channel)
        dtype = next(self.encoder.parameters()).dtype
        return self.encoder(mapped.to(dtype), labels).split(self.T, dim=1)

    def outputs(self, z, labels=None):
        """Return what the likelihood takes, (n, several * channels, rows, cols) for codes z (n, T)."""
        rows, cols, _ = self.image_shape
        outputs = self.decoder(z, labels)
        return outputs if outputs.ndim == 4 else outputs.reshape(len(z), -1, rows, cols)

    def decode(self, z, labels=None):
        """Return the mean images (n, channels, rows, cols) of codes, for likelihoods whose means are an activation.

        These are all but ContinuousBernoulli, and DiscretizedLogistic up to its limits.
        """
        outputs = self.outputs(z, labels)
        channels = self.image_shape[2]
        outputs = outputs.unflatten(1, (channels, -1))[:, :, 0]  # of several numbers for a channel the first one
        means = ACTIVATIONS[type(self.likelihood.activation)](self.likelihood.activation)(outputs)
        mapped = means.double() * self.pixel_scale.reshape(-1, 1, 1) + self.pixel_offset.reshape(-1, 1, 1)
        return mapped.to(means.dtype)


class Row(nn.Module):
    """Layers in a row, by their names in the model."""

    def __init__(self, named_layers, shape, stops_early=False):
        super().__init__()
        self.acts = {}  # no modules of their own, for they have no parameters
        computing = [name for name, layer in named_layers.items() if not isinstance(layer, AppendedNumber)]
        for name, layer in named_layers.items():
            out_shape = layer.output_shape((1, *shape))[1:]
            self.add_module(name, module_of(layer, shape, out_shape))
            if layer.act_fn is not None and not (stops_early and name == computing[-1]):
                self.acts[name] = ACTIVATIONS[type(layer.act_fn)](layer.act_fn)
            shape = out_shape

    def forward(self, x, labels=None):
        for name, module in self.named_children():
            x = module(x, labels) if isinstance(module, (Condition, Residual)) else module(x)
            if name in self.acts:
                x = self.acts[name](x)
        return x


class Residual(nn.Module):
    """The sum of what layers in a row and a shortcut put out."""

    def __init__(self, layer, shape):
        super().__init__()
        row = Row(layer._row, shape)
        for name, module in row.named_children():  # whose names have no prefix in a state dict
            self.add_module(name, module)
        self.acts, self.row = row.acts, list(layer._row)
        if layer.shortcut is not None:
            beside = Row(OrderedDict(shortcut=layer.shortcut), shape)
            self.add_module("shortcut", beside.shortcut)
            self.acts |= beside.acts

    def forward(self, x, labels=None):
        names, y, beside = [*self.row, "shortcut"], x, x
        for name in names:
            module = getattr(self, name, nn.Identity())
            out = beside if name == "shortcut" else y
            out = module(out, labels) if isinstance(module, (Condition, Residual)) else module(out)
            out = self.acts.get(name, nn.Identity())(out)
            y, beside = (y, out) if name == "shortcut" else (out, beside)
        return y + beside


class Condition(nn.Module):
    """Labels (n, L) as more features, or as more channels."""

    def forward(self, x, labels):
        labels = labels.to(x.dtype)
        if x.ndim == 4:
            labels = labels[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.cat([x, labels], dim=1)


class SharedNumber(nn.Module):
    """The number that a likelihood's scale is made from; outputs pass."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.zeros(1)))

    def forward(self, x):
        return x


def module_of(layer, in_shape, out_shape):
    """Return the module of a layer, without its activation, for examples of these shapes in cvae's layout."""
    match layer:
        case layers.Conv2D():
            top, bottom, left, right = layer._pad4((1, *in_shape))
            conv = nn.Conv2d(
                in_shape[2], layer.out_ch, layer.kernel_shape, layer.stride, dilation=layer.dilation + 1
            )  # fmt: skip
            return padded(conv, (left, right, top, bottom))
        case layers.ConvTranspose2D():
            return transposed(layer, in_shape, out_shape)
        case layers.Pool2D():
            top, bottom, left, right = layer._pad4((1, *in_shape))
            pool = nn.MaxPool2d if layer.mode == "max" else nn.AvgPool2d
            return padded(pool(layer.kernel_shape, layer.stride), (left, right, top, bottom))
        case layers.Upsample2D():
            how = {"align_corners": False} if layer.mode == "bilinear" else {}
            return nn.Upsample(scale_factor=layer.factor, mode=layer.mode, **how)
        case layers.FullyConnected():
            return nn.Linear(in_shape[0], out_shape[0])
        case layers.BatchNorm1D():
            return nn.BatchNorm1d(in_shape[0], layer.epsilon, 1 - layer.momentum)
        case layers.BatchNorm2D():
            return nn.BatchNorm2d(in_shape[2], layer.epsilon, 1 - layer.momentum)
        case layers.GroupNorm():
            return nn.GroupNorm(layer.groups, in_shape[2], layer.epsilon)
        case layers.Residual():
            return Residual(layer, in_shape)
        case layers.Condition():
            return Condition()
        case layers.Flatten() | layers.Reshape():
            return nn.Flatten() if len(out_shape) == 1 else nn.Unflatten(1, (out_shape[2], *out_shape[:2]))
        case AppendedNumber():
            return SharedNumber(layer.parameters)
    raise ValueError(f"there is no module of {layer!r}")


def padded(module, pad):
    """Have zeros (left, right, top, bottom) put around images before a module, which keeps its names."""
    if any(pad):
        module.register_forward_pre_hook(lambda module, inputs: F.pad(inputs[0], pad))
    return module


def transposed(layer, in_shape, out_shape):
    """Return a transposed convolution, with its output cropped or continued to the shape that it has in cvae."""
    conv = nn.ConvTranspose2d(
        in_shape[2], layer.out_ch, layer.kernel_shape, layer.stride, dilation=layer.dilation + 1
    )  # fmt: skip
    top, _, left, _ = layer._crop()
    span = kernel_span(layer.kernel_shape, layer.dilation)
    rows, cols = ((in_shape[axis] - 1) * layer.stride + span[axis] for axis in (0, 1))
    bottom, right = rows - top - out_shape[0], cols - left - out_shape[1]

    def crop(module, inputs, y):
        bias = module.bias.reshape(-1, 1, 1)  # which pixels beyond the kernel's reach also get
        return F.pad(y - bias, (-left, -right, -top, -bottom)) + bias

    conv.register_forward_hook(crop)
    return conv


def main():
    parser = argparse.ArgumentParser(description="Print the PyTorch module of a cvae model.")
    parser.add_argument("model", help="a model file")
    vae = cvae.load(parser.parse_args().model)
    module = Autoencoder(vae)
    module.load_state_dict(as_tensors(to_state_dict(vae)))
    print(module)


if __name__ == "__main__":
    main()
