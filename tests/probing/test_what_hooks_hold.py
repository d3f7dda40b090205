"""A hook is known by what it does and holds, in any process; what cannot be read is told."""

import os
import subprocess
import sys
import threading
import types
from functools import partial, wraps

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.probing.sharing import LABELLED, model_of
from whitebox_probe._core.errors import ProcessError
from whitebox_probe.probing.identity import UNKNOWN, held
from whitebox_probe.probing.probe import UnknownNetworkWarning


def scaled(module, args, out, by=1.0, *, plus=0.0):
    return out * by + plus


def of_closure(v):
    return lambda module, args, out: out * v


def of_closures_within(v):
    inner = of_closure({"gains": [v]})

    @wraps(inner)
    def hook(*given):
        return inner(*given)

    return hook


def of_default(v):
    return lambda module, args, out, by=v: out * by


def of_keyword_default(v):
    def hook(module, args, out, *, by=v):
        return out * by

    return hook


def of_function_attribute(v):
    def hook(module, args, out):
        return out * hook.by

    hook.by = v
    return hook


def of_global(v):
    """The same function of a module that holds another number."""
    module = types.ModuleType("of_the_user")
    module.GAIN = v
    exec("def gain(): return GAIN\ndef hook(m, a, out): return out * gain()", vars(module))
    return module.hook


def of_code(v):
    space = {}
    exec(f"def hook(module, args, out): return out * {v}", space)
    return space["hook"]


class Scales:
    def __init__(self, by):
        self.by = by

    def __call__(self, module, args, out):
        return self.scale(out)

    def scale(self, out):
        return out * self.by

    def hook(self, module, args, out):
        return self.scale(out)


class InSlots:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by

    def __call__(self, module, args, out):
        return out * self.by


def of_class(v):
    class OfClass(Scales):
        by = v

        def __init__(self):
            pass

    return OfClass()


class Part(nn.Module):
    def __init__(self, v):
        super().__init__()
        self.gain = nn.Parameter(torch.as_tensor(v).float())
        self.plain = float(torch.as_tensor(v).sum())


def of_itself(v):
    hook = Scales(v)
    hook.me = [hook]
    return hook


FORMS = {
    "closure": of_closure,
    "closures within": of_closures_within,
    "default": of_default,
    "keyword default": of_keyword_default,
    "function attribute": of_function_attribute,
    "partial": lambda v: partial(scaled, by=v),
    "partial of a partial": lambda v: partial(partial(scaled, by=v), plus=1.0),
    "object": Scales,
    "slots": InSlots,
    "bound method": lambda v: Scales(v).hook,
    "object of objects": lambda v: Scales({"a": Scales([v])}),
    "another module": lambda v: of_closure(Part(v)),
    "itself": of_itself,
}
BY_NUMBER = {"global": of_global, "code": of_code, "class": of_class}
VALUES = {
    "number": float,
    "tensor": lambda v: torch.tensor([1.0, v]),
    "array": lambda v: np.array([1.0, v]),
}
CASES = [(form, make, kind) for form, make in FORMS.items() for kind in VALUES]
CASES += [(form, make, "number") for form, make in BY_NUMBER.items()]


def hooked(hook, pre=False):
    part = nn.Sequential(nn.Identity())
    (part[0].register_forward_pre_hook if pre else part[0].register_forward_hook)(hook)
    return held(part)


@pytest.mark.parametrize(("form", "make", "kind"), CASES, ids=lambda each: str(each)[:20])
def test_what_a_hook_holds_is_part_of_the_network(form, make, kind):
    value = VALUES[kind]
    one, same, other = (hooked(make(value(v))) for v in (2, 2, 5))
    assert one == same != other
    assert UNKNOWN not in one
    assert hooked(make(value(2)), pre=True) != hooked(make(value(5)), pre=True)


def test_functions_in_attributes_count_as_hooks_do():
    found = []
    for by in (2.0, 2.0, 5.0):
        part = nn.Sequential(nn.Identity())
        part[0].forward = partial(scaled, part[0], (), by=by)
        part[0].own = part[0].extra_repr  # a part of the network is known by its path
        found.append(held(part))
    assert found[0] == found[1] != found[2]


def test_without_hooks_nothing_is_said_of_them():
    assert not any("hook" in name or name == UNKNOWN for name in held(nn.Linear(2, 2)))


def test_what_a_pass_leaves_in_a_hook_is_not_digested():
    kept = {}

    def hook(module, args, out):
        kept["last"] = out

    part = nn.Sequential(nn.Linear(2, 2))
    part[0].register_forward_hook(hook)
    before = held(part)
    with torch.inference_mode():
        part(torch.ones(1, 2))
    assert kept
    assert held(part) == before


SCRIPT = """
from tests.probing import test_what_hooks_hold as t
from whitebox_probe.probing.identity import held
for form, make, kind in t.CASES:
    print(form, kind, sorted(t.hooked(make(t.VALUES[kind](3))).items()))
print(sorted(t.hooked(t.of_closure({"a", "b", "c", "d"})).items()))
print(sorted(held(t.model_of("vit").module).items()))
"""


def test_other_processes_find_the_same(capsys):
    """This process and one whose strings have other hashes."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    exec(SCRIPT, {})
    assert capsys.readouterr().out == there
    assert there.count("\n") == len(CASES) + 2
    assert "0x" not in there


@pytest.mark.parametrize("value", [threading.Lock(), (i for i in range(3)), {Scales(1.0)}])
def test_what_cannot_be_read_is_named(value):
    found = hooked(of_closure(value))[UNKNOWN]
    assert len(found) == 1
    assert type(value).__name__ in found[0]


def resumed(hook, folder):
    model = model_of("vit")
    model.module.norm.register_forward_hook(hook)
    options = {"batch_size": 4, "progress": False, "checkpoint": folder, "save_every": 0.0}
    return wp.probe(model, LABELLED, ["l0"], **options)


@pytest.mark.parametrize("form", ["closure", "partial", "object", "bound method"])
def test_a_pass_does_not_go_on_with_another_hook(form, tmp_path):
    make = FORMS[form]
    resumed(make(2.0), tmp_path)
    resumed(make(2.0), tmp_path)
    with pytest.raises(ProcessError, match="hooks and functions of the network"):
        resumed(make(5.0), tmp_path)


def test_a_pass_with_a_hook_that_cannot_be_read_does_not_go_on(tmp_path):
    lock = threading.Lock()

    def hook(module, args, out):
        with lock:
            return out

    with pytest.warns(UnknownNetworkWarning, match=r"hold what cannot be read, .*\(lock\)"):
        resumed(hook, tmp_path)
    with (
        pytest.warns(UnknownNetworkWarning),
        pytest.raises(ProcessError, match="whether the network is the same is not known"),
    ):
        resumed(hook, tmp_path)
