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
    from whitebox_probe.auditing import audit as audit
    from whitebox_probe.claims import Audit as Audit
    from whitebox_probe.engine import probe as probe
    from whitebox_probe.layer_similarity import similarity as similarity
    from whitebox_probe.models._loading import load as load
    from whitebox_probe.models._wrapping import wrap as wrap
    from whitebox_probe.models.base import Preprocess as Preprocess
    from whitebox_probe.models.base import ProbeModel as ProbeModel
    from whitebox_probe.models.base import TextPreprocess as TextPreprocess
    from whitebox_probe.null_models import nulls as nulls
    from whitebox_probe.recorder import record as record
    from whitebox_probe.results import Comparison as Comparison
    from whitebox_probe.results import Result as Result
    from whitebox_probe.results import Similarity as Similarity
    from whitebox_probe.results import compare as compare

_HOMES = {
    "AssumedWarning": "_core.errors",
    "ProbeError": "_core.errors",
    "Audit": "claims",
    "audit": "auditing",
    "probe": "engine",
    "Preprocess": "models.base",
    "ProbeModel": "models.base",
    "TextPreprocess": "models.base",
    "wrap": "models._wrapping",
    "load": "models._loading",
    "nulls": "null_models",
    "record": "recorder",
    "Comparison": "results",
    "Result": "results",
    "compare": "results",
    "Similarity": "results",
    "similarity": "layer_similarity",
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
