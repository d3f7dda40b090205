# Made of the code by docs/stubs.py; change that, and run it again.
"""Figures, from what was measured to a matplotlib Figure; each file holds those of one kind.

    wp.plots.compression(result)
    wp.plots.save(figure, "compression")

A figure never computes: it draws what the table holds. matplotlib is loaded by the first one drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.plots.style import save as save
from whitebox_probe.results.result import Result
from whitebox_probe.results.similarity import Similarity

figures: Mapping[str, Callable[..., Figure]]

def audit(
    found: Audit,
    *,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The measure behind each claim against depth, for each model, with its verdict.

    The grey line is the same architecture with random weights; bands are 95% intervals.

    Args:
        found: from `wp.audit`.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        axes: draw in these axes, one a claim and model, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text` (wider for more
            than four models), if not given.
        title: above the page.

    Raises: ProbeError.
    """

def coding_rate(
    *results: Result,
    site: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Figure:
    """R of each layer, one curve a model: whether the tokens as a whole keep their volume.

    Args:
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.

    Raises: ProbeError.
    """

def coherence(
    *results: Result,
    matrix: str = "coherence",
    layers: Sequence[int] | None = None,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Figure:
    """Heatmaps of pairwise coherence between heads: dark for orthogonal, light for shared.

    Args:
        matrix: `coherence`, the K x K spectral norms of products of orthonormal bases, `overlap`,
            |U^T U| of all K*p basis vectors, or another one of the results, with values 0 to 1.
        layers: which to draw, counted from 1; if not given, at most eight, spread over the depth.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        axes: draw in these axes, one a panel, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels.
        colorbar: beside the panels.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """

def compression(
    *results: Result,
    site: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Figure:
    """R^c of each layer, one curve a model; the lower, the more compressed.

    Args:
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.

    Raises: ProbeError.
    """

def curves(
    *results: Result,
    metric: str,
    site: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Figure:
    """Any measure of the table, at each layer; one curve a model.

    Args:
        metric: its name in the table.
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.

    Raises: ProbeError.
    """

def rate_reduction(
    *results: Result,
    site: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Figure:
    """R - R^c of each layer, one curve a model; the higher, the better by its principle.

    Args:
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.

    Raises: ProbeError.
    """

def reconstruction(
    images: Any,
    rebuilt: Any,
    hidden: Any = None,
    *,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """One row an image: the image, the image with hidden pixels in grey, and what was rebuilt.

    Args:
        images, rebuilt: (B, 3, H, W), normalised by `mean` and `std`; at most eight are drawn.
        hidden: (B, 1, H, W) or (B, H, W), true where the model did not see; none if left out.
        labels: what columns are called: a mapping from their names, or a list in their order.
        palette: its first colour is that of hidden pixels.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the pictures.

    Raises: ProbeError for shapes that do not fit each other.
    """

def similarity(
    found: Similarity,
    *,
    measure: str = "cka",
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Figure:
    """Every layer of the first model (rows) against every layer of the second (columns).

    Args:
        found: from `wp.similarity`.
        measure: `cka`, `overlap` or `procrustes`.
        labels: what models are called: a mapping from their names, or a list of two.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes. colorbar: beside them.

    Raises: ProbeError for an unknown measure.
    """

def sparse_rate_reduction(
    *results: Result,
    site: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Figure:
    """R - R^c - lam |Z|_0 of each layer, one curve a model; the higher, the better.

    Args:
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.

    Raises: ProbeError.
    """

def sparsity(
    *results: Result,
    metric: str = "l0",
    site: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Figure:
    """A measure of sparsity of each layer, one curve a model.

    Args:
        metric: `l0` (share of exactly non-zero entries, never its complement), `thresholded`,
            `hoyer`, or another measure of the table.
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.

    Raises: ProbeError.
    """

def subspace_overlap(
    *results: Result,
    layers: Sequence[int] | None = None,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Figure:
    """Heatmaps of |U^T U|, K*p by K*p, as in figure 7 of arXiv:2306.01129.

    Args:
        layers: which to draw, counted from 1; if not given, at most eight, spread over the depth.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        axes: draw in these axes, one a panel, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels.
        colorbar: beside the panels.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """
