# Made of the code by docs/stubs.py; change that, and run it again.
"""Figures, from what was measured to a matplotlib Figure; each file holds those of one kind.

    wp.plots.compression(result)
    wp.plots.save(figure, "compression")
    wp.plots.run_of("compression.pdf")

A figure never measures: it draws what a result or a view holds. matplotlib is loaded by the first
one drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from pandas import DataFrame

from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.plots.saving import run_of as run_of
from whitebox_probe.plots.saving import save as save
from whitebox_probe.plots.text import text_html as text_html
from whitebox_probe.results.result import Result
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View

figures: Mapping[str, Callable[..., Figure]]

def attention(
    view: View,
    *,
    layer: int | None = None,
    query: Literal["class", "mean"] | tuple[int, int] | None = None,
    heads: Sequence[int] | int | None = None,
    mass: float | None = None,
    boxes: bool = False,
    samples: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """Each head's attention over the image, one row a sample: what a token looks at.

    Each map has its own scale, from none to its largest weight: where a head looks is drawn, not
    how sharply.

    Args:
        view: from `wp.view`, of images, with the site attn_weights.
        layer: counted from 1; the last one if not given.
        query: whose attention: of the `class` token, of the patch in (row, column), which is
            marked, or the `mean` over all patches; the class token's if there is one, else the
            mean.
        heads: counted from 1; the first eight if not given.
        mass: draw, in place of weights, the fewest patches that hold this share of them, as in
            figure 1 of arXiv:2104.14294 (0.6 there).
        boxes: draw the box about the connected patches that hold the most of that share (of 0.6 of
            the weights, if no mass is given), as `wp.segmentation` scores it.
        samples: which of the view, counted from 0; the first eight if not given.
        labels: what samples are called: a list in their order, or a mapping from their labels.
        palette: a colour map's name.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the pictures.

    Raises: ResultError for what the view does not hold; ProbeError for a query or mass that cannot
        be.
    References: Caron et al. 2021, arXiv:2104.14294; Yu et al. 2023, arXiv:2308.16271 (CRATE).
    """

def attention_matrix(
    view: View,
    *,
    layer: int | None = None,
    heads: Sequence[int] | int | None = None,
    tokens: tuple[int, int] | None = None,
    colorbar: bool = True,
    samples: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The attention of a head from token to token: each row is a token, and where it looks.

    All matrices share one scale, from zero to where 99.5% of the weights end. What lies behind a
    causal mask, where no token looks, is left white.

    Args:
        view: from `wp.view`, of images or texts, with the site attn_weights; its first sample is
            drawn, if none is named.
        layer: counted from 1; the last one if not given.
        heads: counted from 1; the first one if not given.
        tokens: the first one and the one after the last, counted from 0; the first 24 of a text,
            whose words stand beside it, and all of an image, if not given.
        colorbar: beside the matrices.
        samples: which of the view, counted from 0; the first eight if not given.
        labels: what samples are called: a list in their order, or a mapping from their labels.
        palette: a colour map's name.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the pictures.

    Raises: ResultError for what the view does not hold; ProbeError for no stretch of tokens.
    """

def audit(
    found: Audit,
    *,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The measure behind each claim against depth, for each model, with its verdict.

    Above each curve stand the verdict and the effect with its unit. The grey line and band are the
    mean and range of draws of random weights; coloured bands are 95% intervals over samples.

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
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = "auto",
) -> Figure:
    """R of each layer, one curve a model: whether the tokens as a whole keep their volume.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.

    Raises: ProbeError.
    """

