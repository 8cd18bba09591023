"""Tables of pixels in text, with and without names and labels."""

import gzip

import numpy as np
import pytest
from data_files import assert_refused, write

from cvae.datasets import load

PIXELS = np.random.default_rng(0).integers(0, 256, (3000, 16))
LABELS = np.arange(3000) % 10


def table(path, *columns, names=(), delimiter=",", end="\n"):
    rows = np.column_stack(columns)
    lines = [delimiter.join(names)] * bool(names) + [delimiter.join(map(str, row)) for row in rows.tolist()]
    return write(path, end.join([*lines, ""]).encode())


def assert_is_table(dataset, *, labelled=True):
    assert dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images, PIXELS.reshape(-1, 4, 4, 1))
    if labelled:
        np.testing.assert_array_equal(dataset.labels, LABELS)
    else:
        assert dataset.labels is None


@pytest.mark.parametrize("name", ["x.csv", "x.CSV", "x.txt", "x.csv.gz"])
def test_labels_first_and_a_line_of_names(tmp_path, name):
    names = ["label", *(f"pixel{i}" for i in range(16))]
    assert_is_table(load(table(tmp_path / name, LABELS, PIXELS, names=names)))


def test_labels_anywhere_under_a_name(tmp_path):
    names = [*(f"{i // 4}x{i % 4}" for i in range(16)), '"Class"']
    assert_is_table(load(table(tmp_path / "x.csv", PIXELS, LABELS, names=names)))


def test_labels_that_are_words(tmp_path):
    words = np.array(["a cat", "dog", "'s"])[LABELS % 3]
    rows = np.column_stack([words, PIXELS])
    names = ["label", *(f"pixel{i}" for i in range(16))]
    path = table(tmp_path / "x.csv", [f'"{word}"' for word in words], PIXELS, names=names)
    assert load(path).labels.tolist() == words.tolist()
    np.testing.assert_array_equal(load(path).images.reshape(3000, 16), PIXELS)
    assert load(table(tmp_path / "y.csv", rows[:4], names=names)).labels.tolist() == words[:4].tolist()


@pytest.mark.parametrize(("delimiter", "end"), [(",", "\n"), (";", "\n"), ("\t", "\r\n"), (" ", "\n"), (", ", "\n\n")])
def test_rows_without_names(tmp_path, delimiter, end):
    assert_is_table(load(table(tmp_path / "a.csv", LABELS, PIXELS, delimiter=delimiter, end=end)))
    assert_is_table(load(table(tmp_path / "b.csv", PIXELS, delimiter=delimiter, end=end)), labelled=False)


def test_names_without_labels(tmp_path):
    path = table(tmp_path / "x.csv", PIXELS, names=[f"pixel{i}" for i in range(16)])
    assert_is_table(load(path), labelled=False)


def test_a_shape_that_is_no_square(tmp_path):
    path = table(tmp_path / "x.csv", LABELS, PIXELS[:, :12])
    assert_refused(path, "13 pixels, which make no square image; pass image_shape", "--image-shape")
    for shape in ((3, 4), (2, 2, 3)):
        dataset = load(path, image_shape=shape)
        np.testing.assert_array_equal(dataset.images, PIXELS[:, :12].reshape(-1, *shape, *[1] * (3 - len(shape))))
        np.testing.assert_array_equal(dataset.labels, LABELS)
    with pytest.raises(ValueError, match=r"must have 15 pixels to match image_shape \(5, 3, 1\), got 13"):
        load(path, image_shape=(5, 3))


def test_a_shape_for_what_comes_of_resizing(tmp_path):
    path = table(tmp_path / "x.csv", LABELS[:9], PIXELS[:9])
    assert load(path, image_shape=(2, 2), resize=2).images.shape == (9, 2, 2, 1)
    with pytest.raises(ValueError, match=r"must hold images of shape \(2, 2, 1\), got \(3, 3, 1\)"):
        load(path, image_shape=(2, 2), resize=3)
    np.save(tmp_path / "x.npy", PIXELS)
    assert load(tmp_path / "x.npy", image_shape=(2, 8), resize=3).images.shape == (3000, 3, 3, 1)


