"""Write the tables of this folder from the code: python docs/tables.py.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and each measure has a page in
measures/. A test asserts that each is what this file makes of the code, so that none goes stale.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

HERE = Path(__file__).parent
MEASURES = HERE / "measures"
END = "<!-- end -->"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in lines)


def measures(_: str) -> str:
    """Every measure of the catalogue, by group and name."""
    from whitebox_probe.metrics.catalogue import catalogue
    from whitebox_probe.metrics.measure import TokenMeasure
    from whitebox_probe.metrics.tokens import HEADS

    rows = []
    for metric in sorted(catalogue().values(), key=lambda m: (m.group, m.name)):
        sites = "the weights"
        if issubclass(metric, TokenMeasure):
            named = {c: s.replace(HEADS, "heads") for c, s in metric.site.items()}
            sites = "; ".join(f"`{site}` ({convention})" for convention, site in named.items())
            if len(named) == 2 and len(set(named.values())) == 1:
                sites = f"`{named['paper']}` (both)"
        default = "yes" if metric.default else ""
        formula = f"`{metric.formula}`"
        page = f"[`{metric.name}`](measures/{metric.name}.md)"
        rows.append([page, metric.group, formula, sites, metric.cost, default, metric.source])
    return grid(["measure", "group", "formula", "site", "cost", "default", "source"], rows)


def defaults(_: str) -> str:
    """The measures that are taken when none is named."""
    from whitebox_probe.metrics.catalogue import catalogue
    from whitebox_probe.metrics.measure import TokenMeasure

    rows = []
    for metric in sorted(catalogue().values(), key=lambda m: (m.group, m.name)):
        if metric.default:
            site = "the weights"
            if issubclass(metric, TokenMeasure):
                site = f"`{metric.site['paper']}`"
            rows.append([f"`{metric.name}`", f"`{metric.formula}`", site])
    return grid(["measure", "formula", "where, in the `paper` convention"], rows)


def sites(_: str) -> str:
    """The named places in a layer."""
    from whitebox_probe.sites import SITES

    rows = [[f"`{name}`", f"`{site.shape}`", site.meaning] for name, site in SITES.items()]
    return grid(["site", "shape", "what passes there"], rows)


def claims(_: str) -> str:
    """The claims that `audit` judges, and the rule of each."""
    from whitebox_probe.auditing.claim import claims as known

    rows = [
        [f"`{c.name}`", c.text, f"{c.statistic.format(first='`first_layer`')} ({c.unit})", c.rule]
        for c in known().values()
    ]
    return grid(["claim", "in words", "effect", "supported when"], rows)


def thresholds(_: str) -> str:
    """The numbers that verdicts depend on."""
    from whitebox_probe.auditing.thresholds import Thresholds

    rows = [[f"`{f.name}`", str(f.default), f.metadata["what"]] for f in fields(Thresholds)]
    return grid(["threshold", "default", "what it is"], rows)


def forms(_: str) -> str:
    """How rates are brought to one scale."""
    from whitebox_probe.results.forms import FORMS

    return grid(["form", "what it is"], [[f"`{name}`", text] for name, text in FORMS.items()])


def kinds_of_data(_: str) -> str:
    """Every kind of data, where it can be named, and what can be chosen of it."""
    from whitebox_probe.data.catalogue import kinds

    rows = [
        [
            f"`{name}`",
            kind.words,
            "`--data` and Python" if kind.by_path else "Python",
            ", ".join(f"`{option}`" for option in sorted(kind.options)),
        ]
        for name, kind in kinds().items()
    ]
    return grid(["kind", "what it is", "where", "options"], rows)


def nulls(_: str) -> str:
    """What stands in for the tokens, the subspaces or the weights."""
    from whitebox_probe.probing.null import kinds

    rows = [[f"`{name}`", null.text] for name, null in kinds().items()]
    return grid(["null", "what it is"], rows)


def reference_networks(_: str) -> str:
    """The networks that the audit is calibrated on, and why the truth of each holds."""
    from whitebox_probe.auditing.reference import networks

    rows = [[f"`{each.name}`", each.text, each.truth] for each in networks().values()]
    return grid(["network", "what it is", "why its truth holds"], rows)


def calibration(_: str) -> str:
    """The audit's verdict on each claim and network; in bold what the construction settles."""
    from whitebox_probe.auditing.claim import claims as known
    from whitebox_probe.auditing.reference import networks

    with (HERE / "calibration.csv").open(newline="") as file:
        verdicts = {row["network"]: row for row in csv.DictReader(file)}
    named = list(known())
    rows = [
        [
            f"`{each.name}`",
            *(
                f"**{verdicts[each.name][claim]}**"
                if claim in each.expected
                else verdicts[each.name][claim]
                for claim in named
            ),
        ]
        for each in networks().values()
    ]
    return grid(["network", *(f"`{claim}`" for claim in named)], rows)


