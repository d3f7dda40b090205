"""Which files a path or a pattern names: all of them, or a line that says which is none."""

import os

import pytest

from whitebox_probe._core.errors import DataError
from whitebox_probe.data._paths import files_of


@pytest.fixture
def folder(tmp_path):
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("pattern", ["[0-9].txt", "?.txt", "{1,2,3}.txt", "{1..3}.txt", "**/*.txt"])
@pytest.mark.parametrize("kind", ["link to nothing", "pipe"])
def test_what_is_named_and_is_no_file_is_told(folder, pattern, kind):
    if kind == "pipe":
        os.mkfifo(folder / "3.txt")
    else:
        (folder / "3.txt").symlink_to(folder / "gone")
    with pytest.raises(DataError, match=rf"3\.txt cannot be read: it is a {kind}"):
        files_of(folder / pattern)


def test_folders_are_passed_over_and_links_are_followed(folder):
    (folder / "a.txt").mkdir()
    (folder / "3.txt").symlink_to(folder / "1.txt")
    found = files_of(folder / "*.txt")
    assert [each.name for each in found] == ["1.txt", "2.txt", "3.txt"]
    assert files_of(folder / "3.txt") == [folder / "3.txt"]


def test_a_pattern_that_nothing_fits(folder):
    with pytest.raises(DataError, match="no file fits the pattern"):
        files_of(folder / "*.csv")
    with pytest.raises(DataError, match="there is no such file"):
        files_of(folder / "{1..9}.txt")
