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
class Case:
    """A case of the comparison: an operation on batches of a fixed size with a model.

    Attributes
    ----------
    name : str
    work : {"train", "encode", "decode"}
        A training step, encoding to means and log-variances, or decoding to pixel probabilities.
    batch : int
        Images per batch.
    model : Model
    modes : set of {"quick", "default", "full"}
        The modes in which this case is measured.
    """

    name: str
    work: str = "train"
    batch: int = 128
    model: Model = field(default_factory=Model)
    modes: frozenset[str] = frozenset({"full"})


_ALL = frozenset({"quick", "default", "full"})
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
    Case("encode, batch 1", work="encode", batch=1, modes=_QUICK),
    Case("encode, batch 1,000", work="encode", batch=1000),
    Case("decode, batch 1", work="decode", batch=1, modes=_QUICK),
    Case("decode, batch 1,000", work="decode", batch=1000),
)
