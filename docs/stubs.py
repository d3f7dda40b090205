"""Write the stubs that editors and type checkers read, from the code: python docs/stubs.py.

Figures and metric classes are made when they are asked for, and public names are imported when
they are first used: nothing that reads the source alone sees them. A test asserts that each stub
is what this file makes of the code, so that none goes stale.
"""

import ast
import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = "# Made of the code by docs/stubs.py; change that, and run it again.\n"
LINE = 100  # characters
OWN = "whitebox_probe"
# Types that annotations name as text, where their library is loaded late.
LATE = {"Axes": "matplotlib.axes", "Figure": "matplotlib.figure"}
DEFAULTS = (type(None), bool, int, float, str, tuple)  # whose values a stub can show


class Names:
    """The imports that a stub needs, gathered while annotations are written."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def use(self, thing: Any) -> str:
        """The name of a class, imported from the most public module that has it."""
        module, name = thing.__module__, thing.__name__
        if module == "builtins":
            return "None" if thing is type(None) else str(name)
        while module.rpartition(".")[2].startswith("_") and "." in module:
            module = module.rpartition(".")[0]
        if module != thing.__module__ and not hasattr(importlib.import_module(module), name):
            module = thing.__module__
        if self._of.setdefault(name, module) != module:
            raise ValueError(f"two things are called {name}: of {self._of[name]} and {module}")
        return str(name)

    def written(self, annotation: Any) -> str:
        """An annotation as it is written."""
        if annotation is Any:
            return self.use(Any)
        if annotation is Ellipsis:
            return "..."
        origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Literal:
            return f"{self.use(origin)}[{', '.join(map(_quoted, inner))}]"
        if origin in (typing.Union, types.UnionType):
            return " | ".join(map(self.written, inner))
        if origin is Callable or origin is typing.get_origin(Callable[..., Any]):
            takes = "..." if inner[0] is Ellipsis else f"[{', '.join(map(self.written, inner[0]))}]"
            return f"{self.use(Callable)}[{takes}, {self.written(inner[1])}]"
        if origin is not None:
            return f"{self.use(origin)}[{', '.join(map(self.written, inner))}]"
        return self.use(type(None) if annotation is None else annotation)

    def lines(self) -> str:
        """The import statements, as ruff sorts them."""
        groups: dict[int, dict[str, list[str]]] = {}
        for name, module in self._of.items():
            first = module.partition(".")[0]
            group = 2 if first == OWN else 0 if first in ("collections", "typing") else 1
            groups.setdefault(group, {}).setdefault(module, []).append(name)
        return "\n\n".join(
            "\n".join(
                f"from {module} import {', '.join(sorted(groups[group][module], key=_order))}"
                for module in sorted(groups[group])
            )
            for group in sorted(groups)
        )


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _quoted(text: str) -> str:
    return '"' + repr(text)[1:-1].replace('"', '\\"') + '"'


def _default(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return repr(value) if isinstance(value, DEFAULTS) else "..."


def _known(function: Any) -> dict[str, Any]:
    """What a function's annotations may name, imports for type checking included."""
    source = inspect.getmodule(inspect.unwrap(function))
    assert source is not None
    found = dict(vars(source))
    found |= {name: getattr(importlib.import_module(module), name) for name, module in LATE.items()}
    for node in ast.walk(ast.parse(inspect.getsource(source))):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            found |= {a.name: getattr(module, a.name) for a in node.names if not a.asname}
    return found


def _signature(head: str, function: Any, names: Names, *, indent: str = "", end: str = "") -> str:
    """`def` with every parameter, on one line or one a line."""
    signature, known = inspect.signature(function), _known(function)

    def annotated(annotation: Any) -> str:
        plain = isinstance(annotation, str)
        return names.written(eval(annotation, known) if plain else annotation)

    parts: list[str] = []
    kinds = inspect.Parameter
    before = None
    for each in signature.parameters.values():
        if each.kind is kinds.KEYWORD_ONLY and before not in (kinds.KEYWORD_ONLY, _STARS[0]):
            parts.append("*")
        before = each.kind
        star = "*" * (_STARS.index(each.kind) + 1) if each.kind in _STARS else ""
        told = "" if each.annotation is each.empty else f": {annotated(each.annotation)}"
        value = "" if each.default is each.empty else f" = {_default(each.default)}"
        parts.append(f"{star}{each.name}{told}{value}")
    gives = signature.return_annotation
    back = f") -> {'None' if gives is signature.empty else annotated(gives)}:{end}"
    line = f"{indent}{head}({', '.join(parts)}{back}"
    if len(line) <= LINE:
        return line
    rows = "".join(f"{indent}    {part},\n" for part in parts)
    return f"{indent}{head}(\n{rows}{indent}{back}"


_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _doc(text: str, indent: str = "    ") -> str:
    """A docstring, indented, in lines that fit."""
    told: list[str] = []
    for line in text.strip().splitlines():
        margin = indent + line[: len(line) - len(line.lstrip())]
        told += textwrap.wrap(
            line.strip(), LINE, initial_indent=margin, subsequent_indent=margin
        ) or [""]
    mark = 'r"""' if "\\" in text else '"""'
    end = f"\n{indent}" if told[1:] else ""
    return f"{indent}{mark}" + "\n".join(told).lstrip() + f'{end}"""\n'


