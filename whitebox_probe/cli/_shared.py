"""What several commands share: options, tables, and the summary of a result."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whitebox_probe._core.errors import ProbeError

if TYPE_CHECKING:
    import pandas as pd

    from whitebox_probe.results import Result


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Rows in aligned columns; numbers to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    numeric = [
        all(row[i][:1] in "-0123456789" for row in rows if row[i]) and bool(rows)
        for i in range(len(header))
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def new_folder(path: Path, *, overwrite: bool) -> Path:
    """Check that a result can be written there.

    Raises: ProbeError when a result is there already, or the path is a file.
    """
    if path.exists() and not path.is_dir():
        raise ProbeError(f"{path} is a file", "a result is a folder", "Name another --out")
    if (path / "run.json").exists() and not overwrite:
        raise ProbeError(
            f"{path} holds a result already",
            "it would be lost",
            "Name another --out, or add --overwrite",
        )
    return path


def summary(results: Iterable["Result"], metrics: Sequence[tuple[str, str]]) -> str:
    """First and last layer of some measures, with 95% intervals, and the change between them."""
    rows = []
    for metric, title in metrics:
        for result in results:
            if metric not in set(result.frame["metric"]):
                continue
            for site, curve in result.frame[result.frame["metric"] == metric].groupby("site"):
                ordered = curve.sort_values("layer")
                first, last = ordered.iloc[0], ordered.iloc[-1]
                change = last["mean"] - first["mean"]
                rows.append(
                    [title, result.model, str(site), _cell(first), _cell(last), f"{change:+.4g}"]
                )
    return table(rows, ["measure", "model", "site", "layer 1", "last layer", "change"])


def _cell(row: "pd.Series[float]") -> str:
    if row["ci_low"] != row["ci_low"]:  # NaN: read from weights, or one sample
        return f"{row['mean']:.4g}"
    return f"{row['mean']:.4g} [{row['ci_low']:.4g}, {row['ci_high']:.4g}]"


def names(text: str) -> list[str]:
    """A comma-separated list, as an argparse type."""
    return [part.strip() for part in text.split(",") if part.strip()]