@pytest.mark.parametrize("row", [0, 2999])
@pytest.mark.parametrize("value", [0.5, -1, 256])
def test_other_numbers_become_float64(tmp_path, value, row):
    pixels = PIXELS.astype(object)
    pixels[row, 3] = value
    images = load(table(tmp_path / "x.csv", pixels)).images
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images, pixels.astype(float).reshape(-1, 4, 4, 1))


def test_a_byte_order_mark_is_no_name(tmp_path):
    path = table(tmp_path / "x.csv", LABELS, PIXELS)
    assert_is_table(load(write(path, b"\xef\xbb\xbf" + path.read_bytes())))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["first line is empty"]),
        (b"label,a,b,c,d\n", ["line of names has 5 columns and the next one 1"]),
        (b"1,2,3,4\n1,2,3\n", ["from line 1: the number of columns changed from 4 to 3"]),
        (b"1,2,3,4\n1,2,x,4\n", ["from line 1: could not convert string 'x'"]),
        (b"1,2,3,4\n1,,3,4\n", ["could not convert string ''"]),
        (b"1,2,3,4\n" * 1024 + b"1,2,3\n", ["line 1025 has 3 pixels, not 4"]),
        (b"label,a,b,c,d\n" + b"1,1,2,3,4\n" * 1024 + b"1,2,3\n", ["line 1026 has 3 columns, not 5"]),
        (b"1,2,3,4\n\xff\n", ["not a valid table of pixels"]),
        (b"\0" * 100, ["not a valid table of pixels"]),
    ],
)
def test_damaged_tables(tmp_path, content, words):
    assert_refused(write(tmp_path / "x.csv", content), *words)


def test_damaged_compressed_tables(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"1,2,3,4\n" * 100)[:-9])
    assert_refused(path, "not a valid table of pixels")


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0", "index", "Id"])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_first_column_that_numbers_the_rows_is_left_out(tmp_path, name, labelled):
    columns = [np.arange(3000), *([LABELS] if labelled else []), PIXELS]
    names = [name, *(["label"] if labelled else []), *(f"pixel{i}" for i in range(16))]
    path = table(tmp_path / "x.csv", *columns, names=names)
    with pytest.warns(UserWarning, match="1 in it not read, as no images: the column"):
        dataset = load(path)
    assert_is_table(dataset, labelled=labelled)
    with pytest.warns(UserWarning, match="not read"):
        assert load(path, image_shape=(2, 8)).images.shape == (3000, 2, 8, 1)


def test_names_of_rows_may_be_words(tmp_path):
    words = np.array(['"a, b"', '"c"'])[LABELS % 2]
    path = table(tmp_path / "x.csv", words, PIXELS, names=['""', *(f'"V{i}"' for i in range(16))])
    with pytest.warns(UserWarning, match="not read"):
        assert_is_table(load(path), labelled=False)


def test_pixels_beside_an_index_are_counted_without_it(tmp_path):
    path = table(tmp_path / "x.csv", np.arange(3000), PIXELS[:, :15], names=["", *map(str, range(15))])
    assert_refused(path, "hold 15 pixels")


def test_names_may_be_numbers(tmp_path):
    for columns, start, labelled in (((PIXELS,), 0, False), ((LABELS, PIXELS), 0, True), ((PIXELS,), 1, False)):
        n = 16 + labelled
        path = table(tmp_path / "x.csv", *columns, names=[str(start + i) for i in range(n)])
        with pytest.warns(UserWarning, match=rf"not read, as no images: the line of names {start}, {start + 1}, "):
            assert_is_table(load(path), labelled=labelled)
    words = np.array(["cat", "dog"])[LABELS % 2]
    path = table(tmp_path / "x.csv", words, PIXELS, names=["label", *map(str, range(16))])
    assert load(path).labels.tolist() == words.tolist()


def test_a_first_row_that_counts_is_an_image_if_the_second_goes_on(tmp_path):
    pixels = np.arange(64).reshape(4, 16)
    np.testing.assert_array_equal(load(table(tmp_path / "x.csv", pixels)).images.reshape(4, 16), pixels)


