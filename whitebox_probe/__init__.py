"""Layerwise measures of the sparse rate reduction on real checkpoints.

    import whitebox_probe as wp

    model = wp.load("crate-tiny-fmnist")
    result = wp.probe(model, "fashion-mnist", limit=500)
    wp.plots.compression(result)

Names are imported when they are first used, so that importing the package costs nothing. What
editors read is `__init__.pyi`, made of this file by docs/stubs.py.
"""

import importlib
from typing import Any

from whitebox_probe._core.progress import quiet_imports

_HOMES = {
    "AssumedWarning": "_core.errors",
    "ProbeError": "_core.errors",
    "Audit": "auditing.verdicts",
    "Thresholds": "auditing.thresholds",
    "audit": "auditing.audit",
    "data": "data.given",
    "Data": "data.given",
    "explore": "exploring.explore",
    "probe": "probing.probe",
    "Preprocess": "models.preprocess",
    "ProbeModel": "models.model",
    "TextPreprocess": "models.preprocess",
    "wrap": "models.wrap",
    "load": "models.load",
    "nulls": "probing.nulls",
    "record": "probing.recorder",
    "Request": "probing.plan",
    "Comparison": "results.compare",
    "report": "reporting.report",
    "Result": "results.result",
    "Run": "results.run",
    "compare": "results.compare",
    "Similarity": "results.similarity",
    "similarity": "probing.similarity",
    "segmentation": "results.attention_maps",
    "View": "results.view",
    "view": "probing.view",
    "Sweep": "sweeping.sweep",
    "sweep": "sweeping.sweep",
    "Watcher": "watching.watcher",
    "watch": "watching.watch",
}
_FOLDERS = {"metrics": "metrics", "plots": "plots", "reference": "auditing.reference"}

__all__ = [
    "AssumedWarning",
    "Audit",
    "Comparison",
    "Data",
    "Preprocess",
    "ProbeError",
    "ProbeModel",
    "Request",
    "Result",
    "Run",
    "Similarity",
    "Sweep",
    "TextPreprocess",
    "Thresholds",
    "View",
    "Watcher",
    "audit",
    "compare",
    "data",
    "explore",
    "load",
    "metrics",
    "nulls",
    "plots",
    "probe",
    "record",
    "reference",
    "report",
    "segmentation",
    "similarity",
    "sweep",
    "view",
    "watch",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name == "data":  # the room itself, which can be called: importing any of it sets this name
        return importlib.import_module(f"{__name__}.data")
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{_FOLDERS[name]}")
    if name == "__version__":
        from whitebox_probe._core.versions import version_of

        return version_of("whitebox-probe")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    quiet_imports()
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
