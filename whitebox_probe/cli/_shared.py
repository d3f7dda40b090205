"""What several commands share: options, checks of where to write, and tables."""

import argparse
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core import words
from whitebox_probe._core.errors import ProbeError, expect_names_differ, nearest
from whitebox_probe._core.gate import Unfit, parse_json
from whitebox_probe._core.io import atomic_path, temporary_folder
from whitebox_probe._core.lines import shown
from whitebox_probe.cli import _numbers, _screen
from whitebox_probe.cli._screen import table as table
from whitebox_probe.results import kinds
from whitebox_probe.results.folder import expect_room, is_own

if TYPE_CHECKING:
    import pandas as pd

    from whitebox_probe.checkpoints import Checkpoint
    from whitebox_probe.results.result import Result

TIMM, HF = "timm:", "hf:"
LIBRARIES = (TIMM, HF)
FORMATS = ("pdf", "png", "svg", "pgf")
TABLES = {"latex": "tex", "markdown": "md"}
_DEEPEST = 200


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_figure_options(parser: argparse.ArgumentParser) -> None:
    """Add what figures of a measure against depth share."""
    add = parser.add_argument
    add(
        "--band",
        choices=("ci", "std", "sem", "none"),
        default="ci",
        help="what is shaded: 95%% interval of the mean, std over samples, "
        "standard error of the mean, or nothing",
    )
    add(
        "--relative-depth",
        action="store_true",
        help="draw against layer / number of layers, for models of different depth",
    )
    add_drawing(parser)


def add_drawing(parser: argparse.ArgumentParser, *, width: str = "each figure's own") -> None:
    """Add how figures look and are saved, which `drawing` brings into force."""
    add = parser.add_argument
    add(
        "--format",
        "--formats",
        dest="formats",
        type=names,
        default="pdf,png",
        metavar="A,B,...",
        help="file formats, of pdf, png (300 dpi), svg and pgf",
    )
    add(
        "--style",
        type=name_or_path,
        metavar="FILE|NAME",
        help="a style sheet of matplotlib; what it says wins over the package's style",
    )
    add(
        "--width",
        choices=("column", "text"),
        help=f"of a paper's column (3.4 inches) or text (6.8 inches); default: {width}",
    )


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add `--table`, which `write_tables` obeys."""
    parser.add_argument(
        "--table",
        dest="tables",
        type=names,
        default="",
        metavar="A,B,...",
        help="write the table for a paper too: latex (booktabs, siunitx), markdown",
    )


def check_tables(args: argparse.Namespace) -> None:
    """Refuse an unknown form before any work is done.

    Raises: ProbeError.
    """
    for form in args.tables:
        if form not in TABLES:
            raise ProbeError(
                f"there are no tables in '{form}'", "it is unknown", nearest(form, TABLES)
            )


def write_tables(args: argparse.Namespace, thing: Any, stem: str, folder: Path) -> list[Path]:
    """The table of a comparison or an audit in the forms asked for; returns the files."""
    paths = []
    for form in args.tables:
        paths.append(folder / f"{stem}.{TABLES[form]}")
        with atomic_path(paths[-1]) as path:
            path.write_text(getattr(thing, f"to_{form}")(), encoding="utf-8")
    return paths


@contextmanager
def drawing(args: argparse.Namespace) -> Iterator[None]:
    """The style sheet that was asked for, in force; formats are checked before any work is done.

    Raises: ProbeError for a format that cannot be written, or a style that there is not.
    """
    from whitebox_probe.plots._settings import using
    from whitebox_probe.plots.saving import checked

    checked(args.formats)
    with using(args.style):
        yield


path = words.path


def name_or_path(text: str) -> str:
    """What names a thing or a file, as it is: the bytes of a file's name may be no UTF-8."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty, as a variable is that is not set")
    return text