def test_a_row_that_pandas_took_for_names_is_none(tmp_path):
    first = ["5", "0", "0.1", "0.2", "3", *(f"0.{i}" for i in range(3, 15))]
    path = table(tmp_path / "x.csv", LABELS, PIXELS, names=first)
    with pytest.warns(UserWarning, match=r"the line of names 5, 0, 0\.1"):
        assert_is_table(load(path))


@pytest.mark.parametrize("word", ["", "?", "NULL"])
def test_a_row_with_something_missing_is_no_line_of_names(tmp_path, word):
    pixels = PIXELS.astype(object)
    pixels[0, 5] = word
    assert_refused(table(tmp_path / "x.csv", pixels), f"line 1 must hold numbers or names, got {word!r} in column 6")


def test_words_as_labels_without_names(tmp_path):
    words = np.array(["cat", "dog"])[LABELS % 2]
    for columns in ((words, PIXELS), (PIXELS, words)):
        path = table(tmp_path / "x.csv", *(column.astype(object) for column in columns))
        if columns[0] is PIXELS:
            with pytest.warns(UserWarning, match="the last column is taken for labels"):
                dataset = load(path)
        else:
            dataset = load(path)
        assert dataset.labels.tolist() == words.tolist()
        np.testing.assert_array_equal(dataset.images.reshape(-1, 16), PIXELS)


@pytest.mark.parametrize("name", ["optdigits.tra", "optdigits", "digits.data.gz", "x.csv"])
def test_labels_last_without_names(tmp_path, name):
    pixels = PIXELS.copy()
    pixels[:, 0] = 0  # as corners are
    path = table(tmp_path / name, pixels, LABELS)
    with pytest.warns(UserWarning, match="the last column is taken for labels"):
        dataset = load(path)
    np.testing.assert_array_equal(dataset.images.reshape(-1, 16), pixels)
    np.testing.assert_array_equal(dataset.labels, LABELS)


def test_labels_first_beside_a_corner_that_is_empty(tmp_path):
    pixels = PIXELS.copy()
    pixels[:, -1] = 0
    for labels in (LABELS, np.zeros(3000, int)):
        np.testing.assert_array_equal(load(table(tmp_path / "x.csv", labels, pixels)).labels, labels)


def test_the_name_that_is_unlike_all_others_is_that_of_labels(tmp_path):
    for names in (["digit", *(f"p{i}" for i in range(16))], [*(f"{i}x{i}" for i in range(16)), "kind of thing"]):
        columns = [LABELS, PIXELS] if names[0] == "digit" else [PIXELS, LABELS]
        assert_is_table(load(table(tmp_path / "x.csv", *columns, names=names)))
    names = ["id", "digit", *(f"p{i}" for i in range(16))]
    with pytest.warns(UserWarning, match="the column 'id'"):
        assert_is_table(load(table(tmp_path / "x.csv", LABELS, LABELS, PIXELS, names=names)))
    names = ["a", "b", *(f"p{i}" for i in range(15))]
    assert_refused(table(tmp_path / "x.csv", LABELS, PIXELS, names=names), "17 pixels, which make no square image")


@pytest.mark.parametrize("delimiter", [";", "\t", " "])
def test_decimal_commas(tmp_path, delimiter):
    pixels = PIXELS / 4
    path = table(tmp_path / "x.csv", np.char.replace(pixels.astype(str), ".", ","), delimiter=delimiter)
    if delimiter == " ":
        assert_refused(path)  # of which nobody knows what parts columns
    else:
        np.testing.assert_array_equal(load(path).images.reshape(-1, 16), pixels)


@pytest.mark.parametrize("first", ["sep=,\n", "# made by a program\n# on a day\n", "\n\n"])
def test_what_comes_before_the_table_is_left_out(tmp_path, first):
    path = table(tmp_path / "x.csv", LABELS, PIXELS)
    assert_is_table(load(write(path, first.encode() + path.read_bytes())))
    bad = write(tmp_path / "y.csv", (first + "1,2,3,4\n" * 1024 + "1,2,3\n").encode())
    assert_refused(bad, f"line {1025 + first.count(chr(10))} has 3 pixels, not 4")


