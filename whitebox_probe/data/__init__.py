"""Data that a probe reads: registry names, folders, tensors, data sets and loaders.

`open_data` gives one `Source` for all of them: samples with stable numbers, labels where there are
any, and what tells each of them apart, so that two runs are known to have seen the same data.

The room can be called: `wp.data(...)` is `data.given.data`, whatever of the room is imported.
"""

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from whitebox_probe.data.source import Source, open_data

if TYPE_CHECKING:
    from whitebox_probe.data.given import Data

__all__ = ["Source", "open_data"]


class _Callable(ModuleType):
    """A module that is a function too: a package of this name would hide `wp.data` otherwise."""

    def __call__(self, *args: Any, **options: Any) -> "Data":
        """As `whitebox_probe.data.given.data`."""
        from whitebox_probe.data.given import data

        return data(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """Of that function, for help and editors."""
        from whitebox_probe.data.given import data

        return inspect.signature(data)


sys.modules[__name__].__class__ = _Callable
