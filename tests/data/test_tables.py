"""Tables of pixels in text, with and without names and labels."""

import gzip
import warnings

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


def test_labels_in_single_quotes(tmp_path):
    names = [*(f"pixel{i}" for i in range(16)), "class"]
    quoted = [f"'{label}'" for label in LABELS]
    assert_is_table(load(table(tmp_path / "x.csv", PIXELS, quoted, names=names)))
    assert_reads(table(tmp_path / "x.csv", PIXELS, quoted), "the last column is taken for labels")
    words = np.array(["'", "''", "'a cat'", "dog's'", "'s"], object)[LABELS % 5]
    found = load(table(tmp_path / "x.csv", PIXELS.astype(object)[:5], words[:5], names=names)).labels
    assert found.tolist() == ["'", "''", "a cat", "dog's'", "'s"]


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
        (b"", ["it is empty"]),
        (b"label,a,b,c,d\n", ["holds a line of names, 'label', 'a', 'b', ..., and no rows"]),
        (b"label,a,b,c,d\n1,2\n", ["line of names has 5 columns and line 2 has 2"]),
        (b"1,2,3,4\n1,2,3\n", ["line 2 has 3 columns, not 4"]),
        (b"1,2,3,4\n1,2,x,4\n", ["line 2 must hold numbers, got 'x' in column 3"]),
        (b"1,2,3,4\n1,,3,4\n", ["line 2 must hold numbers, got '' in column 2"]),
        (b"label,a,b,c,d\n\n0,1,2,3,4\n\n1,1,2,?,4\n", ["line 5 must hold numbers, got '?' in column 4, 'c'"]),
        (b"label,a,b,c,d\n0,1,2,3,4\n,1,2,3,4\n", ["line 3 must hold a label, got ''"]),
        (b"label,a,b,c,d\n0,1,2,3,4\n" + b"1,1,2,3,4\n" * 2000 + b"NA,1,2,3,4\n", ["line 2003 must hold a label"]),
        (b'label,a,b,c,d\n"x\ny",1,2,3,4\n0,1,2,,4\n', ["line 4 must hold numbers"]),
        (b'label,a,b,c,d\n0,1,2,3,4\n"0,1,2,3,4\n', ["line 3 opens a quote that nothing closes"]),
        (b"1,2,3,4\n" * 1024 + b"1,2,3\n", ["line 1025 has 3 columns, not 4"]),
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
    assert_refused(
        table(tmp_path / "x.csv", LABELS, PIXELS, names=names),
        "15 pixels, which make no square image, beside the columns 'a', 'b'",
    )


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
    assert_refused(bad, f"line {1025 + first.count(chr(10))} has 3 columns, not 4")


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


# ---------------------------------------------------------------- which columns hold pixels and labels


def assert_reads(path, warning, *, labelled=True):
    with pytest.warns(UserWarning, match=warning):
        assert_is_table(load(path), labelled=labelled)


@pytest.mark.parametrize("start", [0, 1])
def test_row_numbers_without_names_are_left_out(tmp_path, start):
    numbers = np.arange(start, start + 3000)
    unread = "1 in it not read, as no images: column 1, of row numbers"
    assert_reads(table(tmp_path / "x.csv", numbers, PIXELS), unread, labelled=False)
    assert_reads(table(tmp_path / "x.csv", numbers, LABELS, PIXELS), unread)
    few = table(tmp_path / "x.csv", numbers[:4], PIXELS[:4])  # which may be labels as well
    assert load(few).labels.tolist() == numbers[:4].tolist()


def test_row_numbers_that_would_complete_a_square_are_refused(tmp_path):
    path = table(tmp_path / "x.csv", np.arange(3000), PIXELS[:, :15])
    assert_refused(path, "its column 1 counts the rows; its rows hold 15 pixels, which make no square image")
    assert load(path, image_shape=(2, 8)).images.shape == (3000, 2, 8, 1)


@pytest.mark.parametrize("corner", ["diverse", "grey"])
def test_labels_last_without_names_beside_corners_of_all_kinds(tmp_path, corner):
    pixels = PIXELS.copy()
    pixels[:, 0] = {"diverse": pixels[:, 0], "grey": [3, 20, 7, 250] * 750}[corner]
    with pytest.warns(UserWarning, match="the last column is taken for labels"):
        dataset = load(table(tmp_path / "x.csv", pixels, LABELS))
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_array_equal(dataset.images.reshape(-1, 16), pixels)


