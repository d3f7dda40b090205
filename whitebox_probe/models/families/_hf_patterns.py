"""Of which kind a transformers block is: the row whose parts it has, no more, no fewer.

Names alone would let through a block that scales its residual: what it computes is verified
(`models/verify.py`).
"""

from typing import Any

from torch import nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.families._hf_table import PATTERNS, Pattern

DOWN = (
    *("down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "wo", "Wo", "lin2", "w2"),
    *("weights_out", "linear_out", "output_linear"),
)
"""Names of the last linear map of an MLP."""
EXPERTS = ("experts", "router", "gate", "shared_expert", "shared_experts")
"""Names of what an MLP of several experts has."""
FIX = (
    "Use a model whose blocks are of a known kind, or map its modules with wrap(module, sites=...)"
)


def pattern_of(block: nn.Module, config: Any) -> Pattern:
    """The pattern that a block is of.

    Raises: SiteError that names the part by which it departs from the nearest one.
    """
    names = {name for name, part in block.named_children() if _counts(part)}
    title = type(block).__name__
    fitting = [p for p in PATTERNS if names <= p.parts <= _children(block)]
    whole = [
        p
        for p in fitting
        if all(_has(block, path) for path in p.paths()) and _given(block, p, config)
    ]
    if whole:
        return whole[0]
    if fitting:
        raise SiteError(*_missing(block, fitting[0]))
    nearby = min(PATTERNS, key=lambda p: len(p.parts ^ names))
    told = [f"without '{name}'" for name in sorted(nearby.parts - _children(block))]
    told += [f"with '{name}'" for name in sorted(names - nearby.parts)]
    raise SiteError(
        f"the blocks of {title} are not understood",
        f"they have the parts of a {nearby.name} block {', '.join(told)}",
        FIX,
    )


def down_of(block: nn.Module, pattern: Pattern) -> str | None:
    """The path of the MLP's last linear map; None where each token passes experts of its own.

    Raises: SiteError.
    """
    if pattern.down:
        return pattern.down
    inside = {name for name, _ in block.get_submodule(pattern.mlp).named_children()}
    if inside & set(EXPERTS):
        return None
    for name in DOWN:
        if name in inside:
            return f"{pattern.mlp}.{name}"
    raise SiteError(
        f"the '{pattern.mlp}' of {type(block).__name__} is not understood",
        f"it has no '{DOWN[0]}' nor another last map that is known, only "
        + ", ".join(sorted(inside)),
        FIX,
    )


def _counts(part: nn.Module) -> bool:
    """Whether a part must be in the table: it has parameters."""
    return next(part.parameters(), None) is not None


def _children(block: nn.Module) -> set[str]:
    return {name for name, _ in block.named_children()}


def _given(block: nn.Module, pattern: Pattern, config: Any) -> bool:
    """Whether options of the configuration, and attributes of the block, are a pattern's."""
    if not all(hasattr(block, name) for name in pattern.scale or ()):
        return False
    return pattern.given is None or getattr(config, pattern.given[0], None) in pattern.given[1]


def _missing(block: nn.Module, pattern: Pattern) -> tuple[str, str, str]:
    """What a block lacks that has all parts of a pattern by name."""
    path = next((path for path in pattern.paths() if not _has(block, path)), None)
    if path is None:  # then an option is another one
        name, wanted = pattern.given or ("", ())
        return (
            f"the blocks of {type(block).__name__} are not understood",
            f"they are of a {pattern.name} block only with {name}={wanted[0] if wanted else ''}",
            FIX,
        )
    above, _, name = path.rpartition(".")
    while not _has(block, above):
        above, _, name = above.rpartition(".")
    here = ", ".join(child for child, _ in block.get_submodule(above).named_children())
    return (
        f"the {repr(above) if above else 'block'} of {type(block).__name__} is not understood",
        f"it has no '{name}', only {here}",
        FIX,
    )


def _has(block: nn.Module, path: str) -> bool:
    try:
        block.get_submodule(path)
    except AttributeError:
        return False
    return True
