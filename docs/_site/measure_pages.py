"""One page a measure, made of what the measure says of itself."""

import re
import textwrap
from functools import cache
from typing import Any

from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import Measure, SampleMeasure, TokenMeasure
from whitebox_probe.metrics.tokens import HEADS, MEAN
from whitebox_probe.sites import SITES

INVARIANCES = {
    "rotation": "a rotation of the features",
    "rotation_in_subspace": "another orthonormal basis of each subspace",
    "token_order": "the order of the tokens",
    "head_order": "the order of the heads",
    "repeated_tokens": "every token given twice",
    "scale": "the scale of the features",
}
OPERATORS = {
    "D": "a layer with a dictionary D",
    "lam": "its λ",
    "eta": "its step length η",
    MEAN: "the mean update over other samples, which `audit` measures first",
}
LEFT_AS_IT_IS = 1e-6  # of a value: what float32 tokens may move by rounding


def linked(source: str) -> str:
    """A source, whose papers on arXiv are links."""
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](arxiv:\1)", source)


def code(text: str) -> str:
    """Code in a table, where a bar would end the cell."""
    return f"`{text.replace('|', '∣')}`"


def needs(measure: type[Measure]) -> str:
    """What a measure asks of the model, the data and the environment."""
    found = ["subspaces U"] if measure.needs_basis else []
    if issubclass(measure, TokenMeasure):
        usual = next(iter(measure.site.values()))
        if usual == HEADS and not measure.needs_basis:
            found.append("the tokens in each head")
        found += [text for name, text in OPERATORS.items() if name in measure.needs_operators]
        named = {place for each in measure.site.values() for place in made(measure).inputs(each)}
        sites = sorted(named - set(measure.site.values()) - {HEADS})
        found += [f"the site `{site}`" for site in sites]
        if measure.needs_class_token:
            found.append("a class token")
        if getattr(measure, "needs_labels", False):
            found.append("the samples' classes")
    found += [f"`{install}`" for install in measure.needs_packages.values()]
    return ", ".join(found) or "tokens alone"


def made(measure: type[Measure]) -> Any:
    """A measure with its usual parameters."""
    return measure()


def settings(measure: type[Measure]) -> str:
    """Its own parameters with their values, and whether the norm comes first."""
    own = {k: v for k, v in made(measure).parameters().items() if k != "convention"}
    told = [f"`{name}={value!r}`".replace("'", '"') for name, value in own.items()]
    if measure.uses_norm:
        told.append("`prenorm=True`: after the layer's attention norm")
    return ", ".join(told) or "none"


@cache
def networks() -> tuple[Any, Any, Any]:
    """A small CRATE, a small ToST, and images of three classes, to try nulls on."""
    import torch

    import whitebox_probe as wp
    from whitebox_probe.models.registry import build
    from whitebox_probe.probing.means import mean_updates, with_means

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sizes = {"image_size": 12, "patch_size": 4, "channels": 3, "classes": 3, "dim": 16}
        crate = build("crate", sizes | {"depth": 1, "heads": 2, "dim_head": 6}, source="docs")
        sizes = {"patch_size": 4, "classes": 2, "dim": 16, "depth": 1, "heads": 2}
        tost = build("tost", sizes, source="docs")
        images = torch.randn(24, 3, 12, 12)
    data = torch.utils.data.TensorDataset(images, torch.arange(24) % 3)
    model = wp.wrap(crate.eval(), name="crate")
    model = with_means(model, mean_updates(model, data, limit=None))
    return model, wp.wrap(tost.eval(), name="tost"), data


@cache
def nulls(name: str) -> list[str]:
    """The nulls that move a measure, tried on a small network; others leave it as it is."""
    import whitebox_probe as wp
    from whitebox_probe.probing.null import kinds

    crate, tost, data = networks()
    model = tost if "memberships" in needs(catalogue()[name]) else crate

    def values(null: str | None) -> list[float]:
        found = wp.probe(model, data, [name], null=null, progress=False)
        return [float(value) for value in found.frame["mean"]]

    own, moved = values(None), []
    for kind, null in kinds().items():
        if null.replaces == "weights":
            moved.append(kind)
            continue
        try:
            theirs = values(kind)
        except wp.ProbeError:  # Gaussian tokens are no codes
            continue
        pairs = zip(own, theirs, strict=True)
        if any(abs(a - b) > LEFT_AS_IT_IS * max(abs(a), 1e-3) for a, b in pairs):
            moved.append(kind)
    return moved


