"""Texts, each token in a colour that stands for a number of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whitebox_probe._core.errors import ProbeError, ResultError, nearest
from whitebox_probe._core.html import escape
from whitebox_probe.plots._keywords import takes_checked
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots._palette import map_of_values
from whitebox_probe.plots._pictures import OF_SAMPLES, Options, bare, sheet
from whitebox_probe.plots._tokens import shown
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = Literal["norm", "l0", "change", "received", "attended"]
VALUES = {
    "norm": "norm of the token",
    "l0": "share of its entries that are not zero",
    "change": "how far the layer moves it, over its norm before",
    "received": "mean attention that later tokens pay to it",
    "attended": "attention that the last token pays to it",
}
_LINE = 92  # characters
_TALL = 0.026  # of a line, over the width of all its characters


@figure(takes="view", options=Options, exempt=OF_SAMPLES)
def text(
    view: View,
    *,
    value: Value | np.ndarray = "norm",
    layer: int | None = None,
    **options: Any,
) -> "Figure":
    """Texts with each token on the colour of a number of its own, one below the other.

    Args:
        view: from `wp.view`, of texts.
        value: `norm` of the token at z_out, `l0` (its share of non-zeros), `change` (by the layer,
            relative), `received` or `attended` (attention, mean over heads); or numbers, (samples,
            tokens).
        layer: counted from 1; the last one if not given.

    Raises: ResultError for what the view does not hold; ProbeError for another value.
    """
    given = Options(**options)
    samples = given.of(view)[: 1 if given.samples is None else None]
    words, numbers, label = _coloured(view, value, layer)
    cmap = map_of_values(given.palette, "YlGnBu")
    low, high = _ends(numbers[samples])
    lines = [_lines(words[n]) for n in samples]
    with sheet(
        given,
        rows=given.names(view, samples),
        columns=[f"{label}: {low:.3g} (light) to {high:.3g} (dark)"],
        shape=_TALL * max(map(len, lines)),
        wide=6.2,
        panels=f"{len(samples)} samples",
    ) as made:
        for row, (n, of) in enumerate(zip(samples, lines, strict=True)):
            ax = made.axes[row, 0]
            ax.set(xlim=(0, _LINE), ylim=(len(of), 0))
            bare(ax)
            colours = _colours(numbers[n], low, high, cmap)
            for y, line in enumerate(of):
                _write(ax, y, line, words[n], colours, made)
    return made.figure


@takes_checked
def text_html(
    view: View,
    *,
    value: Value | np.ndarray = "norm",
    layer: int | None = None,
    sample: int = 0,
    palette: str = "YlGnBu",
) -> str:
    """A text as HTML, each token on its colour, with its number where the pointer is.

    Args: as for `wp.plots.text`; `sample` counted from 0.
    Raises: ResultError for what the view does not hold; ProbeError for another value.
    """
    if not isinstance(view, View):
        raise ResultError(
            f"a {type(view).__name__} cannot be drawn",
            "texts are of one View",
            "Pass what wp.view gave",
        )
    (kept,) = Options(samples=sample).of(view)
    words, numbers, label = _coloured(view, value, layer)
    low, high = _ends(numbers[[kept]])
    colours = _colours(numbers[kept], low, high, map_of_values(palette))
    parts = []
    for word, number, colour in zip(words[kept], numbers[kept], colours, strict=True):
        red, green, blue = (round(255 * part) for part in colour[:3])
        told = escape(word).replace("\n", "↵<br>")
        parts.append(
            f'<span title="{escape(word)}: {number:.4g}" style="background:rgb({red},'
            f'{green},{blue});color:{_ink(colour)}">{told}</span>'
        )
    head = f"{view.model}, {label}: {low:.3g} (light) to {high:.3g} (dark)"
    return (
        '<figure style="margin:0"><figcaption style="font-size:smaller">'
        f'{escape(head)}</figcaption><div style="font-family:monospace;white-space:pre-wrap;'
        f'line-height:1.7">{"".join(parts)}</div></figure>'
    )


def _coloured(
    view: View, value: Any, layer: int | None
) -> tuple[tuple[tuple[str, ...], ...], np.ndarray, str]:
    """The texts' tokens, a number each, and what it is."""
    if view.texts is None:
        raise ResultError(
            f"the samples of this view of {view.model} are no texts",
            "the model reads images, or does not name its tokenizer",
            "Use wp.plots.tokens",
        )
    layer = view.layers[-1] if layer is None else layer
    if not isinstance(value, str):
        try:
            numbers = np.asarray(value, dtype=float)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            what = f"value= is a {type(value).__name__} that holds no numbers"
            raise ProbeError(what, "each token has one", nearest("", VALUES)) from error
        if numbers.shape != (len(view.texts), len(view.texts[0])):
            raise ProbeError(
                f"value= has shape {numbers.shape}",
                f"the view holds {len(view.texts)} texts of {len(view.texts[0])} tokens",
                "Pass a number for each token, (samples, tokens)",
            )
        return view.texts, numbers, "value"
    if value not in VALUES:
        raise ProbeError(f"there is no value '{value}'", "it is unknown", nearest(value, VALUES))
    return view.texts, _numbers(view, value, layer), rf"{VALUES[value]}, layer {layer}"


