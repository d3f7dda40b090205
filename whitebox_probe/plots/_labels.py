"""What the axes say: the symbol of a measure, on the tokens that it was taken on."""

from collections.abc import Mapping
from typing import Any

TOKENS = {
    "z_in": r"Z^{\ell}",
    "z_half": r"Z^{\ell+1/2}",
    "z_out": r"Z^{\ell+1}",
}
RESIDUAL = tuple(TOKENS)


def measure(run: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """What a run tells of a measure: label, unit, group, bases, better."""
    plain = {"label": metric.replace("_", " "), "unit": "", "group": "", "bases": False}
    found: Mapping[str, Any] = run.get("measures", {}).get(metric, plain)
    return found


def axis(run: Mapping[str, Any], metric: str, *, site: str, normalise: str | None) -> str:
    r"""The label of a measure's axis.

    >>> run = {"convention": "paper", "measures": {"coding_rate": {
    ...     "label": "$R(<Z>)$", "unit": "nats", "group": "rate"}}}
    >>> axis(run, "coding_rate", site="z_out", normalise="per_token")
    '$R(Z^{\\ell+1})$ [nats / token]'
    >>> axis(run | {"prenorm": True}, "coding_rate", site="z_out", normalise=None)
    '$R(\\mathrm{LN}\\,Z^{\\ell+1})$ [nats]'
    """
    told = measure(run, metric)
    symbol = TOKENS.get(site, "Z")
    if run.get("prenorm") and told["group"] == "rate" and site in RESIDUAL:
        symbol = rf"\mathrm{{LN}}\,{symbol}"
    text = told["label"].replace("<raw>", TOKENS.get(site, "Z")).replace("<Z>", symbol)
    if run["convention"] == "official" and told["group"] == "rate":
        # The convention's tokens are neither site's: the symbol stands alone.
        text = text.replace("$", "").partition("(")[0]
        text = f"${text}$, official convention"
    elif site not in TOKENS and site != "weights":
        text += f" at {site}"
    unit = told["unit"] if told["unit"] in UNITS else ""
    match normalise:
        case "per_token":
            unit += " / token"
        case "per_entry":
            unit += " / entry"
        case "position":
            text, unit = f"{text}: position between its bounds", ""
        case "null_share":
            text, unit = f"{text} / Gaussian null", ""
    return f"{text} [{unit}]" if unit else text


UNITS = ("nats", "rad", "bits")
