"""Data that a probe reads: registry names, folders, tensors, data sets and loaders.

`open_data` gives one `Source` for all of them: samples with stable numbers, labels where there are
any, and what tells each of them apart, so that two runs are known to have seen the same data.
"""

from whitebox_probe.data.source import Source, open_data

__all__ = ["Source", "open_data"]
