"""Where forward passes begin and end, of a whole module and of parts that are run by themselves.

A method of the module, such as timm's `forward_features`, calls one part after the other, and no
hook sees the method itself. What is called from one frame, or from what that calls, belongs to one
pass, until a part is called again.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

Frame = tuple[int, CodeType]


class Passes:
    """Tells when a pass begins, and which one has failed.

    Args:
        module: the whole. begins, fails: called when a pass begins, and when the one at hand has
            ended by an exception.
    Attributes: whole: whether the pass at hand is one of the whole module.
    """

    def __init__(
        self, module: nn.Module, begins: Callable[[], None], fails: Callable[[], None]
    ) -> None:
        self.whole = False
        self._module = module
        self._thread = threading.get_ident()
        self._parts = {id(part) for part in module.modules()}
        self._begins, self._fails = begins, fails
        self._running: list[tuple[nn.Module, FrameType]] = []
        self._done: nn.Module | None = None  # the part that has just ended well
        self._called: set[int] = set()
        self._from: Frame | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch all parts. By torch's global hooks, as some parts run otherwise with own ones."""
        handles = [torch_module.register_module_forward_pre_hook(self._enter)]
        handles.append(torch_module.register_module_forward_hook(self._well))
        handles.append(torch_module.register_module_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._drop_stopped(None)

    def _ours(self, module: nn.Module) -> bool:
        # Torch's global hooks hear other threads as well.
        if torch.compiler.is_compiling() or threading.get_ident() != self._thread:
            return False
        # A backward pass computes parts once more, which is no pass of its own.
        return id(module) in self._parts and torch._C._current_graph_task_id() == -1

    def _enter(self, module: nn.Module, *_: Any) -> None:
        """A part is called."""
        if not self._ours(module):
            return
        frame = sys._getframe(1)
        self._drop_stopped(frame)
        if not self._running:
            self.whole = module is self._module
            if self.whole or id(module) in self._called or not self._goes_on(frame):
                self._from = None if self.whole else self._caller(frame)
                self._called.clear()
                self._begins()
            self._called.add(id(module))
        self._running.append((module, frame))

    def _well(self, module: nn.Module, *_: Any) -> None:
        """A part has given something."""
        if self._ours(module):
            self._done = module

    def _leave(self, module: nn.Module, *_: Any) -> None:
        """A part has ended, well or by an exception."""
        if not self._ours(module) or all(module is not part for part, _ in self._running):
            return
        while self._running.pop()[0] is not module:
            pass
        well, self._done = self._done is module, None
        if not self._running and (not well or self.whole):
            self._from = None  # nothing that comes belongs to it
            if not well:
                self._fails()

    def _drop_stopped(self, frame: FrameType | None) -> None:
        """End a pass that Ctrl-C stopped, of which torch says nothing: its frames are gone."""
        if not self._running:
            return
        _, last = self._running[-1]
        if all(at is not last for at in _callers(frame)):
            self._running.clear()
            self._from = None
            self._fails()

    def _goes_on(self, frame: FrameType) -> bool:
        """Whether a call comes from where the pass at hand does."""
        return any((id(at), at.f_code) == self._from for at in _callers(frame))

    def _caller(self, frame: FrameType) -> Frame | None:
        """The outermost frame of the module's own code, or the one that called."""
        found = None
        outside = (at for at in _callers(frame) if at.f_code.co_filename != torch_module.__file__)
        for at in outside:
            names = at.f_code.co_varnames[: at.f_code.co_argcount]
            of_module = names[:1] == ("self",) and id(at.f_locals.get("self")) in self._parts
            if found is None or of_module:
                found = at
        return None if found is None else (id(found), found.f_code)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that led to it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back
