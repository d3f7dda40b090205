"""How tables are written: into files of any path.

pandas takes a relative path whose first folder is `http:` for an address, and Arrow a name alone
that is UTF-8.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Writer = Callable[[Path], Any]


def as_csv(frame: "pd.DataFrame") -> Writer:
    """What writes a frame as CSV, without its index."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            frame.to_csv(file, index=False)

    return write


def as_parquet(frame: "pd.DataFrame", *, index: bool | None = None) -> Writer:
    """What writes a frame as Parquet, with the index that pandas keeps if nothing is said."""

    def write(path: Path) -> None:
        path.write_bytes(frame.to_parquet(index=index))  # of a file, pandas 2 takes the name

    return write
