"""The kind of figure that the package makes: matplotlib's, in the package's style when written."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from whitebox_probe.plots import _provenance
from whitebox_probe.plots._settings import styled

_WRITES_ONLY = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}
_unshown: ContextVar[bool] = ContextVar("_unshown", default=False)


class StyledFigure(Figure):
    """A Figure that `plt.show()` shows where pyplot is in use, and a notebook shows once.

    matplotlib reads some settings (embedded fonts, resolution) only when a figure is written:
    without this, `figure.savefig` would write them as the user's own settings say.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        FigureCanvasAgg(self)

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """As matplotlib's, with our settings and the run, where no argument says otherwise."""
        form = kwargs.get("format") or Path(str(fname)).suffix[1:].lower()
        with styled():
            if told := _provenance.metadata(self, form):
                kwargs.setdefault("metadata", told)
            super().savefig(fname, **kwargs)

    def show(self, warn: bool = True) -> None:
        """The picture in a notebook, a window elsewhere, whether or not pyplot knew of it."""
        import matplotlib.pyplot as plt

        if _inline(plt):
            from IPython.display import display

            display(self)
            return
        if not _managed(self):
            _manage(self, plt)
        super().show(warn)
        if _only_writes(plt):
            plt.close(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """No picture: a notebook asks here first, so pyplot learns that it need not show it too."""
        plt = sys.modules.get("matplotlib.pyplot")
        if plt is not None and _inline(plt):
            plt.close(self)
        return {}

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; it asks by this name, whether or not pyplot is loaded.

        None where a window or pyplot's own formats show it.
        """
        plt = sys.modules.get("matplotlib.pyplot")
        if _managed(self) or (plt is not None and _inline(plt)):
            return None
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


@contextmanager
def unshown() -> Iterator[None]:
    """Figures that are made in the block are the caller's alone: pyplot does not show them."""
    token = _unshown.set(True)
    try:
        yield
    finally:
        _unshown.reset(token)


def offer(figure: Figure) -> None:
    """Let `plt.show()` show a figure, where pyplot is in use and there is something to show it in.

    Elsewhere pyplot does not learn of it: figures that are only written do not stay open.
    """
    plt = sys.modules.get("matplotlib.pyplot")
    main = threading.current_thread() is threading.main_thread()  # windows belong to it
    if plt is None or not main or _unshown.get():
        return
    if not _only_writes(plt):
        _manage(figure, plt)


def _manage(figure: Figure, plt: Any) -> None:
    """Make a figure one of pyplot's, as `plt.figure` does with those that it makes."""
    from matplotlib._pylab_helpers import Gcf

    number = max(plt.get_fignums(), default=0) + 1
    manager = plt.new_figure_manager(number, FigureClass=lambda: figure)
    Gcf._set_new_active_manager(manager)
    plt.draw_if_interactive()


def _managed(figure: Figure) -> bool:
    """Whether pyplot knows of it."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return helpers is not None and any(
        manager.canvas.figure is figure for manager in helpers.Gcf.figs.values()
    )


def _only_writes(plt: Any) -> bool:
    """Whether pyplot has nothing to show pictures in."""
    return str(plt.get_backend()).lower() in _WRITES_ONLY


def _inline(plt: Any) -> bool:
    """Whether pyplot's pictures go into a notebook's page."""
    return "inline" in plt.get_backend()
