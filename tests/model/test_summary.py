"""Summaries: layers, output shapes, parameters and multiplications, before and after training."""

import numpy as np
import pytest
from small_vae import IMAGE_SHAPE, by_path, random_images, small_vae

import cvae
from cvae.layers import Conv2D, ConvTranspose2D, FullyConnected

ENCODER = ["Conv2D(out_ch=4, kernel_shape=(3, 2), stride=2, act_fn='ReLU')", "Flatten()"]
DECODER = ["FullyConnected(12)", "Reshape((2, 2, 3))", "ConvTranspose2D(1, (5, 4), 4)"]


def make(**changes):
    return cvae.VAE(ENCODER, DECODER, T=2, random_state=0, verbose=False, **changes)


def test_the_rows_are_the_layers_from_images_to_images():
    rows = make().summary(IMAGE_SHAPE).rows
    assert [tuple(row) for row in rows] == [
        ("encoder/Conv2D_1", (4, 4, 4), 3 * 2 * 4 + 4, 4 * 4 * 4 * 3 * 2),
        ("encoder/Flatten_2", (64,), 0, 0),
        ("encoder/Code", (4,), 64 * 4 + 4, 64 * 4),
        ("decoder/FullyConnected_1", (12,), 2 * 12 + 12, 2 * 12),
        ("decoder/Reshape_2", (2, 2, 3), 0, 0),
        ("decoder/ConvTranspose2D_3", (9, 8, 1), 5 * 4 * 3 + 1, 2 * 2 * 3 * 5 * 4),
    ]


def test_the_table_has_a_line_for_each_layer_and_the_totals():
    summary = make().summary(IMAGE_SHAPE)
    title, rule, headings, _, *rows, _, total = str(summary).splitlines()
    assert title == "images 9x8x1, codes of 2"
    assert set(rule) == {"-"}
    assert headings.split() == ["layer", "output", "parameters", "multiplications"]
    assert [row.split() for row in rows[:2]] == [
        ["encoder/Conv2D_1", "4x4x4", "28", "384"],
        ["encoder/Flatten_2", "64", "0", "0"],
    ]
    assert total.split() == ["total", "385", "904"]
    assert (summary.parameters, summary.multiplications) == (385, 904)
    assert repr(summary) == str(summary)
    assert len({len(line) for line in (headings, *rows, total)}) == 1


def test_it_counts_the_parameters_there_are():
    vae = small_vae()
    before = str(vae.summary(IMAGE_SHAPE))
    vae.fit(random_images())
    assert vae.summary().parameters == sum(array.size for array in by_path(vae.parameters).values())
    assert str(vae.summary()) == before
    assert "encoder/FC5" in before


def test_the_model_stays_as_it_is():
    for vae in (make(), cvae.VAE(T=2, random_state=0, verbose=False), small_vae()):
        vae.summary(IMAGE_SHAPE)
        assert not any(layer.is_initialized for layer in vae._layers().values() if layer.parameters)
        other = type(vae)(**vae.get_params())
        X = random_images(8, IMAGE_SHAPE)
        for got, expected in zip(
            by_path(vae.fit(X).parameters).values(), by_path(other.fit(X).parameters).values(), strict=True
        ):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("vae", [make(condition="classes"), cvae.VAE(condition="classes", T=2)], ids=["made", "auto"])
def test_a_conditional_model_is_shown_for_labels(vae):
    with pytest.raises(ValueError, match="summary of a conditional model needs labels y before the first fit, got No"):
        vae.summary(IMAGE_SHAPE)
    with pytest.raises(ValueError, match="y must hold a class label for each image"):
        vae.summary(IMAGE_SHAPE, y="a")
    before = str(vae.summary(IMAGE_SHAPE, y=["a", "b", "c", "a"]))
    vae.fit(random_images(2), ["b", "a"], n_epochs=1, verbose=False)  # the model had not learnt the others
    assert str(vae.summary()) == str(vae.summary(y=["a", "b", "c"])) != before
    other = cvae.VAE(**{**vae.get_params(), "random_state": 0})
    assert str(other.fit(random_images(3), ["b", "a", "c"], n_epochs=1, verbose=False).summary()) == before


def test_the_shape_may_be_the_constructor_s():
    assert str(make(image_shape=(9, 8)).summary()) == str(make().summary((9, 8, 1)))


def test_it_says_what_is_missing_or_wrong():
    with pytest.raises(ValueError, match=r"summary needs image_shape, \(rows, cols\) or .*, before the first fit"):
        cvae.VAE().summary()
    for vae in (make(image_shape=IMAGE_SHAPE), make().fit(random_images(8, IMAGE_SHAPE))):
        with pytest.raises(ValueError, match=r"image_shape must be that of the model, \(9, 8, 1\), got \(8, 9, 1\)"):
            vae.summary((8, 9))
    with pytest.raises(ValueError, match="image_shape must be 2 or 3 ints >= 1, got"):
        make().summary((9,))
    with pytest.raises(ValueError, match="decoder must put out 64 numbers"):
        make().summary((8, 8))


@pytest.mark.parametrize(
    ("layer", "in_shape"),
    [
        (Conv2D(5, (3, 2), pad=1, stride=2, dilation=1), (1, 9, 8, 3)),
        (ConvTranspose2D(5, (3, 2), 2), (1, 4, 3, 3)),
        (FullyConnected(7), (1, 6)),
    ],
    ids=["Conv2D", "ConvTranspose2D", "FullyConnected"],
)
def test_multiplications_are_the_paths_from_input_to_output(layer, in_shape):
    """Without padding and with ones for weights and pixels, the sum of the outputs is the number of products."""
    layer.initialize(in_shape)
    layer.set_params({"W": np.ones_like(layer.W)})
    products = layer.forward(np.ones(in_shape)).sum()
    if isinstance(layer, Conv2D):  # padding takes part in products of zero
        products = np.prod(layer.output_shape(in_shape)) * 3 * 2 * 3
    assert layer.multiplications(in_shape) == products
