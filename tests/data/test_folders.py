"""Folders of pictures: their order, classes, parts, what they must have in common and what is not read."""

import os
import sys
import tracemalloc

import numpy as np
import pytest
from data_files import DEEP, GREY, RGB, assert_refused, save_picture, write
from PIL import Image

from cvae.datasets import load


def pictures(folder, *names, pixels=GREY[0]):
    for name in names:
        save_picture(folder / name, pixels)


def test_pictures_are_in_natural_order(tmp_path):
    for i, name in enumerate(("2.png", "10.png", "a.png", "a1.png")):
        save_picture(tmp_path / name, GREY[i])
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, GREY[..., np.newaxis])
    assert dataset.filenames == ("2.png", "10.png", "a.png", "a1.png")
    assert dataset.labels is None
    assert dataset.class_names is None


def test_what_systems_leave_is_ignored_and_of_the_rest_one_warning_tells(tmp_path):
    pictures(tmp_path, "a.png", "__MACOSX/._a.png", ".hidden.png", ".cache/a.png")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        write(tmp_path / name, b"not a picture")
    assert len(load(tmp_path).images) == 1
    for i in range(5):
        write(tmp_path / f"notes{i}.txt", b"not a picture")
    with pytest.warns(
        UserWarning, match=r"5 in it not read, as no images: notes0.txt, notes1.txt, notes2.txt, \.\.\.$"
    ):
        assert len(load(tmp_path).images) == 1


def test_the_warning_points_at_the_caller(tmp_path):
    pictures(tmp_path, "a.png")
    write(tmp_path / "notes.txt", b"")
    with pytest.warns(UserWarning, match="notes.txt") as caught:
        load(tmp_path)
    assert caught[0].filename == __file__


def test_pictures_without_an_ending_are_read(tmp_path):
    save_picture(tmp_path / "000001", GREY[0], format="PNG")
    assert load(tmp_path).filenames == ("000001",)


# classes


def test_subfolders_are_classes(tmp_path):
    for i, name in enumerate(("cat/a.png", "cat/z.png", "dog/a.png", "dog/more/b.png")):
        save_picture(tmp_path / name, GREY[i])
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, GREY[..., np.newaxis])
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.filenames == ("cat/a.png", "cat/z.png", "dog/a.png", "dog/more/b.png")


def test_classes_are_in_natural_order(tmp_path):
    pictures(tmp_path, "c10/a.png", "c2/a.png", "c2/b.png")
    dataset = load(tmp_path)
    assert dataset.class_names == ("c2", "c10")
    assert dataset.labels.tolist() == [0, 0, 1]


def test_a_class_may_be_called_like_a_part(tmp_path):
    pictures(tmp_path, "car/a.png", "train/a.png", "plane/a.png")
    assert load(tmp_path).class_names == ("car", "plane", "train")


def test_pictures_beside_subfolders(tmp_path):
    pictures(tmp_path, "a.png", "cat/a.png")
    assert_refused(
        tmp_path, "pictures or subfolders of them, got 1 pictures such as a.png and 1 subfolders such as cat"
    )


def test_folders_without_pictures(tmp_path):
    assert_refused(tmp_path, "holds no pictures (png jpg")
    write(tmp_path / "a.npy", b"\x93NUMPY")
    assert_refused(tmp_path, "holds no pictures", "got a.npy, a .npy file; put arrays of an image each into one file")
    write(tmp_path / "a.h5", b"\x89HDF\r\n\x1a\n")
    assert_refused(tmp_path, "got a.h5, an HDF5 file, and 1 more; load such a file itself")
    pictures(tmp_path, "cat/a.png")
    (tmp_path / "dog" / "folder.png").mkdir(parents=True)
    assert_refused(tmp_path, "holds no pictures: it is empty", file=tmp_path / "dog")


# parts


