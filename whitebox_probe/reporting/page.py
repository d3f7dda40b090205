"""One HTML file of everything: its template filled, its scripts inside, nothing fetched.

Text is escaped by the template, and within the JSON of the charts. The policy allows the page's two
scripts by their digests, and no other; Vega's expressions are interpreted (its `ast` mode), so that
no text is ever run as code.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from whitebox_probe._core.digits import number
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.reporting import words
from whitebox_probe.reporting.section import Block, Chart, File, Files, Fold, Part, Picture, Sheet

MOST = 8_000_000
"""Bytes of a report."""
SIGNS = {"good": "✓", "bad": "✗", "doubt": "?", "plain": "○"}
_PART = "whitebox_probe.reporting"


def filled(title: str, subtitle: str, parts: Mapping[str, Part]) -> str:
    """The page.

    Args: parts: by the name of the section.
    Raises: ProbeError for a page that is larger than `MOST`.
    """
    from markupsafe import Markup

    from whitebox_probe import __version__

    ids = _Ids({name: part.blocks for name, part in parts.items()})
    bundle, driver, style = javascript(), _asset("page.js"), _asset("page.css")
    environment = _environment(ids)
    charts = [_chart(block, ids) for block in ids.blocks if isinstance(block, Chart)]
    html = environment.get_template("page.html").render(
        policy=Markup(_policy(_wrapped(bundle), _wrapped(driver))),
        version=__version__,
        title=title,
        subtitle=subtitle,
        parts=[_Titled(f"part-{name}", part.title, part.blocks) for name, part in parts.items()],
        files=[
            {"id": ids.of(each), "packed": Markup(_packed(each.text))}
            for each in ids.blocks
            if isinstance(each, File)
        ],
        charts=Markup(embedded(charts)),
        signs=SIGNS,
        style=Markup(style),
        bundle=Markup(_wrapped(bundle)),
        driver=Markup(_wrapped(driver)),
    )
    html = f"{html.strip()}\n"
    _expect_small(html, ids)
    return html


@dataclass(frozen=True)
class _Titled:
    id: str
    title: str
    blocks: Sequence[Block]


@dataclass
class _Ids:
    """A name in the page for each block that needs one: the same for the same page."""

    given: Mapping[str, Sequence[Block]]
    blocks: list[Block | File] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, blocks in self.given.items():
            for block in _all(blocks):
                self.blocks.append(block)
                self.sections.append(name)

    def of(self, block: Block | File) -> str:
        at = next(i for i, each in enumerate(self.blocks) if each is block)
        return f"{type(block).__name__.lower()}-{self.sections[at]}-{at}"


def _all(blocks: Sequence[Block]) -> Iterator[Block | File]:
    for block in blocks:
        yield block
        if isinstance(block, Files):
            yield from block.files
        if isinstance(block, Fold):
            yield from _all(block.blocks)


def embedded(value: Any) -> str:
    r"""A value as JSON that can stand inside a script element, whatever text it holds.

    >>> print(embedded({"a": "</script><!--", "b": float("nan")}))
    {"a":"\u003c/script\u003e\u003c!--","b":null}
    """
    text = json.dumps(words.plain(value), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


@lru_cache(maxsize=1)
def javascript() -> str:
    """Vega, Vega-Lite and vega-embed, with its interpreter of expressions, as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _wrapped(script: str) -> str:
    return f"\n{script.strip()}\n"


def _policy(*scripts: str) -> str:
    """Nothing from anywhere: these scripts, the page's own style, pictures inside it.

    Vega measures and places text by styles of its own, which no digest can name beforehand.
    """
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _environment(ids: _Ids) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return (
            words.visible(value)
            if isinstance(value, str) and not isinstance(value, Markup)
            else value
        )

    made = Environment(
        loader=PackageLoader(_PART),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=False,
    )
    made.filters |= {
        "kind": lambda block: type(block).__name__,
        "id": ids.of,
        "base64": lambda data: Markup(base64.b64encode(data).decode()),
        "inline": lambda values: json.dumps(words.plain(values)),
        "breakable": _breakable,
        "index_of": lambda values, value: values.index(value) if value in values else 0,
    }
    return made


def _breakable(text: str) -> Any:
    """Text of one word that may be broken where a reader would: behind `_` and `=`."""
    from markupsafe import Markup, escape

    told = str(escape(words.visible(text)))
    return Markup(told.replace("_", "_<wbr>").replace("=", "=<wbr>"))


def _asset(name: str) -> str:
    from importlib.resources import files

    return (files(_PART) / "templates" / name).read_text(encoding="utf-8")


def _chart(chart: Chart, ids: _Ids) -> dict[str, Any]:
    return {
        "id": ids.of(chart),
        "name": chart.name,
        "spec": chart.spec,
        "by": list(chart.by),
        "table": [list(pair) for pair in chart.table],
        "log": dict(chart.log),
        "sheets": {key: _sheet(sheet) for key, sheet in chart.sheets.items()},
    }


def _sheet(sheet: Sheet) -> dict[str, Any]:
    """Rows without the names of their fields, which would be most of them."""
    fields = list(dict.fromkeys(name for row in sheet.rows for name in row))
    return {
        "fields": fields,
        "rows": [[_brief(row.get(name)) for name in fields] for row in sheet.rows],
        "params": dict(sheet.params),
        "allow": {name: list(values) for name, values in sheet.allow.items()},
        "note": sheet.note,
    }


def _brief(value: Any) -> Any:
    """A number with the digits that a picture can show; tables and files have their own."""
    return float(f"{value:.7g}") if isinstance(value, float) and value == value else value


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _expect_small(html: str, ids: _Ids) -> None:
    size = len(html.encode())
    if size < MOST:
        return
    of: dict[str, int] = {}
    for block, section in zip(ids.blocks, ids.sections, strict=True):
        if isinstance(block, Chart):
            of[section] = of.get(section, 0) + len(embedded(_chart(block, ids)))
        elif isinstance(block, Picture):
            of[section] = of.get(section, 0) + len(block.png) * 4 // 3
    largest = max(of, key=lambda name: of[name], default="the page")
    raise ProbeError(
        f"the report would be {number(size / 1e6)} MB",
        f"a file to hand over is less than {MOST / 1e6:g} MB; most of it is of '{largest}'",
        "Report on fewer results, or on results with fewer settings (Result.select)",
    )
