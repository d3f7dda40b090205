"""What a user says of data that do not say it themselves: which key, where documents end."""

from dataclasses import dataclass, fields
from typing import Any

import torch

from whitebox_probe._core.arguments import expect, one_of, told, truth
from whitebox_probe._core.errors import SettingError

WINDOWS = ("packed", "documents")
OF_SAMPLES = frozenset({"column", "label", "mask", "pixels"})
OF_TEXTS = frozenset({"column", "separator", "windows"})
OF_NAMES = OF_SAMPLES | OF_TEXTS | {"stream"}
_FOUND = ("input_name", "mask_name", "sample_axes", "dtype", "white")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How data are to be read.

    Attributes:
        column: the key or column of the images, texts or ids. label: of the classes. mask: of which
            tokens are measured.
        separator: what stands between documents: rows are joined by it, a file is divided at it.
        windows: of a text: `packed` (one stream, cut into full windows) or `documents` (one window
            each, cut off or padded).
        stream: whether a data set of the hub is read in its order while it comes, and not fetched
            whole.
        pixels: whether fractions are pixels from 0 to 1 that are to be prepared, and not inputs.
        input_name, mask_name, sample_axes, dtype: of the model: what its forward calls its input
            and the mask of its padding (None: it takes none), how many axes a sample of the example
            has that it was tried on, and the type of its weights.
        white: of the data: what it is in fractions that are pixels, where all of them are known.
    """

    column: str | None = None
    label: str | None = None
    mask: str | None = None
    separator: str | None = None
    windows: str = "packed"
    pixels: bool = False
    stream: bool = False
    input_name: str | None = None
    mask_name: str | None = None
    sample_axes: int | None = None
    dtype: torch.dtype | None = None
    white: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the data.

        Raises: SettingError.
        """
        if fix := one_of(*WINDOWS)(self.windows):
            shown = self.windows if isinstance(self.windows, str) else told(self.windows)
            why = "it says how documents become windows"
            raise SettingError(f"unknown windows '{shown}'", why, fix, setting="windows")
        expect("pixels", self.pixels, truth, "fractions are pixels, or inputs of a model")
        expect("stream", self.stream, truth, "data are read while they come, or fetched whole")
        for name in ("column", "label", "mask", "separator"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or value == ""):
                why = "it is a text of one character or more"
                raise SettingError(f"{name} is {value!r}", why, "Name it", setting=name)

    def given(self) -> dict[str, Any]:
        """What the user said, by name."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in _FOUND and getattr(self, each.name) != each.default
        }

    def expect(self, taken: frozenset[str], what: str) -> None:
        """Check that a kind of data heeds all that was said.

        Raises: SettingError for a choice that nobody would heed.
        """
        for name, value in self.given().items():
            if name not in taken:
                words = ", ".join(sorted(taken)) or "nothing"
                of_texts = ", of texts" if taken and taken <= OF_TEXTS else ""
                raise SettingError(
                    f"{name}={value!r} says nothing of {what}",
                    f"what can be chosen there is {words}{of_texts}",
                    "Leave it out",
                    setting=name,
                )