def what_families_are(_: str) -> str:
    """Every family, in the first line of its own docstring."""
    from whitebox_probe.models.registry import families as known

    told = {name: (type(family).__doc__ or "").strip() for name, family in known().items()}
    rows = [[f"`{name}`", doc.splitlines()[0].removesuffix(".")] for name, doc in told.items()]
    return grid(["family", "what it is"], rows)


def families(_: str) -> str:
    """Every family: sites, bases, checkpoints, and what was tested."""
    from whitebox_probe import checkpoints
    from whitebox_probe.models.model import ProbeModel
    from whitebox_probe.models.registry import families as known
    from whitebox_probe.sites import SITES

    rows = []
    for name, family in known().items():
        models = [ProbeModel(family.build(arch), family.anatomy, name) for arch in family.example]
        sites = [site for site in SITES if any(site in model.sites for model in models)]
        of_it = [e for e in checkpoints.registry().values() if e.family == name]
        entries = [f"`{e.name}` ({e.tested})" for e in of_it]
        rows.append(
            [
                f"`{name}`",
                ", ".join(f"`{site}`" for site in sites),
                ", ".join(f"`{basis}`" for basis in models[0].bases),
                ", ".join(entries) or "none: no weights were released",
                family.tested,
            ]
        )
    return grid(["family", "sites", "bases", "checkpoints", "what was tested, and how"], rows)


def _attributes(doc: str) -> dict[str, str]:
    """The `Attributes:` of a docstring, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in doc.partition("Attributes:")[2].splitlines():
        text = line.strip()
        if line.startswith(" " * 8) and not line.startswith(" " * 9) and ":" in text:
            name, _, text = text.partition(": ")
            found[name] = text
        elif text:
            found[name] += f" {text}"
    return found


TABLES: dict[str, tuple[str, Callable[[str], str]]] = {
    "sites": ("concepts.md", sites),
    "defaults": ("concepts.md", defaults),
    "what a family is": ("families.md", what_families_are),
    "measures": ("measures.md", measures),
    "forms": ("measures.md", forms),
    "nulls": ("measures.md", nulls),
    "kinds of data": ("data.md", kinds_of_data),
    "claims": ("measures.md", claims),
    "thresholds": ("measures.md", thresholds),
    "families": ("families.md", families),
    "reference networks": ("calibration.md", reference_networks),
    "calibration": ("calibration.md", calibration),
}


def rewritten(text: str, name: str, make: Callable[[str], str]) -> str:
    """A page with one of its tables made anew."""
    mark = f"<!-- table: {name} -->\n"
    head, found, rest = text.partition(mark)
    old, end, tail = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no place for the table '{name}'")
    return f"{head}{mark}{make(old)}\n{END}{tail}"


def pages() -> dict[str, str]:
    """Every measure's page, by name."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    from _site import measure_pages

    from whitebox_probe.metrics.catalogue import catalogue

    return {name: measure_pages.page(name) for name in catalogue()}


def write() -> None:
    """Make every table and every page of a measure anew."""
    MEASURES.mkdir(exist_ok=True)
    made = pages()
    for old in MEASURES.glob("*.md"):
        if old.stem not in made:
            old.unlink()
    for name, text in made.items():
        (MEASURES / f"{name}.md").write_text(text)
    for name, (page, make) in TABLES.items():
        path = HERE / page
        path.write_text(rewritten(path.read_text(), name, make))


if __name__ == "__main__":
    write()