def package() -> str:
    """Of the package: its public names, each of its home."""
    import whitebox_probe

    homes = whitebox_probe._HOMES
    rooms = [path.rpartition(".") for path in whitebox_probe._FOLDERS.values()]
    pairs = [(home, _order(name), name) for home, _, name in rooms]
    pairs = sorted([*pairs, *((home, _order(name), name) for name, home in homes.items())])
    rows = [f"from {OWN}{'.' * bool(h)}{h} import {name} as {name}" for h, _, name in pairs]
    listed = "".join(f'    "{name}",\n' for name in whitebox_probe.__all__)
    doc = _doc(inspect.getdoc(whitebox_probe) or "", "")
    return f"{HEAD}{doc}\n{_joined(rows)}\n\n__all__ = [\n{listed}]\n\n__version__: str\n"


def _joined(rows: list[str]) -> str:
    return "\n".join(rows)


def metrics() -> str:
    """Of `metrics`: a class for each measure, as the adapter makes it."""
    from whitebox_probe import metrics
    from whitebox_probe.metrics import torch as adapter
    from whitebox_probe.metrics.catalogue import catalogue

    names = Names()
    bodies = []
    own = {k.__name__: k for k in catalogue().values() if k.__module__.startswith(f"{OWN}.")}
    for name, kind in sorted(own.items()):
        made = getattr(adapter, name)
        (base,) = made.__bases__
        body = [f"class {name}({names.use(base)}):", _doc(inspect.getdoc(made) or "")]
        fields = [f"    definition: _{name}", *_parameters(kind, names)]
        gives = names.written(typing.get_type_hints(base.compute)["return"]).removesuffix(" | None")
        compute = f"    def compute(self) -> {gives}:\n"
        init = _signature("def __init__", made.__init__, names, indent="    ", end=" ...")
        bodies.append(
            "\n".join(body)
            + "\n"
            + "\n".join(fields)
            + f"\n{init}\n{compute}"
            + _doc(inspect.getdoc(base.compute) or "", " " * 8).rstrip("\n")
        )
    measures = [f"from {k.__module__} import {n} as _{n}" for n, k in own.items()]
    part = f"from {OWN}.metrics import functional as functional"
    imports = _merged(names.lines(), [*measures, part])
    doc = _doc(inspect.getdoc(metrics) or "", "")
    return f"{HEAD}{doc}\n{imports}\n\n" + "\n\n".join(bodies) + "\n"


def _parameters(kind: Any, names: Names) -> Iterator[str]:
    """The measure's parameters, which its metric has as read-only attributes."""
    for each in inspect.signature(kind).parameters.values():
        told = names.written(each.annotation)
        yield f"    @property\n    def {each.name}(self) -> {told}: ..."


def _merged(imports: str, more: list[str]) -> str:
    """Imports with further ones of this package."""
    *others, own = imports.split("\n\n")
    rows = [row.split() for row in (*own.splitlines(), *more)]
    rows.sort(key=lambda row: (row[1], _order(row[3])))
    return "\n\n".join([*others, _joined([" ".join(row) for row in rows])])


def functional() -> str:
    """Of `metrics.functional`: every function, of its file."""
    from whitebox_probe.metrics import functional

    own = [inspect.unwrap(getattr(functional, name)) for name in dir(functional)]
    rows = [
        f"from {thing.__module__} import {thing.__name__} as {thing.__name__}"
        for thing in sorted(own, key=lambda f: (f.__module__, f.__name__))
        if thing.__module__.startswith(f"{OWN}.")
    ]
    doc = _doc(inspect.getdoc(functional) or "", "")
    return f"{HEAD}{doc}\n{_joined(rows)}\n"


def plots() -> str:
    """Of `plots`: every figure, with the keywords of its options."""
    from whitebox_probe import plots

    names = Names()
    mapping, call = names.use(Mapping), names.use(Callable)
    bodies = [
        f"{_signature(f'def {name}', draw, names)}\n{_doc(draw.__doc__ or '').rstrip()}"
        for name, draw in plots.figures.items()
        if draw.__module__.startswith(f"{OWN}.")
    ]
    saving = [f"from {OWN}.plots.saving import {name} as {name}" for name in ("run_of", "save")]
    saving.append(f"from {OWN}.plots.text import text_html as text_html")
    imports = _merged(names.lines(), saving)
    doc = _doc(inspect.getdoc(plots) or "", "")
    figures = f"figures: {mapping}[str, {call}[..., Figure]]"
    return f"{HEAD}{doc}\n{imports}\n\n{figures}\n\n" + "\n\n".join(bodies) + "\n"


STUBS: dict[str, Callable[[], str]] = {
    "whitebox_probe/__init__.pyi": package,
    "whitebox_probe/metrics/__init__.pyi": metrics,
    "whitebox_probe/metrics/functional.pyi": functional,
    "whitebox_probe/plots/__init__.pyi": plots,
}


def write() -> None:
    """Make every stub anew."""
    for path, make in STUBS.items():
        (ROOT / path).write_text(make())


if __name__ == "__main__":
    write()
