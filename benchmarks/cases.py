"""The table of all cases of the comparison."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Model:
    """An architecture of `cvae.BernoulliVAE`, with that class's defaults.

    Attributes
    ----------
    image_shape : (rows, cols, channels)
    channels, strides : pairs of ints
        Output channels and strides of the two convolutions.
    kernel : int
        Rows and columns of both convolutions' kernels.
    same : bool
        Whether the convolutions are padded to preserve the image size; otherwise they are not padded.
    dtype : {"float32", "float64"}
    n_codes, hidden : int
        Size of the latent code (`T`) and width of both hidden dense layers (`latent_dim`).
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    channels: tuple[int, int] = (32, 64)
    kernel: int = 5
    strides: tuple[int, int] = (1, 1)
    same: bool = False
    dtype: str = "float32"
    n_codes: int = 5
    hidden: int = 256

    @property
    def pad(self) -> int:
        """The padding on each side of a convolution's input."""
        return self.kernel // 2 if self.same else 0


@dataclass(frozen=True)
class Network:
    """A network of `cvae.VAE` with Bernoulli pixels, trained by that class's default optimizer, Adam(lr=0.001).

    Attributes
    ----------
    encoder, decoder : tuples of str
        The layers' call strings, without the dense layers that `cvae.VAE` adds.
    n_codes : int
        Size of the latent code (`T`).
    image_shape : (rows, cols, channels)
    dtype : {"float32", "float64"}
    """

    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    n_codes: int
    image_shape: tuple[int, int, int] = (28, 28, 1)
    dtype: str = "float32"


@dataclass(frozen=True)
class Case:
    """A case of the comparison: an operation on batches of a fixed size with a model.

    Attributes
    ----------
    name : str
    work : {"train", "encode", "decode"}
        A training step, encoding to means and log-variances, or decoding to pixel probabilities.
    batch : int
        Images per batch.
    model : Model or Network
    modes : set of {"quick", "default", "full"}
        The modes in which this case is measured.
    """

    name: str
    work: str = "train"
    batch: int = 128
    model: Model | Network = field(default_factory=Model)
    modes: frozenset[str] = frozenset({"full"})


KERAS_EXAMPLE = Network(
    (
        "Conv2D(32, 3, stride=2, pad=(0, 1, 0, 1), act_fn='ReLU')",
        "Conv2D(64, 3, stride=2, pad=(0, 1, 0, 1), act_fn='ReLU')",
        "Flatten()",
        "FullyConnected(16, act_fn='ReLU')",
    ),
    (
        "FullyConnected(3136, act_fn='ReLU')",
        "Reshape((7, 7, 64))",
        "ConvTranspose2D(64, 3, stride=2, pad='same', act_fn='ReLU')",
        "ConvTranspose2D(32, 3, stride=2, pad='same', act_fn='ReLU')",
        "ConvTranspose2D(1, 3, pad='same')",
    ),
    n_codes=2,
)
"""The network of https://keras.io/examples/generative/vae/, whose "same" padding halves the image."""

WORLD_MODELS = Network(
    (
        "Conv2D(32, 4, stride=2, act_fn='ReLU')",
        "Conv2D(64, 4, stride=2, act_fn='ReLU')",
        "Conv2D(128, 4, stride=2, act_fn='ReLU')",
        "Conv2D(256, 4, stride=2, act_fn='ReLU')",
        "Flatten()",
    ),
    (
        "FullyConnected(1024)",
        "Reshape((1, 1, 1024))",
        "ConvTranspose2D(128, 5, stride=2, act_fn='ReLU')",
        "ConvTranspose2D(64, 5, stride=2, act_fn='ReLU')",
        "ConvTranspose2D(32, 6, stride=2, act_fn='ReLU')",
        "ConvTranspose2D(3, 6, stride=2)",
    ),
    n_codes=32,
    image_shape=(64, 64, 3),
)
"""The network of Ha and Schmidhuber, "World Models" (2018), appendix A.1."""

