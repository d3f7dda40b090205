"""The commands that measure again what a report shows, made of what its runs say."""

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.results.run import Run

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

PROGRAM = "whitebox-probe"
FILE = "FILE"
"""Stands for what no name finds."""
_USUAL = {"seed": 0, "dtype": "float32", "nonfinite": "raise"}
_SEVERAL = {"conventions": "paper", "eps": 0.1, "lam": 0.1, "null": None}
_FLAGS = {
    "orthonormal": ("--orthonormal", False),
    "prenorm": ("--no-prenorm", True),
    "class_token": ("--no-class-token", True),
    "fast": ("--no-fast", True),
    "robustness": ("--no-robustness", True),
}
_OF_AUDIT = ("limit", "draws", "null_limit", "first_layer", "basis", "eps", "lam", "fit_limit")


def of_run(run: Run, folder: str) -> tuple[str, list[str]]:
    """The command that measures a run again, and what it cannot say."""
    s = run.settings
    about = {"checkpoint": run.checkpoint, "family": run.family, "network": run.network}
    model, gaps = _named(run.model, about)
    words = [PROGRAM, "run", model, "--data", str(run.data.get("name", "DATA"))]
    words += ["--limit", str(run.data["limit"])] if run.data.get("limit") is not None else []
    words += ["--metrics", ",".join(s["metrics"])] if s.get("metrics") else []
    bases = [str(basis) for basis in s.get("bases", ()) if basis]
    words += ["--basis", ",".join(bases)] if bases else []
    for name, usual in _SEVERAL.items():
        if name in s and s[name] != [usual]:
            words += [f"--{name.removesuffix('s') if name == 'conventions' else name}"]
            words += [",".join(map(_word, s[name]))]
    words += _given(s)
    for name in ("orthonormal", "prenorm", "class_token"):
        if len(s.get(name) or ()) > 1:
            gaps.append(f"{name} had both values, by wp.Request, and the command takes one")
    if run.model != run.checkpoint.get("name"):
        words += ["--name", run.model]
    return shlex.join([*words, "--out", folder]), gaps


def of_audit(audit: Audit, folder: str) -> tuple[str, list[str]]:
    """The command that judges again, and what it cannot say."""
    s = audit.settings
    found = [_named(str(name), dict(about)) for name, about in dict(s.get("models", {})).items()]
    words = [PROGRAM, "audit", *(word for word, _ in found)]
    words += ["--data", str(s.get("data", {}).get("name", "DATA"))]
    for key in _OF_AUDIT:
        if s.get(key) is not None:
            words += [f"--{key.replace('_', '-')}", _word(s[key])]
    words += [*_given(s), *(["--no-null"] if s.get("null") is False else [])]
    usual = vars(Thresholds())
    for key, value in vars(audit.thresholds).items():
        if value != usual[key]:
            words += ["--threshold", f"{key}={_word(value)}"]
    gaps = [gap for _, each in found for gap in each]
    return shlex.join([*words, "--out", folder]), gaps


def whole(material: "Material", target: str = "report.html") -> tuple[str, list[str]]:
    """One command that measures everything and makes the report; and what it cannot say."""
    made = [
        (f"again/{i}", *of_run(result.run, f"again/{i}"))
        for i, result in enumerate(material.results, start=1)
    ]
    made += [
        (f"again/audit-{i}", *of_audit(audit, f"again/audit-{i}"))
        for i, audit in enumerate(material.audits, start=1)
    ]
    gaps = [gap for _, _, each in made for gap in each]
    pieces: dict[str, Any] = {
        "wp.nulls": [*filter(None, material.nulls.values())],
        "wp.compare": material.comparisons,
        "wp.similarity": material.similarities,
        "wp.view": material.views,
    }
    gaps += [f"what {name} gave is made in Python" for name, each in pieces.items() if each]
    words = [PROGRAM, "report", *(folder for folder, _, _ in made)]
    words += ["--steps", ",".join(f"{s:g}" for s in material.steps)] if material.steps else []
    words += ["--title", material.title] if material.title else []
    last = shlex.join([*words, "--out", target])
    lines = [command for _, command, _ in made] + ([last] if made else [])
    return " && \\\n".join(lines), gaps


def _given(settings: Mapping[str, Any]) -> Iterator[str]:
    """Options of which a run has one value, where it is not the usual one."""
    for name, usual in _USUAL.items():
        if settings.get(name, usual) != usual:
            yield from (f"--{name}", str(settings[name]))
    for name, (flag, at_first) in _FLAGS.items():
        value = settings.get(name, at_first)
        if value in ([not at_first], not at_first):
            yield flag


def _named(model: str, about: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The word of a model on the command line, and why it is none that finds it."""
    from whitebox_probe import checkpoints

    held = about.get("checkpoint", {})
    name, digest = held.get("name"), held.get("sha256")
    if name is None:
        return FILE, [f"{model} was made in Python (wp.wrap), and no command makes it"]
    try:
        known = checkpoints.entry(name)
    except ProbeError:
        known = None
    if known is not None:
        other = digest and known.sha256 and digest != known.sha256
        return name, [f"{model} has other weights than the registry's {name}"] if other else []
    if (about.get("network", {}).get("arch") or {}) == {"model": name}:
        return f"timm:{name}", []
    if "/" in str(name) and about.get("family") == "hf":
        return f"hf:{name}", []
    told = f", whose SHA-256 is {digest}" if digest else ""
    more = "what the file does not hold is given with --arch or --set"
    return FILE, [f"{FILE} stands for the file of {name}{told}; {more}"]


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