def as_text(text: str) -> str:
    """A word of the command line, whose bytes are UTF-8 whatever the language of the machine.

    Raises: UnicodeError.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that the machine's encoding lacks stand for themselves
        return os.fsencode(text).decode("utf-8")
    return text


def place(text: str) -> Path:
    """The path of what is to be written, as an argparse type."""
    found = path(text)
    try:
        str(found).encode()
    except UnicodeEncodeError as error:
        told = f"'{shown(text)}' holds bytes that are no UTF-8"
        raise argparse.ArgumentTypeError(told) from error
    if len(found.parts) > _DEEPEST:
        raise argparse.ArgumentTypeError(f"a path of {len(found.parts)} folders is too deep")
    return found


BY_PATH = (path, place, name_or_path)
"""Types of arguments that may be names of files."""


def count(text: str) -> int:
    """A whole number of at least 1, as an argparse type."""
    try:
        value = _numbers.whole(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return value


def names(text: str) -> list[str]:
    """A comma-separated list, as an argparse type."""
    return [part.strip() for part in text.split(",") if part.strip()]


def pair(text: str) -> tuple[str, str]:
    """`KEY=VALUE`, as an argparse type; the value as it is typed."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE, as in heads=6")
    return key.strip(), value.strip()


def setting(text: str) -> tuple[str, Any]:
    """`KEY=VALUE`, as an argparse type; what is JSON (numbers, true, null, lists) is read as it.

    >>> setting("lam=0.5"), setting("model_type=gpt2")
    (('lam', 0.5), ('model_type', 'gpt2'))
    """
    key, value = pair(text)
    try:
        return key, parse_json(value)
    except Unfit:
        return key, value


