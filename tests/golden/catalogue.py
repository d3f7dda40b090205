"""The names of all measures."""

from whitebox_probe.metrics import measure


def names():
    return list(measure.catalogue())