_TANH = ("FullyConnected(200, act_fn='Tanh')", "FullyConnected(200, act_fn='Tanh')")

DENSE = Network(("Flatten()", *_TANH), _TANH, n_codes=50)
"""The network of Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders" (2016), one stochastic layer."""

STRIDED = {
    "4x4 convolutions, stride 2": Network(
        (
            "Conv2D(64, 4, stride=2, pad=1, act_fn='ReLU')",
            "Conv2D(64, 4, stride=2, pad=1, act_fn='ReLU')",
            "Flatten()",
        ),
        (),
        n_codes=8,
        image_shape=(32, 32, 16),
    ),
    "3x3 convolutions, stride 2": Network(
        (
            "Conv2D(64, 3, stride=2, pad=1, act_fn='ReLU')",
            "Conv2D(64, 3, stride=2, pad=1, act_fn='ReLU')",
            "Flatten()",
        ),
        (),
        n_codes=8,
        image_shape=(32, 32, 16),
    ),
    "4x4 transposed convolutions, stride 2": Network(
        ("Flatten()",),
        (
            "FullyConnected(4096, act_fn='ReLU')",
            "Reshape((8, 8, 64))",
            "ConvTranspose2D(64, 4, stride=2, pad='same', act_fn='ReLU')",
            "ConvTranspose2D(16, 4, stride=2, pad='same')",
        ),
        n_codes=8,
        image_shape=(32, 32, 16),
    ),
}
"""Networks that consist of two strided convolutions and the dense layers that they need."""

_ALL = frozenset({"quick", "default", "full"})
_DEFAULT = frozenset({"default", "full"})
_QUICK = frozenset({"quick", "full"})

CASES = (
    Case("train, batch 128", modes=_ALL),
    Case("train, batch 1", batch=1, modes=_QUICK),
    Case("train, batch 16", batch=16),
    Case("train, batch 512", batch=512),
    Case("train, float64", model=Model(dtype="float64")),
    Case("train, 3x3 kernels", model=Model(kernel=3)),
    Case("train, 'same' padding", model=Model(same=True)),
    Case("train, 3x3, 'same' padding", model=Model(kernel=3, same=True)),
    Case("train, channels 16/32", model=Model(channels=(16, 32))),
    Case("train, channels 64/128", model=Model(channels=(64, 128))),
    Case("train, 32x32x3", model=Model(image_shape=(32, 32, 3))),
    Case(
        "train, 32x32x3, 3x3, channels 16/32",
        model=Model(image_shape=(32, 32, 3), kernel=3, channels=(16, 32)),
    ),
    Case("train, 64x64x3", model=Model(image_shape=(64, 64, 3))),
    Case("train, 64x64x3, 3x3", model=Model(image_shape=(64, 64, 3), kernel=3)),
    Case("train, 64x64x3, stride 2", model=Model(image_shape=(64, 64, 3), strides=(2, 2))),
    Case("train, Keras example", model=KERAS_EXAMPLE, modes=_DEFAULT),
    Case("train, World Models", model=WORLD_MODELS),
    Case("train, World Models, batch 32", batch=32, model=WORLD_MODELS),
    Case("train, dense layers", model=DENSE),
    *(Case(f"train, {name}", model=network) for name, network in STRIDED.items()),
    Case("encode, batch 1", work="encode", batch=1, modes=_QUICK),
    Case("encode, batch 8", work="encode", batch=8),
    Case("encode, batch 128", work="encode"),
    Case("encode, batch 1,000", work="encode", batch=1000),
    Case("decode, batch 1", work="decode", batch=1, modes=_QUICK),
    Case("decode, batch 8", work="decode", batch=8),
    Case("decode, batch 128", work="decode"),
    Case("decode, batch 1,000", work="decode", batch=1000),
    *(
        Case(f"{work}, {name}, batch {batch}", work, batch, network)
        for name, network in (("Keras example", KERAS_EXAMPLE), ("World Models", WORLD_MODELS))
        for work in ("encode", "decode")
        for batch in (1, 8, 128)
    ),
)
