"""float32 is float32, whatever products the process has allowed, and its switches come back."""

import os
import subprocess
import sys

import pytest

_CODE = """
import multiprocessing, sys
import pandas, scipy.special, timm, torch, whitebox_probe as wp  # once, not in each fork
from torch.backends import cuda, cudnn, mkldnn

SWITCHES = (cuda.matmul, cudnn.conv, mkldnn.matmul, mkldnn.conv)
def one(read):
    try:
        return read()
    except RuntimeError:
        return "mixed"
def state():
    legacy = (
        torch.get_float32_matmul_precision,
        lambda: cuda.matmul.allow_tf32,
        lambda: cudnn.allow_tf32,
        lambda: torch.backends.fp32_precision,
    )
    return [one(read) for read in legacy] + [each.fp32_precision for each in SWITCHES]

def check(setting):
    model = wp.load("vit-tiny-fmnist")
    exec(setting)
    before, seen = state(), []
    model.module.register_forward_hook(
        lambda *_: seen.append({each.fp32_precision for each in SWITCHES})
    )
    wp.probe(model, "fashion-mnist", ["l0"], limit=2, progress=False)
    assert seen and all(each == {"ieee"} for each in seen), seen
    assert state() == before, (before, state())
    try:
        wp.probe(model, torch.full((2, 1, 28, 28), torch.nan), ["l0"], progress=False)
    except wp.ProbeError:
        pass
    assert state() == before, (before, state())

if __name__ == "__main__":
    for setting in sys.argv[1:]:
        child = multiprocessing.get_context("fork").Process(target=check, args=(setting,))
        child.start()
        child.join()
        assert child.exitcode == 0, setting
        print(setting)
"""
SETTINGS = (
    "",
    "torch.set_float32_matmul_precision('medium')",
    "cuda.matmul.allow_tf32 = True; cudnn.allow_tf32 = False",
    "cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'tf32'",
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each setting is a fork of one process")
def test_a_pass_runs_in_full_float32_and_puts_the_switches_back():
    # Each in a process of its own: a switch that was ever set by name cannot be made unset again.
    # They are forked from one that has imported torch, which takes longer than the passes.
    words = [sys.executable, "-c", _CODE, *SETTINGS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == list(SETTINGS)
