"""Text from users as a page shows it: nothing hidden in it, and no longer than there is room."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from whitebox_probe._core.lines import short

NAME = 48
"""Characters of a name; a longer one is shortened in its middle."""
# Controls, marks of writing direction, what has no width, and what ends a line unseen: each can
# make a text look like another one.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def visible(text: str) -> str:
    r"""Text in which each hidden character is written out; tabs and line ends stay.

    >>> print(visible("a\u202eb\x00"))
    a\u202eb\u0000
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def name(text: object) -> str:
    """A name as tables and figures show it.

    >>> name("vit" * 40)
    'vitvitvitvitvitvitvitvi…itvitvitvitvitvitvitvit'
    """
    return short(visible(unicodedata.normalize("NFC", str(text))), NAME)


def names(several: Sequence[str]) -> dict[str, str]:
    """What each is called: two that would be cut to one text keep their number."""
    found: dict[str, str] = {}
    for each in several:
        told, count = name(each), 2
        while told in found.values():
            told, count = f"{name(each)} ({count})", count + 1
        found[each] = told
    return found


def plain(value: Any) -> Any:
    """A value as JSON holds it: NaN and infinities as null, hidden characters written out."""
    if isinstance(value, Mapping):
        return {visible(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, str):
        return visible(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