def test_a_first_column_that_does_not_look_like_labels_is_taken_for_them_aloud(tmp_path):
    values = LABELS + np.arange(3000) / 8192
    with pytest.warns(UserWarning, match="column 1 is taken for labels"):
        np.testing.assert_array_equal(load(table(tmp_path / "x.csv", values, PIXELS.astype(object))).labels, values)


def test_columns_of_other_names_than_those_of_pixels_are_none(tmp_path):
    names = ["age", "score", *(f"pixel{i}" for i in range(16)), "filename"]
    files = np.array([f"{i}.png" for i in range(3000)], object)
    path = table(tmp_path / "x.csv", LABELS, [0.5] * 2999 + [""], PIXELS.astype(object), files, names=names)
    assert_reads(path, "3 in it not read, as no images: the column 'age', the column 'score', the col", labelled=False)
    path = table(tmp_path / "x.csv", LABELS, LABELS, PIXELS[:, :14], names=["writer", *names[1:16]])
    assert_refused(path, "its rows hold 14 pixels, which make no square image, beside the columns 'writer', 'score'")
    with pytest.warns(UserWarning, match="the columns 'writer', 'score' are taken for pixels, too"):
        assert load(path, image_shape=(4, 4)).images.shape == (3000, 4, 4, 1)


@pytest.mark.parametrize(
    ("name", "values"), [("split", ["train", "test"] * 1500), ("ImageId", range(1, 3001)), ("id", LABELS)]
)
def test_a_column_that_cannot_hold_labels_is_none_of_labels(tmp_path, name, values):
    names = [*(f"pixel{i}" for i in range(16)), name]
    path = table(tmp_path / "x.csv", PIXELS.astype(object), np.array(values, object), names=names)
    assert_reads(path, f"the column '{name}'", labelled=False)


def test_columns_of_one_name_with_labels_among_them(tmp_path):
    path = table(tmp_path / "x.csv", LABELS, PIXELS, names=[f"V{i}" for i in range(1, 18)])
    assert_reads(path, "the column 'V1' is taken for labels")
    pixels = np.column_stack([PIXELS, PIXELS[:, ::-1]])[:, :17]
    assert_refused(table(tmp_path / "x.csv", pixels, names=[f"V{i}" for i in range(1, 18)]), "hold 17 pixels")


NAMES = {  # of pixels, by how many numbers they have
    "one": [f"pixel{i}" for i in range(16)],
    "padded": [f"px_{i:03}" for i in range(5, 21)],
    "two": [f"{row}x{col}" for row in (9, 10) for col in range(6, 14)],
    "three": [f"p{row}.{col}.{channel}" for row in range(8, 12) for col in range(2) for channel in range(2)],
}


@pytest.mark.parametrize("label", [0, 7, 16, None])
@pytest.mark.parametrize("kind", NAMES)
def test_pixels_are_in_the_order_of_the_numbers_in_their_names(tmp_path, kind, label):
    columns = dict(zip(NAMES[kind], PIXELS.T, strict=True)) | {"label": LABELS}
    warning = "its pixels are put in the order of the numbers in their names, " + ", ".join(map(repr, NAMES[kind][:3]))
    orders = [NAMES[kind][::-1], NAMES[kind][5:] + NAMES[kind][:5], sorted(NAMES[kind])]
    for names in orders[: 2 if kind == "padded" else 3]:
        written = names if label is None else [*names[:label], "label", *names[label:]]
        path = table(tmp_path / "x.csv", *(columns[name] for name in written), names=written)
        assert_reads(path, warning, labelled=label is not None)


def test_names_that_are_numbers_in_the_order_of_words(tmp_path):
    order = sorted(range(16), key=str)
    path = table(tmp_path / "x.csv", PIXELS[:, order], LABELS, names=[*map(str, order), "label"])
    assert_reads(path, "its pixels are put in the order of the numbers in their names, '0', '1', '2', ...")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_is_table(load(table(tmp_path / "x.csv", PIXELS[:, order], names=[*map(str, order)])), labelled=False)
    assert [str(each.message).partition("csv: ")[2] for each in caught] == [
        "its pixels are put in the order of the numbers in their names, '0', '1', '2', ...",
        "1 in it not read, as no images: the line of names 0, 1, 10, ...",
    ]


