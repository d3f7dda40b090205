"""What is told of a part of the data that is no sample: counted, named, and in the record."""

from collections.abc import Mapping, Sequence

from whitebox_probe._core.errors import LoadWarning


class LeftOutWarning(LoadWarning):
    """Files of a folder or frames of them, rows, or samples that a loader drops: not measured."""


def in_words(left_out: Mapping[str, Sequence[str]]) -> str:
    """How much is left out, why, and the first of each sort."""
    return ", ".join(
        f"{len(names)} {why} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for why, names in left_out.items()
    )
