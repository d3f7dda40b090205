"""Data that a probe reads: registry names, folders, tensors, data sets and loaders.

`open_data` gives one `Source` for all of them: samples with stable numbers, labels where there are
any, and a fingerprint that says whether two runs saw the same data.
"""

from whitebox_probe.data.source import Source, open_data

__all__ = ["Source", "open_data"]