@pytest.mark.parametrize(("train", "val", "test"), [("train", "val", "test"), ("Training", "validation", "testing")])
def test_parts_are_no_classes(tmp_path, train, val, test):
    for i, part in enumerate((train, val, test)):
        save_picture(tmp_path / part / "a.png", GREY[i])
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, GREY[:1, ..., np.newaxis])
    np.testing.assert_array_equal(dataset.val_images, GREY[1:2, ..., np.newaxis])
    np.testing.assert_array_equal(dataset.test_images, GREY[2:3, ..., np.newaxis])
    assert dataset.labels is dataset.val_labels is dataset.test_labels is dataset.class_names is None
    assert dataset.test_filenames == (f"{test}/a.png",)


def test_parts_have_their_classes_in_common(tmp_path):
    pictures(tmp_path, "train/good/a.png", "test/broken/a.png", "test/good/a.png", "ground_truth/broken/a.png")
    with pytest.warns(UserWarning, match="1 in it not read, as no images: ground_truth/$"):
        dataset = load(tmp_path)
    assert dataset.class_names == ("broken", "good")
    assert dataset.labels.tolist() == [1]
    assert dataset.test_labels.tolist() == [0, 1]


def test_parts_that_leave_a_question(tmp_path):
    pictures(tmp_path / "a", "test/a.png", "val/a.png")
    assert_refused(tmp_path / "a", "no training images; load one of its folders alone")
    pictures(tmp_path / "b", "train/a.png", "val/a.png", "valid/a.png")
    assert_refused(tmp_path / "b", "one folder for each part, got val and valid")
    pictures(tmp_path / "c", "images/train/a.png", "images/test/a.png", "more/a.png")
    assert_refused(tmp_path / "c", "load this folder itself", file=tmp_path / "c" / "images")
    (tmp_path / "d" / "train").mkdir(parents=True)
    pictures(tmp_path / "d", "test/a.png")
    assert_refused(tmp_path / "d", "holds no pictures", file=tmp_path / "d" / "train")


