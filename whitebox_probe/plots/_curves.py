"""What every figure of a measure against depth shares."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from whitebox_probe._core.errors import ProbeError, ResultError
from whitebox_probe.plots import style
from whitebox_probe.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Band = Literal["ci", "std", "sem"] | None
BANDS: dict[str, str] = {
    "ci": "band: 95% bootstrap interval of the mean",
    "std": "band: ±1 std over samples",
    "sem": "band: ±1 standard error of the mean",
}
NATS = frozenset({"coding_rate", "compression", "rate_reduction", "sparse_rate_reduction"})


def draw(
    results: Sequence[Result],
    *,
    metric: str,
    site: str | None,
    label: str,
    band: Band,
    relative_depth: bool,
    normalise: Literal["per_token"] | None,
    width: style.Width,
    title: str | None,
) -> "Figure":
    """One metric of each result against depth, with its band.

    Raises: ResultError when a result lacks the metric, conventions differ, or raw nats of models
        of different sizes would share an axis.
    """
    check(results, metric=metric, normalise=normalise, band=band)
    looks = style.looks([result.model for result in results])
    with style.styled():
        rows = -(-(len(results) + 1) // (1 if width == "column" else 2))
        height = 0.62 * style.INCHES[width] * (1 if width == "column" else 0.62) + 0.14 * rows
        figure, axes = style.new_figure(width, height=height)
        ax = axes[0, 0]
        drawn: str | None = None
        for result in results:
            curve = result.curve(metric, site)
            scale = 1 / result.run["tokens"] if normalise == "per_token" else 1.0
            depth = curve["layer"] / (result.run["layers"] if relative_depth else 1)
            look = looks[result.model]
            ax.plot(
                depth,
                curve["mean"] * scale,
                color=look.colour,
                marker=look.marker,
                linestyle="--" if look.dashed else "-",
                label=look.label,
                markerfacecolor="white" if look.dashed else look.colour,
            )
            low, high = _edges(curve, band)
            if low is not None and not low.isna().all():
                ax.fill_between(
                    depth, low * scale, high * scale, color=look.colour, alpha=0.22, linewidth=0
                )
                drawn = band
        ax.set_xlabel(r"relative depth $\ell / L$" if relative_depth else r"layer $\ell$")
        ax.set_ylabel(label + (" / token" if normalise == "per_token" else ""))
        if not relative_depth:
            _whole_layers(ax)
        if title:
            ax.set_title(title)
        _legend(figure, ax, drawn, columns=1 if width == "column" else 2)
    return figure


def check(results: Sequence[Result], *, metric: str, normalise: str | None, band: Band) -> None:
    """Refuse what would make a misleading figure."""
    if not results:
        raise ResultError("there is nothing to draw", "no result was given", "Pass one or more")
    if band is not None and band not in BANDS:
        raise ProbeError(
            f"unknown band '{band}'",
            "it says what is shaded",
            f"Use one of: {', '.join(BANDS)}, None",
        )
    conventions = {result.run["convention"] for result in results}
    if metric in NATS and len(conventions) > 1:
        raise ResultError(
            f"the results differ in convention: {', '.join(sorted(conventions))}",
            "their nats do not mean the same",
            "Probe all models with one convention",
        )
    sizes = {tuple(r.run[k] for k in ("tokens", "dim", "heads", "dim_head")) for r in results}
    if metric in NATS and len(sizes) > 1 and normalise is None:
        told = "; ".join(f"n={n}, d={d}, K={K}, p={p}" for n, d, K, p in sorted(sizes))
        raise ResultError(
            f"raw nats of models of different sizes cannot share an axis ({told})",
            "they grow with tokens, width and heads",
            "Pass normalise='per_token'",
        )


def _edges(curve: Any, band: Band) -> tuple[Any, Any]:
    if band is None:
        return None, None
    if band == "ci":
        return curve["ci_low"], curve["ci_high"]
    return curve["mean"] - curve[band], curve["mean"] + curve[band]


def _whole_layers(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))


def _legend(figure: Any, ax: Any, band: str | None, *, columns: int) -> None:
    """Under the axes, where it hides no data; the band is explained as its last line."""
    from matplotlib.patches import Patch

    handles, _ = ax.get_legend_handles_labels()
    if band is not None:
        handles.append(Patch(facecolor="0.5", alpha=0.3, linewidth=0, label=BANDS[band]))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
