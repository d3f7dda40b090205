"""The one place where the golden set reaches into the package: building a network by its family."""

from whitebox_probe.models import registry


def build(family, arch):
    return registry.build(family, arch, source="the golden set")
