"""`--json`: what a command tells, for programs. docs/command-line.md has the keys."""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document, and nothing else, on stdout"
    )


def tell(document: Mapping[str, Any]) -> None:
    """Print the document; what is not finite is null, as JSON has no such numbers."""
    print(json.dumps(plain(document), indent=2, ensure_ascii=True, allow_nan=False))


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table, a mapping each."""
    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def plain(thing: Any) -> Any:
    """Numbers, text, lists and mappings of what JSON can hold.

    >>> plain({"a": (1, float("nan")), "b": Path("x")})
    {'a': [1, None], 'b': 'x'}
    """
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple, set, frozenset)):
        return [plain(value) for value in thing]
    if isinstance(thing, Path):
        return str(thing)
    if hasattr(thing, "item") and getattr(thing, "ndim", None) == 0:
        thing = thing.item()  # a NumPy scalar
    elif hasattr(thing, "tolist"):
        return plain(thing.tolist())
    if thing is None or isinstance(thing, (bool, int, str)):
        return thing
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    return None if str(thing) in ("<NA>", "NaT") else str(thing)