@pytest.mark.parametrize("at", [0, 16])
def test_labels_at_an_edge_of_pixels_whose_names_tell_their_order(tmp_path, at):
    columns = np.insert(PIXELS, at, LABELS, axis=1)
    order = sorted(range(1, 18), key=str)
    path = table(tmp_path / "x.csv", columns[:, np.array(order) - 1], names=[f"V{i}" for i in order])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_is_table(load(path))
    assert [str(each.message).partition("csv: ")[2] for each in caught] == [
        "its pixels are put in the order of the numbers in their names, 'V1', 'V2', 'V3', ...",
        f"the column 'V{at + 1}' is taken for labels",
    ]


@pytest.mark.parametrize(
    "names",
    [
        [f"{col}x{row}" for row in range(4) for col in range(4)],  # x and y
        [f"pixel{i}" for i in [*range(8, 17), *range(7)]],  # without 7
        [f"pixel{i}" for i in [9, *range(15, 0, -1)]],  # twice 9
        [f"p{'-_'[i % 2]}{i}" for i in range(15, -1, -1)],
        [f"p{i}.0.0.0" for i in range(15, -1, -1)],
    ],
)
def test_pixels_whose_order_their_names_do_not_tell_stay_as_they_are(tmp_path, names):
    assert_is_table(load(table(tmp_path / "x.csv", PIXELS, names=names)), labelled=False)


def test_many_columns_of_odd_names_are_taken_for_pixels_aloud(tmp_path):
    names = [letter * 3 for letter in "abcdefghijklmnop"]
    assert_reads(
        table(tmp_path / "x.csv", PIXELS, names=names), "the columns 'aaa', 'bbb', 'ccc', ... are", labelled=False
    )


def test_names_of_rows_without_a_name_are_left_out(tmp_path):
    names = ["label", *(f"pixel{i}" for i in range(16))]  # as R writes them
    path = table(tmp_path / "x.csv", np.arange(3000), LABELS, PIXELS, names=names)
    assert_reads(path, "1 in it not read, as no images: the column ''")


def test_words_without_names_are_labels_or_files(tmp_path):
    files = np.array([f"{i}.png" for i in range(3000)], object)
    words = np.array(["cat", "dog"], object)[LABELS % 2]
    with pytest.warns(UserWarning, match="column 1, of words"):
        dataset = load(table(tmp_path / "x.csv", files, words, PIXELS.astype(object)))
    assert dataset.labels.tolist() == words.tolist()
    np.testing.assert_array_equal(dataset.images.reshape(-1, 16), PIXELS)


def test_lists_of_files_are_no_tables_of_pixels(tmp_path):
    path = write(tmp_path / "x.csv", b"filename,label\na/1.png,cat\na/2.png,dog\n")
    assert_refused(
        path, "must hold columns of pixels, got none, beside words such as 'a/1.png' in the column 'filename'"
    )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [int, float])
def test_pixels_of_0_and_1_are_black_and_white(tmp_path, dtype):
    images = load(table(tmp_path / "x.csv", (PIXELS > 99).astype(dtype))).images
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images.reshape(-1, 16), PIXELS > 99)
    assert load(table(tmp_path / "x.csv", PIXELS.astype(float))).images.dtype == np.uint8


def test_decimal_commas_beside_words(tmp_path):
    words = np.array(["cat, black", "1,5 l"], object)[LABELS % 2]
    pixels = np.char.replace((PIXELS / 4).astype(str), ".", ",").astype(object)
    names = [*(f"p{i}" for i in range(16)), "class"]
    for columns, quote in (([pixels, words], ""), ([pixels, [f'"{word}"' for word in words]], '"')):
        dataset = load(table(tmp_path / "x.csv", *columns, names=names, delimiter=";"))
        np.testing.assert_array_equal(dataset.images.reshape(-1, 16), PIXELS / 4)
        assert dataset.labels.tolist() == words.tolist(), quote


