"""What was compared with what for a claim, in lines of text."""

import textwrap
from typing import Any

from whitebox_probe.auditing.verdicts import Audit, effect

WIDTH = 96


def explained(audit: Audit, claim: str) -> str:
    """A claim's words, rule and numbers: of each model, its effect, its nulls, its settings."""
    rule = audit.rules[claim]
    lines = [f"{claim}: {rule['claim']}", ""]
    lines += _wrapped(f"Effect: {rule['statistic']} ({rule['unit']}).")
    lines += _wrapped(f"Supported when {rule['rule']}.")
    lines += _wrapped(f"About it: {rule['about']}")
    if rule["keeps its meaning under"]:
        lines += _wrapped(f"It keeps its meaning under other {rule['keeps its meaning under']}.")
    if rule["loses its meaning under"]:
        lines += _wrapped(f"It loses its meaning under {rule['loses its meaning under']}.")
    rows = audit.frame[audit.frame["claim"] == claim]
    for row in rows.to_dict("records"):
        lines += ["", *_model(audit, claim, row)]
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent) or [""]


def _model(audit: Audit, claim: str, row: dict[Any, Any]) -> list[str]:
    lines = [f"{row['model']}: {row['verdict']}" + (f" ({row['reason']})" if row["reason"] else "")]
    if row["value"] != row["value"]:
        return lines
    lines += _wrapped(f"{row['sentence']}.", "  ")
    lines.append(f"  effect       {effect(row)} over {row['samples']} samples")
    if row["tested"]:
        told = f"{row['p']:.2g} by {row['tested']}, {row['p_holm']:.2g} corrected"
        lines.append(f"  p            {told}")
    if row["null"]:
        if row["compared"] != row["value"]:
            lines.append(f"  of its own   {row['compared']:.4g}, which random weights have to miss")
        lines.append(
            f"  {row['null']:12} {row['null_mean']:.4g}, another draw in "
            f"[{row['null_low']:.3g}, {row['null_high']:.3g}]; {row['null_draws']} draws, "
            f"rank p {row['null_p']:.2g}"
        )
    mine = audit.parts[(audit.parts["claim"] == claim) & (audit.parts["model"] == row["model"])]
    told = ", ".join(f"{n} {v:.4g}" for n, v in zip(mine["part"], mine["value"], strict=True))
    lines += _wrapped(f"parts: {told}", "  ") if told else []
    of = audit.robustness
    for other in of[(of["claim"] == claim) & (of["model"] == row["model"])].to_dict("records"):
        word = "agrees" if other["agrees"] else "FLIPS" if other["counts"] else "does not count"
        why = f": {other['why']}" if other["why"] and word != "agrees" else ""
        lines += _wrapped(f"{other['setting']}: {other['value']:.4g}, {word}{why}", "  ")
    return lines
