"""A new kind of data, and a new named data set, are one file each; or another package's."""

import sys

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe import data as rooms
from whitebox_probe._core.errors import PluginError, ProbeError
from whitebox_probe.cli import main as cli
from whitebox_probe.data import catalogue, names, open_data
from whitebox_probe.data.text import TextReader

KIND = '''
"""An archive of NumPy."""

from pathlib import Path

import numpy as np
import torch

from whitebox_probe.data.kind import Kind, Opened


class Archives(Kind):
    """The array `images` of a NumPy archive, by an ending of its own."""

    name = "archive"
    words = "a NumPy archive (.pics)"
    by_path = True
    exempt = {"not finite": "it is a test"}

    def takes(self, data):
        return isinstance(data, str | Path) and Path(data).suffix == ".pics"

    def open(self, data, transform):
        with np.load(data) as file:
            images = torch.from_numpy(file["images"])
        return Opened(images, Path(data).stem, str(float(images.sum())))

    def examples(self, folder):
        return {}
'''
NAMED = '''
"""Squares of one colour."""

import numpy as np

NAMES = {"squares": "ten squares of one colour", "squares:few": "two of them"}


def read(name):
    count = 2 if name.endswith("few") else 10
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 12, 12, 3))
    return images.astype(np.uint8), np.arange(count)


def about(name):
    return {"read from": "nowhere"}
'''


def forget():
    for cached in (catalogue.kinds, catalogue.added, catalogue._entries, names.readers):
        cached.cache_clear()


@pytest.fixture
def clean(monkeypatch):
    """What a test adds is gone after it."""
    before = set(sys.modules)
    yield
    monkeypatch.undo()
    forget()
    for module in set(sys.modules) - before:
        if module.rpartition(".")[2] in ("archives", "squares", "toy_data", "other_data"):
            vars(rooms).pop(module.rpartition(".")[2], None)
            del sys.modules[module]