def facts(measure: type[Measure]) -> list[tuple[str, str]]:
    """The table of a page."""
    many = issubclass(measure, SampleMeasure)
    rows = [("in plain text", code(measure.formula)), ("unit", measure.unit)]
    rows.append(("source", linked(measure.source)))
    rows.append(("group", measure.group))
    if issubclass(measure, TokenMeasure):
        for convention, site in measure.site.items():
            place = "the tokens in each head" if site == HEADS else f"`{site}`"
            rows.append((f"where (`{convention}`)", place))
        if "official" not in measure.site:
            rows.append(("where (`official`)", "the release does not define it"))
        if measure.code_site:
            rows.append(("with an overcomplete dictionary", f"`{measure.code_site}`"))
    else:
        rows.append(("where", "the weights: no forward pass"))
    heavy = "; adds more than a tenth to the forward pass" if measure.heavy else ""
    rows.append(("cost", measure.cost + heavy))
    rows.append(("needs", needs(measure)))
    rows.append(("settings", settings(measure)))
    kept = [INVARIANCES[name] for name in INVARIANCES if name in measure.invariances]
    rows.append(("left unchanged by", ", ".join(kept) or "none of those that are tried"))
    rows.append(("nulls that move it", ", ".join(f"`{kind}`" for kind in nulls(measure.name))))
    better = getattr(measure, "better", None)
    rows.append(("the principle wants it", better or "neither way"))
    interval = "one a sample, with a 95% interval of the mean" if many else "one of all samples"
    if not issubclass(measure, TokenMeasure):
        interval = "one a layer"
    rows.append(("values", interval if many else f"{interval}, without an interval"))
    rows.append(("measured when none is named", "yes" if measure.default else "no"))
    rows.append(("in Python", f"{{py:class}}`~whitebox_probe.metrics.{measure.__name__}`"))
    return rows


def told(measure: type[Measure]) -> str:
    """The docstring, without what is for those who write measures."""
    doc = textwrap.dedent(f"    {(measure.__doc__ or '').strip()}")
    return typeset(re.split(r"\n\s*(?:Args|Attributes):", doc)[0].strip())


@cache
def names() -> re.Pattern[str]:
    """Names of measures, of their rows and of sites."""
    rows = {row for kind in catalogue().values() for row in getattr(kind, "rows", ())}
    known = {*catalogue(), *rows, *SITES} - {"code", "heads", "coherence", "compression"}
    words = "|".join(sorted(known, key=len, reverse=True))
    return re.compile(rf"(?<![`\w])(?:{words})(?![`\w])")


def typeset(text: str) -> str:
    """Prose of a docstring: names as code, symbols as mathematics."""
    text = names().sub(lambda found: f"`{found[0]}`", text)
    return re.sub(r"(?<![`$\w])(R\^c|U_k|F\*)(?![`$\w])", lambda found: f"${found[0]}$", text)


def in_words(label: str) -> str:
    """The label of an axis in a table, where a bar would end the cell."""
    plain = label.replace(r"\|", r"\Vert ").replace("|", r"\vert ")
    return re.sub("<Z>|<raw>", "Z", plain).replace("$Z$", "`Z`")


def page(name: str) -> str:
    """The whole page of a measure."""
    measure = catalogue()[name]
    table = "\n".join(f"| {key} | {value} |" for key, value in facts(measure))
    rows = ""
    if not issubclass(measure, SampleMeasure):
        units: dict[str, str] = getattr(measure, "units", {})
        named = {row: in_words(measure.labels[row]) for row in measure.rows}
        lines = "\n".join(
            f"| `{row}` | {label} | {units.get(row, measure.unit)} |"
            for row, label in named.items()
        )
        rows = f"\n| row of the table | what it is | unit |\n| --- | --- | --- |\n{lines}\n"
    return f"""\
<!-- Made of the measure's own words by docs/tables.py; change those, and run it again. -->
# `{name}`

{told(measure)}

$$
{measure.tex}
$$

## When it misleads

{typeset(measure.misleads)}

## What it looks like

![{name} against depth](../figures/measures/{name}.png)

{caption(measure)}

## What it is

| | |
| --- | --- |
{table}
{rows}"""


def caption(measure: type[Measure]) -> str:
    """What is drawn."""
    if measure.name == "variational_compression":
        return (
            "A ToST with random weights on 100 test images of Fashion-MNIST: the shipped models "
            "have no memberships. The band is a 95% interval of the mean."
        )
    who = "The shipped CRATE, trained and at initialisation"
    if "D" not in getattr(measure, "needs_operators", ()):
        who = "The shipped CRATE, trained and at initialisation, and the shipped ViT"
    if not issubclass(measure, TokenMeasure):
        return f"{who}: of their weights."
    bands = " Bands are 95% intervals of the mean." if issubclass(measure, SampleMeasure) else ""
    return f"{who}, on 100 test images of Fashion-MNIST, in the `paper` convention.{bands}"
