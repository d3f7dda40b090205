"""The gate: what comes from outside is read here, by one reader a kind, before anyone uses it.

A reader checks what a path is, the size before any memory is taken, and the structure; whatever its
library raises becomes `Unfit`, whose text is one line of ours. Who calls it says which file that
is, and what to do. Arrays have a reader of their own (`arrays.py`), as tables (`results/`), and
checkpoints.
"""

import hashlib
import json
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.lines import shown

TEXT = 1 << 26  # bytes of a text that is read whole
DEEPEST = 64  # of lists and mappings in one another
_NODES = 1 << 20  # values of a YAML file, each alias counted as what it stands for
_DECIMAL = r"[-+]?[0-9][0-9_]*"
_TENS = re.compile(rf"({_DECIMAL})[eE]\+?([0-9]+)$")
_WHOLE = re.compile(
    rf"(?:{_DECIMAL}(?:[eE]\+?[0-9]+)?"
    r"|[-+]?(?:0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*|0b[01][01_]*))$"
)
_REAL = re.compile(
    rf"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|{_DECIMAL}[eE]-[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_DIGITS = 18  # of a whole number that surely has no more than 63 bits
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


class Unfit(Exception):  # noqa: N818 - a reason, which its reader puts into an error
    """Why something from outside cannot be used, in one line."""


class NotText(Unfit):
    """A file that is no UTF-8."""

    fix = "Save it as UTF-8"


@contextmanager
def gate() -> Iterator[None]:
    """Whatever a library raises over bytes or values from outside, as `Unfit`.

    Raises: Unfit. What ends the program is passed on.
    """
    try:
        yield
    except (Unfit, ProbeError):
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the panics of Rust are no Exception
        if not isinstance(error, Exception) and "Panic" not in type(error).__name__:
            raise
        raise Unfit(reason(error)) from error


def reason(error: BaseException) -> str:
    """What an error says, in one line; of one that says nothing useful, what it is."""
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    told = said(error) or type(error).__name__
    if isinstance(error, KeyError):
        told = f"{told} is missing"
    return shown(told, 160)


def said(error: BaseException, line: int = 0) -> str:
    """A line of an error's own text, the first one if not asked otherwise; "" where it says none.

    Also of a class of the user's whose text cannot be had.
    """
    try:
        lines = [each.strip() for each in str(error)[: 1 << 14].splitlines() if each.strip()]
    except Exception:  # whatever a __str__ of the user's raises
        return ""
    return lines[line] if lines else ""


def named(error: BaseException, line: int = 0) -> str:
    """An error's class, and a line of what it says, if it says anything.

    >>> named(ZeroDivisionError("division by zero")), named(TimeoutError())
    ('ZeroDivisionError: division by zero', 'TimeoutError')
    """
    told = said(error, line)
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


_OF_INPUT = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)
_OF_DTYPE = "not implemented for '"  # as torch says of an operation


def may_be_of_input(error: BaseException) -> bool:
    """Whether a model's error may come of an input's shape, size, values or dtype.

    >>> may_be_of_input(IndexError("out of range")), may_be_of_input(ImportError("no flash_attn"))
    (True, False)
    """
    if isinstance(error, NotImplementedError | RecursionError):
        return _OF_DTYPE in said(error)
    return isinstance(error, _OF_INPUT)


MEND_MODEL = "Mend the module, or what it needs: called alone on such an input it fails as well"
"""What to do about an error of a model that is not of its input."""


