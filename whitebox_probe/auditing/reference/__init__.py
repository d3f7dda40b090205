"""Small networks whose truth holds by construction: what the audit is calibrated on.

    import whitebox_probe as wp

    known = wp.reference.networks()["descent"]
    wp.audit(known.build(seed=0), known.data(seed=0))
    known.expected  # claim -> verdict

Each has ten layers of 32 tokens of width 32, four heads of width 8, and no parameter that was
trained. They are as good a test of any other tool that judges the same claims.
"""

from whitebox_probe.auditing.reference import (
    bases,
    derived,
    descent,
    expansion,
    ista,
    objective,
    sparsity,
)
from whitebox_probe.auditing.reference._parts import Reference

__all__ = ["Reference", "networks"]


def networks() -> dict[str, Reference]:
    """Every reference network, by name."""
    kinds = (descent, bases, derived, ista, sparsity, objective, expansion)
    return {each.name: each for kind in kinds for each in kind.NETWORKS}
