# Made of the code by docs/stubs.py; change that, and run it again.
"""Layerwise measures of the sparse rate reduction on real checkpoints.

    import whitebox_probe as wp

    model = wp.load("crate-tiny-fmnist")
    result = wp.probe(model, "fashion-mnist", limit=500)
    wp.plots.compression(result)

Names are imported when they are first used, so that importing the package costs nothing. What
editors read is `__init__.pyi`, made of this file by docs/stubs.py.
"""

from whitebox_probe import metrics as metrics
from whitebox_probe import plots as plots
from whitebox_probe._core.errors import AssumedWarning as AssumedWarning
from whitebox_probe._core.errors import ProbeError as ProbeError
from whitebox_probe.auditing import reference as reference
from whitebox_probe.auditing.audit import audit as audit
from whitebox_probe.auditing.thresholds import Thresholds as Thresholds
from whitebox_probe.auditing.verdicts import Audit as Audit
from whitebox_probe.data.given import Data as Data
from whitebox_probe.data.given import data as data
from whitebox_probe.exploring.explore import explore as explore
from whitebox_probe.models.load import load as load
from whitebox_probe.models.model import ProbeModel as ProbeModel
from whitebox_probe.models.preprocess import Preprocess as Preprocess
from whitebox_probe.models.preprocess import TextPreprocess as TextPreprocess
from whitebox_probe.models.wrap import wrap as wrap
from whitebox_probe.probing.nulls import nulls as nulls
from whitebox_probe.probing.plan import Request as Request
from whitebox_probe.probing.probe import probe as probe
from whitebox_probe.probing.recorder import record as record
from whitebox_probe.probing.similarity import similarity as similarity
from whitebox_probe.probing.view import view as view
from whitebox_probe.reporting.report import report as report
from whitebox_probe.results.attention_maps import segmentation as segmentation
from whitebox_probe.results.compare import Comparison as Comparison
from whitebox_probe.results.compare import compare as compare
from whitebox_probe.results.result import Result as Result
from whitebox_probe.results.run import Run as Run
from whitebox_probe.results.similarity import Similarity as Similarity
from whitebox_probe.results.view import View as View
from whitebox_probe.sweeping.sweep import Sweep as Sweep
from whitebox_probe.sweeping.sweep import sweep as sweep
from whitebox_probe.watching.watch import watch as watch
from whitebox_probe.watching.watcher import Watcher as Watcher

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

__version__: str
