"""The names of all measures."""

from whitebox_probe.metrics import base


def names():
    return list(base.catalogue())
