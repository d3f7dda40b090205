"""Read a pickle as data: what it names stays a name, and nothing of it is imported or called.

A pickle is a program that names functions and calls them. Here a call of a name that is not among
the few of `_VALUES` becomes a `Made`, which says what would have been made of what.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from whitebox_probe._core.gate import reason

DEEPEST = 1 << 20  # what may lie on the stack at once: marks and values
LONGEST = 1 << 24  # operations
COPIED = 1 << 26  # values that calls may copy, all together
KEYS = 8  # tuples in tuples in a key

# What no training script keeps beside its weights. Nothing is called in any case; a file that
# names one of these was written to do harm, and its reader should know.
_HARMFUL_MODULES = """
    os posix nt sys subprocess shutil socket pty runpy importlib ctypes code codeop commands pdb bdb
    webbrowser timeit signal multiprocessing asyncio urllib http requests pip pickle _pickle marshal
"""
_HARMFUL_NAMES = """
    builtins.eval builtins.exec builtins.compile builtins.__import__ builtins.open builtins.input
    builtins.breakpoint builtins.globals builtins.setattr builtins.delattr types.CodeType
    types.FunctionType torch.load torch.serialization.load torch.hub.load numpy.load
"""


class Readable(Protocol):
    """What a pickle is read from: a file in memory, or one that is mapped."""

    def read(self, size: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


class Damaged(Exception):  # noqa: N818 - raised for bytes that are no pickle
    """The bytes are no whole pickle, or one that no program writes."""


class Harmful(Exception):  # noqa: N818 - raised for a name that is told to the user
    """The pickle names a function that runs code."""


@dataclass(frozen=True)
class Named:
    """A function or class that a pickle names; it is not looked up."""

    path: str


@dataclass(eq=False, repr=False)
class Made:
    """What a pickle would have made by a call: of what, from what, with what put into it.

    Attributes: by: the name. args: what it was to be called with. state: what was to be set on it.
        items, pairs: what was to be put into it, as into a list or a dict.
    """

    by: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    pairs: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Its name alone: what it holds may be shared, and without end once it is written out."""
        return f"<{self.by}>"

    @property
    def fields(self) -> Mapping[Any, Any]:
        """The values by name that it holds; empty if it is of another kind."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # with slots: (dict or None, slots)
            state = {k: v for part in state if isinstance(part, dict) for k, v in part.items()}
        return {**self.pairs, **state} if isinstance(state, dict) else self.pairs


_ODD = {
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_meta_tensor_no_storage": "without numbers",
    "torch._utils._rebuild_wrapper_subclass": "of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of another device",
}


def odd_tensor(thing: Any) -> str | None:
    """What a tensor is that a pickle describes and that is no plain array; None for other things.

    >>> odd_tensor(Made("torch._utils._rebuild_nested_tensor"))
    'nested'
    """
    if not isinstance(thing, Made):
        return None
    kind = _ODD.get(thing.by)
    layout = thing.args[0] if kind == "sparse" and thing.args else None
    return layout.path.rpartition(".")[2] if isinstance(layout, Named) else kind


class Stored(NamedTuple):
    """A place in a file where numbers lie: its key, of which type, and how many."""

    key: str
    kind: str
    numbers: int
    device: str
    view: Any = None


class Record(NamedTuple):
    """A tensor that a pickle describes: its numbers are in a `Stored`."""

    stored: Stored
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


def read_pickle(file: Readable) -> Any:
    """What a pickle describes, up to its end; the file then stands behind it.

    Raises: Damaged, Harmful.
    """
    reader = _Reader()
    try:
        operations = pickletools.genops(file)  # type: ignore[arg-type]  # it reads, and no more
        for number, (opcode, arg, _) in enumerate(operations):
            if opcode.name == "STOP":
                return reader.last(1)[0]
            if number > LONGEST:
                raise Damaged("it is longer than any checkpoint's")
            reader.step(opcode.name, arg)
    except (Damaged, Harmful):
        raise
    except Exception as error:  # of hostile bytes, anything
        raise Damaged(reason(error)) from error
    raise Damaged("it ends too early")


class _Reader:
    """A machine for pickles that has no operation to import or to call anything."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def step(self, name: str, arg: Any) -> None:
        """One operation, by the name that pickletools has for it."""
        if name in _PLAIN:
            self.push(arg)
        elif name in _NEW:
            self.push(_NEW[name]())
        elif name in _FROM_STACK:
            count, make = _FROM_STACK[name]
            given = self.last(count)
            if name in _CALLS:
                self.expect_few(given[1])
            self.push(make(*given))
        elif name in _FROM_MARK:
            self.push(_FROM_MARK[name](self.marked()))
        elif name in _INTO:
            self.fill(self.marked() if _INTO[name] is None else self.last(_INTO[name] or 0), name)
        elif not self.place(name, arg):
            raise Damaged(f"it uses {name}, which is not read")
        if len(self.stack) > DEEPEST or len(self.marks) > DEEPEST:
            raise Damaged("it is nested too deeply")

    def place(self, name: str, arg: Any) -> bool:
        """An operation on names, the memo or the stack itself; whether it is one."""
        if name == "GLOBAL":
            self.push(_named(*arg.split(" ", 1)))
        elif name == "INST":
            self.push(_called(_named(*arg.split(" ", 1)), tuple(self.marked())))
        elif name == "MARK":
            self.marks.append(self.stack)
            self.stack = []
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(arg)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.push(self.memo[int(arg)])
        elif name == "BUILD":
            _set(self.stack[-2], self.stack.pop())
        elif name == "DUP":
            self.push(self.stack[-1])
        elif name == "POP_MARK" or (name == "POP" and not self.stack):
            self.marked()
        elif name == "POP":
            self.last(1)
        else:
            return name in ("PROTO", "FRAME")
        return True

    def expect_few(self, args: Any) -> None:
        """Count what a call copies: a short pickle may name one long list again and again."""
        several = args if isinstance(args, tuple | list) else ()
        held = (tuple, list, dict, str, bytes)
        self.copied += 1 + sum(len(each) for each in several if isinstance(each, held))
        if self.copied > COPIED:
            raise Damaged("it copies more than any checkpoint holds")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def last(self, count: int) -> list[Any]:
        """Take the values that were pushed last, in their order."""
        if len(self.stack) < count:
            raise Damaged("something is missing in it")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def marked(self) -> list[Any]:
        """Take all values since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def fill(self, items: list[Any], name: str) -> None:
        """Put items into the list, or pairs into the dict, that lies on the stack."""
        thing = self.stack[-1]
        if name.startswith("SETITEM"):
            pairs = thing.pairs if isinstance(thing, Made) else _of(thing, dict)
            pairs.update(_pairs(items))
        else:
            (thing.items if isinstance(thing, Made) else _of(thing, list)).extend(items)


def _of(thing: Any, kind: type) -> Any:
    if not isinstance(thing, kind):
        raise Damaged(f"a {type(thing).__name__} stands where a {kind.__name__} is filled")
    return thing


_OLD = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy._core": "numpy.core"}


def _named(module: str, name: str) -> Named:
    """A name as today's Python writes it.

    Raises: Harmful.
    """
    for old, new in _OLD.items():
        if module == old or module.startswith(f"{old}."):
            module = new + module.removeprefix(old)
    path = f"{module}.{name}"
    if module.partition(".")[0] in _HARMFUL_MODULES.split() or (path in _HARMFUL_NAMES.split()):
        raise Harmful(path)
    return Named(path)


def _called(of: Any, args: tuple[Any, ...]) -> Any:
    """What a call gives: a value of `_VALUES`, or a `Made` that says what was to be called."""
    if isinstance(of, Made):  # an attribute of something, which would have been called
        return Made(of.by, (of, *args))
    if not isinstance(of, Named):
        raise Damaged(f"a {type(of).__name__} in it is called")
    if of.path in _MADE_FOR and args and isinstance(args[0], Named):
        return _called(args[0], args[1:] if of.path == "copyreg.__newobj__" else ())
    value = _VALUES.get(of.path)
    return Made(of.path, args) if value is None else value(*args)


def _stored(where: Any) -> Any:
    if len(where) > 1 and where[0] == "module":  # a class with its source text, as of old
        return where[1]
    tag, kind, key, device, count, *view = where
    named = isinstance(kind, Named) and isinstance(key, str | int) and isinstance(device, str)
    if tag != "storage" or not named or not isinstance(count, int):
        raise Damaged("it refers to something that is no tensor's")
    name = kind.path.rpartition(".")[2]
    return Stored(str(key), name, count, str(device), view[0] if view else None)


def _tensor(
    stored: Any, offset: int, size: Any, stride: Any, *rest: Any, dtype: str | None = None
) -> Any:
    numbers = [offset, *size, *stride]
    turned = len(rest) > 2 and bool(rest[2])  # conjugates and negatives that are not written out
    if not isinstance(stored, Stored) or turned or not all(type(n) is int for n in numbers):
        return Made("torch.Tensor", (stored, offset, size, stride))
    return Record(stored, offset, tuple(size), tuple(stride), dtype)


def _tensor_v3(stored: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Any:
    """The same, with the type beside it: (requires_grad, hooks, dtype)."""
    dtype = rest[2] if len(rest) > 2 else None
    path = dtype.path if isinstance(dtype, Named) else None
    return _tensor(stored, offset, size, stride, *rest[:2], *rest[3:], dtype=path)


def _of_type(function: Any, kind: Any, args: Any, *state: Any) -> Any:
    """A tensor of another class, such as a Parameter with attributes."""
    return _called(function, tuple(args))


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin-1" if "latin" in encoding.lower() else "utf-8")


_MADE_FOR = frozenset({"copyreg._reconstructor", "copyreg.__newobj__"})
_VALUES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): _mapping(pairs),
    "collections.Counter": lambda counts=(): _mapping(counts),
    "collections.defaultdict": lambda *_: {},
    "collections.deque": lambda items=(), *_: list(items),
    "builtins.set": lambda items=(): list(items),
    "builtins.frozenset": lambda items=(): list(items),
    "builtins.list": lambda items=(): list(items),
    "builtins.dict": lambda pairs=(): _mapping(pairs),
    "builtins.bytearray": lambda *args: _encoded(*args) if len(args) == 2 else b"",
    "_codecs.encode": _encoded,
    "torch.Size": lambda size=(): tuple(size),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
}
"""The calls that give a value: containers, bytes, and where a tensor lies. No call acts."""


def _set(thing: Any, state: Any) -> None:
    if isinstance(thing, Made):
        thing.state = state
    elif not isinstance(thing, dict | list | Record):  # theirs are versions and hooks
        raise Damaged(f"a {type(thing).__name__} in it is given a state")


def _stack_named(module: Any, name: Any) -> Named:
    if not isinstance(name, str) or not isinstance(module, str):
        raise Damaged("a name in it is no text")
    return _named(module, name)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    for key in items[::2]:
        _expect_key(key, KEYS)
    return dict(zip(items[::2], items[1::2], strict=True))


def _mapping(pairs: Any) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return dict(pairs)
    return _pairs([each for key, value in pairs for each in (key, value)])


def _expect_key(key: Any, deepest: int) -> None:
    """Refuse keys of which no name can be made.

    Python's hash of tuples in tuples without end fills its stack, and it does not print a number of
    thousands of digits.
    """
    if isinstance(key, int) and abs(key) >> 64:
        raise Damaged("a key in it is a number of more than 64 bits")
    if isinstance(key, tuple):
        if not deepest:
            raise Damaged("a key in it is nested too deeply")
        for each in key:
            _expect_key(each, deepest - 1)


_WORDS = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT
    BINFLOAT NONE
"""
_PLAIN = frozenset(_WORDS.split())
_NEW: dict[str, Callable[[], Any]] = {
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_FROM_STACK: dict[str, tuple[int, Callable[..., Any]]] = {
    "TUPLE1": (1, lambda *items: items),
    "TUPLE2": (2, lambda *items: items),
    "TUPLE3": (3, lambda *items: items),
    "STACK_GLOBAL": (2, _stack_named),
    "BINPERSID": (1, _stored),
    "REDUCE": (2, lambda of, args: _called(of, tuple(args))),
    "NEWOBJ": (2, lambda of, args: _called(of, tuple(args))),
    "NEWOBJ_EX": (3, lambda of, args, names: _called(of, (*args, names))),
}
_CALLS = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX"})
_FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": _pairs,
    "FROZENSET": list,
    "OBJ": lambda items: _called(items[0], tuple(items[1:])),
}
_INTO = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None, "ADDITEMS": None}
