"""What the explorer shows: pictures as PNG, and a table of one layer's measures."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe import plots
from whitebox_probe._core import html
from whitebox_probe._core.digits import number
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.pages import place
from whitebox_probe.results.result import Result
from whitebox_probe.results.summary import curves, measure
from whitebox_probe.results.table import varying
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARP = 2  # pixels of a picture for one on the page
_DOTS = 100 * SHARP
_TYPE = 9.0
_MAP = 0.98  # inches: the side of a head's map, when all of them are drawn
_ONE = 2.5  # inches: the side of a picture that stands alone
_PAGE = 9.6  # inches: the width that pictures may take
_MATRIX = {True: 3.4, False: 1.6}  # inches: the side of one head's matrix, or of each of several
_WORDS = 0.8  # inches beside a matrix for the words of its tokens
AT_ONCE = 32
"""Tokens of a text that stand with their words beside a picture."""
ATTENTION = "attn_weights"
TOKENS = "z_out"


@dataclass
class Panes:
    """Pictures and tables of a view, each made once.

    Attributes: result: what was measured of the same samples.
    """

    view: View
    result: Result
    _made: dict[tuple[Any, ...], bytes] = field(default_factory=dict)

    def _once(self, key: tuple[Any, ...], draw: Callable[[], "Figure"]) -> bytes:
        if key not in self._made:
            buffer = io.BytesIO()
            draw().savefig(buffer, format="png", dpi=_DOTS)
            self._made[key] = buffer.getvalue()
        return self._made[key]

    @property
    def heads(self) -> int:
        """How many heads have maps; 0 where the view holds none."""
        held = [value.shape[1] for (site, _), value in self.view.sites.items() if site == ATTENTION]
        return held[0] if held else 0

    @property
    def pictured(self) -> bool:
        """Whether samples are images whose patches lie in a known grid."""
        return self.view.images is not None and self.view.grid is not None

    @property
    def length(self) -> int:
        """Tokens of a text; 0 where samples are none."""
        return len(self.view.texts[0]) if self.view.texts is not None else 0

    def _stretch(self, first: int) -> tuple[int, int] | None:
        """The tokens that are drawn; None for all of them."""
        return (first, min(first + AT_ONCE, self.length)) if self.length else None

    def attention(self, sample: int, layer: int, head: int | None, first: int = 0) -> bytes:
        """Where heads look, all of them or one; of a text, the matrix of weights.

        Args: first: of a text, the token at which it begins.
        Raises: ResultError where the view holds no attention.
        """
        heads = list(range(1, self.heads + 1)) if head is None else [head]
        self.view.at(ATTENTION, layer)

        def draw() -> "Figure":
            if self.pictured:
                return self._maps(sample, layer, heads)
            return self._matrices(sample, layer, heads, first)

        return self._once(("attention", sample, layer, head, first), draw)

    def _maps(self, sample: int, layer: int, heads: list[int]) -> "Figure":
        side = _ONE if len(heads) == 1 else _MAP
        figure, axes = _sheet(1 + len(heads), side)
        plots.attention(self.view, samples=sample, layer=layer, heads=heads, axes=axes)
        return figure

    def _matrices(self, sample: int, layer: int, heads: list[int], first: int) -> "Figure":
        one = len(heads) == 1
        words = _WORDS if one and self.length else 0.35
        figure, axes = _sheet(len(heads), _MATRIX[one], foot=words + 0.2, left=words + 0.2)
        plots.attention_matrix(
            self.view,
            samples=sample,
            layer=layer,
            heads=heads,
            tokens=self._stretch(first),
            colorbar=False,
            axes=axes,
        )
        return figure

    def tokens(self, sample: int, layer: int, first: int = 0) -> bytes:
        """The entries of a sample's tokens, of a text with their words.

        Args: first: of a text, the token at which it begins.
        """

        def draw() -> "Figure":
            room: dict[str, float] = {"left": _WORDS} if self.length else {}
            side = _MATRIX[True] if self.length else _ONE
            figure, axes = _sheet(1, side, head=0.0, foot=0.25, **room)
            plots.tokens(
                self.view,
                site=TOKENS,
                samples=sample,
                layers=layer,
                tokens=self._stretch(first),
                axes=axes,
            )
            axes[0].set_title("")
            return figure

        return self._once(("tokens", sample, layer, first), draw)

    def words(self, sample: int, layer: int) -> str:
        """A text, each token on the colour of its norm; nothing where samples are none."""
        if not self.length:
            return ""
        return plots.text_html(self.view, layer=layer, sample=sample)

    def colours(self, sample: int, layer: int) -> bytes:
        """A sample's patches in the colours of their leading directions.

        Raises: ResultError where patches lie in no grid, or tokens are too narrow.
        """

        def draw() -> "Figure":
            figure, axes = _sheet(2, _ONE)
            plots.token_pca(self.view, site=TOKENS, samples=sample, layers=layer, axes=axes)
            axes[1].set_title("tokens", fontsize=axes[0].title.get_fontsize())
            return figure

        return self._once(("colours", sample, layer), draw)

    def measures(self, sample: int, layer: int) -> str:
        """Each measure of a layer: this sample's, the mean of all, and this sample's over depth."""
        rows = [line.told(sample, layer) for line in self._lines if layer in line.layers]
        head = ["measure", "this sample", "mean of all", "unit", "over the layers"]
        return html.page(html.table(head, rows, numbers=(1, 2)))

    @cached_property
    def _lines(self) -> list["_Line"]:
        """The measures, out of the table once: a slider moves often."""
        frame, samples = uncopied(self.result, "frame"), uncopied(self.result, "samples")
        keys = self.result.keys()
        several = {m: varying(rows) for m, rows in frame.groupby("metric", sort=False)}
        order = list(self.view.ids) or list(samples.index[: self.view.samples])
        found = []
        for curve in curves(frame):
            first, columns = curve.iloc[0], list(keys[curve.index])
            settings = {name: first[name] for name in several[first["metric"]]}
            own = set(columns) <= set(samples.columns) and set(order) <= set(samples.index)
            found.append(
                _Line(
                    name=measure(first["metric"], settings),
                    layers=[int(n) for n in curve["layer"]],
                    mean=curve["mean"].to_numpy(np.float64),
                    unit=str(self.result.run.measures.get(first["metric"], {}).get("unit", "")),
                    place=place(self.result.run, first["metric"]),
                    own=samples.loc[order, columns].to_numpy(np.float64) if own else None,
                )
            )
        return sorted(found, key=lambda line: line.place)


@dataclass
class _Line:
    """A measure over depth: the mean of all, and where it has one a value for each sample."""

    name: str
    layers: list[int]
    mean: np.ndarray
    unit: str
    place: tuple[int, str]
    own: np.ndarray | None

    def told(self, sample: int, layer: int) -> list[str]:
        """Its cells in the table of a layer."""
        at = self.layers.index(layer)
        values = (self.mean if self.own is None else self.own[sample]).tolist()
        known = [v for v in values if math.isfinite(v)]
        ends = f"{number(min(known))} to {number(max(known))}" if known else "no value"
        return [
            html.escape(self.name),
            html.dim("of weights") if self.own is None else html.escape(number(values[at])),
            html.escape(number(float(self.mean[at]))),
            html.escape(self.unit),
            html.sparkline(values, mark=at, title=f"{self.name}: {ends}"),
        ]


def _sheet(
    count: int, side: float, *, head: float = 0.22, foot: float = 0.0, left: float = 0.0
) -> tuple["Figure", list[Any]]:
    """A figure of square panels in rows, in inches that are pixels / 100 on the page.

    Its places are set by hand: it is drawn anew at every step of a slider, and settling a layout
    takes longer than all else.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    gap = 0.08
    across = min(count, max(1, int(_PAGE / (left + side + gap))))
    down = math.ceil(count / across)
    wide = across * (left + side + gap) - gap
    tall = down * (side + head + foot + gap) - gap
    with mpl.rc_context({"font.size": _TYPE, "figure.facecolor": "white"}):
        figure = Figure(figsize=(wide, tall))
        FigureCanvasAgg(figure)
        axes = []
        for i in range(count):
            row, column = divmod(i, across)
            top = row * (side + head + foot + gap) + head
            place = (
                (column * (left + side + gap) + left) / wide,
                1 - (top + side) / tall,
                side / wide,
                side / tall,
            )
            axes.append(figure.add_axes(place))
    return figure, axes
