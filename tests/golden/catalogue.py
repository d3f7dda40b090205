"""The names of all measures."""

from whitebox_probe.metrics.catalogue import catalogue


def names():
    return list(catalogue())
