"""The explorer: choose a sample, a layer and a head, and see what the model holds there."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe._core import html
from whitebox_probe._core.errors import MissingDependency, ProbeError
from whitebox_probe._core.process import as_found
from whitebox_probe.exploring.panes import AT_ONCE, ATTENTION, SHARP, TOKENS, Panes
from whitebox_probe.probing.probe import as_model, probe
from whitebox_probe.probing.view import view

if TYPE_CHECKING:
    import torch
    from torch import nn

    from whitebox_probe.models.model import ProbeModel

ALL = "all"


@as_found()
def explore(
    model: "ProbeModel | nn.Module | str",
    data: Any,
    *,
    metrics: Sequence[Any] | None = None,
    limit: int = 8,
    seed: int = 0,
    device: "str | torch.device | None" = None,
) -> "Explorer":
    """Widgets for a notebook: sample, layer and head, and what the model holds there.

    It shows where heads look, the tokens as a heatmap and in colours of their leading directions,
    and the layer's measures: this sample's, and the mean of all. Tokens of a text stand there as
    their words, a stretch of them at a time.

    Args:
        model: a name, a wrapped or a bare module.
        data: as for `probe`; `limit` of it are drawn by `seed`, 64 at most.
        metrics: as for `probe`; the default measures if not given.
        device: where the model runs.

    Raises: MissingDependency without ipywidgets; ProbeError as `view` and `probe` do.
    """
    _expect_widgets()
    whole = as_model(model)
    sites = [site for site in (TOKENS, ATTENTION) if site in whole.sites]
    seen = view(whole, data, sites=sites, limit=limit, seed=seed, device=device)
    result = probe(
        whole, data, metrics=metrics, limit=limit, seed=seed, device=device, progress=False
    )
    return Explorer(Panes(seen, result))


class Explorer:
    """The widgets, and what they show; a notebook shows it as a cell's last value.

    Attributes:
        sample, layer, head: the controls: `explorer.layer.value = 3` moves one.
        first: of a text, the token at which its pictures begin.
        box: all widgets in one.
    """

    def __init__(self, panes: Panes) -> None:
        import ipywidgets as widgets

        self.panes = panes
        seen = panes.view
        layers, most = seen.layers, max(0, panes.length - AT_ONCE)
        self.sample = _slider(widgets, 0, 0, seen.samples - 1, self._kind)
        self.layer = _slider(widgets, layers[-1], layers[0], layers[-1], "layer")
        self.first = _slider(widgets, 0, 0, most, "from token")
        self.first.layout.display = "" if most else "none"
        heads = [(ALL, 0), *((str(n), n) for n in range(1, panes.heads + 1))]
        self.head = widgets.Dropdown(
            options=heads, description="head", layout=widgets.Layout(width="170px")
        )
        self._pictures = {name: _picture(widgets) for name in ("attention", "tokens", "colours")}
        self._notes = {name: widgets.HTML() for name in self._pictures}
        self._words = widgets.HTML()
        self._table = widgets.HTML()
        self.box = self._arranged(widgets)
        self.sample.observe(lambda _: self.update(), "value")
        self.layer.observe(lambda _: self.update(), "value")
        self.head.observe(lambda _: self.update(only=("attention",)), "value")
        self.first.observe(lambda _: self.update(only=("attention", "tokens")), "value")
        self.update()

    @property
    def _kind(self) -> str:
        return "text" if self.panes.view.texts is not None else "sample"

    def _arranged(self, widgets: Any) -> Any:
        wrap = widgets.Layout(flex_flow="row wrap", align_items="flex-start", max_width="900px")

        def pane(name: str, title: str) -> Any:
            head = widgets.HTML(f"<b>{html.escape(title)}</b>")
            return widgets.VBox(
                [head, self._pictures[name], self._notes[name]],
                layout=widgets.Layout(margin="0 16px 8px 0"),
            )

        name = widgets.HTML(f"Explorer <b>{html.escape(self.panes.view.model)}</b>")
        controls = widgets.HBox([self.sample, self.layer, self.head, self.first], layout=wrap)
        about = "attention of the class token" if self._of_class else "attention, mean over patches"
        about = about if self.panes.pictured else "attention: rows look at columns"
        attention = pane("attention", about)
        panes = [pane("tokens", "tokens (down) and their features")]
        panes += [pane("colours", "token PCA, background in white")] if self.panes.pictured else []
        tokens = widgets.HBox(panes, layout=wrap)
        return widgets.VBox(
            [name, controls, self._words, attention, tokens, self._table],
            layout=widgets.Layout(max_width="900px"),
        )

    @property
    def _of_class(self) -> bool:
        return self.panes.view.class_index is not None

    def update(self, *, only: Sequence[str] | None = None) -> None:
        """Draw what the controls say. Args: only: the names of some panes."""
        sample, layer, head = self.sample.value, self.layer.value, self.head.value
        panes, first = self.panes, self.first.value
        draw: dict[str, Callable[[], bytes]] = {
            "attention": lambda: panes.attention(sample, layer, head or None, first),
            "tokens": lambda: panes.tokens(sample, layer, first),
        }
        if panes.pictured:
            draw["colours"] = lambda: panes.colours(sample, layer)
        for name, make in draw.items():
            if only is None or name in only:
                self._show(name, make)
        if only is None:
            words = panes.words(sample, layer)
            self._words.value = f'<div style="max-width:880px">{words}</div>' if words else ""
            self._table.value = panes.measures(sample, layer)

    def _show(self, name: str, make: Callable[[], bytes]) -> None:
        """A picture, or a line that says why there is none."""
        picture, note = self._pictures[name], self._notes[name]
        try:
            png = make()
        except ProbeError as error:
            picture.layout.display, note.value = "none", html.dim(error)
            return
        picture.layout.display, note.value = "", ""
        picture.layout.width = f"{_width(png) // SHARP}px"
        picture.value = png

    def __repr__(self) -> str:
        """One line: the model, and where the controls stand."""
        at = f"sample {self.sample.value}, layer {self.layer.value}, head {self.head.label}"
        return f"Explorer('{self.panes.view.model}': {at})"

    def _repr_mimebundle_(self, **asked: Any) -> Any:
        return self.box._repr_mimebundle_(**asked)


def _expect_widgets() -> None:
    """Raises: MissingDependency."""
    try:
        import ipywidgets  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependency(
            "ipywidgets is missing",
            "the explorer is made of its widgets",
            "Run: pip install 'whitebox-probe[notebooks]'",
        ) from error


def _slider(widgets: Any, at: int, low: int, high: int, name: str) -> Any:
    """A slider that tells of a move when it ends."""
    wide = widgets.Layout(width="270px")
    return widgets.IntSlider(at, low, high, description=name, continuous_update=False, layout=wide)


def _picture(widgets: Any) -> Any:
    return widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))


def _width(png: bytes) -> int:
    """Pixels across, as the head of a PNG says."""
    return int.from_bytes(png[16:20], "big")
