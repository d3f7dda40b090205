"""Colours of models, and colour maps of heatmaps, from what `palette=` takes."""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.plots._settings import is_set, setting

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

Palette = str | Sequence[Any] | Mapping[str, Any] | None
# Okabe and Ito's palette, told apart with any colour vision and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def colours(bases: Mapping[str, str], palette: Palette) -> dict[str, Any]:
    """The colour of each model; an initialisation has that of its model, unless a mapping gives it
    its own.

    Args: bases: model -> the one whose colour it has: itself, or what it is the initialisation of.
    Raises: ProbeError for what is no colour or colour map, a model that is not drawn, or too few.
    """
    apart = list(dict.fromkeys(bases.values()))
    at = {model: apart.index(base) for model, base in bases.items()}
    if isinstance(palette, Mapping):
        known = dict.fromkeys([*bases, *apart])
        for model in palette:
            if model not in known:
                raise ProbeError(
                    f"palette= names '{model}'", "no model of that name is drawn",
                    nearest(model, known),
                )  # fmt: skip
        rest = colours(bases, None)
        return {
            model: _colour(palette.get(model, palette.get(base, rest[model])))
            for model, base in bases.items()
        }
    each = _of_map(palette, len(apart)) if isinstance(palette, str) else palette
    if each is None:
        each = _default()
    elif len(each) < len(apart):
        raise ProbeError(
            f"palette= gives {len(each)} colours for {len(apart)} models",
            "two of them would look the same",
            "Pass one a model, or a mapping from models",
        )
    return {model: _colour(each[i % len(each)]) for model, i in at.items()}


def colour_map(palette: Palette) -> "Colormap | str":
    """The colour map of a heatmap: one that is named, or the user's setting, or the package's."""
    return _named(palette) if isinstance(palette, str) else str(setting("image.cmap"))


def map_of_values(palette: Palette, usual: str | None = None) -> "Colormap | str":
    """The colour map of a figure in which nothing but values is coloured.

    Raises: ProbeError for what names none, as a list of colours.
    """
    if palette is not None and not isinstance(palette, str):
        raise ProbeError(
            f"palette={palette!r} is no colour map",
            "values are coloured here, and not models",
            "Use the name of one, such as viridis or cividis",
        )
    return usual if palette is None and usual else colour_map(palette)


def _default() -> Sequence[Any]:
    """The user's own cycle of colours, if there is one."""
    key = "axes.prop_cycle"
    mine = setting(key).by_key().get("color") if is_set(key) else None
    return mine or COLOURS


def _colour(colour: Any) -> Any:
    from matplotlib.colors import is_color_like

    if not is_color_like(colour):
        raise ProbeError(
            f"{colour!r} in palette= is no colour",
            "matplotlib does not know it",
            "Use a name, '#rrggbb', or three numbers from 0 to 1",
        )
    return colour


def _of_map(name: str, count: int) -> Sequence[Any]:
    """Colours of a map: the first of a list such as tab10, or spread over a continuous one."""
    found = _named(name)
    listed = getattr(found, "colors", None)
    if listed is not None and found.N < 64:
        return list(listed)
    # Not up to the light end, which does not show on white.
    return [found(0.05 + 0.7 * i / max(count - 1, 1)) for i in range(count)]


def _named(name: str) -> "Colormap":
    from matplotlib import colormaps

    if name not in colormaps:
        near = difflib.get_close_matches(name, list(colormaps), n=1)
        raise ProbeError(
            f"palette='{name}' is no colour map",
            "matplotlib has none of that name",
            (f"Did you mean '{near[0]}'? " if near else "")
            + "Use one such as tab10, viridis or cividis",
        )
    return colormaps[name]
