"""What to cite: the package, the papers of measures, and the makers of checkpoints."""

from whitebox_probe._core.errors import ProbeError


def package() -> str:
    """BibTeX of the package, as CITATION.cff has it."""
    from whitebox_probe import __version__

    return (
        "@software{whitebox_probe,\n"
        "  title   = {whitebox-probe},\n"
        "  author  = {{The whitebox-probe authors}},\n"
        f"  version = {{{__version__}}},\n"
        "  year    = {2026}\n"
        "}"
    )


def measure(name: str) -> str:
    """The source that a measure's own definition names; empty for a measure that is not known."""
    from whitebox_probe.metrics.catalogue import catalogue

    return str(getattr(catalogue().get(name), "source", ""))


def checkpoint(name: str) -> str:
    """What the registry says to cite for a checkpoint; empty for one that it does not list."""
    from whitebox_probe import checkpoints

    try:
        found = checkpoints.entry(name)
    except ProbeError:
        return ""
    return ", ".join(filter(None, (found.citation, found.reference)))
