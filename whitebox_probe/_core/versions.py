"""Which version of a package a number was made with."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache  # files were read for each pass: a seventh of a small one
def version_of(package: str) -> str:
    """The installed version, or "not installed": a source tree on the path has none.

    >>> version_of("no-such-package")
    'not installed'
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
