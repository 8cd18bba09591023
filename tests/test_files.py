"""Files are replaced only by complete new ones."""

import contextlib

from cvae.files import replaced_file


def test_a_file_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a file.png"
    path.write_bytes(b"old")
    with contextlib.suppress(KeyboardInterrupt), replaced_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with replaced_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