def test_large_numbers_are_labels_without_loss(tmp_path):
    numbers = np.array([2**53, 2**53 + 1, -(2**63)])
    assert load(table(tmp_path / "x.csv", numbers, PIXELS[:3])).labels.tolist() == numbers.tolist()
    path = table(tmp_path / "x.csv", np.array([2**63, 1], object), PIXELS[:2])
    assert_refused(path, "its labels must be integers from -2**63 to 2**63 - 1")


def test_labels_may_become_words_after_many_numbers(tmp_path):
    labels = np.array(["0"] * 2999 + ["A"], object)
    names = ["label", *(f"pixel{i}" for i in range(16))]
    path = table(tmp_path / "x.csv", labels, PIXELS.astype(object), names=names)
    assert load(path).labels.tolist() == labels.tolist()


def test_text_that_is_not_utf_8_is_read_as_windows_1252(tmp_path):
    words = np.array(["Mädchen", "Junge – 5 €"], object)[LABELS % 2]
    names = ["label", *(f"pixel{i}" for i in range(16))]
    path = table(tmp_path / "x.csv", words, PIXELS.astype(object), names=names)
    path.write_bytes(path.read_text("utf-8").encode("cp1252"))
    with pytest.warns(UserWarning, match="its text is not UTF-8, and is read as Windows-1252"):
        assert load(path).labels.tolist() == words.tolist()
    path.write_bytes(path.read_bytes().replace(b"Junge", b"\x81"))
    assert_refused(path, "its text is neither UTF-8 nor Windows-1252; save it as UTF-8")


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
        ("1,0 1 2 3", "line 4 has 4 pixels, not 16"),
        ("1", "line 4 has 0 pixels, not 16"),
        ("1,0 1 2 x 4 5 6 7 8 9 10 11 12 13 14 15", "line 4 must hold numbers, got 'x' among its pixels"),
    ],
)
def test_wrong_cells_of_pixels_are_refused(tmp_path, row, message):
    lines = ["label,pixels", *in_one_cell(LABELS, "pixels")[:2], row]
    assert_refused(write(tmp_path / "x.csv", "\n".join(lines).encode()), message)


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("name", ["pixels", "img"])
def test_a_cell_of_pixels_may_go_on_in_the_next_line(tmp_path, name, delimiter):
    lines = [f"label{delimiter}{name}"]
    for label, row in zip(LABELS.tolist(), PIXELS, strict=True):
        lines.append(f'{label}{delimiter}"{np.array2string(row, max_line_width=30)}"')
    path = write(tmp_path / "x.csv", "\n".join(lines).encode())
    assert path.read_text().count("\n") > 2 * len(PIXELS)
    assert_is_table(load(path))


def test_a_cell_of_pixels_without_names(tmp_path):
    lines = in_one_cell(LABELS, "pixels", ["Training"] * 3000)
    path = write(tmp_path / "x.csv", "\n".join(lines).encode())
    with pytest.warns(UserWarning, match="column 1 is taken for labels|1 in it not read, as no images: column 3"):
        assert_is_table(load(path))


def test_of_many_columns_beside_a_cell_of_pixels_none_is_guessed_for_labels(tmp_path):
    lines = ["age,gender,img_name,pixels", *in_one_cell(LABELS, LABELS % 2, [f"{i}.jpg" for i in LABELS], "pixels")]
    path = write(tmp_path / "x.csv", "\n".join(lines).encode())
    assert_reads(path, "3 in it not read, as no images: the column 'age'", labelled=False)


@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_a_cell_may_hold_many_pixels(tmp_path, form):
    lines = ["label,pixels", *(f"{label}," + form.format(" ".join(["255"] * 200 * 200)) for label in (1, 2))]
    dataset = load(write(tmp_path / "x.csv", "\n".join(lines).encode()))
    assert dataset.images.shape == (2, 200, 200, 1)
    assert dataset.labels.tolist() == [1, 2]


def test_rows_of_many_pixels_between_blanks(tmp_path):
    rows = "\n".join([" ".join(["255"] * 200 * 200)] * 2)
    assert load(write(tmp_path / "x.txt", rows.encode())).images.shape == (2, 200, 200, 1)