def coherence(
    *results: Result,
    matrix: str = "coherence",
    centred: bool | None = None,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    layers: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Figure:
    """Heatmaps of pairwise coherence between heads, against that of random subspaces.

    Centred: blue pairs share less than two subspaces drawn at random, red ones more; a head with
    itself is left out. Else dark for orthogonal, light for shared.

    Args:
        matrix: `coherence`, the K x K spectral norms of products of orthonormal bases, `overlap`,
            |U^T U| of all K*p basis vectors, or another one of the results, with values 0 to 1.
        centred: subtract what random subspaces of each model's sizes give; if not given, where the
            matrix is `coherence` and every result holds that.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        layers: which to draw, counted from 1; if not given, at most eight, spread over the depth.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        axes: draw in these axes, one a panel, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels; if not given, which of several settings was picked, if one was.
        colorbar: beside the panels.

    Raises: ResultError when a result holds no such matrix, or no such layer; ProbeError when what
        random subspaces give is not known.
    """

def compression(
    *results: Result,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = "auto",
) -> Figure:
    """R^c of each layer, one curve a model; the lower, the more compressed.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.

    Raises: ProbeError.
    """

def curves(
    *results: Result,
    metric: str,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = "auto",
) -> Figure:
    """Any measure of the table, at each layer; one curve a model.

    Args:
        metric: its name in the table.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.

    Raises: ProbeError.
    """

def eps_sweep(
    *results: Result,
    metric: str = "compression",
    site: str | None = None,
    relative: bool = True,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """A rate at each coding precision that it was taken with, one panel a model.

    Rates of several eps are of several sizes: relative curves show whether their form is the same.

    Args:
        metric: its name in the table.
        site: which one, if the measure was taken at several.
        relative: draw each curve as a share of its first layer.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels; if not given, which of several settings was picked, if one was.

    Raises: ResultError when a result lacks the measure, or holds it with no eps; when they share
        none.
    """

def fidelity(
    *results: Result,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    columns: int | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry"] | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = True,
) -> Figure:
    """How near each layer is to the step that it was derived as, one panel a measure.

    The attention's update against the descent of R^c: their cosine, the share of the descent that
    it achieves, and its change of R^c. The ISTA block: which share of the way to the optimum of its
    LASSO it goes. Those that every result holds are drawn; a ViT has no LASSO.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        columns: panels in a row; two, or three of more than four, if not given.
        site: which one, of measures that were taken at several.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size, `per_token` or `per_entry`; measures that
            are not in nats stay as they are.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        axes: draw in these axes, one a measure, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels; if not given, which of several settings was picked, if one was.
        legend: under the panels (true, or `auto`), or none (false); names at the `end` of each line
            in the panels at the right, where they fit.

    Raises: ResultError when the results share none of them.
    References: Yu et al. 2023, arXiv:2306.01129, sections 2.3 and 2.4.
    """

def over_steps(
    *results: Result,
    metric: str = "compression",
    steps: Sequence[float] | None = None,
    form: Literal["curves", "heatmap"] = "curves",
    layers: Sequence[int] | int | None = None,
    site: str | None = None,
    log: bool | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
) -> Figure:
    """A measure of each layer over a training, one result a checkpoint.

    Args:
        metric: its name in the table.
        steps: of the results, in their order; if not given, the last number in each one's name
            (`ckpt-1000`), and 0 for an initialisation (`-init`). Where those tell no steps apart,
            results are drawn side by side, in their order, under their names.
        form: `curves`, one a layer, dark for the first ones; or a `heatmap` of layers by steps.
        layers: which to draw, counted from 1; all if not given.
        site: which one, if the measure was taken at several.
        log: whether steps are on a logarithmic axis, whose 0 is kept; if they span a factor of a
            hundred, if not given.
        labels: what results are called, under a heatmap or side by side: a mapping from their
            names, or a list.
        palette: a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes; if not given, which of several settings was picked, if one was.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.

    Raises: ResultError for fewer than two results, or of different measures; ProbeError for steps
        that are not known, or a form that there is not.
    """

def panel(
    *results: Result,
    metrics: Sequence[str] | str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    columns: int | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry"] | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = True,
) -> Figure:
    """Several measures against depth, one panel each, with one legend for all of them.

    Args:
        metrics: names in the table; if not given, those of R^c, R, their difference and l0 that
            every result holds.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        columns: panels in a row; two, or three of more than four, if not given.
        site: which one, of measures that were taken at several.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size, `per_token` or `per_entry`; measures that
            are not in nats stay as they are.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        axes: draw in these axes, one a measure, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels; if not given, which of several settings was picked, if one was.
        legend: under the panels (true, or `auto`), or none (false); names at the `end` of each line
            in the panels at the right, where they fit.

    Raises: ResultError when a result lacks a measure, and where there is none to draw.
    """

def principal_angles(
    *results: Result,
    layers: Sequence[int] | int | None = None,
    centred: bool = True,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """Principal angles between heads' subspaces at each layer, in their order; one panel a model.

    Of the p angles of each pair of heads the mean over pairs is drawn, and of at most three layers
    the smallest and the largest of any pair as thin lines. 0 degrees: a direction that both heads
    hold; 90: none is shared. Below the line of random subspaces heads share more than by chance.

    Args:
        layers: which to draw, counted from 1; all if not given.
        centred: draw what is above and below the angles of subspaces drawn at random, in place of
            the angles.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels; if not given, which of several settings was picked, if one was.

    Raises: ResultError when a result lacks the matrix `angles`, or a layer.
    References: Björck and Golub 1973, Mathematics of Computation 27.
    """

def rate_change_parts(
    *results: Result,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
) -> Figure:
    """Which part of the attention's update changes R^c, in bars that add up; one panel a model.

    Bars from zero are the common shift of all tokens, and what lies along and across each of them;
    the black line is the whole change. Crosses are what the same updates do on other tokens, and
    what the mean update of other samples does, where a result holds them: they are no part of it.

    Args:
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of the parts: a list of three, a mapping from `common`, `radial` and
            `tangential`, or a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels; if not given, which of several settings was picked, if one was.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.

    Raises: ResultError when a result lacks a part.
    """

def rate_reduction(
    *results: Result,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = "auto",
) -> Figure:
    """R - R^c of each layer, one curve a model; the higher, the better by its principle.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.

    Raises: ProbeError.
    """

def reconstruction(
    images: Any,
    rebuilt: Any,
    hidden: Any = None,
    *,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
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

def robustness(
    found: Audit,
    *,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """Whether the verdict on each claim stands under each other setting, one panel a model.

    Green agrees with the usual setting, orange with a cross overturns it; grey with a dot takes the
    claim its meaning, or has nothing to judge. Empty: the claim does not depend on the setting.

    Args:
        found: from `wp.audit`, with other settings.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of the models' names: a list, a mapping, or a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels.

    Raises: ResultError for an audit without other settings.
    """

def segmentation(
    scores: DataFrame,
    *,
    of: Literal["masks", "boxes"] = "masks",
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The segmentation score of each head at each layer, a dot each, and what chance gives.

    The line follows the best head of each layer, with its 95% interval: it was picked as the best
    on the same samples, so that its interval says how sure its score is, and not that it is best.

    Args:
        scores: from `wp.segmentation`.
        of: `masks`, the IoU of what a head looks at with the masks, or `boxes`, that of the box
            about its heaviest connected part with the box about the mask.
        labels: of the best head's line: a mapping from `best head`.
        palette: its colour: a list of one, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.

    Raises: ResultError for a table of another kind; ProbeError for another score.
    """

def similarity(
    found: Similarity,
    *,
    measure: str = "cka",
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
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
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = "auto",
) -> Figure:
    """R - R^c - lam |Z|_0 of each layer, one curve a model; the higher, the better.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.

    Raises: ProbeError.
    """

def sparsity(
    *results: Result,
    metric: str = "l0",
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    site: str | None = None,
    band: Literal["ci", "std", "sem"] | None = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token", "per_entry", "position", "null_share"] | None = None,
    nulls: Mapping[str, Result] | Iterable[Result | Mapping[str, Result]] = (),
    bounds: bool = False,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    legend: bool | Literal["end", "auto"] | None = "auto",
) -> Figure:
    """A measure of sparsity of each layer, one curve a model.

    Args:
        metric: `l0` (share of exactly non-zero entries, never its complement), `thresholded`,
            `hoyer`, or another measure of the table.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.

    Raises: ProbeError.
    """

def spectra(
    *results: Result,
    layers: Sequence[int] | int | None = None,
    log: bool = True,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The spectrum of a sample's tokens at each layer, averaged over samples; one panel a model.

    The steeper it falls, the fewer directions the tokens use.

    Args:
        layers: which to draw, counted from 1; all if not given.
        log: whether shares are on a logarithmic axis; those below 1e-8 of the leading one, which
            are rounding, are left out.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels; if not given, which of several settings was picked, if one was.

    Raises: ResultError when a result lacks the matrix `token_spectrum`, or a layer.
    """

def subspace_overlap(
    *results: Result,
    basis: str | None = None,
    convention: str | None = None,
    prenorm: bool | None = None,
    class_token: bool | None = None,
    eps: float | None = None,
    lam: float | None = None,
    null: str | None = None,
    layers: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Figure:
    """Heatmaps of |U^T U|, K*p by K*p, as in figure 7 of arXiv:2306.01129; lines part the heads.

    The scale ends where 99.5% of the entries off the diagonal do, which is 1 everywhere: on a scale
    from 0 to 1 nothing else would be seen.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        layers: which to draw, counted from 1; if not given, at most eight, spread over the depth.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        axes: draw in these axes, one a panel, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels; if not given, which of several settings was picked, if one was.
        colorbar: beside the panels.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """

def text(
    view: View,
    *,
    value: Literal["norm", "l0", "change", "received", "attended"] | ndarray = "norm",
    layer: int | None = None,
    samples: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """Texts with each token on the colour of a number of its own, one below the other.

    Args:
        view: from `wp.view`, of texts.
        value: `norm` of the token at z_out, `l0` (its share of non-zeros), `change` (by the layer,
            relative), `received` or `attended` (attention, mean over heads); or numbers, (samples,
            tokens).
        layer: counted from 1; the last one if not given.
        samples: which of the view, counted from 0; the first eight if not given.
        labels: what samples are called: a list in their order, or a mapping from their labels.
        palette: a colour map's name.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the pictures.

    Raises: ResultError for what the view does not hold; ProbeError for another value.
    """

def token_pca(
    view: View,
    *,
    site: str = "z_out",
    layers: Sequence[int] | int | None = None,
    foreground: bool = True,
    samples: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The patches' leading principal components as colours, one row a sample, one column a layer.

    Of each layer the patches of all samples are taken together. Their first component tells
    foreground from background (the side that the images' borders are on), and the next three, of
    the foreground alone, are red, green and blue: like colours are like tokens, in all images of a
    column.

    Args:
        view: from `wp.view`, of images.
        site: where tokens are taken.
        layers: counted from 1; at most seven, spread over the depth, if not given.
        foreground: whether the first component sets the background apart, in white; else the first
            three are the colours of all patches.
        samples: which of the view, counted from 0; the first eight if not given.
        labels: what samples are called: a list in their order, or a mapping from their labels.
        palette: a colour map's name.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the pictures.

    Raises: ResultError for what the view does not hold, or tokens of fewer than four directions.
    References: Oquab et al. 2023, arXiv:2304.07193, figure 1; Yu et al. 2023, arXiv:2308.16271.
    """

def tokens(
    view: View,
    *,
    site: str = "z_out",
    layers: Sequence[int] | int | None = None,
    sort: bool = True,
    tokens: tuple[int, int] | None = None,
    samples: Sequence[int] | int | None = None,
    labels: Mapping[str, str | float | None] | Sequence[str | float | None] | None = None,
    palette: str | Sequence[Any] | Mapping[str, Any] | None = None,
    axes: Any = None,
    size: tuple[float, float] | None = None,
    width: Literal["column", "text"] | None = None,
    title: str | None = None,
) -> Figure:
    """The entries of a sample's tokens: one panel a layer, tokens down, features across.

    Under each panel stands the share of entries that are not exactly zero. Colours of a row of
    panels share one scale, up to the 99.5th percentile of its sizes: white is zero.

    Args:
        view: from `wp.view`.
        site: where tokens are taken.
        layers: counted from 1; at most eight, spread over the depth, if not given.
        sort: order features by their mean size in the last panel, the same in all of them.
        tokens: the first one and the one after the last, counted from 0; all if not given. Words
            of a text stand beside them, where there is room.
        samples: which of the view, counted from 0; the first eight if not given.
        labels: what samples are called: a list in their order, or a mapping from their labels.
        palette: a colour map's name.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the pictures.

    Raises: ResultError for what the view does not hold; ProbeError for no stretch of tokens.
    References: Yu et al. 2023, arXiv:2306.01129, figure 6.
    """