def _numbers(view: View, value: str, layer: int) -> np.ndarray:
    if value in ("received", "attended"):
        weights = view.at("attn_weights", layer).mean(axis=1)  # (B, n, n)
        if value == "attended":
            return np.asarray(weights[:, -1])
        after = np.tril(np.ones(weights.shape[-2:]), -1)
        paid = (weights * after).sum(axis=1) / np.maximum(after.sum(axis=0), 1)
        return np.asarray(paid)
    Z = view.at("z_out", layer)
    if value == "l0":
        return np.asarray((Z != 0).mean(axis=-1))
    norm = np.linalg.norm(Z, axis=-1)
    if value == "norm":
        return np.asarray(norm)
    before = view.at("z_out", layer - 1)
    size = np.maximum(np.linalg.norm(before, axis=-1), 1e-30)
    return np.asarray(np.linalg.norm(Z - before, axis=-1) / size)


def _ends(numbers: np.ndarray) -> tuple[float, float]:
    """Where the colours begin and end: a first token often is far from all others."""
    low, high = np.nanpercentile(numbers, [2, 98])
    return float(low), float(high)


def _colours(numbers: np.ndarray, low: float, high: float, cmap: Any) -> np.ndarray:
    from matplotlib import colormaps

    of = colormaps[cmap] if isinstance(cmap, str) else cmap
    share = ((numbers - low) / max(high - low, 1e-30)).clip(0, 1)
    return np.asarray(of(share))


def _ink(colour: Sequence[float]) -> str:
    """Black or white, whichever is read on a colour."""
    light = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    return "#000" if light > 0.45 else "#fff"


def _lines(words: Sequence[str]) -> list[list[int]]:
    """Numbers of the tokens of each line; a word in several tokens is not parted if it fits."""
    lines: list[list[int]] = [[]]
    used = 0
    for whole in _wholes(words):
        long = sum(len(shown(words[i])) for i in whole)
        for part in [whole] if long <= _LINE else [[i] for i in whole]:
            wide = sum(len(shown(words[i])) for i in part)
            if used and used + wide > _LINE:
                lines.append([])
                used = 0
            lines[-1] += part
            used += wide
    return lines


def _wholes(words: Sequence[str]) -> list[list[int]]:
    """Tokens that stand together: the next ones begin with a space, or behind a line's end."""
    found: list[list[int]] = []
    for i, word in enumerate(words):
        if not i or word[:1] in (" ", "\t") or words[i - 1].endswith("\n"):
            found.append([])
        found[-1].append(i)
    return found


def _write(
    ax: Any, y: int, line: Sequence[int], words: Sequence[str], colours: np.ndarray, made: Any
) -> None:
    from matplotlib.patches import Rectangle

    x = 0
    for i in line:
        word = shown(words[i])
        ax.add_patch(Rectangle((x, y + 0.04), len(word), 0.92, color=colours[i], linewidth=0))
        for at, letter in enumerate(word):  # a cell each, so that colours and letters meet
            ax.text(
                x + at + 0.5,
                y + 0.54,
                verbatim(letter),
                ha="center",
                va="center",
                fontsize=made.points(6.5, ax=ax),
                color=_ink(colours[i]),
            )
        x += len(word)
