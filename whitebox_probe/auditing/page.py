"""What a notebook shows of an audit: a verdict in colour and word for each claim and model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from whitebox_probe._core import html
from whitebox_probe._core.digits import number

if TYPE_CHECKING:
    from whitebox_probe.auditing.verdicts import Audit

# Of the first word or two of a verdict.
_LOOKS: dict[str, html.Look] = {
    "supported": "good",
    "contradicted": "bad",
    "depends on": "doubt",
    "not supported": "plain",
}


def of_audit(audit: "Audit", counts: Mapping[str, int]) -> str:
    """The page of an audit.

    Args: counts: how many claims have which verdict.
    """
    frame = audit.frame
    models = list(dict.fromkeys(frame["model"]))
    facts = [f"{n} {verdict}" for verdict, n in counts.items()]
    samples = sorted({int(n) for n in frame["samples"] if n == n and n})
    if samples:
        told = " to ".join(map(str, dict.fromkeys((samples[0], samples[-1]))))
        facts.append(f"{told} samples")
    cells = {(row["claim"], row["model"]): _cell(row) for row in frame.to_dict("records")}
    units = zip(frame["text"], frame["unit"], strict=True)
    texts = dict(zip(frame["claim"], units, strict=True))
    rows = [
        [
            f"{html.escape(claim)}<br/>{html.dim(text)}<br/>{html.dim(f'effect: {unit}')}",
            *(cells.get((claim, model), "") for model in models),
        ]
        for claim, (text, unit) in texts.items()
    ]
    table = html.table(["claim", *models], rows)
    why = html.fold("What each verdict rests on", html.items(audit.sentences()))
    return html.card("Audit", ", ".join(models), facts, table, why)


def _cell(row: Mapping[Any, Any]) -> str:
    """The verdict, and the effect with its interval where there is one."""
    from whitebox_probe.auditing.verdicts import worded

    verdict, reason = str(row["verdict"]), str(row["reason"] or "")
    look = next((look for word, look in _LOOKS.items() if verdict.startswith(word)), None)
    title = f"{row['sentence']}{f' ({reason})' if reason else ''}"
    if look is None:
        told = f'<span title="{html.escape(title)}">– {html.escape(verdict)}</span>'
    else:
        told = html.badge(verdict, look, title=title)
    more = worded(row).removeprefix(verdict).strip()
    if row["value"] == row["value"]:
        effect = number(row["value"], low=row["ci_low"], high=row["ci_high"])
        told += f"<br/>{html.dim(effect)}"
    return told + (f"<br/>{html.dim(more)}" if more else "")
