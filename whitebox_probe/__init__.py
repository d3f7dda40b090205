"""Layerwise measures of the sparse rate reduction on real checkpoints.

    import whitebox_probe as wp

    model = wp.load("crate-tiny-fmnist")
    result = wp.probe(model, "fashion-mnist", limit=500)
    wp.plots.compression(result)

Names are imported when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whitebox_probe import metrics as metrics
    from whitebox_probe import plots as plots
    from whitebox_probe._core.errors import AssumedWarning as AssumedWarning
    from whitebox_probe._core.errors import ProbeError as ProbeError
    from whitebox_probe.auditing.audit import audit as audit
    from whitebox_probe.auditing.verdicts import Audit as Audit
    from whitebox_probe.models.load import load as load
    from whitebox_probe.models.model import ProbeModel as ProbeModel
    from whitebox_probe.models.preprocess import Preprocess as Preprocess
    from whitebox_probe.models.preprocess import TextPreprocess as TextPreprocess
    from whitebox_probe.models.wrap import wrap as wrap
    from whitebox_probe.probing.nulls import nulls as nulls
    from whitebox_probe.probing.probe import probe as probe
    from whitebox_probe.probing.recorder import record as record
    from whitebox_probe.probing.similarity import similarity as similarity
    from whitebox_probe.results.compare import Comparison as Comparison
    from whitebox_probe.results.compare import compare as compare
    from whitebox_probe.results.result import Result as Result
    from whitebox_probe.results.similarity import Similarity as Similarity

_HOMES = {
    "AssumedWarning": "_core.errors",
    "ProbeError": "_core.errors",
    "Audit": "auditing.verdicts",
    "audit": "auditing.audit",
    "probe": "probing.probe",
    "Preprocess": "models.preprocess",
    "ProbeModel": "models.model",
    "TextPreprocess": "models.preprocess",
    "wrap": "models.wrap",
    "load": "models.load",
    "nulls": "probing.nulls",
    "record": "probing.recorder",
    "Comparison": "results.compare",
    "Result": "results.result",
    "compare": "results.compare",
    "Similarity": "results.similarity",
    "similarity": "probing.similarity",
}
_FOLDERS = ("metrics", "plots")

__all__ = [
    "AssumedWarning",
    "Audit",
    "Comparison",
    "Preprocess",
    "ProbeError",
    "ProbeModel",
    "Result",
    "Similarity",
    "TextPreprocess",
    "audit",
    "compare",
    "load",
    "metrics",
    "nulls",
    "plots",
    "probe",
    "record",
    "similarity",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("whitebox-probe")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
