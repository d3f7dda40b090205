"""What a notebook shows of results: first and last layer, change, and a sparkline a measure."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whitebox_probe._core import html
from whitebox_probe._core.digits import number
from whitebox_probe.results import summary
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.table import varying, written
from whitebox_probe.stats import few_note

if TYPE_CHECKING:
    from whitebox_probe.results.compare import Comparison
    from whitebox_probe.results.result import Result
    from whitebox_probe.results.similarity import Similarity
    from whitebox_probe.results.view import View

_GROUPS = ("rate", "sparsity", "coherence", "geometry", "attention", "fidelity")
"""What is told first."""
_THUMBNAIL = 56  # pixels
_CELLS = 132  # pixels of a matrix
_SHADE = (58, 143, 196)  # as `html.BLUE`


def of_result(result: "Result") -> str:
    """The page of a result."""
    run, frame, samples = result.run, uncopied(result, "frame"), len(uncopied(result, "samples"))
    facts = [f"{samples or run.count} samples of {run.data.get('name', 'data')}"]
    facts += [f"convention {_told(run.get('convention'))}", f"basis {_told(run.get('basis'))}"]
    facts += [f"null {_told(run.get('null'))}"] if run.get("null") else []
    facts += [f"L={run.layers}, d={run.dim}, K={run.heads}, p={run.dim_head}, n={run.tokens}"]
    facts += [note] if (note := few_note(samples)) else []
    several = {m: varying(g) for m, g in frame.groupby("metric", sort=False)}
    rows = [
        (place(run, row["metric"]), _row(run, row, curve, several[row["metric"]]))
        for row, curve in zip(
            summary.changes(result).to_dict("records"), summary.curves(frame), strict=True
        )
    ]
    ordered = [cells for _, cells in sorted(rows, key=lambda row: row[0])]
    head = ["measure", "site", "first layer", "last layer", "change", "unit", "over the layers"]
    return html.card("Result", result.model, facts, html.table(head, ordered, numbers=(2, 3, 4)))


def place(run: Any, metric: str) -> tuple[int, str]:
    """Where a measure stands in the table: beside its kin."""
    group = str(run.measures.get(metric, {}).get("group", ""))
    return (_GROUPS.index(group) if group in _GROUPS else len(_GROUPS), group)


def _row(
    run: Any, row: Mapping[Any, Any], curve: pd.DataFrame, several: Sequence[str]
) -> list[str]:
    where = {name: row[name] for name in several}
    layers = [int(curve["layer"].iloc[end]) for end in (0, -1)]
    ends = [
        _titled(
            number(row[end]),
            f"layer {layer}: "
            + number(row[end], low=row[f"{end}_ci_low"], high=row[f"{end}_ci_high"]),
        )
        for end, layer in zip(("first", "last"), layers, strict=True)
    ]
    change = "" if len(curve) < 2 else _interval(row, "change")
    return [
        _measure(row["metric"], where),
        html.dim(row["site"]),
        *ends,
        change,
        html.escape(run.measures.get(row["metric"], {}).get("unit", "")),
        _line(curve, f"{row['metric']}, layers {layers[0]} to {layers[1]}"),
    ]


def of_comparison(comparison: "Comparison") -> str:
    """The page of a comparison: of each pair its differences, second minus first."""
    differences = comparison.differences
    names = list(dict.fromkeys(comparison.frame["model"]))
    facts = [f"{_count(differences)} samples, paired", "95% intervals"]
    if len(differences) and (note := few_note(int(differences["count"].min()))):
        facts.append(note)
    pairs = list(differences.groupby(["first", "second"], sort=False))
    rates = set(comparison.frame.loc[comparison.frame["mean_per_token"].notna(), "metric"])
    parts = []
    for (first, second), rows in pairs:
        head = ["measure", "unit", "first depth", "last depth", "at the last", "over depth"]
        body = [_difference(curve, rows, rates) for curve in summary.curves(_renamed(rows))]
        table = html.table(head, body, numbers=(2, 3))
        title = f"{second} − {first}"
        told = f'<p class="wb-head"><b>{html.escape(title)}</b></p>'
        # A pair is open; of more, each opens by a click.
        parts.append(told + table if len(pairs) == 1 else html.fold(title, table))
    notes = comparison.notes
    about = html.items(notes)
    if len(notes) > 3:
        about = html.fold(f"{len(notes)} notes on what else differs", about)
    return html.card("Comparison", ", ".join(names), facts, *parts, about)


def _difference(curve: pd.DataFrame, rows: pd.DataFrame, rates: set[str]) -> list[str]:
    """A row of a measure's differences."""
    mine = rows[rows["metric"] == curve["metric"].iloc[0]]
    several = ["site"] * (mine["site"].nunique() > 1) + varying(
        mine.drop(columns="basis", errors="ignore")
    )
    ends = curve.iloc[0], curve.iloc[-1]
    metric = str(ends[0]["metric"])
    form = str(ends[0]["form"] or "")
    unit = "nats" if metric in rates else ""
    unit = {"per_token": "nats a token", "per_entry": "nats an entry", "position": "share"}.get(
        form, unit
    )
    return [
        _measure(metric, {name: ends[0][name] for name in several}),
        html.escape(unit),
        *(_interval(end, "mean", sides=("ci_low", "ci_high")) for end in ends),
        _direction(ends[1]),
        _line(curve, f"difference in {metric} over depth", zero=True),
    ]


def _direction(row: Any) -> str:
    """Which way the interval leaves no doubt of, in a word."""
    if row["ci_low"] > 0:
        return "▲ higher"
    if row["ci_high"] < 0:
        return "▼ lower"
    return html.dim("≈ not told apart")


