"""The runs that a figure was drawn of: kept with it, written into its file, and read back."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.arguments import expect
from whitebox_probe._core.arguments import path as a_path
from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.gate import Unfit, gate, parse_json, size_of
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.plots._names import BLANK
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import Run
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "whitebox_probe"
_DRAWN = "_whitebox_probe_drawn"  # the attribute of a Figure
_HIDDEN = ("ax", "axes", "nulls", "palette")
"""Options that say nothing of the numbers, or are results themselves."""


def note(figure: "Figure", name: str, given: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Remember what was drawn in a figure; in one that holds several, after what it holds."""
    drawn = vars(figure).setdefault(_DRAWN, [])
    runs = [run for thing in (*given, options.get("nulls", ())) for run in _runs(thing)]
    asked = {k: v for k, v in options.items() if k not in _HIDDEN and v is not None}
    drawn.append({"figure": name, "options": _plain(asked), "runs": runs})


def told(figure: "Figure") -> dict[str, Any]:
    """What `run_of` gives of the figure once it is saved; empty for one that is none of ours."""
    drawn = vars(figure).get(_DRAWN, [])
    if not drawn:
        return {}
    from whitebox_probe import __version__

    runs: list[dict[str, Any]] = []
    figures = []
    for each in drawn:
        runs += [run for run in each["runs"] if run not in runs]
        models = [run["model"] for run in each["runs"]]
        figures.append({"name": each["figure"], "options": each["options"], "models": models})
    return {"version": __version__, "figures": figures, "runs": runs}


def metadata(figure: "Figure", form: str) -> dict[str, Any]:
    """What matplotlib writes into a file of that format: the run, and no date."""
    dates: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    found = dict(dates.get(form, {}))
    run = told(figure)
    if not run or form not in ("pdf", "svg", "png"):
        return found
    whole, line = written(run), sentence(run)
    title = ", ".join(dict.fromkeys(each["name"] for each in run["figures"]))
    match form:
        case "pdf":
            return found | {"Title": title, "Subject": line, "Keywords": whole}
        case "svg":
            return found | {"Title": title, "Description": line, "Keywords": [whole]}
        case _:
            return found | {"Title": title, "Description": line, KEY: whole}


def written(run: Mapping[str, Any]) -> str:
    """The run in one line of ASCII, the same for the same run."""
    return json.dumps(run, sort_keys=True)


def sentence(run: Mapping[str, Any]) -> str:
    """The run in words, for who looks at a file's properties."""
    drawn = ", ".join(dict.fromkeys(each["name"] for each in run["figures"]))
    told = f"whitebox-probe {run['version']}: {drawn}; " + "; ".join(map(_words, run["runs"]))
    return BLANK.sub(" ", told)


def run_of(path: str | Path) -> dict[str, Any]:
    """The runs that a saved figure was drawn of: what `save` wrote into a PDF, SVG, PNG or PGF.

    Returns: `version` of the package that drew it; `figures`: name, options and models of each one
        on the page; `runs`: of each result its model, data, samples, seed, measures, convention,
        eps and the like.
    Raises: ProbeError for a file that holds no run.
    """
    path = Path(expect("path", path, a_path, "the run is read from that file"))
    readers: dict[str, Callable[[Path], str | None]] = {
        ".pdf": _of_pdf, ".svg": _of_svg, ".png": _of_png, ".pgf": _of_pgf,
    }  # fmt: skip
    try:
        size_of(path)
        with gate():
            text = readers.get(path.suffix.lower(), lambda _: None)(path)
            found = parse_json(text) if text else None
    except Unfit as why:
        raise ProbeError(f"{path} cannot be read", str(why), "Pass a figure") from why
    if not isinstance(found, dict) or not {"version", "runs"} <= found.keys():
        raise ProbeError(
            f"{path} holds no run",
            "it is none of this package's figures, or another program wrote it anew",
            f"Pass what wp.plots.save wrote: {', '.join(readers)}",
        )
    return found


def _of_pdf(path: Path) -> str | None:
    match = re.search(rb"/Keywords \(((?:\\.|[^\\)])*)\)", path.read_bytes(), re.DOTALL)
    return re.sub(rb"\\(.)", rb"\1", match[1]).decode("ascii") if match else None


def _of_svg(path: Path) -> str | None:
    dublin = "{http://purl.org/dc/elements/1.1/}subject"
    subject = ElementTree.parse(path).find(f".//{dublin}")
    return None if subject is None else "".join(subject.itertext()).strip()


def _of_png(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path) as picture:
        text = picture.info.get(KEY)
    return None if text is None else str(text)


def _of_pgf(path: Path) -> str | None:
    mark = f"%% {KEY} "
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix(mark) for line in lines if line.startswith(mark)), None)


def _words(run: Mapping[str, Any]) -> str:
    parts = [str(run["model"])]
    if "samples" in run:
        data = f" of {run['data']['name']}" if run.get("data", {}).get("name") else ""
        parts.append(f"{run['samples']} samples{data}")
    parts += [f"seed {run['seed']}"] if run.get("seed") is not None else []
    for name, word in (("conventions", "convention"), ("eps", "eps")):
        parts += [f"{word} {', '.join(map(str, run[name]))}"] if run.get(name) else []
    return ", ".join(parts)


def _runs(thing: Any) -> list[dict[str, Any]]:
    """What a figure was given, as the runs that it comes from."""
    match thing:
        case Result():
            return [_of_run(thing.run)]
        case Audit():
            return _of_audit(thing)
        case View():
            sites = list(dict.fromkeys(site for site, _ in thing.sites))
            told = {"model": thing.model, "samples": thing.samples, "sites": sites}
            return [told | {"layers": thing.layers}]
        case Similarity():
            names = dict.fromkeys([thing.first, thing.second])
            return [{"model": name, "samples": thing.count} for name in names]
        case Mapping():
            return [run for each in thing.values() for run in _runs(each)]
        case list() | tuple():
            return [run for each in thing for run in _runs(each)]
    return []


def _of_audit(found: Audit) -> list[dict[str, Any]]:
    """The runs behind an audit; of one that was read from disk, its models and settings."""
    names = list(dict.fromkeys(found.frame["model"]))
    settings = _plain(dict(found.settings))
    kept = {name: _of_run(result.run) for name, result in found.results.items()}
    return [kept.get(name, {"model": name}) | {"audit": settings} for name in names]


def _of_run(run: Run) -> dict[str, Any]:
    """What a reader needs to make the numbers again: nothing of where and when it ran."""
    settings = ("seed", "conventions", "bases", "orthonormal", "prenorm", "class_token", "eps")
    found: dict[str, Any] = {"model": run.model, "family": run.family, "samples": run.count}
    found |= {"data": run.data, "checkpoint": run.checkpoint}
    found |= {
        name: run.settings[name] for name in (*settings, "lam", "null") if name in run.settings
    }
    measures = run.settings.get("metrics") or list(run.measures)
    found |= {"measures": measures, "measured_with": run.versions.get("whitebox-probe")}
    return {name: value for name, value in _plain(found).items() if value not in (None, "", {}, [])}


def _plain(value: Any) -> Any:
    """The value as JSON holds it; in words where JSON has no such thing."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return type(value).__name__
