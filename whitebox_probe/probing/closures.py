"""What functions that change a network's output hold: closures, defaults, arguments, attributes.

A hook that multiplies by a number is another one with another number, and its name stays. So that
other processes find the same digest, nothing of it depends on addresses or on the order of sets.
"""

import enum
import hashlib
import json
import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket

from whitebox_probe.models.hooks import is_ours
from whitebox_probe.probing.hashing import RAW, add_raw, add_tensor, update

_PLAIN = (str, int, float, complex, type(None), type(...), range, enum.Enum, PurePath)
_PLAIN_OF_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format)
FUNCTIONS = (FunctionType, MethodType, partial)
_DESCRIPTORS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
_NAMED = (type, BuiltinFunctionType, MethodWrapperType, *_DESCRIPTORS)
# What their functions call is known by their versions, and not followed.
_PACKAGES = frozenset({"torch", "torchvision", "timm", "transformers", "numpy", "whitebox_probe"})
_OF_MODULES = frozenset({"_parameters", "_buffers", "_modules"})
UNKNOWN = "not known of the network"
_HEAP_TYPE = 1 << 9  # the flag of classes that are written in Python


class Reach:
    """Hashes all that can be reached from a network's hooks, and from functions it was given.

    Tensors, arrays and plain values are hashed; of functions what they do; of objects the class,
    the attributes, and what the functions use of the class. A part of the network is known by its
    path, as its tensors are hashed elsewhere.

    Args: held: what a module holds besides, of modules that are no parts of the network.
    Attributes: unknown: where something stands that keeps its content out of sight.
    """

    def __init__(self, module: nn.Module, held: Callable[[nn.Module], Mapping[str, Any]]) -> None:
        self.unknown: list[str] = []
        self._found = hashlib.blake2b(digest_size=16)
        self._any = False
        self._paths: dict[int, str] = {}
        self._held = held
        self._seen: dict[int, tuple[int, Any]] = {}  # with the object: its address stays its own
        tensors = (*module.parameters(), *module.buffers())
        # A probe runs in inference mode: a loose tensor made there is a result, and no constant.
        self._made_there = not any(tensor.is_inference() for tensor in tensors)
        self._module("", module)

    def told(self) -> dict[str, Any]:
        """The digest, where there is something; and what it does not cover, if anything."""
        found = {"hooks and functions of the network": self._found.hexdigest()} if self._any else {}
        return found | ({UNKNOWN: self.unknown} if self.unknown else {})

    def _module(self, name: str, module: nn.Module) -> None:
        """The hooks and functions of a module and its parts."""
        parts = [(f"{name}{path}", part) for path, part in module.named_modules()]
        self._paths = {id(part): path for path, part in parts} | self._paths
        for path, part in parts:
            for which, value in _functions_of(part):
                self._any = True
                try:
                    self._add(f"{path}:{which}", value)
                except RecursionError:
                    self._missed(f"{path}:{which}", value)

    def _missed(self, name: str, value: Any) -> None:
        self.unknown.append(f"{name} ({type(value).__name__})")

    def _add(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            if not (self._made_there and value.is_inference()):
                add_tensor(self._found, name, value)
        elif isinstance(value, RAW):
            add_raw(self._found, name, value)
        elif isinstance(value, (*_PLAIN, *_PLAIN_OF_TORCH)):
            update(self._found, name, f"{type(value).__qualname__} {value!r}")
        elif isinstance(value, tuple):  # constants of a function may be one object or several
            self._items(name, value)
        elif id(value) in self._seen:
            update(self._found, name, f"seen {self._seen[id(value)][0]}")
        else:
            self._seen[id(value)] = (len(self._seen), value)
            self._follow(name, value)

    def _all(self, name: str, **parts: Any) -> None:
        for which, part in parts.items():
            self._add(f"{name}.{which}", part)

    def _follow(self, name: str, value: Any) -> None:
        """Whatever holds others."""
        if isinstance(value, nn.Module):
            self._part(name, value)
        elif isinstance(value, Mapping | list | Set):
            self._items(name, value)
        elif isinstance(value, partial):
            self._all(name, func=value.func, args=value.args, keywords=value.keywords)
        elif isinstance(value, MethodType):
            self._all(name, func=value.__func__, bound=value.__self__)
            self._used(name, type(value.__self__), value.__func__)
        elif isinstance(value, FunctionType):
            self._function(name, value)
        elif isinstance(value, CodeType):
            # Its instructions, names and constants; not where they are written.
            names = f"{value.co_names} {value.co_varnames} {value.co_freevars}"
            update(self._found, f"{name} {names}", value.co_code)
            self._add(f"{name}.constants", value.co_consts)
        elif isinstance(value, weakref.ReferenceType):
            self._add(name, value())
        elif isinstance(value, torch.Generator):
            self._add(f"{name}.state", value.get_state())
        elif (title := _title(value)) is not None:
            update(self._found, name, title)
            bound = getattr(value, "__self__", None)
            self._add(f"{name}.self", None if isinstance(bound, ModuleType) else bound)
        else:
            self._object(name, value)

    def _part(self, name: str, part: nn.Module) -> None:
        """A part of the network by its path; of another module all that it holds."""
        path = self._paths.get(id(part))
        update(self._found, name, f"{type(part).__qualname__} {path}")
        if path is None:
            told = json.dumps(self._held(part), sort_keys=True, default=repr)
            update(self._found, name, told)
            self._module(f"{name}.", part)

    def _items(self, name: str, value: Any) -> None:
        """A container, and attributes that its class may add."""
        update(self._found, name, type(value).__qualname__)
        if isinstance(value, Mapping):
            for key, each in value.items():
                plain = isinstance(key, _PLAIN)
                self._add(f"{name}[{key!r}]" if plain else f"{name}[]", each)
                if not plain:
                    self._add(f"{name}[].key", key)
        elif isinstance(value, Set):
            if not all(isinstance(each, _PLAIN) for each in value):
                self._missed(name, value)
            for each in sorted(repr(each) for each in value if isinstance(each, _PLAIN)):
                self._add(f"{name}{{}}", each)
        else:
            for i, each in enumerate(value):
                self._add(f"{name}[{i}]", each)
        self._own(name, value)

    def _function(self, name: str, function: FunctionType) -> None:
        """What it does, and all that it takes from elsewhere than its arguments."""
        update(self._found, name, f"{function.__module__}.{function.__qualname__}")
        self._all(
            name,
            code=function.__code__,
            defaults=function.__defaults__,
            keywords=function.__kwdefaults__,
            closure=tuple(content(cell) for cell in function.__closure__ or ()),
            attributes=vars(function),
        )
        if known(function):
            return
        for word in sorted(words(function.__code__)):
            given = function.__globals__.get(word)
            if isinstance(given, FunctionType) and known(given):
                update(self._found, f"{name}.{word}", f"{given.__module__}.{given.__qualname__}")
            elif given is not None:
                self._add(f"{name}.{word}", given)
            if isinstance(given, type | ModuleType):
                self._used(f"{name}.{word}", given, function)

    def _used(self, name: str, kind: type | ModuleType, function: Any) -> None:
        """What a function, and those that it calls, use of a class or a module."""
        todo = words(function.__code__) if isinstance(function, FunctionType) else set()
        done: set[str] = set()
        while todo:
            done |= todo
            of = _of_class if isinstance(kind, type) else _of_module
            found = {word: of(kind, word) for word in sorted(todo)}
            todo = set()
            for word, given in found.items():
                if isinstance(given, FunctionType):
                    todo |= words(given.__code__) - done
                if isinstance(given, (FunctionType, Tensor, Mapping, list, tuple, *RAW, *_PLAIN)):
                    self._add(f"{name}.{word}", given)

    def _own(self, name: str, value: Any) -> bool:
        """The attributes of an object, and what it does when it is called; whether it has any."""
        own = dict(_attributes(value))
        for key in sorted(own):
            self._add(f"{name}.{key}", own[key])
        call = _of_class(type(value), "__call__")
        if call is not None:
            self._add(f"{name}.__call__", call)
            self._used(name, type(value), call)
        return bool(own)

    def _object(self, name: str, value: Any) -> None:
        """An object of any class: its attributes, or what it would be copied by."""
        kind = type(value)
        update(self._found, name, str(_title(kind)))
        own = self._own(name, value)
        native = any(not base.__flags__ & _HEAP_TYPE for base in kind.__mro__[:-1])
        if native or not (own or kind is object):
            try:
                copied = value.__reduce_ex__(2)
            except Exception:  # whatever classes raise that are not written in Python
                self._missed(name, value)
                return
            self._add(f"{name}.copied", copied if isinstance(copied, str) else copied[:3])
            for each in () if isinstance(copied, str) else copied[3:5]:
                self._add(f"{name}.items", list(each or ()))


def _functions_of(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """The hooks of a part that may change what it computes, and the functions that it was given."""
    hooks = (*part._forward_pre_hooks.values(), *part._forward_hooks.values())
    for number, hook in enumerate(hook for hook in hooks if not is_ours(hook)):
        yield f"hook {number}", hook
    for name, value in vars(part).items():
        if name not in _OF_MODULES and isinstance(value, FUNCTIONS):
            yield name, value


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of an object, those in slots among them."""
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                yield slot, getattr(value, slot)


def _of_class(kind: Any, word: str) -> Any:
    """What a class has by a name, of a property or a static method the function.

    None where a package's class has it.
    """
    owner = next((base for base in kind.__mro__ if word in vars(base)), object)
    if known(owner):
        return None
    found = vars(owner)[word]
    return getattr(found, "__func__", getattr(found, "fget", found))


def _of_module(module: Any, word: str) -> Any:
    """What a module that is no package's has by a name."""
    return None if _is_known(module.__name__) else vars(module).get(word)


def content(cell: Any) -> Any:
    """What a cell of a closure holds; None where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def words(code: CodeType) -> set[str]:
    """The names that a function takes from elsewhere, and functions within it."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*map(words, inner))


def known(value: Any) -> bool:
    """Whether a function or a class is of a package that is known by its version."""
    return _is_known(str(getattr(value, "__module__", "")))


def _is_known(module: str) -> bool:
    root = module.partition(".")[0]
    return root in _PACKAGES or (root in sys.stdlib_module_names and root != "__main__")


def _title(value: Any) -> str | None:
    """What is known by its name alone: a class, a module, a logger or a function written in C."""
    if isinstance(value, ModuleType | logging.Logger):
        return str(getattr(value, "__name__", getattr(value, "name", "")))
    if isinstance(value, OpOverload | OpOverloadPacket):
        return str(value)
    named = isinstance(value, _NAMED)
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}" if named else None
