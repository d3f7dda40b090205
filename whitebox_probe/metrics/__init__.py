"""Measures of the sparse rate reduction: one file each, functions and streaming metrics.

`whitebox_probe.metrics.functional` gathers the pure functions; the classes, each a
`torchmetrics.Metric`, are attributes of this package.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    missing = AttributeError(f"module 'whitebox_probe.metrics' has no attribute '{name}'")
    if not name[0].isupper():  # a submodule is being imported
        raise missing
    from whitebox_probe.metrics.measure import catalogue

    for metric in catalogue().values():
        if metric.__name__ == name:
            return metric
    raise missing


def __dir__() -> list[str]:
    from whitebox_probe.metrics.measure import catalogue

    return sorted([*globals(), *(metric.__name__ for metric in catalogue().values())])