def size_of(path: Path) -> int:
    """The bytes of a plain file.

    Raises: Unfit for one that is not there, or is none: a folder, a pipe, a device.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise Unfit(_of_path(path, error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise Unfit(next((why for is_one, why in _KINDS if is_one(found.st_mode)), "it is no file"))
    return found.st_size


def _of_path(path: Path, error: Exception) -> str:
    if isinstance(error, ValueError):
        return "its name holds a character that no file has"
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return "it is a link to nothing"
    return str(error.strerror) if isinstance(error, OSError) else str(error)


def is_file(path: Path) -> bool:
    """Whether there is a plain file; a name that no file can have is none."""
    try:
        size_of(path)
    except Unfit:
        return False
    return True


def is_folder(path: Path) -> bool:
    """Whether there is a folder; a name that none can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip does; one that says to span several files is none."""
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, struct.error):
        return False


def given_path(text: str | Path) -> Path:
    """A path as a user or a file gives it, with `~` and `~user` in place.

    Raises: Unfit for one that no file can have.
    """
    if not str(text).strip():
        raise Unfit("it is empty, as a variable is that is not set")
    try:
        path = Path(text).expanduser()
        os.fspath(path).encode("utf-8", "surrogateescape")
    except (RuntimeError, ValueError) as error:
        raise Unfit("it is no path: there is no such user, or no such characters") from error
    if "\0" in str(text):
        raise Unfit("its name holds a character that no file has")
    return path


def read_bytes(path: Path, *, most: int = TEXT) -> bytes:
    """The bytes of a file of at most so many.

    Raises: Unfit.
    """
    size = size_of(path)
    if size > most:
        raise Unfit(f"it has {size:,} bytes, and at most {most:,} are read")
    with gate(), path.open("rb") as file:
        return file.read(most)


def read_text(path: Path, *, most: int = TEXT) -> str:
    """A file of UTF-8.

    Raises: Unfit; NotText.
    """
    content = read_bytes(path, most=most)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(f"it is not UTF-8: byte {error.start} does not fit") from error


def parse_json(text: str) -> Any:
    """What a JSON text holds.

    Raises: Unfit for what is none, a key that stands twice, deep nesting, or half a character.
    """
    with gate():
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            raise Unfit(f"it is no JSON: {error.msg} in line {error.lineno}") from error
        _expect_shallow(found)
        if _SURROGATE.search(text):
            _expect_characters(found)
    return found


def read_json(path: Path, *, most: int = TEXT) -> Any:
    """What a JSON file holds.

    Raises: Unfit.
    """
    return parse_json(read_text(path, most=most))


def read_mapping(path: Path, *, most: int = TEXT) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises: Unfit.
    """
    found = read_json(path, most=most)
    if not isinstance(found, dict):
        raise Unfit(f"it holds a {type(found).__name__}, and no object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Unfit(f"'{shown(twice)}' stands twice in it")
    return found


def _expect_shallow(thing: Any) -> None:
    """Refuse what is so deep that walks over it would end in Python's own limit."""
    level = [thing]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise Unfit("it is nested too deeply")


def _inside(thing: Any) -> list[Any]:
    several = thing.values() if isinstance(thing, dict) else thing
    if not isinstance(thing, dict | list):
        return []
    return [each for each in several if isinstance(each, dict | list)]


def _expect_characters(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unfit("it holds half of a surrogate pair, which is no character") from error


def parse_yaml(text: str) -> Any:
    """What a YAML text holds: plain values, no key twice.

    Raises: Unfit for what is none, or too much once its aliases are written out.
    """
    found = load_yaml(text)
    _expect_plain(found)
    return found


def load_yaml(text: str) -> Any:
    """The same, with whatever values and keys YAML has: dates, `null` as a key.

    Raises: Unfit as `parse_yaml` does.
    """
    import yaml

    loader = _yaml_loader()
    with gate():
        try:
            _expect_few(yaml, text, loader)
            return yaml.load(text, loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            told = getattr(error, "problem", None) or "it cannot be parsed"
            raise Unfit(f"it is not YAML: {shown(told, 120)}{where}") from error


@lru_cache(maxsize=1)
def _yaml_loader() -> Any:
    """A safe loader whose numbers are those of YAML 1.2, and that takes no key twice.

    010 is ten, 0o10 eight, 1:30 a text, 1e-3 a number, and so is 1e3: a whole one. PyYAML follows
    YAML 1.1, for which they are eight, a text, ninety, and texts.
    """
    import yaml

    fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    whole, real = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"

    class Loader(fast):  # type: ignore[misc]
        yaml_implicit_resolvers = {
            first: [pair for pair in pairs if pair[0] not in (whole, real)]
            for first, pairs in fast.yaml_implicit_resolvers.items()
        }

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, LookupError, AttributeError) as error:
                if not isinstance(node, yaml.ScalarNode):
                    raise
                kind = node.tag.rpartition(":")[2]
                line = node.start_mark.line + 1
                raise Unfit(
                    f"'{shown(node.value, 60)}' in line {line} is no value of the kind {kind}"
                ) from error

        def construct_yaml_int(self, node: Any) -> int | float:
            found = _whole(self.construct_scalar(node))
            if isinstance(found, int):
                _expect_bits(found)
            return found

        def construct_yaml_float(self, node: Any) -> float:
            text = self.construct_scalar(node)
            if not _REAL.match(text):
                return float(_whole(text))
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()).replace("_", ""))

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue  # its values stand under what is said here
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    line = key_node.start_mark.line + 1
                    raise Unfit(f"'{shown(key)}' stands twice in it: the second is on line {line}")
                seen.add(key)
            return super().construct_mapping(node, deep=deep)

    Loader.add_constructor(whole, Loader.construct_yaml_int)
    Loader.add_constructor(real, Loader.construct_yaml_float)
    Loader.add_implicit_resolver(whole, _WHOLE, list("-+0123456789"))
    Loader.add_implicit_resolver(real, _REAL, list("-+.0123456789"))
    return Loader


