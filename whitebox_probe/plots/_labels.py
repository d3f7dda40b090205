"""What the axes say: the symbol of a measure, on the tokens that it was taken on."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from whitebox_probe.plots._names import verbatim, words
from whitebox_probe.results.result import UNITS
from whitebox_probe.sites import SITES

SYMBOLS = {
    "z_in": r"Z^{\ell}",
    "z_half": r"Z^{\ell+1/2}",
    "z_out": r"Z^{\ell+1}",
}
_GREEK = {"eps": "epsilon", "lam": "lambda"}


def measure(run: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """What a run tells of a measure: label, unit, group, bases, better."""
    plain = {"label": verbatim(metric.replace("_", " ")), "unit": "", "group": "", "bases": False}
    found: Mapping[str, Any] = run.get("measures", {}).get(metric, plain)
    return found


def of(run: Mapping[str, Any], curve: pd.DataFrame, what: str) -> Any:
    """A setting of the drawn rows, from their column, or from the run where they have none."""
    return curve[what].iloc[0] if what in curve else run.get(what)


def axis(
    run: Mapping[str, Any],
    curve: pd.DataFrame,
    *,
    normalise: str | None = None,
    named: Mapping[str, float] | None = None,
) -> str:
    r"""The label of a measure's axis, from the rows that are drawn.

    Args: named: settings that were asked for by value, such as eps.

    >>> run = {"measures": {"coding_rate": {"label": "$R(<Z>)$", "unit": "nats", "group": "rate"}}}
    >>> row = {"metric": "coding_rate", "site": "z_out", "convention": "paper", "prenorm": False}
    >>> axis(run, pd.DataFrame([row]), normalise="per_token")
    '$R(Z^{\\ell+1})$ [nats / token]'
    >>> axis(run, pd.DataFrame([row | {"prenorm": True}]))
    '$R(\\mathrm{LN}\\,Z^{\\ell+1})$ [nats]'
    >>> axis(run, pd.DataFrame([row | {"prenorm": pd.NA}]))
    '$R(Z^{\\ell+1})$ [nats]'
    >>> axis(run, pd.DataFrame([row | {"convention": "official"}]))
    '$R$, official convention [nats]'
    """
    told = measure(run, curve["metric"].iloc[0])
    site = str(curve["site"].iloc[0])
    rate = told["group"] == "rate"
    text, _, inside = str(told["label"]).partition(" [")
    if of(run, curve, "convention") == "official" and rate:
        # The convention's tokens are neither site's: the symbol stands alone.
        text = re.sub(r"\(<\w+>[^()]*\)| of \$<\w+>\$", "", text) + ", official convention"
    else:
        raw = SYMBOLS.get(site, "Z")
        prenorm = of(run, curve, "prenorm")  # without a value where it does not count
        normed = rate and site in SYMBOLS and pd.notna(prenorm) and bool(prenorm)
        symbol = rf"\mathrm{{LN}}\,{raw}" if normed else raw
        text = text.replace("<raw>", raw).replace("<Z>", symbol)
        # Attention maps and a layer's steps have their place; the label of theirs says it.
        fixed = told["group"] == "fidelity" or site not in SITES
        if not fixed and SITES[site].role not in ("residual", "map"):
            text += f" at {site}"
    for name, value in (named or {}).items():
        text += rf", $\{_GREEK[name]}={value:g}$"
    unit = told["unit"] if told["unit"] in UNITS else inside.rstrip("]")
    match normalise:
        case "per_token":
            unit += " / token"
        case "per_entry":
            unit += " / entry"
        case "position":
            text, unit = f"{text}: position between its bounds", ""
        case "null_share":
            text, unit = f"{text} / Gaussian null", ""
    return words(f"{text} [{unit}]" if unit else text)
