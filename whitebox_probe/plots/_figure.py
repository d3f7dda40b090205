"""The kind of figure that the package makes: matplotlib's, in the package's style when written."""

from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from whitebox_probe.plots import _provenance
from whitebox_probe.plots._settings import styled


class StyledFigure(Figure):
    """A Figure that pyplot does not know of, so that none stays open or is shown twice.

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

    def _repr_png_(self) -> bytes:
        """What a notebook shows; it asks by this name, whether or not pyplot is loaded."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()
