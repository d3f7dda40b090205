"""How figures look: widths, and the colour, marker and name of each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.plots._names import verbatim, words
from whitebox_probe.plots._palette import Palette, colours
from whitebox_probe.results.forms import NULL_SEPARATOR
from whitebox_probe.results.result import Result

Width = Literal["column", "text"]
Label = str | float | None
Labels = Mapping[str, Label] | Sequence[Label] | None
INCHES: dict[str, float] = {"column": 3.4, "text": 6.8}
# One fewer than the colours, so that colour and marker together repeat only after 42 models.
MARKERS = ("o", "s", "^", "D", "v", "P")


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
    """How one model is drawn: a model and its initialisation share hue and marker.

    Attributes:
        label: as matplotlib draws it. base: the same without the words "at initialisation".
    """

    colour: Any
    marker: str
    initial: bool
    label: str
    base: str


def looks(
    models: Sequence[str],
    *,
    initial: Mapping[str, str] | None = None,
    nulls: Mapping[str, str] | None = None,
    labels: Labels = None,
    palette: Palette = None,
) -> dict[str, Look]:
    """The look of each model, in the order given.

    Args: initial: model -> the one that it is the initialisation of, as `initial` gives it.
        nulls: model -> what stands in for its tokens or subspaces, as `nulls` gives it.

    >>> found = looks(["vit", "v0"], initial={"v0": "vit"}, labels={"vit": "ViT"}, palette=["k"])
    >>> found["v0"].label
    'ViT, at initialisation'
    """
    of = {name: (initial or {}).get(name, name) for name in models}
    bases = list(dict.fromkeys(of.values()))
    shown = named(models, labels, more=bases)
    tints = colours(of, palette)
    found = {}
    for name, base in of.items():
        begun = name != base
        plain = shown.get(base, verbatim(base))
        own = f"{plain}, at initialisation" if begun else plain
        if null := (nulls or {}).get(name):
            own += f" (null: {verbatim(null.replace('_', ' '))})"
        found[name] = Look(
            colour=tints[name],
            marker=MARKERS[bases.index(base) % len(MARKERS)],
            initial=begun,
            label=shown.get(name, own),
            base=plain,
        )
    return found


def initial(results: Sequence[Result]) -> dict[str, str]:
    """The results that say that they are of an initialisation -> of which model.

    A name alone says nothing: a model that is only called `my-init` is drawn as `my-init`.
    """
    told = {result.model: result.run.checkpoint.get("initial_of") for result in results}
    return {name: str(base) for name, base in told.items() if base}


def nulls(results: Sequence[Result]) -> dict[str, str]:
    """The results that hold one null alone, and whose name does not say so -> which null."""
    told = {r.model: r.run.settings.get("null") or [None] for r in results}
    named_so = {r.model for r in results if r.run.null_of or NULL_SEPARATOR in r.model}
    return {n: str(of[0]) for n, of in told.items() if len(of) == 1 and of[0] and n not in named_so}


def named(names: Sequence[str], labels: Labels, *, more: Sequence[str] = ()) -> dict[str, str]:
    """What is shown in place of each name that `labels` gives one for, as matplotlib draws it.

    None in its place is none: the name stays.

    Args: more: names besides that a mapping may hold.
    Raises: ProbeError for a name that is not there, or a sequence of another length.
    """
    if labels is None:
        return {}
    if isinstance(labels, Mapping):
        known = dict.fromkeys([*names, *more])
        for name in labels:
            if name not in known:
                raise ProbeError(
                    f"labels= names '{name}'", "nothing of that name is drawn", nearest(name, known)
                )
        return {name: words(label) for name, label in labels.items() if label is not None}
    if isinstance(labels, str) or len(labels) != len(names):
        given = 1 if isinstance(labels, str) else len(labels)
        raise ProbeError(
            f"labels= gives {given} for {len(names)} ({', '.join(names)})",
            "a sequence has one each, in their order",
            "Pass as many, or a mapping from names",
        )
    return named(names, dict(zip(names, labels, strict=True)))
