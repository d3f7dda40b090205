"""A thing in one line; text from a file, fit to be shown."""

from collections.abc import Sequence

LINE = 150  # characters
_NAME = 40
_WORD = 160
_LEAST = 130  # of a part of a sentence that is cut
_READ = 1 << 14
SHOWN = 80
"""Characters that are shown of a name from a file."""
# What is drawn as nothing and yet counts as printable: fillers, joiners, selectors of variants.
_UNSEEN = frozenset(
    chr(code)
    for first, last in (
        *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800)),
        *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF)),
    )
    for code in range(first, last + 1)
)


def shown(text: object, most: int | None = SHOWN) -> str:
    r"""Text that is data, as it may be printed: nothing of it acts, and there is not too much.

    Control characters, escape sequences, marks that turn the direction of writing and characters
    without width are written as Python writes them. Long text keeps its beginning and its end.

    Args: most: characters that are left; None for all.

    >>> print(shown("layer\x1b[2J\u202e"), shown("a" * 99, 9))
    layer\x1b[2J\u202e aaa...aaa
    """
    told = str(text)
    if most is not None and len(told) > most:
        half = max(1, (most - 3) // 2)
        told = f"{told[:half]}...{told[-half:]}"
    if told.isascii() and told.isprintable():
        return told
    told = "".join(map(_seen, told))
    return told if most is None or len(told) <= 2 * most else f"{told[: most - 3]}..."


def in_characters(text: str) -> str:
    r"""Text that can be written: bytes of a name that are no UTF-8 are escaped.

    >>> print(in_characters("caf\udce9"))
    caf\udce9
    """
    return text.encode("utf-8", "backslashreplace").decode()


def sentence(what: str, why: str, fix: str, most: int) -> str:
    """What happened, why, and what to do, in one line that can be printed.

    Long words, as of a path, are cut in their middle; then the longest of the three parts at its
    end, until all have room.

    Args: most: characters, 400 or more.
    """
    parts = []
    for part in (what, why, fix):
        words = part[:_READ].split() + (["..."] if len(part) > _READ else [])
        parts.append(" ".join(shown(word, _WORD) for word in words))
    parts = [parts[0], *(part.rstrip(". ") for part in parts[1:])]
    while (over := sum(map(len, parts)) + 5 - most) > 0:
        at = max(range(3), key=lambda i: len(parts[i]))
        room = max(_LEAST, len(parts[at]) - over)
        parts[at] = f"{parts[at][: room - 4].rstrip(' .,')} ..."
    return f"{parts[0]}: {parts[1]}. {parts[2]}."


def _seen(character: str) -> str:
    if character.isprintable() and character not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


def names(several: Sequence[str], *, most: int = 2) -> str:
    """Names, shortened in their middle; of more than a few, the first and how many there are.

    >>> names(["a", "b", "c"]), names(["a", "b"])
    ('a, b and 1 more', 'a, b')
    """
    told = ", ".join(map(short, several[:most]))
    return f"{told} and {len(several) - most} more" if len(several) > most else told


def short(text: str, most: int = _NAME) -> str:
    """Text of so many characters at most, on one line.

    >>> short("vit_giant_patch14_reg4_dinov2.lvd142m", 16)
    'vit_gia…lvd142m'
    """
    text = shown(" ".join(text.split()), None)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