@pytest.mark.parametrize(
    ("train", "test", "others"),
    [
        ("train", "test1", ()),
        ("train", "test_set", ("sample",)),
        ("training_set", "test_set", ()),
        ("seg_train", "seg_test", ("seg_pred",)),
        ("train_images", "test_images", ("train_masks", "test_masks")),
        ("TrainSet", "TestSet", ()),
        ("train2017", "test2017", ("annotations",)),
        ("train", "my_test", ()),
        ("trainval", "eval-1", ()),
    ],
)
def test_parts_are_known_by_the_words_in_their_names(tmp_path, train, test, others):
    pictures(tmp_path, f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/b/1.png", *(f"{name}/1.png" for name in others))
    with pytest.warns(UserWarning, match="not read|taken for parts") as caught:
        dataset = load(tmp_path)
    said = f"folders are taken for parts by their names: {train} for training, {test} for testing"
    assert any(str(warning.message).endswith(said) for warning in caught)
    assert len(caught) == 1 + bool(others)
    assert dataset.class_names == ("a", "b")
    assert dataset.labels.tolist() == [0, 1]
    assert dataset.test_labels.tolist() == [1]


@pytest.mark.parametrize(
    "names", [("bullet train", "car", "test tube"), ("bullet_train", "steam_train"), ("tests", "trains")]
)
def test_classes_may_have_words_of_parts_in_their_names(tmp_path, names):
    pictures(tmp_path, *(f"{name}/a.png" for name in names))
    assert load(tmp_path).class_names == names


def test_a_part_without_another_is_taken_for_a_class_aloud(tmp_path):
    pictures(tmp_path, "car/a.png", "plane/a.png", "test/a.png")
    with pytest.warns(UserWarning, match="test is taken for a class, as there are no other parts beside it"):
        assert load(tmp_path).class_names == ("car", "plane", "test")
    pictures(tmp_path / "two", "train/a.png", "unlabeled/a.png")
    with pytest.warns(UserWarning, match="train is taken for a class"):
        assert load(tmp_path / "two").class_names == ("train", "unlabeled")
    for name in ("holdout", "hold-out", "unlabeled", "Unlabelled"):
        pictures(tmp_path / name, "a/a.png", "train/a.png", f"{name}/a.png")
        with pytest.warns(UserWarning, match="train is taken for a class"):
            assert {*load(tmp_path / name).class_names} == {"a", "train", name}
    pictures(tmp_path / "many", "car/a.png", "plane/a.png", "train/a.png")
    assert load(tmp_path / "many").class_names == ("car", "plane", "train")


def test_parts_of_two_sets_leave_a_question(tmp_path):
    pictures(tmp_path, "trainA/a.png", "trainB/a.png", "testA/a.png", "testB/a.png")
    assert_refused(tmp_path, "one folder for each part, got testA and testB")


# folders of one folder


@pytest.mark.parametrize("around", ["archive", "archive/images", "train/train", "data/my set/images"])
def test_a_folder_with_one_folder_in_it_is_gone_through(tmp_path, around):
    pictures(tmp_path / around, "a/1.png", "b/1.png")
    write(tmp_path / around.partition("/")[0] / "README", b"of a set")
    with pytest.warns(UserWarning, match="1 in it not read, as no images: .*README"):
        dataset = load(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert dataset.filenames == (f"{around}/a/1.png", f"{around}/b/1.png")


def test_parts_may_lie_in_a_folder_and_have_one_in_them(tmp_path):
    for part in ("seg_train", "seg_test"):
        pictures(tmp_path / "archive" / part / part, "a/1.png", "b/1.png")
    with pytest.warns(UserWarning, match="seg_train for training, seg_test for testing"):
        dataset = load(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert dataset.test_filenames == tuple(f"archive/seg_test/seg_test/{name}/1.png" for name in "ab")


@pytest.mark.parametrize("inner", ["images", "train", "x/images/train"])
def test_a_folder_whose_name_says_nothing_is_no_class(tmp_path, inner):
    pictures(tmp_path / inner, "1.png", "2.png")
    dataset = load(tmp_path)
    assert len(dataset.images) == 2
    assert dataset.labels is dataset.class_names is None


def test_pictures_within_parts_are_of_no_class(tmp_path):
    pictures(tmp_path, "train/images/1.png", "test/images/1.png")
    assert load(tmp_path).class_names is None


def test_one_class_of_a_part_is_a_class_if_another_part_has_more(tmp_path):
    pictures(tmp_path, "train/good/1/a.png", "train/good/2/a.png", "test/good/a.png", "test/bad/a.png")
    dataset = load(tmp_path)
    assert dataset.class_names == ("bad", "good")
    assert dataset.labels.tolist() == [1, 1]


def test_one_folder_of_pictures_is_one_class(tmp_path):
    pictures(tmp_path, "archive/cat/1.png", "archive/cat/more/2.png")
    assert load(tmp_path).class_names == ("cat",)


def test_masks_beside_images_are_not_read(tmp_path):
    pictures(tmp_path, "images/1.png", "masks/1.png")
    with pytest.warns(UserWarning, match="1 in it not read, as no images: masks/"):
        assert load(tmp_path).filenames == ("images/1.png",)
    pictures(tmp_path / "faces", "mask/1.png", "no mask/1.png")
    assert load(tmp_path / "faces").class_names == ("mask", "no mask")


# links and what is no file


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_links_and_pipes(tmp_path):
    pictures(tmp_path / "real", "a.png")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(tmp_path / "real")
    assert load(tmp_path / "linked").class_names == ("cat",)
    (tmp_path / "real" / "b.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"b\.png: is a link to nowhere\.png, which does not exist"):
        load(tmp_path / "real")
    (tmp_path / "real" / "b.png").unlink()
    (tmp_path / "linked" / "cat").unlink()
    (tmp_path / "linked" / "cat").mkdir()
    (tmp_path / "linked" / "cat" / "up").symlink_to(tmp_path / "linked")
    assert_refused(tmp_path / "linked", "link to a folder that it is in", file=tmp_path / "linked" / "cat" / "up")
    os.mkfifo(tmp_path / "real" / "c.png")
    for source in (tmp_path / "real", tmp_path / "real" / "c.png"):
        assert_refused(source, "got a pipe, device or socket", file=tmp_path / "real" / "c.png")
    assert_refused("/dev/null", "got a pipe, device or socket")


# what all pictures have in common


def test_a_damaged_picture_is_named(tmp_path):
    pictures(tmp_path, "a.png")
    path = write(tmp_path / "b.png", b"damaged")
    assert_refused(tmp_path, "not a valid picture", "text that starts with 'damaged'", file=path)


def test_sizes_that_differ_need_resize_or_crop(tmp_path):
    save_picture(tmp_path / "a.png", RGB[0])
    path = save_picture(tmp_path / "b.png", RGB[1][:, 1:])
    assert_refused(tmp_path, "size of a.png, 6x5 pixels", "got 6x4", "resize=(6, 5)", "--resize 6x5", file=path)
    assert load(tmp_path, resize=(4, 3)).images.shape == (2, 4, 3, 3)
    assert load(tmp_path, resize=4, crop="fit").images.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(load(tmp_path, crop=(4, 2)).images[1], RGB[1][1:5, 2:4])
    with pytest.raises(ValueError, match=r"a\.png: crop must fit into images of 6x5 pixels, got \(7, 2\)"):
        load(tmp_path, crop=(7, 2))


def test_grey_and_colour_need_a_choice(tmp_path):
    save_picture(tmp_path / "a.png", GREY[0])
    path = save_picture(tmp_path / "b.png", RGB[0])
    assert_refused(tmp_path, "grey as a.png is", "1 of 2", "grey=False", "--no-grey", "grey=True", file=path)
    colours = load(tmp_path, grey=False).images
    np.testing.assert_array_equal(colours, [np.repeat(GREY[0][..., np.newaxis], 3, axis=2), RGB[0]])
    greys = load(tmp_path, grey=True).images
    np.testing.assert_array_equal(greys[0, ..., 0], GREY[0])
    np.testing.assert_array_equal(greys[1, ..., 0], np.asarray(Image.fromarray(RGB[0]).convert("L")))


def test_numbers_of_bits_must_agree(tmp_path):
    save_picture(tmp_path / "a.png", GREY[0])
    path = save_picture(tmp_path / "b.png", DEEP[..., 0])
    assert_refused(tmp_path, "dtype of a.png, uint8, got uint16", file=path)


def test_palettes_are_decided_for_the_whole_folder(tmp_path):
    for i in range(3):
        Image.fromarray(RGB[i]).quantize(8).save(tmp_path / f"{i}.png")
    Image.fromarray(np.zeros((6, 5), np.uint8)).quantize(2).save(tmp_path / "3.png")
    dataset = load(tmp_path)
    assert dataset.images.shape == (4, 6, 5, 3)
    assert not dataset.images[3].any()
    for i in range(3):
        (tmp_path / f"{i}.png").unlink()
    save_picture(tmp_path / "0.png", GREY[0])
    assert load(tmp_path).images.shape == (2, 6, 5, 1)


def test_cameras_held_upright_and_sideways(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    save_picture(tmp_path / "a.jpg", RGB[0])
    save_picture(tmp_path / "b.jpg", np.rot90(RGB[0]), exif=exif)
    assert load(tmp_path).images.shape == (2, 6, 5, 3)


def test_pictures_are_decoded_into_place(tmp_path):
    for i in range(20):
        save_picture(tmp_path / f"{i}.png", np.full((200, 300, 3), i, np.uint8))
    load(tmp_path)  # which imports what reads pictures
    tracemalloc.start()
    try:
        images = load(tmp_path).images
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(20))
    assert peak < images.nbytes * 1.4


def test_progress_is_shown_on_terminals_alone_and_needs_none(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "a.png", "b.png")
    load(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("cvae.data.picture_sets._SECONDS_WITHOUT_PROGRESS", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    load(tmp_path)
    assert "reading pictures" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", None)
    assert len(load(tmp_path).images) == 2


def test_what_can_be_loaded_itself_is_named_first(tmp_path):
    for name in ("a-readme.md", "train.csv"):
        (tmp_path / name).write_text("some words")
    assert_refused(tmp_path, "holds no pictures", "got train.csv, text that starts with 'some words', and 1 more; load")
