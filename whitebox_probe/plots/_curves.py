"""What every figure of a measure against depth shares."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import pandas as pd

from whitebox_probe._core.errors import ProbeError, ResultError, nearest
from whitebox_probe.plots import _labels, style
from whitebox_probe.results.compare import MUST_AGREE
from whitebox_probe.results.forms import NULL_SEPARATOR, gaussian_null, in_nats, normal_form
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Band = Literal["ci", "std", "sem"] | None
Normalise = Literal["per_token", "per_entry", "position", "null_share"] | None
BANDS: dict[str, str] = {
    "ci": "band: 95% bootstrap interval of the mean",
    "std": "band: ±1 std over samples",
    "sem": "band: ±1 standard error of the mean",
}
HEIGHT: dict[str, float] = {"column": 2.15, "text": 2.6}  # inches, without the legend


def draw(
    results: Sequence[Result],
    *,
    metric: str,
    site: str | None,
    band: Band,
    relative_depth: bool,
    normalise: Normalise,
    width: style.Width,
    title: str | None,
    legend: bool,
    bounds: bool = False,
    nulls: Sequence[Result] = (),
) -> "Figure":
    """One metric of each result against depth, with its band, over the bands of its nulls.

    Raises: ResultError when a result lacks the metric, or what is drawn would not be comparable.
    """
    _check(results, metric=metric, normalise=normalise, band=band)
    curves = [_curve(result, metric, site) for result in results]
    _check_sites(results, curves, metric)
    null_of = _nulls(results, nulls)
    limits = _bounds(results, metric, normalise) if bounds else ()
    inches = style.inches(width)
    looks = style.looks([result.model for result in results])
    with style.styled():
        from whitebox_probe.plots._figure import StyledFigure

        figure = StyledFigure(figsize=(inches, HEIGHT[width]), layout="constrained")
        ax = figure.subplots()
        banded = False
        for result, curve in zip(results, curves, strict=True):
            null = null_of[result.model]
            reference = gaussian_null(result, metric, site, nulls=null)
            form = normal_form(result, metric, normalise, reference)
            depth = curve["layer"] / (result.run["layers"] if relative_depth else 1)
            look = looks[result.model]
            for other in null:
                _null_band(ax, depth, other, form(other.curve(metric, site)), look, len(results))
            curve = form(curve)
            _line(ax, depth, curve["mean"], look)
            low, high = _edges(curve, band)
            if not low.isna().all():
                ax.fill_between(depth, low, high, color=look.colour, alpha=0.22, linewidth=0)
                banded = True
        if relative_depth:
            ax.set_xlabel(r"relative depth $\ell / L$")
        else:
            ax.set_xlabel(r"layer $\ell$")
            ax.set_xticks(_whole_layers(max(curve["layer"].max() for curve in curves)))
        ax.set_ylabel(
            _labels.axis(
                results[0].run, metric, site=curves[0]["site"].iloc[0], normalise=normalise
            )
        )
        if title:
            ax.set_title(title)
        if limits:
            _limit_lines(ax, limits)
        if legend:
            told = _labels.measure(results[0].run, metric)
            note = _bases(results, curves) if told["bases"] else None
            _legend(figure, ax, BANDS[band] if band and banded else None, note)
    return figure


def _check(results: Sequence[Result], *, metric: str, normalise: str | None, band: Band) -> None:
    """Refuse what would make a misleading figure."""
    if not results:
        raise ResultError("there is nothing to draw", "no result was given", "Pass one or more")
    if band is not None and band not in BANDS:
        raise ProbeError(
            f"unknown band '{band}'",
            "it says what is shaded",
            f"Use one of: {', '.join(BANDS)}, None",
        )
    nats = bool(results) and in_nats(results[0], metric)
    if normalise is not None and not nats:
        raise ResultError(
            f"'{metric}' cannot be drawn {normalise.replace('_', ' ')}",
            "it is not in nats, and does not grow with the number of tokens",
            "Leave out normalise",
        )
    names = [result.model for result in results]
    if len(set(names)) < len(names):
        raise ResultError(
            f"two results are of the same model ({', '.join(names)})",
            "their curves could not be told apart",
            "Give one another name with probe(..., name=)",
        )
    if nats:
        _check_nats(results, normalise)


def _check_nats(results: Sequence[Result], normalise: str | None) -> None:
    """Rates share an axis only if they are rates of the same thing."""
    for what, meaning in MUST_AGREE.items():
        kinds = sorted({str(result.run.get(what)) for result in results})
        if len(kinds) > 1:
            raise ResultError(
                f"the results differ in {what}: {', '.join(kinds)}",
                "their nats do not mean the same",
                f"Probe all models with one {meaning}",
            )
    sizes = {tuple(r.run[k] for k in ("tokens", "dim", "heads", "dim_head")) for r in results}
    if len(sizes) > 1 and normalise is None:
        told = "; ".join(f"n={n}, d={d}, K={K}, p={p}" for n, d, K, p in sorted(sizes))
        raise ResultError(
            f"raw nats of models of different sizes cannot share an axis ({told})",
            "they grow with tokens, width and heads",
            "Pass normalise='per_token'",
        )


def _curve(result: Result, metric: str, site: str | None) -> pd.DataFrame:
    have = sorted(set(result.frame["metric"]))
    if metric not in have:
        raise ResultError(
            f"'{metric}' is not in the result of {result.model}",
            "it was not measured",
            nearest(metric, have),
        )
    return result.curve(metric, site)


def _check_sites(results: Sequence[Result], curves: Sequence[pd.DataFrame], metric: str) -> None:
    """One axis, one kind of tokens; the projections of a ViT are what `heads` is in a CRATE."""
    sites = [curve["site"].iloc[0] for curve in curves]
    if len({"heads" if site.startswith("heads") else site for site in sites}) > 1:
        told = ", ".join(f"{r.model} at {s}" for r, s in zip(results, sites, strict=True))
        raise ResultError(
            f"'{metric}' was measured at different sites ({told})",
            "one axis has one site",
            "Name one with site=, or probe all models at the same site",
        )


def _line(ax: "Axes", depth: pd.Series, mean: pd.Series, look: style.Look) -> None:
    """A model at initialisation is paler, dashed and ringed: a coinciding curve stays visible."""
    ax.plot(
        depth,
        mean,
        color=look.colour,
        marker=look.marker,
        linestyle="--" if look.initial else "-",
        alpha=0.65 if look.initial else 1.0,
        markersize=5.6 if look.initial else 3.4,
        markerfacecolor="white" if look.initial else look.colour,
        zorder=2.1 if look.initial else 2.2,
        label=look.label,
    )


def _nulls(results: Sequence[Result], nulls: Sequence[Result]) -> dict[str, list[Result]]:
    """The nulls of each result, found by their model's name."""
    found: dict[str, list[Result]] = {result.model: [] for result in results}
    for null in nulls:
        of, _, kind = null.model.partition(NULL_SEPARATOR)
        if of not in found or not kind:
            raise ResultError(
                f"the null {null.model} belongs to none of the curves",
                "it is drawn with the model that it was taken of",
                "Make it with wp.nulls, and draw it with that model",
            )
        found[of].append(null)
    return found


