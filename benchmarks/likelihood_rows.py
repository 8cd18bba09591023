"""The rows of benchmarks/likelihood.py: networks, objectives and published figures."""

from __future__ import annotations

from dataclasses import dataclass

DENSE = (
    ["Flatten()", "FullyConnected(n_out=200, act_fn='Tanh')", "FullyConnected(n_out=200, act_fn='Tanh')"],
    ["FullyConnected(n_out=200, act_fn='Tanh')", "FullyConnected(n_out=200, act_fn='Tanh')"],
)
_BLOCK = "[Conv2D(out_ch={}, kernel_shape=3, pad=1, act_fn='ELU')]"
DECONVOLUTIONAL = (
    [
        "Conv2D(out_ch=32, kernel_shape=4, stride=2, pad=1, act_fn='ELU')",
        "Conv2D(out_ch=64, kernel_shape=4, stride=2, pad=1, act_fn='ELU')",
        f"Residual({_BLOCK.format(64)})",
        "Flatten()",
        "FullyConnected(n_out=256, act_fn='ELU')",
    ],
    [
        "FullyConnected(n_out=256, act_fn='ELU')",
        "FullyConnected(n_out=3136, act_fn='ELU')",
        "Reshape((7, 7, 64))",
        f"Residual({_BLOCK.format(64)})",
        "ConvTranspose2D(out_ch=32, kernel_shape=4, stride=2, pad='same', act_fn='ELU')",
        f"Residual({_BLOCK.format(32)})",
        "ConvTranspose2D(out_ch=16, kernel_shape=4, stride=2, pad='same', act_fn='ELU')",
        "ConvTranspose2D(out_ch=1, kernel_shape=3, pad='same')",
    ],
)


@dataclass(frozen=True)
class Row:
    """A model to train.

    Attributes
    ----------
    layers : (encoder, decoder)
        As call strings.
    objective : str
        With "{warm_up}" in the place of a schedule of beta.
    codes : int
        Codes that the objective draws for each image.
    T : int
    batchsize : int
    lr, final_lr : float
        Highest and last learning rate of Adam.
    published : float
        The negative log likelihood in nats that `source` reports.
    """

    layers: tuple[list[str], list[str]]
    objective: str
    codes: int
    T: int
    batchsize: int
    lr: float
    final_lr: float
    published: float
    source: str


_TABLE_1 = "Burda et al. 2016, Table 1, one stochastic layer"


def _dense(objective: str, codes: int, published: float) -> Row:
    return Row(DENSE, objective, codes, 50, 100, 1e-3, 1e-5, published, _TABLE_1)


ROWS = {
    "vae-1": _dense("ELBO({warm_up})", 1, 86.76),
    "vae-5": _dense("ELBO({warm_up}, n_samples=5)", 5, 86.47),
    "vae-50": _dense("ELBO({warm_up}, n_samples=50)", 50, 86.35),
    "iwae-1": _dense("IWAE(k=1)", 1, 86.76),
    "iwae-5": _dense("IWAE(k=5)", 5, 85.54),
    "iwae-50": _dense("IWAE(k=50)", 50, 84.78),
    "deconv": Row(
        DECONVOLUTIONAL, "ELBO({warm_up})", 1, 32, 100, 1e-3, 1e-5, 81.08, "Kingma et al. 2016, ResNet VAE, no flow"
    ),
}
