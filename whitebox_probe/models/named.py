"""Mappings that are written down: the YAML files of `mappings/`, and a user's own.

A file says of which classes it is (`matches`), where its sites and weights are, and what else
`wrap(module, sites=...)` takes. It is checked against a schema, and against the module: its paths
when it is applied, and what it says of the layers on a few tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.arguments import plain
from whitebox_probe._core.errors import ProbeError, SiteError, nearest
from whitebox_probe._core.gate import Unfit, expect, parse_yaml, read_text
from whitebox_probe.models.paths import found_at

_SUFFIXES = (".yaml", ".yml")
_MISSING = object()


@dataclass(frozen=True)
class Written:
    """A mapping as it is written: its name, and the fields of its file."""

    name: str
    fields: Mapping[str, Any]

    def place(self, module: nn.Module) -> str | None:
        """Where in a module of one of its classes the layers are kept; None for other modules."""
        known = self.fields.get("matches", {})
        for kind in type(module).__mro__:
            root = known.get(f"{kind.__module__}.{kind.__qualname__}")
            if root is not None:
                return str(root)
        return None

    def fits(self, module: nn.Module, root: str) -> bool:
        """Whether all that must be so in a module is so."""
        wanted = self.fields.get("where", {})
        return all(value_at(module, joined(root, p), _MISSING) == v for p, v in wanted.items())


def joined(root: str, path: str) -> str:
    """A path below a root; the root itself for an empty one."""
    return ".".join(filter(None, (root, path)))


def value_at(module: nn.Module, path: str, default: Any = None) -> Any:
    """What stands at a path of a module: an attribute, a tensor, a part."""
    try:
        found = found_at(module, path)
    except (AttributeError, IndexError):
        return default
    return default if found is None else found


def mapping_named(name: str | Path) -> Written:
    """The mapping of a name, or of a YAML file.

    Raises: ProbeError for a name that is not known, or a file that cannot be read or does not
        follow the schema.
    """
    path = Path(name)
    if path.suffix in _SUFFIXES:
        try:
            return _read(path.stem, read_text(path), str(path))
        except Unfit as why:
            raise ProbeError(
                f"the mapping {path} cannot be read", str(why), "Pass the path of a YAML file"
            ) from why
    known = shipped()
    if str(name) not in known:
        raise ProbeError(
            f"there is no mapping '{name}'",
            "it is none of those that come with the package, and no .yaml file",
            nearest(str(name), known),
        )
    return known[str(name)]


@cache
def shipped() -> dict[str, Written]:
    """Every mapping that comes with the package, by name."""
    folder = files("whitebox_probe.models.mappings")
    texts = {Path(f.name).stem: f for f in folder.iterdir() if f.name.endswith(_SUFFIXES)}
    return {name: _read(name, texts[name].read_text("utf-8"), name) for name in sorted(texts)}


def recognised(module: nn.Module) -> list[tuple[Written, str]]:
    """The shipped mappings of a module's class, with the place of its layers."""
    found = ((each, each.place(module)) for each in shipped().values())
    return [(each, root) for each, root in found if root is not None and each.fits(module, root)]


def placed(mapping: Written, module: nn.Module) -> str:
    """Where a mapping that is asked for by name applies in a module.

    Its own classes say it; else the one part of the module that is of them; else the module itself.

    Raises: ProbeError where several parts are of its classes, or what must be so is not.
    """
    root = mapping.place(module)
    if root is None:
        inside = list(_inside(mapping, module))
        if len(inside) > 1:
            raise ProbeError(
                f"the mapping '{mapping.name}' applies in {len(inside)} places of a "
                f"{type(module).__name__}",
                f"they are {', '.join(inside[:5])}",
                "Pass the part that is meant to wrap(), such as module.encoder",
            )
        root = inside[0] if inside else ""
    if not mapping.fits(module, root):
        wanted = mapping.fields["where"].items()
        told = ", ".join(f"{joined(root, path)} is {value}" for path, value in wanted)
        raise ProbeError(
            f"the mapping '{mapping.name}' does not fit a {type(module).__name__}",
            f"it is for modules where {told}",
            f"Use another one: {', '.join(shipped())}",
        )
    return root


def _inside(mapping: Written, module: nn.Module) -> Iterator[str]:
    """The outermost parts of a module that are of the mapping's classes: where their layers are."""
    found: list[str] = []
    for path, part in module.named_modules():
        root = mapping.place(part)
        if root is not None and not any(path.startswith(f"{outer}.") for outer in found):
            found.append(path)
            yield joined(path, root)


def number(module: nn.Module, root: str, given: Any, *, least: int = 0) -> int:
    """A number as it is written: itself, or what stands at a path; of a tensor, its rows.

    Raises: SiteError where there is none, or one that is too small or too large.
    """
    from whitebox_probe.models.mappings._schema import MOST

    if isinstance(given, int):
        return given  # the schema has seen it
    path = joined(root, given)
    found = value_at(module, path)
    if isinstance(found, Tensor) and found.ndim > 1:
        found = int(found.shape[-2])
    whole = isinstance(found, int) and not isinstance(found, bool)
    if not whole or not least <= found <= MOST:
        there = f"{found}" if whole else type(found).__name__
        raise SiteError(
            f"the mapping names '{path}', which is no number of the module",
            f"a {type(module).__name__} has {there} there, and {least} to {MOST} is needed",
            "Write the number itself, or the path of one",
        )
    return int(found)


def flag(module: nn.Module, root: str, given: Any) -> bool:
    """Whether something is so, as it is written: itself, or what stands at a path.

    Raises: SiteError where neither true nor false stands there.
    """
    if isinstance(given, bool):
        return given
    path = joined(root, given)
    found = plain(value_at(module, path))
    if found in (0, 1) and isinstance(found, int):
        found = bool(found)  # as modules keep it that take 1 for true
    if not isinstance(found, bool):
        raise SiteError(
            f"the mapping names '{path}', which is neither true nor false in the module",
            f"a {type(module).__name__} has {type(found).__name__} there",
            "Write true or false, or the path of one",
        )
    return found


def sides(module: nn.Module, given: Any) -> tuple[int, int] | None:
    """Rows and columns of a patch, as it is written; None for a module that does not say them.

    Raises: SiteError where something else stands there.
    """
    found = value_at(module, given) if isinstance(given, str) else given
    if found is None:
        return None
    both = (found, found) if isinstance(found, int) else found
    fits = isinstance(both, tuple | list) and len(both) == 2
    if not fits or not all(type(side) is int and side > 0 for side in both):
        raise SiteError(
            f"the mapping names '{given}', which is no size of patches",
            f"a {type(module).__name__} has {type(found).__name__} there",
            "Write the number itself, or the path of one or two",
        )
    return both[0], both[1]


def _read(name: str, text: str, where: str) -> Written:
    """A mapping from its text.

    Raises: ProbeError.
    """
    from whitebox_probe.models.mappings._schema import SCHEMA

    try:
        fields = parse_yaml(text)
    except Unfit as why:
        raise ProbeError(f"the mapping {where} is no YAML", str(why), "Mend the file") from why
    try:
        expect(SCHEMA, fields)
    except Unfit as why:
        raise ProbeError(
            f"the mapping {where} does not follow the schema",
            str(why),
            "Mend it; those that come with the package show each field",
        ) from why
    return Written(name, fields)
