"""checkpoints.yaml, found, read and validated."""

import copy
import importlib.metadata
import os
import re
import site
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from whitebox_probe._core.errors import RegistryError, nearest
from whitebox_probe._core.gate import NotText, Unfit, checker, given_path, read_yaml, size_of
from whitebox_probe._core.lines import shown

FILE = "checkpoints.yaml"
SHARE = Path("share", "whitebox-probe", FILE)
REGISTRY_VARIABLE = "WHITEBOX_PROBE_REGISTRY"


@dataclass(frozen=True)
class Checkpoint:
    """One entry of checkpoints.yaml.

    Args:
        family: name of the family that builds the network; arch: the arguments it is built with.
        source: where the file is: `kind`, and the fields of that kind.
        size: bytes. wrapper: the key of the state dict, for a file that holds several.
        preprocess: what an image goes through, empty if the model itself says it; or
            of a language model `tokenizer` and `length`.
        accuracy: reported ones: dataset, split, top1 (percent), source.
        loss: those of language models, in nats: dataset, split, per_token, per_byte, source.
        initial_of: the checkpoint that was trained from these weights.
        tested: `weights` if the file itself was run here, `format` if only its format was.
    """

    name: str
    family: str
    arch: Mapping[str, Any]
    source: Mapping[str, Any]
    sha256: str | None = None
    size: int | None = None
    wrapper: str | None = None
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    training_data: str | None = None
    accuracy: tuple[Mapping[str, Any], ...] = ()
    loss: tuple[Mapping[str, Any], ...] = ()
    licence: str | None = None
    citation: str | None = None
    reference: str | None = None
    tested: Literal["weights", "format"] | None = None
    note: str | None = None
    initial_of: str | None = None


def registry(path: Path | None = None) -> dict[str, Checkpoint]:
    """Every checkpoint by name, from `path`, or from the project's list and the user's own.

    A user's own list is named by the environment variable WHITEBOX_PROBE_REGISTRY; it follows the
    same schema. A relative `path` source starts at the list it stands in.

    Raises: RegistryError for an entry that does not follow the schema, or a name given twice.
    """
    found: dict[str, Checkpoint] = {}
    for file in _files(path):
        for name, fields in _read(file).get("checkpoints", {}).items():
            _refuse_second(name, found, file)
            found[name] = _checkpoint(name, fields, file)
    return found


def entry(name: str) -> Checkpoint:
    """The checkpoint of that name.

    Raises: RegistryError, with the nearest name, if there is none.
    """
    known = registry()
    if name not in known:
        raise RegistryError(
            f"there is no checkpoint '{name}'", f"{FILE} does not list it", nearest(name, known)
        )
    return known[name]


def architectures() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every named architecture: its family and the arguments of its network.

    Raises: RegistryError, as `registry` does.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for file in _files(None):
        for name, fields in _read(file).get("architectures", {}).items():
            _refuse_second(name, found, file)
            found[name] = (fields["family"], fields["arch"])
    return found


def architecture(name: str) -> tuple[str, dict[str, Any]]:
    """The family of a named architecture, and the arguments of its network.

    Raises: RegistryError, with the nearest name, if there is none.
    """
    known = architectures()
    if name not in known:
        raise RegistryError(
            f"there is no architecture '{name}'", f"{FILE} does not list it", nearest(name, known)
        )
    return known[name]


def registry_path() -> Path:
    """The project's own list: in a source checkout, or where an installation put it.

    Raises: RegistryError if it is in none of those places.
    """
    places = []
    for place in _places():  # the later ones take a look at what is installed
        if place.is_file():
            return place
        places.append(place)
    raise RegistryError(
        f"{FILE} was not found",
        f"it is in none of {', '.join(map(str, places))}",
        "Install whitebox-probe again, with pip",
    )


def _places() -> Iterator[Path]:
    package = Path(__file__).resolve().parents[1]
    root = package.parent
    if (root / "setup.cfg").is_file():  # a source checkout, run in place or installed editable
        yield root / FILE
    yield root / SHARE  # `pip install --target` moves share/ beside the package
    try:
        files = importlib.metadata.distribution("whitebox-probe").files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == FILE and file.parent.name == SHARE.parent.name:
            yield Path(str(file.locate())).resolve()
    yield Path(sysconfig.get_path("data")) / SHARE
    yield Path(site.getuserbase()) / SHARE


