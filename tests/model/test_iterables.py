"""What iterables, functions and lists give: blocks of images, with labels or without, and what only looks like that."""

import numpy as np
import pytest
from PIL import Image
from small_vae import assert_same_bits, parameters, random_images, small_vae

import cvae
from cvae.datasets import Blocks

X = random_images(24, (12, 10, 1))
Y = np.arange(24) % 3
BATCHES = [(X[:10], Y[:10]), (X[10:20], Y[10:20]), (X[20:], Y[20:])]


def fitted(given, y=None, **arguments):
    return small_vae(n_epochs=1, **arguments).fit(given, y)


def as_it_comes():
    return fitted(lambda: iter([X[:10], X[10:20], X[20:]]))


@pytest.mark.parametrize("given", [lambda: X, lambda: (X, Y), lambda: [X, Y], lambda: (X,)])
def test_a_function_may_return_all_at_once(given):
    assert_same_bits(parameters(fitted(given)), parameters(fitted(lambda: iter([X]))))


def test_a_list_of_the_batches_of_a_loader_is_trained_on_as_the_loader_is():
    listed = fitted(BATCHES)
    assert_same_bits(parameters(listed), parameters(fitted(iter(BATCHES))))
    assert_same_bits(parameters(fitted([list(pair) for pair in BATCHES])), parameters(listed))
    assert_same_bits(parameters(fitted(Blocks(BATCHES, buffer=100))), parameters(as_it_comes()))
    classes = fitted(BATCHES, [0, 1, 2], condition="classes")
    assert_same_bits(parameters(classes), parameters(fitted(iter(BATCHES), [0, 1, 2], condition="classes")))


class Sequence:
    """What Keras' class of this name does: a length, and a batch for each number, whatever number that is."""

    def __init__(self, *batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i % len(self.batches)]


SQUARE = random_images(24, (12, 12, 1))
GREY = SQUARE[..., 0]


def dense(given, y=None, **arguments):
    return cvae.VAE("mlp", T=2, n_epochs=1, random_state=0, verbose=False, **arguments).fit(given, y)


@pytest.mark.parametrize("ends", [(10, 20), (8, 16), (20,), (3, 6, 9, 12, 15, 18, 20)])
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_batches_of_grey_images_are_no_images_of_many_channels(ends, kind):
    batches = kind(np.split(GREY, ends))
    expected = dense(Blocks(SQUARE))
    assert expected.reconstruct(SQUARE).shape == (24, 12, 12, 1)
    assert_same_bits(parameters(dense(batches)), parameters(expected))
    np.testing.assert_array_equal(expected.transform(batches), expected.transform(SQUARE))


@pytest.mark.parametrize("images", [SQUARE, GREY], ids=["channel", "grey"])
@pytest.mark.parametrize("ends", [(10, 20), (8, 16)])
def test_sequences_of_batches_are_trained_on_as_iterables_are(images, ends):
    batches, labels = np.split(images, ends), np.split(Y, ends)
    expected = parameters(dense(iter(batches)))
    assert_same_bits(parameters(dense(Sequence(*batches))), expected)
    pairs = Sequence(*zip(batches, labels, strict=True))
    assert_same_bits(parameters(dense(pairs)), expected)
    assert_same_bits(
        parameters(dense(pairs, [0, 1, 2], condition="classes")),
        parameters(dense([*zip(batches, labels, strict=True)], [0, 1, 2], condition="classes")),
    )
    assert len(dense(SQUARE, condition=None).fit(SQUARE, validation_data=pairs).history_["val_loss"]) == 1


@pytest.mark.parametrize("shape", [(5, 12, 10), (12, 12, 12)])
def test_arrays_that_may_be_batches_or_images_are_refused_without_image_shape(shape):
    arrays = [*random_images(3, shape)]
    with pytest.raises(
        ValueError, match=r"X must hold batches or images, .*np.concatenate\(X\).*np.stack\(X\).*image_shape"
    ):
        dense(arrays)
    assert dense(arrays, image_shape=shape).reconstruct(np.stack(arrays)).shape == (3, *shape)
    vae = dense(arrays, image_shape=shape[1:])
    assert vae.reconstruct(arrays).shape == (3 * shape[0], *shape[1:], 1)
    assert_same_bits(parameters(vae), parameters(dense(Blocks(np.concatenate(arrays)))))


def test_few_channels_of_a_picture_are_no_columns_of_pictures():
    arrays = [*random_images(3, (16, 16, 5))]
    assert dense(arrays).reconstruct(arrays).shape == (3, 16, 16, 5)


def test_images_and_targets_in_a_pair_are_no_batches():
    for images in (SQUARE, SQUARE[..., 0]):
        with pytest.raises(TypeError, match=r"pair of sets of images, .*: pass X\[0\]"):
            dense((images, images))
    two = [*random_images(2, (9, 8, 3))]
    assert dense(tuple(two)).reconstruct(two).shape == (2, 9, 8, 3)


