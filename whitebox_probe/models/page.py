"""What a notebook shows of a model: its family, sizes, sites, and where it came from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from whitebox_probe._core import html
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess

if TYPE_CHECKING:
    from whitebox_probe.models.model import ProbeModel

_SOURCES = ("url", "repo", "name", "package", "path", "id")
"""Fields of a registry entry's source that say where a file is."""


def of_model(model: "ProbeModel") -> str:
    """The page of a model."""
    weights = sum(each.numel() for each in model.module.parameters())
    facts = [f"family {model.anatomy.name}", f"{weights:,} parameters", str(model.device)]
    s = model.dims
    sizes = f"{s.layers} layers, d={s.dim}, {s.heads} heads of p={s.dim_head}"
    prefix = model.prefix_tokens
    if prefix:
        sizes += f", {prefix} token{'s' * (prefix > 1)} before the patches"
    rows = [
        ["sizes", html.escape(sizes)],
        ["sites", html.escape(", ".join(model.sites))],
        ["bases", html.escape(", ".join(model.bases) or "none of its own")],
        ["input", html.escape(_input(model))],
        ["module", html.escape(type(model.module).__name__)],
    ]
    rows += [["weights", _origin(model)]]
    body = "".join(f"<tr><th>{name}</th><td>{cell}</td></tr>" for name, cell in rows)
    return html.card("Model", model.name, facts, f'<table class="wb"><tbody>{body}</tbody></table>')


def _input(model: "ProbeModel") -> str:
    how = model.preprocess
    if isinstance(how, Preprocess):
        tall, wide = (how.size, how.size) if isinstance(how.size, int) else how.size
        return f"images, {tall} × {wide}, {'one channel' if how.mode == 'L' else how.mode}"
    if isinstance(how, TextPreprocess):
        return "text"
    return "as the module takes it: how to prepare images or text is not known"


def _origin(model: "ProbeModel") -> str:
    """Where the weights came from, and what tells the file apart."""
    entry, parts = model.entry, []
    if entry is not None:
        parts.append(f"'{entry.name}' of checkpoints.yaml: {_place(entry.source)}")
        parts += [f"trained on {entry.training_data}"] if entry.training_data else []
        parts += [f"licence {entry.licence}"] if entry.licence else []
    if model.sha256:
        parts.append(f"sha256 {model.sha256[:12]}…")
    if not parts:
        return html.escape("no file: made in this session, or random")
    return "<br/>".join(map(html.escape, parts))


def _place(source: Mapping[str, object]) -> str:
    told = [str(source[name]) for name in _SOURCES if source.get(name)]
    file = source.get("file")
    return " ".join([str(source.get("kind", "")), *told, *([str(file)] if file else [])])