def settings(pairs: Sequence[tuple[str, Any]], of: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of a network by name, for the function that passes them on.

    Raises: ProbeError for one that is given twice, or that is the function's own.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found or key in inspect.signature(of).parameters:
            raise ProbeError(
                f"'{key}' cannot be set",
                "it is given twice" if key in found else "it is no argument of a network",
                "Give each once" if key in found else "Use the option of that name",
            )
        found[key] = value
    return found


def named(name: str) -> "Checkpoint":
    """The registry's checkpoint of that name, `timm:NAME` or `hf:NAME`; imports no torch."""
    from whitebox_probe import checkpoints

    if name.startswith(HF):
        from whitebox_probe.models.hub import hub_entry

        return hub_entry(name.removeprefix(HF))
    if not name.startswith(TIMM):
        return checkpoints.entry(name)
    from whitebox_probe.models.hub import expect_timm

    model = name.removeprefix(TIMM)
    expect_timm(model)
    return checkpoints.Checkpoint(
        name=model,
        family="timm_vit",
        arch={"model": model},
        source={"kind": "timm", "name": model},
    )


def writable(folder: Path) -> Path:
    """Check, before any work is done, that files can be written below `folder`.

    Raises: ProbeError when it, or the nearest folder above it that exists, refuses a file.
    """
    there = folder
    while not there.exists() and there != there.parent:
        if there.is_symlink():
            why = f"{there} is a link to nothing"
            raise ProbeError(f"nothing can be written to {folder}", why, "Name another --out")
        there = there.parent
    if not there.is_dir():
        raise ProbeError(
            f"nothing can be written to {folder}", f"{there} is a file", "Name another --out"
        )
    try:
        with temporary_folder(there, "writable"):
            pass
    except OSError as error:
        raise ProbeError(
            f"nothing can be written to {folder}",
            f"{there}: {error.strerror}",
            "Name another --out",
        ) from error
    return folder


def fillable(folder: Path, kind: str) -> Path:
    """Check, before any work is done, that files can be written into `folder`.

    Args: kind: what it is to hold, as `results/kinds.py` calls it.
    Raises: ProbeError when it refuses one, holds something of another kind, or a folder that has
        the name of one.
    """
    writable(folder)
    names = {*kinds.FILES.get(kind, ()), *kinds.TOGETHER.get(kind, ())}
    _expect_no_folders([folder / name for name in sorted(names)])
    expect_room(folder, kind)
    return folder


def _expect_no_folders(paths: Iterable[Path]) -> None:
    """Check that no folder is in the place of a file that is to be written.

    Raises: ProbeError.
    """
    for path in paths:
        if path.is_dir():
            raise ProbeError(
                f"nothing can be written to {path.parent}",
                f"{path.name} in it is a folder, in the way of a file of that name",
                "Move it away, or name another --out",
            )


def expect_figures(paths: Iterable[Path], fix: str) -> None:
    """Check that what would be replaced was drawn by this program.

    Args: fix: what to do about a file that was not.
    Raises: ProbeError.
    """
    from whitebox_probe.plots import run_of

    for path in paths:
        if not os.path.lexists(path):
            continue
        try:
            run_of(path)
        except ProbeError as error:
            told = "it is no figure of this program"
            raise ProbeError(f"{path} exists", told, fix) from error


def expect_own_files(
    args: argparse.Namespace, kind: str, stems: Iterable[str], table: str = ""
) -> None:
    """Check that what a command writes beside `kind` replaces no file of a user's own.

    Where --out holds an older one of the kind, files of these names are its own.

    Args: kind: "" for none. stems: of figures. table: the stem of tables for a paper.
    Raises: ProbeError.
    """
    paths = [args.out / f"{stem}.{form}" for stem in stems for form in args.formats]
    paths += [args.out / f"{table}.{TABLES[form]}" for form in getattr(args, "tables", ())]
    _expect_no_folders(paths)
    if is_own(args.out, kind):
        return
    expect_figures(paths, "Move it away, or name another --out")


def results_in(folders: Sequence[Path]) -> list["Result"]:
    """The results of folders, each of another model.

    Raises: ResultError for what is none, or two of one name.
    """
    from whitebox_probe.results.result import Result

    found = [Result.load(folder) for folder in folders]
    expect_names_differ([result.model for result in found], folders)
    return found


def changes(results: Sequence["Result"], metrics: Sequence[str]) -> "pd.DataFrame":
    """First layer, last layer and the change between them, of each measure and result.

    The interval of a change is that of the differences sample by sample, which is narrower than
    the two layers' own intervals suggest: an image that is high in one is high in the other. A
    number read from weights has no interval.
    """
    import pandas as pd

    from whitebox_probe.results import summary as of_results

    tables = [
        of_results.changes(result, [metric])
        for metric in metrics
        for result in results
        if metric in set(result.frame["metric"])
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def few(results: Sequence["Result"]) -> str:
    """How far intervals can be trusted, where there are few samples; else nothing."""
    from whitebox_probe.results.summary import samples_note

    return samples_note(results)


def tell_if_few(results: Sequence["Result"]) -> None:
    """Print `few`, if it says anything."""
    if note := few(results):
        print("\n" + _screen.wrapped(f"note: {note}"))


def tell_files(title: str, paths: Sequence[Path]) -> None:
    """Print files, one a line, under a title."""
    _screen.say(f"{title}:", *(f"  {path}" for path in paths))


def summary(changed: "pd.DataFrame", titles: Mapping[str, str] | None = None) -> str:
    """What `changes` gives, as text: one line a measure, setting and model."""
    from whitebox_probe.results.summary import cells, measure
    from whitebox_probe.results.table import varying

    titles = titles or {}
    grouped = changed.groupby(["metric", "model"], sort=False)
    several = {names: varying(rows) for names, rows in grouped}
    rows = [
        [
            measure(
                titles.get(row["metric"], row["metric"]),
                {name: row[name] for name in several[row["metric"], row["model"]]},
            ),
            row["model"],
            row["site"],
            *map(str, cells(row)),
        ]
        for row in changed.to_dict("records")
    ]
    header = ["measure", "model", "site", "first layer", "last layer", "change"]
    by = "measure" if changed["model"].nunique() > 1 else "model"
    return table(rows, header, by=by, spare=("site",))
