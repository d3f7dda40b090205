"""Measures of the sparse rate reduction: one file each.

`whitebox_probe.metrics.functional` gathers the pure functions. The classes, such as
`whitebox_probe.metrics.Compression`, are `torchmetrics.Metric` modules, made of the measures by
`torch.py` when they are first used.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module(f"{__name__}.functional")
    if not name[:1].isupper():  # a submodule is being imported
        raise AttributeError(f"module 'whitebox_probe.metrics' has no attribute '{name}'")
    from whitebox_probe.metrics import torch

    return getattr(torch, name)


def __dir__() -> list[str]:
    from whitebox_probe.metrics.catalogue import catalogue

    return sorted([*globals(), *(measure.__name__ for measure in catalogue().values())])
