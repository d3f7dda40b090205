"""Read a pickle as data: what it names stays a name, and nothing of it is imported or called.

A pickle is a program that names functions and calls them. Here a call of a name that is not among
the few of `_VALUES` becomes a `Made`, which says what would have been made of what.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

DEEPEST = 1 << 20  # what may lie on the stack at once: marks and values

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


class Damaged(Exception):  # noqa: N818 - raised for bytes that are no pickle
    """The bytes are no whole pickle, or one that no program writes."""


class Harmful(Exception):  # noqa: N818 - raised for a name that is told to the user
    """The pickle names a function that runs code."""


@dataclass(frozen=True)
class Named:
    """A function or class that a pickle names; it is not looked up."""

    path: str


@dataclass(eq=False)
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

    @property
    def fields(self) -> Mapping[Any, Any]:
        """The values by name that it holds; empty if it is of another kind."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # with slots: (dict or None, slots)
            state = {k: v for part in state if isinstance(part, dict) for k, v in part.items()}
        return {**self.pairs, **state} if isinstance(state, dict) else self.pairs


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


def read_pickle(file: BinaryIO) -> Any:
    """What a pickle describes, up to its end; the file then stands behind it.

    Raises: Damaged, Harmful.
    """
    reader = _Reader()
    try:
        for opcode, arg, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return reader.last(1)[0]
            reader.step(opcode.name, arg)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(str(error) or type(error).__name__) from error
    raise Damaged("it ends too early")


class _Reader:
    """A machine for pickles that has no operation to import or to call anything."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, arg: Any) -> None:
        """One operation, by the name that pickletools has for it."""
        if name in _PLAIN:
            self.push(arg)
        elif name in _NEW:
            self.push(_NEW[name]())
        elif name in _FROM_STACK:
            count, make = _FROM_STACK[name]
            self.push(make(*self.last(count)))
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
            pairs.update(zip(items[::2], items[1::2], strict=True))
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
    if tag != "storage" or not isinstance(kind, Named) or not isinstance(count, int):
        raise Damaged("it refers to something that is no tensor's")
    name = kind.path.rpartition(".")[2]
    return Stored(str(key), name, count, str(device), view[0] if view else None)


def _tensor(
    stored: Any, offset: int, size: Any, stride: Any, *rest: Any, dtype: str | None = None
) -> Any:
    numbers = [offset, *size, *stride]
    if not isinstance(stored, Stored) or not all(isinstance(n, int) for n in numbers):
        return Made("torch.Tensor", (stored, offset, size, stride))
    return Record(stored, offset, tuple(size), tuple(stride), dtype)


def _tensor_v3(stored: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Any:
    """The same, with the type beside it: (requires_grad, hooks, dtype)."""
    dtype = rest[2] if len(rest) > 2 else None
    return _tensor(
        stored, offset, size, stride, dtype=dtype.path if isinstance(dtype, Named) else None
    )


def _of_type(function: Any, kind: Any, args: Any, *state: Any) -> Any:
    """A tensor of another class, such as a Parameter with attributes."""
    return _called(function, tuple(args))


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin-1" if "latin" in encoding.lower() else "utf-8")


_MADE_FOR = frozenset({"copyreg._reconstructor", "copyreg.__newobj__"})
_VALUES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): dict(pairs),
    "collections.Counter": lambda counts=(): dict(counts),
    "collections.defaultdict": lambda *_: {},
    "collections.deque": lambda items=(), *_: list(items),
    "builtins.set": lambda items=(): list(items),
    "builtins.frozenset": lambda items=(): list(items),
    "builtins.list": lambda items=(): list(items),
    "builtins.dict": lambda pairs=(): dict(pairs),
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
    return dict(zip(items[::2], items[1::2], strict=True))


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
_FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": _pairs,
    "FROZENSET": list,
    "OBJ": lambda items: _called(items[0], tuple(items[1:])),
}
_INTO = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None, "ADDITEMS": None}
