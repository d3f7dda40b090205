"""How figures look, and how they are saved."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Width = Literal["column", "text"]
INCHES: dict[str, float] = {"column": 3.4, "text": 6.8}
# Okabe and Ito's palette, told apart with any colour vision and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One fewer than the colours, so that colour and marker together repeat only after 42 models.
MARKERS = ("o", "s", "^", "D", "v", "P")
INIT = "-init"


@contextmanager
def styled() -> Iterator[None]:
    """The package's style for the block; the user's settings are as before afterwards.

    It starts from matplotlib's defaults: a figure is the same under any user's settings.
    """
    from matplotlib import style

    with style.context(Path(__file__).with_name("whitebox.mplstyle"), after_reset=True):
        yield


def inches(width: Width) -> float:
    """The width of a figure.

    Raises: ProbeError for an unknown one.
    """
    if width not in INCHES:
        raise ProbeError(
            f"unknown width '{width}'",
            "figures fit a paper's column or its text",
            f"Use one of: {', '.join(INCHES)}",
        )
    return INCHES[width]


@dataclass(frozen=True)
class Look:
    """How one model is drawn: a model and its `-init` share hue and marker."""

    colour: str
    marker: str
    initial: bool
    label: str


def looks(models: Sequence[str]) -> dict[str, Look]:
    """The look of each model, in the order given.

    >>> looks(["vit", "vit-init"])["vit-init"].label
    'vit, at initialisation'
    """
    bases = list(dict.fromkeys(name.removesuffix(INIT) for name in models))
    found = {}
    for name in models:
        base = name.removesuffix(INIT)
        at = bases.index(base)
        initial = name.endswith(INIT)
        found[name] = Look(
            colour=COLOURS[at % len(COLOURS)],
            marker=MARKERS[at % len(MARKERS)],
            initial=initial,
            label=f"{base}, at initialisation" if initial else name,
        )
    return found


def save(
    figure: "Figure", stem: str | Path, formats: str | Sequence[str] = ("pdf", "png")
) -> list[Path]:
    """Write a figure whole, with embedded fonts; the same figure gives the same bytes.

    Args: stem: the path without its suffix. formats: of pdf, png and svg.

    Returns: the paths.
    Raises: ProbeError for another format, or a stem that ends in one.
    """
    # No date in the file: a figure made again is the same file.
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
        "png": {},
    }
    formats = [formats] if isinstance(formats, str) else formats
    wrong = [form for form in formats if form not in metadata]
    if wrong or not formats:
        raise ProbeError(
            f"figures cannot be saved as {', '.join(wrong) or 'nothing'}",
            "the format is not known",
            f"Use some of: {', '.join(metadata)}",
        )
    suffix = Path(stem).suffix[1:]
    if suffix in metadata:
        raise ProbeError(
            f"'{stem}' ends in .{suffix}",
            "each format adds its own suffix",
            f"Pass the path without it, and formats=['{suffix}']",
        )
    paths = []
    for form in formats:
        target = Path(f"{stem}.{form}")
        with atomic_path(target) as path, styled():
            figure.savefig(path, format=form, metadata=metadata[form])
        paths.append(target)
    return paths
