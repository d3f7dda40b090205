"""The commands that measure again what a report shows, made of what its runs say."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.results.run import Run

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

PROGRAM = "whitebox-probe"
_USUAL = {"conventions": ["paper"], "eps": [0.1], "lam": [0.1], "null": [None], "seed": 0}
_USUAL |= {"dtype": "float32", "fast": True, "nonfinite": "raise", "fit_limit": 256}
_OPTIONS = {"conventions": "convention", "eps": "eps", "lam": "lam", "null": "null"}
FILE = "FILE"


def of_run(run: Run, folder: str) -> tuple[str, list[str]]:
    """The command that measures a run again, and what it cannot say."""
    s, gaps = run.settings, []
    model, why = _model(run)
    gaps += [why] if why else []
    words = [PROGRAM, "run", model, "--data", str(run.data.get("name", "DATA"))]
    if run.data.get("limit") is not None:
        words += ["--limit", str(run.data["limit"])]
    if s.get("metrics"):
        words += ["--metrics", ",".join(s["metrics"])]
    told = run.basis_labels
    bases = list(dict.fromkeys(map(str, s.get("bases", []))))
    if bases and bases != ["None"]:
        words += ["--basis", ",".join(bases)]
    for name, option in _OPTIONS.items():
        if name in s and s[name] != _USUAL[name]:
            words += [f"--{option}", ",".join(_word(v) for v in s[name])]
    for name in ("dtype", "nonfinite", "seed"):
        if name in s and s[name] != _USUAL[name]:
            words += [f"--{name}", str(s[name])]
    for name, flag, usual in (
        ("orthonormal", "--orthonormal", False),
        ("prenorm", "--no-prenorm", True),
        ("class_token", "--no-class-token", True),
    ):
        values = s.get(name) or [usual]
        if len(values) > 1:
            gaps.append(
                f"{name} had both values ({', '.join(told) if name == 'orthonormal' else 'wp.Request'}): the command takes one"
            )
        elif values[0] is not usual:
            words.append(flag)
    if s.get("fast") is False:
        words.append("--no-fast")
    if run.model != run.checkpoint.get("name"):
        words += ["--name", run.model]
    return _joined([*words, "--out", folder]), gaps


def of_audit(audit: Audit, folder: str) -> tuple[str, list[str]]:
    """The command that judges again, and what it cannot say."""
    gaps, models, settings = [], [], audit.settings
    for name, about in dict(settings.get("models", {})).items():
        word, why = _named(str(name), dict(about))
        models.append(word)
        gaps += [why] if why else []
    words = [PROGRAM, "audit", *models]
    data = settings.get("data", {})
    words += ["--data", str(data.get("name", "DATA"))]
    for key in ("limit", "draws", "null_limit", "first_layer", "basis", "eps", "lam", "fit_limit"):
        value = settings.get(key)
        if value is not None:
            words += [f"--{key.replace('_', '-')}", _word(value)]
    for key in ("dtype", "nonfinite", "seed"):
        if key in settings and settings[key] != _USUAL[key]:
            words += [f"--{key}", str(settings[key])]
    for key, flag in (
        ("prenorm", "--no-prenorm"),
        ("class_token", "--no-class-token"),
        ("fast", "--no-fast"),
    ):
        if settings.get(key) is False:
            words.append(flag)
    for key, flag in (("null", "--no-null"), ("robustness", "--no-robustness")):
        if settings.get(key) is False:
            words.append(flag)
    usual = vars(Thresholds())
    for key, value in vars(audit.thresholds).items():
        if value != usual[key]:
            words += ["--threshold", f"{key}={_word(value)}"]
    return _joined([*words, "--out", folder]), gaps


def whole(material: "Material", target: str = "report.html") -> tuple[str, list[str]]:
    """One command that measures everything and makes the report; and what it cannot say."""
    commands, gaps, folders = [], [], []
    for i, result in enumerate(material.results, start=1):
        folder = f"again/{i}"
        command, missing = of_run(result.run, folder)
        commands.append(command)
        folders.append(folder)
        gaps += [f"{material.names[result.model]}: {each}" for each in missing]
    for i, audit in enumerate(material.audits, start=1):
        folder = f"again/audit-{i}"
        command, missing = of_audit(audit, folder)
        commands.append(command)
        folders.append(folder)
        gaps += [f"audit: {each}" for each in missing]
    if any(material.nulls.values()):
        gaps.append("nulls that are results by themselves: make them with wp.nulls")
    others = {
        "similarity": material.similarities,
        "view": material.views,
        "comparison": material.comparisons,
    }
    gaps += [
        f"each {name}: make it with wp.{'compare' if name == 'comparison' else name}"
        for name, each in others.items()
        if each
    ]
    steps = material.steps
    more = ["--steps", ",".join(f"{s:g}" for s in steps)] if steps else []
    more += ["--title", material.title] if material.title else []
    commands.append(_joined([PROGRAM, "report", *folders, *more, "--out", target]))
    return " && \\\n".join(commands), gaps


def _model(run: Run) -> tuple[str, str]:
    about = {"checkpoint": run.checkpoint, "family": run.family, "network": run.network}
    return _named(run.model, about)


def _named(model: str, about: Mapping[str, Any]) -> tuple[str, str]:
    """The word of a model on the command line, and why it is none that finds it."""
    from whitebox_probe import checkpoints

    name = about.get("checkpoint", {}).get("name")
    arch = about.get("network", {}).get("arch") or {}
    digest = about.get("checkpoint", {}).get("sha256")
    if name is None:
        return FILE, f"{model} was made in Python (wp.wrap), and no command makes it: wrap it again"
    try:
        known = checkpoints.entry(name)
    except ProbeError:
        known = None
    if known is not None:
        other = digest and known.sha256 and digest != known.sha256
        return name, "its weights are not those of the registry now" if other else ""
    if arch == {"model": name}:
        return f"timm:{name}", ""
    if "/" in str(name) and about.get("family") == "hf":
        return f"hf:{name}", ""
    told = f", the one whose SHA-256 is {digest}" if digest else ""
    return (
        FILE,
        f"{FILE} stands for the file of {name}{told}; what a file does not hold is given with --arch or --set",
    )


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _joined(words: Sequence[str]) -> str:
    return shlex.join(words)