def _null_band(
    ax: "Axes", depth: pd.Series, null: Result, curve: pd.DataFrame, look: style.Look, models: int
) -> None:
    """A null is a thin line in grey (in the model's colour among several), and its ±1 std."""
    of, _, kind = null.model.partition(NULL_SEPARATOR)
    colour = "0.45" if models == 1 else look.colour
    name = kind.replace("_", " ")
    ax.plot(
        depth,
        curve["mean"],
        color=colour,
        linewidth=0.8,
        marker="",
        linestyle=_NULL_LINES.get(kind, "-."),
        alpha=0.8,
        zorder=1.8,
        label=f"null: {name}" if models == 1 else f"null of {of}: {name}",
    )
    if not curve["std"].isna().all():
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        ax.fill_between(depth, low, high, color=colour, alpha=0.12, linewidth=0, zorder=1.7)


_NULL_LINES = {"gaussian": ":", "shuffled": "-.", "random_subspaces": (0, (1, 1, 3, 1))}


def _edges(curve: pd.DataFrame, band: Band) -> tuple[pd.Series, pd.Series]:
    """Lower and upper edge of the band; NaN where there is none."""
    if band == "ci":
        return curve["ci_low"], curve["ci_high"]
    spread = curve[band] if band is not None else curve["mean"] * float("nan")
    return curve["mean"] - spread, curve["mean"] + spread


def _whole_layers(last: int) -> list[int]:
    """Ticks at layers that exist: whole, and none at 0."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(nbins=12, integer=True, min_n_ticks=1).tick_values(1, last)
    return [int(tick) for tick in ticks if 1 <= tick <= last]


def _bounds(results: Sequence[Result], metric: str, normalise: Normalise) -> tuple[float, ...]:
    """The smallest and the largest value possible, the same for all results."""
    found = set()
    for result in results:
        pair = result.run.get("bounds", {}).get(metric)
        if pair is None:
            raise ResultError(
                f"the result of {result.model} has no bounds of '{metric}'",
                "only the official convention, with tokens of unit norm, has them",
                "Probe with convention='official', or leave out bounds",
            )
        limits = normal_form(result, metric, normalise)(pd.DataFrame({"mean": pair, "layer": 1}))
        found.add(tuple(limits["mean"]))
    if len(found) > 1:
        raise ResultError(
            "the results have different bounds",
            "their models differ in size",
            "Draw them in separate figures, or leave out bounds",
        )
    return found.pop()


def _limit_lines(ax: "Axes", limits: Iterable[float]) -> None:
    for i, value in enumerate(limits):
        label = "smallest and largest value possible" if i == 0 else None
        ax.axhline(value, color="0.35", linestyle=":", linewidth=1, label=label, zorder=1.5)


def _bases(results: Sequence[Result], curves: Sequence[pd.DataFrame]) -> str:
    """Which U was used, since the same symbol stands for different projections."""
    families: dict[str, dict[str, None]] = {}
    for result, curve in zip(results, curves, strict=True):
        basis = str(curve["basis"].iloc[0])
        families.setdefault(basis, {})[str(result.run.get("family", result.model))] = None
    if len(families) == 1:
        return f"$U$: {next(iter(families))}"
    told = (f"{basis} ({', '.join(names)})" for basis, names in families.items())
    return f"$U$: {', '.join(told)}"


def _legend(figure: "Figure", ax: "Axes", band: str | None, note: str | None) -> None:
    """Under the axes, where it hides no data; the figure grows by its height."""
    from matplotlib.patches import Patch

    handles, _ = ax.get_legend_handles_labels()
    if band is not None:
        handles.append(Patch(facecolor="0.5", alpha=0.3, linewidth=0, label=band))
    width = figure.get_figwidth()
    for columns in range(min(3, len(handles)), 0, -1):
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, title=note
        )
        box = legend.get_window_extent()
        if columns == 1 or box.width / figure.dpi <= width - 0.1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)
