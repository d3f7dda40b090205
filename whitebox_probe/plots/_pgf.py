"""A renderer for PGF whose texts are those that every other format shows."""

from typing import Any

from matplotlib.backends.backend_pgf import RendererPgf

from whitebox_probe.plots._names import tex, tex_around


class Renderer(RendererPgf):
    """matplotlib's, with all but formulas made safe for TeX."""

    def draw_text(
        self, gc: Any, x: Any, y: Any, s: str, prop: Any, angle: Any,
        ismath: Any = False, mtext: Any = None,
    ) -> None:  # fmt: skip
        """As matplotlib's."""
        super().draw_text(gc, x, y, _safe(s, ismath), prop, angle, ismath, mtext)

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:
        """As matplotlib's."""
        return super().get_text_width_height_descent(_safe(s, ismath), prop, ismath)


def _safe(text: str, ismath: Any) -> str:
    """The text for TeX: formulas stay, and so does what already is TeX."""
    if ismath == "TeX":
        return text
    return tex_around(text) if ismath else tex(text)