def _renamed(differences: pd.DataFrame) -> pd.DataFrame:
    """Differences with the columns of a table of one model."""
    return differences.rename(columns={"difference": "mean", "second_basis": "basis"})


def _count(differences: pd.DataFrame) -> str:
    counts = sorted(set(differences["count"].astype(int))) or [0]
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def of_similarity(similarity: "Similarity") -> str:
    """The page of a similarity: its matrices as shades, the darker the more alike."""
    shape = similarity.cka.shape
    facts = [f"{similarity.count} samples", f"{shape[0]} × {shape[1]} layers"]
    facts += ["rows: layers of the first, 1 at the top", "the fuller the colour, the more alike"]
    drawn = {
        "cka": (similarity.cka, 0.0, 1.0),
        "overlap": (similarity.overlap, 0.0, 1.0),
        "procrustes": (similarity.procrustes, 2.0, 0.0),
    }
    pictures = [_shades(name, *matrix) for name, matrix in drawn.items()]
    names = " and ".join(dict.fromkeys([similarity.first, similarity.second]))
    row = f'<div style="display:flex;flex-wrap:wrap;gap:20px">{"".join(pictures)}</div>'
    return html.card("Similarity", names, facts, row)


def _shades(name: str, values: np.ndarray, low: float, high: float) -> str:
    """A matrix as a picture, from bare at `low` to full colour at `high`, and its range."""
    if np.isnan(values).all():
        return f"<div>{html.escape(name)}<br/>{html.dim('NaN: too few samples')}</div>"
    share = np.nan_to_num((values - low) / (high - low)).clip(0, 1)
    pixels = np.empty((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3], pixels[..., 3] = _SHADE, (255 * share).round()
    scale = _CELLS / max(values.shape)
    tall, wide = (max(8, round(side * scale)) for side in values.shape)
    told = f"{number(float(np.nanmin(values)))} to {number(float(np.nanmax(values)))}"
    frame = "border:1px solid rgba(128,128,128,.5);display:inline-block;line-height:0"
    picture = html.image(_png(pixels), width=wide, height=tall, title=f"{name}: {told}")
    picture = picture.replace("margin:0 4px 4px 0;", "")
    framed = f'<span style="{frame}">{picture}</span>'
    return f"<div>{html.escape(name)}<br/>{framed}<br/>{html.dim(told)}</div>"


def of_view(view: "View") -> str:
    """The page of a view: its pictures or texts, and what it holds."""
    facts = [f"{view.samples} samples", f"layers {_spans(view.layers)}"]
    facts += [f"{view.grid[0]} × {view.grid[1]} patches"] if view.grid else []
    parts = []
    if view.images is not None:
        parts = [_thumbnail(each, f"sample {n}") for n, each in enumerate(view.images[:16])]
        parts += [html.dim(f"and {view.samples - 16} more")] if view.samples > 16 else []
    elif view.texts is not None:
        lines = [" ".join(words[:40]) + (" …" if len(words) > 40 else "") for words in view.texts]
        parts = [html.items(lines[:5])]
        parts += [html.dim(f"and {view.samples - 5} more")] if view.samples > 5 else []
    rows = []
    for site in dict.fromkeys(name for name, _ in view.sites):
        held = [layer for name, layer in view.sites if name == site]
        shape = " × ".join(map(str, view.at(site, held[0]).shape))
        rows.append([html.escape(site), html.escape(shape), html.escape(_spans(held))])
    table = html.table(["site", "shape of each", "layers"], rows)
    return html.card("View", view.model, facts, f"<div>{''.join(parts)}</div>", table)


def _thumbnail(pixels: np.ndarray, title: str) -> str:
    step = max(1, max(pixels.shape[:2]) // (2 * _THUMBNAIL))
    small = (pixels[::step, ::step].clip(0, 1) * 255).round().astype(np.uint8)
    tall, wide = pixels.shape[:2]
    scale = _THUMBNAIL / max(tall, wide)
    return html.image(
        _png(small), width=round(wide * scale), height=round(tall * scale), title=title
    )


def _png(pixels: np.ndarray) -> bytes:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bytes as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    plain = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    Image.fromarray(plain).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _measure(metric: str, where: Mapping[str, Any]) -> str:
    """A measure, and the settings that tell it from others of its name."""
    told = ", ".join(f"{k}={written(v)}" for k, v in where.items() if written(v))
    return html.escape(metric) + (f"<br/>{html.dim(told)}" if told else "")


def _interval(
    row: Any, name: str, *, sides: tuple[str, str] = ("change_ci_low", "change_ci_high")
) -> str:
    """A signed value, and its interval beneath it."""
    text = number(row[name], sign="+", low=row[sides[0]], high=row[sides[1]])
    value, _, interval = text.partition(" ")
    return html.escape(value) + (f"<br/>{html.dim(interval)}" if interval else "")


def _line(curve: pd.DataFrame, title: str, *, zero: bool = False) -> str:
    values, low, high = (curve[c].astype(float).tolist() for c in ("mean", "ci_low", "ci_high"))
    if not any(map(math.isfinite, values)):
        return ""
    known = [v for v in values if math.isfinite(v)]
    told = f"{title}: {number(min(known))} to {number(max(known))}"
    return html.sparkline(values, low=low, high=high, zero=zero, title=told)


def _titled(text: str, title: str) -> str:
    return f'<span title="{html.escape(title)}">{html.escape(text)}</span>'


def _told(value: Any) -> str:
    return ", ".join(written(v) or "none" for v in (value if isinstance(value, list) else [value]))


def _spans(numbers: Sequence[int]) -> str:
    """Whole numbers with runs drawn together: 1–4, 8."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)
