"""The one place where the golden set reaches into the package: building a network by its family."""

from whitebox_probe.models import family as families


def build(family, arch):
    return families.build(family, arch, source="the golden set")
