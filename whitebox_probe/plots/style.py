"""How figures look, and how they are saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe._core.io import atomic_path
from whitebox_probe.plots._palette import Palette, colours
from whitebox_probe.plots._settings import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Width = Literal["column", "text"]
Labels = Mapping[str, str] | Sequence[str] | None
INCHES: dict[str, float] = {"column": 3.4, "text": 6.8}
# One fewer than the colours, so that colour and marker together repeat only after 42 models.
MARKERS = ("o", "s", "^", "D", "v", "P")
INIT = "-init"


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

    colour: Any
    marker: str
    initial: bool
    label: str


def looks(
    models: Sequence[str], *, labels: Labels = None, palette: Palette = None
) -> dict[str, Look]:
    """The look of each model, in the order given.

    >>> looks(["vit", "vit-init"], labels={"vit": "ViT"}, palette=["k"])["vit-init"].label
    'ViT, at initialisation'
    """
    shown = named(models, labels)
    bases = list(dict.fromkeys(name.removesuffix(INIT) for name in models))
    of = colours(models, bases, palette)
    found = {}
    for name in models:
        base = name.removesuffix(INIT)
        initial = name.endswith(INIT)
        plain = f"{shown.get(base, base)}, at initialisation" if initial else name
        found[name] = Look(
            colour=of[name],
            marker=MARKERS[bases.index(base) % len(MARKERS)],
            initial=initial,
            label=shown.get(name, plain),
        )
    return found


def named(names: Sequence[str], labels: Labels) -> dict[str, str]:
    """What is shown in place of each name that `labels` gives one for.

    Raises: ProbeError for a name that is not there, or a sequence of another length.
    """
    if labels is None:
        return {}
    if isinstance(labels, Mapping):
        known = dict.fromkeys([*names, *(name.removesuffix(INIT) for name in names)])
        for name in labels:
            if name not in known:
                raise ProbeError(
                    f"labels= names '{name}'", "nothing of that name is drawn", nearest(name, known)
                )
        return {name: str(label) for name, label in labels.items()}
    if isinstance(labels, str) or len(labels) != len(names):
        given = 1 if isinstance(labels, str) else len(labels)
        raise ProbeError(
            f"labels= gives {given} for {len(names)} ({', '.join(names)})",
            "a sequence has one each, in their order",
            "Pass as many, or a mapping from names",
        )
    return dict(zip(names, map(str, labels), strict=True))


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
