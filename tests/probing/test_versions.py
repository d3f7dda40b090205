"""What a run says of the versions that it was made with."""

from importlib.metadata import PackageNotFoundError

import pytest

import whitebox_probe as wp
from whitebox_probe._core import versions


@pytest.fixture(autouse=True)
def anew():
    """Versions are looked up once in a process."""
    versions.version_of.cache_clear()
    yield
    versions.version_of.cache_clear()


def test_a_source_tree_that_is_not_installed_measures_and_says_so(monkeypatch):
    found = versions.version

    def missing(name):
        if name == "whitebox-probe":
            raise PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(versions, "version", missing)
    result = wp.probe("crate-tiny-fmnist", "fashion-mnist", ["l0"], limit=2, progress=False)
    assert result.run.versions["whitebox-probe"] == "not installed"
    assert result.run.versions["torch"] == found("torch")
    assert wp.__version__ == "not installed"
