"""Small trained models that have, all together, every layer, activation, likelihood and kind of pixels."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from small_vae import small_vae

import cvae
from cvae.layers import Residual
from cvae.likelihoods import Bernoulli, ContinuousBernoulli, DiscretizedLogistic, Gaussian, Laplace

N = 5


class Case(NamedTuple):
    """Arguments of `cvae.VAE`, the shape of its images, and what they and their labels are.

    Attributes
    ----------
    pixels : {"unit", "bytes", "real"}
        In [0, 1], uint8, or any real numbers.
    labels : sequence or None
    """

    arguments: dict[str, Any]
    image_shape: tuple[int, int, int] = (6, 5, 2)
    pixels: str = "unit"
    labels: Any = None


DENSE = {"encoder": ["Flatten()"], "decoder": ["FullyConnected(n_out=7, act_fn='ReLU')"]}
NETWORKS = {
    "auto": Case({"encoder": "auto"}, (12, 11, 1)),
    "padding": Case(
        {
            "encoder": [
                "Conv2D(5, (3, 2), pad='same', stride=2, act_fn='ReLU')",
                "Conv2D(18, (2, 3), pad=(2, 0, 1, 3), stride=3, act_fn='ReLU')",
                "Conv2D(35, 2, pad=(1, 2), dilation=2)",
                "Pool2D((3, 2), stride=2, pad=(2, 1, 0, 1))",
                "Conv2D(4, 3, pad=4, stride=2, act_fn='Tanh')",
                "Pool2D((2, 3), stride=1, pad='same', mode='average')",
                "Flatten()",
            ],
            "decoder": [
                "FullyConnected(n_out=150, act_fn='ReLU')",
                "Reshape((5, 5, 6))",
                "ConvTranspose2D(33, 3, stride=1, pad=(1, 0, 2, 1), act_fn='ReLU')",
                "Conv2D(2, (7, 4), pad=(4, 3))",
            ],
        },
        (8, 7, 2),
    ),
    "transposed": Case(
        {
            "encoder": ["Flatten()"],
            "decoder": [
                "FullyConnected(n_out=4)",
                "Reshape((1, 2, 2))",
                "ConvTranspose2D(3, (2, 3), stride=2, output_pad=1, act_fn='ReLU')",
                "ConvTranspose2D(40, 2, stride=1, dilation=2, act_fn='Tanh')",
                "ConvTranspose2D(3, (1, 2), stride=3, pad='same', act_fn='ReLU')",
                "ConvTranspose2D(34, (2, 3), stride=2, dilation=1, pad=(2, 1, 0, 3), act_fn='ReLU')",
                "ConvTranspose2D(2, 3, stride=1, pad='same')",
                "Pool2D(1, stride=5)",
                "Flatten()",
            ],
        },
        (7, 8, 2),
    ),
    "normalization": Case(
        {
            "encoder": [
                "Conv2D(6, 3, pad='same')",
                "BatchNorm2D(act_fn='ReLU')",
                "GroupNorm(3, act_fn='Sigmoid')",
                Residual(["Conv2D(6, 3, pad='same', act_fn='ReLU')", "GroupNorm(1)", "Conv2D(6, 1)"], act_fn="ReLU"),
                Residual(["Conv2D(4, 3, stride=2)", "BatchNorm2D()"], "Conv2D(4, 3, stride=2)"),
                "Flatten()",
                "BatchNorm1D(act_fn='Tanh')",
                "FullyConnected(n_out=130)",
                Residual(["FullyConnected(n_out=130)"]),
            ],
            "decoder": [
                "FullyConnected(n_out=30)",
                "BatchNorm1D(act_fn='ReLU')",
                "Reshape((3, 5, 2))",
                "Upsample2D((2, 1))",
                "Upsample2D((1, 2), 'bilinear')",
                Residual(["Conv2D(2, 3, pad=1)", "GroupNorm(2)"], act_fn="ELU(alpha=1.0)"),
                "Upsample2D((2, 3), 'bilinear')",
                "Conv2D(2, 3, stride=3)",
                "Flatten()",
            ],
        },
    ),
    "classes": Case(
        {
            "encoder": ["Condition()", "Conv2D(4, 3, act_fn='ReLU')", "Flatten()", "FullyConnected(n_out=6)"],
            "decoder": ["FullyConnected(n_out=60)", "Reshape((6, 5, 2))", "Condition()", "Conv2D(2, 1)"],
            "condition": "classes",
        },
        labels=["b", "a", "c", "a", "b"],
    ),
    "values": Case({**DENSE, "condition": "values"}, labels=np.arange(10.0).reshape(5, 2) / 10),
}
LIKELIHOODS = {
    "Bernoulli": Case({"likelihood": Bernoulli()}, pixels="bytes"),
    "Bernoulli in a range": Case({"likelihood": Bernoulli(), "value_range": (-4, 4.5)}, pixels="real"),
    "Bernoulli of black and white": Case({"likelihood": Bernoulli(), "binarize": 0.4}),
    "continuous Bernoulli": Case({"likelihood": ContinuousBernoulli()}),
    "continuous Bernoulli in a range": Case(
        {"likelihood": ContinuousBernoulli(), "value_range": (0, 255)}, pixels="bytes"
    ),
    "Gaussian": Case({"likelihood": Gaussian(0.3)}, pixels="real"),
    "Gaussian shared": Case({"likelihood": Gaussian("shared")}, pixels="bytes"),
    "Gaussian optimal": Case({"likelihood": Gaussian("optimal"), "value_range": "data"}, pixels="real"),
    "Gaussian pixel": Case({"likelihood": Gaussian("pixel")}, pixels="real"),
    "Laplace": Case({"likelihood": Laplace(0.2), "value_range": (-5, 5)}, pixels="real"),
    "Laplace shared": Case({"likelihood": Laplace("shared")}),
    "Laplace optimal": Case({"likelihood": Laplace("optimal")}, pixels="real"),
    "Laplace pixel": Case({"likelihood": Laplace("pixel")}, pixels="bytes"),
    "discretized logistic": Case({"likelihood": DiscretizedLogistic()}, pixels="bytes"),
}
ACTIVATIONS = (
    "ReLU", "LeakyReLU(alpha=0.3)", "GELU(approximate=True)", "GELU(approximate=False)", "ELU(alpha=0.7)", "SELU",
    "Sigmoid", "HardSigmoid", "Tanh", "SoftPlus", "Exponential", "Affine(slope=2, intercept=-1)", "Identity",
)  # fmt: skip
CASES = {
    "numpy-ml": Case({}, (9, 8, 1)),
    **NETWORKS,
    **{name: each._replace(arguments=DENSE | each.arguments) for name, each in LIKELIHOODS.items()},
    "activations": Case(
        {
            "encoder": ["Flatten()", *(f"FullyConnected(n_out=9, act_fn='{act_fn}')" for act_fn in ACTIVATIONS)],
            "decoder": ["FullyConnected(n_out=9, act_fn='Exponential')"],
        },
    ),
    "float64": NETWORKS["padding"]._replace(
        arguments={**NETWORKS["padding"].arguments, "dtype": "float64", "likelihood": Gaussian(0.5)}, pixels="real"
    ),
}


def images(case):
    """Return images as a case has them."""
    rng = np.random.default_rng(3)
    if case.pixels == "bytes":
        return rng.integers(0, 256, (N, *case.image_shape), dtype=np.uint8)
    if case.pixels == "unit":
        return rng.random((N, *case.image_shape)).astype(np.float32)
    return rng.normal(size=(N, *case.image_shape)).astype(np.float32)


@cache
def trained(name):
    """Return the model of a case after some steps, which tests must not change."""
    case = CASES[name]
    common = {"T": 3, "random_state": 0, "verbose": False, "n_epochs": 3, "batchsize": N, "optimizer": "Adam(lr=0.01)"}
    vae = small_vae() if name == "numpy-ml" else cvae.VAE(**common | case.arguments)
    return vae.fit(images(case), case.labels)


def terms_at_the_mean(vae, X, y=None):
    """Return both terms of the negative ELBO with the posterior's mean as the code."""
    X = vae._as_images(X)
    passes = vae._passes(len(X), training=False)
    vae._load(passes, X, vae._as_labels(y, len(X)), slice(0, len(X)))
    reconstruction, kl = passes.terms(np.zeros((len(X), vae.T), vae.dtype))
    return reconstruction.copy(), kl.copy()
