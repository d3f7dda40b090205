"""A model of the user's own by the name of what makes it: `package.module:make`, `file.py:make`.

What makes it is a function or a class, called with the arguments that are given; its code is run,
as it is the user who names it. The module is wrapped: of a family, by a written mapping, or by the
mapping that is named.
"""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning, ProbeError, nearest
from whitebox_probe._core.gate import Unfit, gate, named
from whitebox_probe._core.randomness import drawn_by
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.placing import placed_as
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.models.wrap import wrap

OWN = "own"
"""The family of the entries of such models, whose `arch` holds what makes them."""
_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_REFERENCE = re.compile(rf"(?P<where>.+\.py|{_NAME}):(?P<what>{_NAME})")
_NOT = ("timm", "hf", "text")


@dataclass(frozen=True)
class Made:
    """A module, and what is known of where it comes from."""

    model: ProbeModel
    notes: list[LoadWarning]


def is_reference(text: object) -> bool:
    """Whether a text names what makes a module, and neither a file nor another library's model."""
    found = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return found is not None and found["where"] not in _NOT


def reference_in(source: str | Path, arch: object) -> str:
    """What makes the network: the source itself, or the architecture of the file that it names.

    Raises: ProbeError where neither or both do.
    """
    found = [str(each) for each in (source, arch) if is_reference(each)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ProbeError(
            f"{found[0]} and {found[1]} both make a network",
            "the second is for the weights of a file",
            "Leave one of them out",
        )
    raise ProbeError(
        f"a mapping is given, and {source} is not made by a function of yours",
        "a mapping says where the sites of such a module are",
        "Name the function, as in model.py:make (--arch beside a file), or leave the mapping out",
    )


def made(
    reference: str,
    arguments: Mapping[str, Any],
    *,
    weights: Path | None,
    mapping: str | Path | None,
    name: str | None,
    wrapper: str | None,
    prepared: Callable[[nn.Module], Preprocess | TextPreprocess | None],
) -> Made:
    """The model that a reference makes, with a file's weights or those that it has by itself.

    Args: weights: a file; without one the entry is None, since what made it may have trained it.
        prepared: how data are prepared for the module.

    Raises: ProbeError where nothing is made; CheckpointError for weights that do not fit;
        whatever `wrap` raises.
    """
    module = build(reference, arguments)
    title = name or _title(reference) if weights is None else name or checkpoints.title(weights)
    notes: list[LoadWarning] = []
    if weights is not None:
        notes = _filled(module, weights, wrapper)
    reads = prepared(module)
    model = wrap(module.eval(), mapping=mapping, name=title, preprocess=reads)
    if weights is None:
        return Made(model, notes)
    entry = Checkpoint(
        name=title,
        family=OWN,
        arch={
            "made by": reference,
            "mapping": None if mapping is None else str(mapping),
            **arguments,
        },
        source={"kind": "path", "path": str(weights)},
    )
    return Made(replace(model, entry=entry, sha256=checkpoints.digest(weights)), notes)


def made_random(model: ProbeModel, entry: Checkpoint, seed: int) -> ProbeModel:
    """The same module as it is made, drawn by a seed, without its file's weights.

    Raises: ProbeError where what makes it gives the same numbers for every seed.
    """
    arguments = dict(entry.arch)
    reference, mapping = arguments.pop("made by"), arguments.pop("mapping")
    one, two = (_drawn(reference, arguments, each) for each in (seed, seed + 1))
    if not _differ(one, two):
        raise ProbeError(
            f"random weights of {entry.name} cannot be drawn",
            f"{reference} gives the same weights for every seed, as if they were trained",
            "Let it build the network alone, and pass the weights as a file",
        )
    title = f"{entry.name}-random"
    return replace(
        wrap(one, mapping=mapping, name=title, preprocess=model.preprocess),
        entry=replace(entry, name=title),
    )


def build(reference: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call what a reference names.

    Raises: ProbeError where it cannot be imported or called, or gives no module.
    """
    found = _REFERENCE.fullmatch(reference)
    assert found is not None, "it was seen to be a reference"
    where, what = found["where"], found["what"]
    with _findable(where):
        maker = _part(_imported(where), what, reference)
        try:
            module = maker(**arguments)
        except ProbeError:
            raise
        except Exception as error:
            raise ProbeError(
                f"{reference} makes no network",
                f"called with {_told(arguments)}, it gave {_line(error)}",
                "Give its arguments with --set KEY=VALUE, or as options in Python",
            ) from error
    try:
        with gate():
            _expect_module(module)
    except Unfit as why:
        raise ProbeError(
            f"{reference} makes no network",
            f"it gave {why!s}",
            "Name a function or a class that gives a torch module",
        ) from why
    return module


def _expect_module(module: Any) -> None:
    """Ask of a module what every one of torch tells; its class is the user's.

    Raises: Unfit, and whatever a broken one raises.
    """
    kind = type(module).__name__
    if not isinstance(module, nn.Module):
        raise Unfit(f"a {kind}")
    try:
        module.eval()
        getattr(module, "no_part_has_this_name", None)  # of its own `__getattr__`
        names = [name for name, _ in module.named_modules(remove_duplicate=False)]
        whole = len(module.state_dict()) + sum(1 for _ in module.parameters()) + len(names)
    except Exception as error:
        raise Unfit(f"a {kind} that cannot be asked for its parts: {_line(error)}") from error
    if not all(isinstance(name, str) for name in names) or whole < 1:
        raise Unfit(f"a {kind} whose parts have no names")


def _drawn(reference: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    with drawn_by(seed):
        return build(reference, arguments).eval().requires_grad_(False)


def _differ(one: nn.Module, two: nn.Module) -> bool:
    """Whether any weight of two dimensions or more differs: biases and scales start alike."""
    others = dict(two.named_parameters())
    return any(p.ndim > 1 and not torch.equal(p, others[k]) for k, p in one.named_parameters())


def _filled(module: nn.Module, path: Path, wrapper: str | None) -> list[LoadWarning]:
    """Put a file's tensors into a module: all of its own, and no others.

    Raises: CheckpointError with every key that does not fit.
    """
    expected: dict[str, Tensor] = module.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in expected.items()}

    def fits(tensors: Mapping[str, Tensor]) -> bool:
        return sum(key in tensors for key in shapes) > len(shapes) / 2

    found, notes = checkpoints.read_weights(path, wrapper=wrapper, fits=fits)
    if any(key not in found for key in shapes):
        placed = placed_as(path, found, list(shapes))
        if placed is not None:
            found, notes = placed.weights, [*notes, *placed.notes]
    checkpoints.check_keys(
        shapes,
        found,
        source=str(path),
        floating=[key for key, tensor in expected.items() if tensor.is_floating_point()],
        fix="Give what makes the network the arguments it was trained with; nothing was loaded",
    )
    try:
        module.load_state_dict(found, strict=True)
    except RuntimeError as error:  # tensors that a part of its own keeps otherwise
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__}",
            str(error).splitlines()[-1].strip(),
            "Load the weights in what makes it, and name that alone",
        ) from error
    return notes


def _title(reference: str) -> str:
    return reference.rpartition(":")[2].rpartition(".")[2].lower()


@contextmanager
def _findable(where: str) -> Iterator[None]:
    """Let imports see the file's folder, or the folder that one is in."""
    # Not Path.resolve, which fails at a loop of links.
    folder = os.path.dirname(os.path.realpath(where)) if where.endswith(".py") else os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _imported(where: str) -> ModuleType:
    """The Python module of a name or of a file.

    Raises: ProbeError.
    """
    try:
        return _of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except ProbeError:
        raise
    except (Exception, SystemExit) as error:
        raise ProbeError(
            f"{where} cannot be imported",
            _line(error),
            "Name a Python file or a module that can be imported, as in model.py:make",
        ) from error


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ProbeError(f"there is no file {path}", "a path was given", "Check the path")
    own = path.resolve()
    name = f"_whitebox_probe_{own.stem}_{abs(hash(str(own))):x}"
    spec = importlib.util.spec_from_file_location(name, own)
    assert spec is not None, "its name ends with .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what is defined in it is looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _part(module: ModuleType, what: str, reference: str) -> Any:
    """What stands at a dotted name of a Python module.

    Raises: ProbeError.
    """
    try:
        found = reduce(getattr, what.split("."), module)
    except AttributeError as error:
        known = [n for n, each in vars(module).items() if callable(each) and n[:1] != "_"]
        raise ProbeError(f"{reference} is not there", _line(error), nearest(what, known)) from error
    if not callable(found):
        raise ProbeError(
            f"{reference} makes no network",
            f"it is a {type(found).__name__}, which cannot be called",
            "Name a function or a class that gives a torch module",
        )
    return found


def _told(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items()) or "no arguments"


def _line(error: BaseException) -> str:
    return named(error)