def test_names_in_a_comment(tmp_path):
    names = ["label", *(f"p{i}" for i in range(16))]
    path = tmp_path / "x.txt"
    for delimiter in (",", " "):
        np.savetxt(path, np.column_stack([LABELS, PIXELS]), "%d", delimiter, header=delimiter.join(names))
        assert_is_table(load(path))


def test_rows_that_end_with_a_delimiter(tmp_path):
    path = table(tmp_path / "x.csv", LABELS, PIXELS, end=",\r\n")
    assert_is_table(load(path))
    names = ["label", *(f"p{i}" for i in range(16))]
    assert_is_table(load(table(tmp_path / "x.csv", LABELS, PIXELS, names=names, delimiter=";", end=";\n")))


@pytest.mark.parametrize("order", ["le", "be"])
def test_text_of_16_bits(tmp_path, order):
    path = table(tmp_path / "x.csv", LABELS, PIXELS)
    mark = {"le": b"\xff\xfe", "be": b"\xfe\xff"}[order]
    assert_is_table(load(write(path, mark + path.read_text().encode(f"utf-16-{order}"))))


# ---------------------------------------------------------------- all pixels of an image in one cell


def in_one_cell(*columns, form="{}"):
    """Return lines of columns, of which the one given as "pixels" holds all pixels of an image."""
    cells = [form.format(" ".join(map(str, row))) for row in PIXELS.tolist()]
    values = [cells if isinstance(column, str) else list(map(str, column)) for column in columns]
    return [",".join(row) for row in zip(*values, strict=True)]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize(
    ("names", "columns", "form"),
    [
        ("emotion,pixels,Usage", (LABELS, "pixels", ["Training"] * 3000), "{}"),
        ("emotion, Usage, pixels", (LABELS, [" Training"] * 3000, "pixels"), " {}"),
        ("pixels,label", ("pixels", LABELS), '"[{}]"'),
    ],
)
def test_pixels_may_stand_in_one_cell(tmp_path, name, names, columns, form):
    lines = [names, *in_one_cell(*columns, form=form)]
    path = write(tmp_path / name, "\n".join(lines).encode())
    if "Usage" in names:
        with pytest.warns(UserWarning, match="the column 'Usage'"):
            assert_is_table(load(path))
    else:
        assert_is_table(load(path))


def test_pixels_in_one_cell_without_labels_or_with_words(tmp_path):
    assert_is_table(
        load(write(tmp_path / "x.csv", "\n".join(["Pixels", *in_one_cell("pixels")]).encode())), labelled=False
    )
    words = [f'"{"ab"[i]}, {i}"' for i in LABELS % 2]
    dataset = load(write(tmp_path / "y.csv", "\n".join(["label,pixels", *in_one_cell(words, "pixels")]).encode()))
    assert dataset.labels[:3].tolist() == ["a, 0", "b, 1", "a, 0"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,0 1 2 ... 14 15", r"pixels were cut off when it was written: '...' stands for some of them"),
        ("1,0 1 2 3", "the number of columns changed from 17 to 5 at row 3"),
        ("1", "the number of columns changed from 17 to 1 at row 3"),
        ("1,0 1 2 x 4 5 6 7 8 9 10 11 12 13 14 15", "could not convert string 'x' to float64 at row 2, column 5"),
    ],
)
def test_wrong_cells_of_pixels_are_refused(tmp_path, row, message):
    lines = ["label,pixels", *in_one_cell(LABELS, "pixels")[:2], row]
    assert_refused(write(tmp_path / "x.csv", "\n".join(lines).encode()), message)


@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_a_cell_may_hold_many_pixels(tmp_path, form):
    lines = ["label,pixels", *(f"{label}," + form.format(" ".join(["255"] * 200 * 200)) for label in (1, 2))]
    dataset = load(write(tmp_path / "x.csv", "\n".join(lines).encode()))
    assert dataset.images.shape == (2, 200, 200, 1)
    assert dataset.labels.tolist() == [1, 2]


def test_rows_of_many_pixels_between_blanks(tmp_path):
    rows = "\n".join([" ".join(["255"] * 200 * 200)] * 2)
    assert load(write(tmp_path / "x.txt", rows.encode())).images.shape == (2, 200, 200, 1)