def test_a_shape_that_is_known_tells_batches_of_rows_from_images():
    rows = X.reshape(24, -1)
    vae = dense([rows[:10], rows[10:]], image_shape=(12, 10))
    assert_same_bits(parameters(vae), parameters(dense(Blocks(X))))
    np.testing.assert_array_equal(vae.transform([rows[:10], rows[10:]]), vae.transform(X))
    np.testing.assert_array_equal(vae.transform([*rows]), vae.transform(X))
    np.testing.assert_array_equal(vae.transform([*X]), vae.transform(X))


def test_lists_of_colour_pictures_stay_images():
    colour = random_images(6, (12, 12, 3))
    assert_same_bits(parameters(dense([*colour])), parameters(dense(colour)))
    with pytest.warns(UserWarning, match="channels come last"):
        assert dense([*colour.transpose(0, 3, 1, 2)]).n_features_in_ == 3 * 12 * 12
    with pytest.raises(ValueError, match="X must hold images of one shape"):
        dense([colour[0], colour[1, :10]])


def test_a_list_of_two_images_is_no_pair_of_images_and_labels():
    pairs = ([X[i], X[i + 1]] for i in range(0, 24, 2))
    assert_same_bits(parameters(fitted(pairs)), parameters(fitted(X[i : i + 2] for i in range(0, 24, 2))))
    grey = ([X[i, ..., 0], X[i + 1, ..., 0]] for i in range(0, 24, 2))
    assert_same_bits(parameters(fitted(grey)), parameters(fitted(X[i : i + 2] for i in range(0, 24, 2))))


def test_a_list_of_one_is_a_block_or_its_only_image():
    blocks = fitted([block] for block, _ in BATCHES)
    assert_same_bits(parameters(blocks), parameters(fitted(block for block, _ in BATCHES)))
    singles = fitted([image] for image in X)
    assert_same_bits(parameters(singles), parameters(fitted(image[np.newaxis] for image in X)))


@pytest.mark.parametrize(
    "image",
    [lambda image: image, lambda image: image[..., 0], lambda image: image.transpose(2, 0, 1),
     lambda image: Image.fromarray((image[..., 0] * 255).astype(np.uint8))],
    ids=["channel", "grey", "channels first", "picture"],
)  # fmt: skip
@pytest.mark.parametrize("label", [int, str, np.int64], ids=lambda kind: kind.__name__)
def test_single_images_with_their_labels_are_refused(image, label):
    with pytest.raises(
        TypeError, match=r"X must give blocks of images, such as .* got a single image of shape .*12, 1"
    ):
        fitted((image(x), label(y)) for x, y in zip(X, Y, strict=True))


def test_one_label_for_a_whole_block_of_images():
    blocks = [X[label == Y] for label in range(3)]
    one = fitted(zip(blocks, range(3), strict=True), range(3), condition="classes")
    each = ((block, np.full(len(block), label)) for label, block in enumerate(blocks))
    assert_same_bits(parameters(one), parameters(fitted(each, range(3), condition="classes")))


@pytest.mark.parametrize("condition", [None, "classes"])
def test_as_many_labels_as_images(condition):
    with pytest.raises(ValueError, match="X must give as many labels as images, got 10 for 24"):
        fitted(iter([(X, Y[:10])]), None if condition is None else [0, 1, 2], condition=condition)


@pytest.mark.parametrize(
    ("given", "taken"),
    [(lambda: (image[..., 0] for image in X), "12 rows of 10 numbers"),
     (lambda: iter(X), "12 images of 10x1 pixels"),
     (lambda: (np.repeat(image, 3, 2).transpose(2, 0, 1) for image in X), "3 images of 12x10 pixels with one channel")],
    ids=["grey", "channel", "channels first"],
)  # fmt: skip
def test_single_images_that_look_like_blocks_are_told_of(given, taken):
    with pytest.warns(UserWarning, match=f"each taken for {taken}: if each is one image, pass a list of them"):
        cvae.VAE("mlp", T=2, n_epochs=1, verbose=False).fit(given())


def test_blocks_of_rows_and_of_a_known_shape_are_not():
    rows = X.reshape(24, -1)
    cvae.VAE("mlp", T=2, n_epochs=1, verbose=False).fit(iter([rows[:12], rows[12:]]))
    cvae.VAE("mlp", T=2, n_epochs=1, image_shape=(12, 10), verbose=False).fit(X[i : i + 3, ..., 0] for i in range(9))


def test_a_list_of_pairs_of_single_images_says_how_to_pass_them():
    with pytest.raises(TypeError, match=r"pass \[item\[0\] for item in X\], and the labels as y="):
        fitted(list(zip(X, Y, strict=True)))