@pytest.fixture
def put(tmp_path, monkeypatch, clean):
    """Put a file into a folder that counts as whitebox_probe/data: (name, its code) -> nothing."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(rooms, "__path__", [*rooms.__path__, str(folder)])

    def write(name, code):
        (folder / f"{name}.py").write_text(code)
        forget()

    return write


@pytest.fixture
def install(tmp_path, monkeypatch, clean):
    """Install a distribution of one module: (its code, its entry points) -> nothing."""

    def write(code, *entries, package="toy_data"):
        name = package.replace("_", "-")
        folder = tmp_path / "site"
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{package}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{entry} = {package}{thing}" for entry, thing in entries)
        (info / "entry_points.txt").write_text(f"[{catalogue.GROUP}]\n{lines}\n")
        monkeypatch.syspath_prepend(folder)
        forget()

    return write


@pytest.fixture
def archive(tmp_path):
    images = torch.randn(6, 3, 12, 12).numpy()
    np.savez(tmp_path / "pictures.npz", images=images)
    return (tmp_path / "pictures.npz").rename(tmp_path / "pictures.pics")


def probed(data, **options):
    torch.manual_seed(0)
    preprocess = wp.Preprocess(size=12, mean=(0.5,) * 3, std=(0.5,) * 3)
    model = wp.wrap(small_crate(), preprocess=preprocess)
    return wp.probe(model, data, ["l0"], progress=False, **options)


def check_archive(path):
    for data in (path, str(path)):
        result = probed(data)
        assert result.run["data"]["name"] == "pictures"
        assert len(result.samples) == 6
    with np.load(path) as file:
        same = probed(torch.from_numpy(file["images"]))
    assert (result.samples == same.samples).all(axis=None)


def check_squares(capsys):
    assert len(probed("squares").samples) == 10
    assert len(probed("squares:few").samples) == 2
    assert cli.main(["info", "squares"]) == 0
    assert "ten squares of one colour" in capsys.readouterr().out


def test_a_new_kind_is_one_file(put, archive, capsys):
    with pytest.raises(ProbeError, match="it is a file"):
        open_data(archive)
    put("archives", KIND)
    check_archive(archive)
    with pytest.raises(ProbeError, match=r"a NumPy archive \(\.pics\)"):
        open_data("no-such-data")
    assert cli.main(["list", "--data"]) == 0
    assert "a NumPy archive (.pics)" in capsys.readouterr().out


def test_a_new_named_data_set_is_one_file(put, capsys):
    put("squares", NAMED)
    check_squares(capsys)
    with pytest.raises(ProbeError, match="Did you mean 'squares'"):
        open_data("sqares")
    assert cli.main(["list", "--data"]) == 0
    assert "squares:few" in capsys.readouterr().out


def test_a_kind_comes_before_the_general_one_whatever_its_file_is_called(put):
    """A list is a data set as well: the kind that is made for it takes it."""
    code = KIND.replace("return isinstance", "return isinstance(data, list) or isinstance")
    code = code.replace("np.load(data)", "open(__file__)")
    code = code.replace('file["images"]', "np.zeros((4, 2))").replace("Path(data).stem", '"zeros"')
    assert open_data([torch.ones(2)] * 3).name == "list"
    for name in ("archives", "squares"):
        put(name, code.replace("archive", name))
        if name == "archives":
            assert open_data([torch.ones(2)] * 3).name == "zeros"
    with pytest.raises(ProbeError, match="of several kinds: archives and squares take them"):
        open_data([torch.ones(2)] * 3)


def test_a_new_kind_is_another_packages(install, archive, capsys):
    install(KIND, ("archive", ":Archives"))
    check_archive(archive)
    with pytest.raises(ProbeError) as error:
        open_data("no-such-data")
    assert "a NumPy archive (.pics)" in error.value.fix + error.value.why
    assert cli.main(["list", "--data"]) == 0
    assert "archive" in capsys.readouterr().out


def test_a_new_named_data_set_is_another_packages(install, capsys):
    install(NAMED, ("squares", ""))
    check_squares(capsys)
    with pytest.raises(ProbeError, match="Did you mean 'squares'"):
        open_data("sqares")


BROKEN = {
    "raises": ("raise ZeroDivisionError('on\\nimport')", "ZeroDivisionError: on"),
    "lacks it": ("x = 1", "AttributeError.*Archives"),
    "no kind": ("class Archives: name = 'archive'", "it gives Archives 'archive'.*a subclass"),
    "another name": (KIND.replace('"archive"', '"archiv"'), "whose name is 'archive'"),
    "incomplete": (KIND.replace("def examples", "def example"), "TypeError.*abstract"),
    "takes fails": (KIND.replace("return isinstance", "return data.x or "), "AttributeError"),
    "open fails": (KIND.replace('["images"]', '["pictures"]'), "KeyError"),
    "opens otherwise": (KIND.replace("return Opened", "return "), "as tuple, not as Opened"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_package_is_named_in_one_line(install, archive, what):
    code, told = BROKEN[what]
    install(code, ("archive", ":Archives"))
    with pytest.raises(PluginError, match=f"'archive' of toy-data.*{told}") as error:
        open_data(archive)
    assert "\n" not in str(error.value)
    assert open_data(torch.ones(2, 3)).count == 2
    assert open_data([torch.ones(3)]).count == 1


def test_nothing_of_another_package_is_imported_for_what_is_ours(install, tmp_path):
    install("raise ZeroDivisionError", ("archive", ":Archives"))
    (tmp_path / "book.txt").write_text("words " * 20)
    open_data(tmp_path / "book.txt", transform=TextReader("bytes", 8))
    assert len(probed("fashion-mnist", limit=5).samples) == 5
    assert cli.main(["list", "--data"]) == 0
    assert cli.main(["info", "fashion-mnist"]) == 0
    assert "toy_data" not in sys.modules


@pytest.mark.parametrize(
    ("code", "entry", "told"),
    [
        (
            KIND.replace('"archive"', '"tensor"'),
            ("tensor", ":Archives"),
            "whitebox-probe has one of that",
        ),
        (NAMED.replace('"squares"', '"kjv"'), ("x", ""), "has a data set 'kjv'"),
    ],
)
def test_a_name_that_is_taken_raises(install, code, entry, told):
    install(code, entry)
    with pytest.raises(PluginError, match=f"of toy-data.*{told}"):
        open_data("no-such-data")


def test_two_packages_with_one_name_raise(install):
    install(KIND, ("archive", ":Archives"))
    install(KIND, ("archive", ":Archives"), package="other_data")
    with pytest.raises(PluginError, match="has one of that name"):
        open_data("no-such-data")