def _whole(text: str) -> int | float:
    """A whole number as YAML 1.2 writes it, 1e3 among them; a float of one that is too large.

    Raises: ValueError.
    """
    if not _WHOLE.match(text):
        raise ValueError(text)
    digits = text.replace("_", "")
    if tens := _TENS.match(digits):
        count = len(tens[1].lstrip("+-")) + int(tens[2])
        return int(tens[1]) * 10 ** int(tens[2]) if count <= _DIGITS else float(digits)
    based = digits.lstrip("+-")[:2] in ("0x", "0o", "0b")
    return int(digits, 0) if based else int(digits)


def read_yaml(path: Path, *, most: int = 1 << 23) -> Any:
    """What a YAML file holds.

    Raises: Unfit.
    """
    return parse_yaml(read_text(path, most=most))


def _expect_few(yaml: Any, text: str, loader: Any) -> None:
    """Count values and depth before anything is built: an alias stands for all that it names."""
    sizes: dict[str, int] = {}
    # Of each list and mapping that is open: its anchor, and the values in it so far.
    open_: list[list[Any]] = [[None, 0]]
    for event in yaml.parse(text, loader):
        count = 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append([event.anchor, 1])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, count = open_.pop()
            if anchor is not None:
                sizes[anchor] = count
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise Unfit(
                    f"the alias '{shown(event.anchor)}' stands in what it names, or for nothing"
                )
            count = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count = 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        open_[-1][1] += count
        if open_[-1][1] > _NODES:
            raise Unfit(f"it holds more than {_NODES:,} values, its aliases written out")
        if len(open_) > DEEPEST:
            raise Unfit("it is nested too deeply")


def _expect_bits(number: int) -> None:
    """Refuse what no argument is, and Python does not even print if it is long enough."""
    if abs(number) >= 1 << 63:
        raise Unfit("it holds a number of more than 63 bits")


def _expect_plain(thing: Any) -> None:
    """Refuse what JSON has no word for: dates, sets, bytes, keys that are no text."""
    waiting = [thing]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            for key in each:
                if not isinstance(key, str):
                    raise Unfit(f"the key {shown(key)} is no text (quote it)")
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, float) and not math.isfinite(each):
            raise Unfit(f"it holds the number {each}")
        elif isinstance(each, int):
            _expect_bits(each)
        elif not isinstance(each, str | bool | int | float | None):
            raise Unfit(f"it holds a {type(each).__name__}, {shown(each)} (quote it)")


def expect(schema: Mapping[str, Any], document: Any, *, name: str = "it") -> None:
    """Check a document against a JSON schema.

    Raises: Unfit that says where, and what is wrong there.
    """
    import fastjsonschema

    check = checker(schema)
    with gate():
        try:
            check(document)
        except fastjsonschema.JsonSchemaValueException as error:
            where = ".".join(map(str, error.path[1:]))
            told = str(error.message).removeprefix(str(error.name)).strip()
            raise Unfit(f"{shown(where or name)} {shown(told, 120)}") from error


def checker(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What checks a document against a JSON schema, compiled once; raises its errors.

    An integer is one: JSON schemas take 4.0 for 4, and whoever counts with it does not.
    """
    check = _compiled(json.dumps(schema, sort_keys=True))
    return lambda document: check(_with_floats(document))


class _Float(float):
    """A float that is no integer, whatever its value."""

    def is_integer(self) -> bool:
        return False


def _with_floats(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _with_floats(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_with_floats(value) for value in document]
    return _Float(document) if isinstance(document, float) else document


@lru_cache(maxsize=32)
def _compiled(schema: str) -> Callable[[Any], Any]:
    import fastjsonschema

    check: Callable[[Any], Any] = fastjsonschema.compile(json.loads(schema))
    return check


def digest(document: Any) -> str:
    """SHA-256 of a document of plain values: the same for the same values."""
    told = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()


def not_as_written(what: str) -> NoReturn:
    """Say that a file's own digest does not match.

    Raises: Unfit.
    """
    raise Unfit(f"{what} is not as it was written: its digest is another")