def _files(path: Path | None) -> list[Path]:
    if path is not None:
        return [Path(path)]
    own = os.environ.get(REGISTRY_VARIABLE)
    return [registry_path(), *([path_in(REGISTRY_VARIABLE, own)] if own else [])]


def path_in(variable: str, text: str) -> Path:
    """The path that an environment variable holds.

    Raises: RegistryError for one that no file can have.
    """
    return _given(text, f"the path in {variable}")


def _given(text: str, what: str) -> Path:
    try:
        return given_path(text)
    except Unfit as why:
        raise RegistryError(f"{what}, {shown(text)}, is none", str(why), "Mend it") from why


def _refuse_second(name: str, found: Mapping[str, Any], file: Path) -> None:
    if name in found:
        raise RegistryError(
            f"'{name}' in {file} is already in {FILE}",
            "one name means one thing everywhere",
            "Rename the entry",
        )


def _checkpoint(name: str, fields: dict[str, Any], file: Path) -> Checkpoint:
    source = fields["source"]
    if source["kind"] == "path":
        given = _given(source["path"], f"the path of '{name}' in {file}")
        source["path"] = str(file.resolve().parent / given)  # an absolute `given` stays as it is
    for each in ("accuracy", "loss"):
        fields[each] = tuple(fields.get(each, ()))
    for each in ("mean", "std"):
        if each in fields.get("preprocess", {}):
            fields["preprocess"][each] = tuple(fields["preprocess"][each])
    return Checkpoint(name=name, **fields)


def _read(file: Path) -> dict[str, Any]:
    try:
        size_of(file)
        state = file.stat()
    except (Unfit, OSError) as why:
        raise RegistryError(
            f"the registry {file} cannot be read",
            str(why),
            f"Check the path, which {REGISTRY_VARIABLE} may give",
        ) from why
    # A copy, because a caller may change what it is given and the cache must not follow.
    document: dict[str, Any] = copy.deepcopy(_parsed(file, state.st_mtime_ns, state.st_size))
    return document


@lru_cache(maxsize=8)
def _parsed(file: Path, _changed: int, _size: int) -> dict[str, Any]:
    document: dict[str, Any] = _yaml(file)
    _validate(document, file)
    return document


def _yaml(file: Path) -> Any:
    try:
        return read_yaml(file)
    except Unfit as why:
        fix = why.fix if isinstance(why, NotText) else "Mend what it names"
        raise RegistryError(f"the registry {file} cannot be read", str(why), fix) from why


def _validate(document: Any, file: Path) -> None:
    """Raise for the first field that does not follow the schema, by entry and field."""
    import fastjsonschema

    from whitebox_probe.checkpoints._schema import SCHEMA

    try:
        checker(SCHEMA)(document)
        return
    except fastjsonschema.JsonSchemaValueException as error:
        worst = error
    path = [str(part) for part in worst.path[1:]]
    section, name = [*path, "", ""][:2]
    rest = path[2:]
    where = f"entry '{name}'" if name else f"section '{section}'" if section else "the top level"
    field_ = f", field '{'.'.join(rest)}'" if rest else ""
    raise RegistryError(
        f"{where}{field_} of {file} does not follow the schema",
        _why(worst),
        "Mend it; the entries beside it show each field",
    )


@lru_cache(maxsize=1)
def _why(error: Any) -> str:
    """What is wrong with a value, without the path that the message starts with."""
    told = str(error.message).removeprefix(str(error.name)).strip()
    if error.rule == "propertyNames":
        pattern = str(error.rule_definition["pattern"])
        bad = [str(name) for name in error.value if not re.match(pattern, str(name))]
        return f"'{', '.join(bad)}' does not match {pattern}"
    if isinstance(error.value, dict | list):
        return f"it {told}"
    return f"{error.value!r} {told}"
