"""The settings under which each claim is judged: the usual one, and each of the others alone.

All of them are measured in the same pass. A claim names those under which it keeps its meaning: a
verdict that one of these overturns is not given, and it is said on what it depends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from whitebox_probe.models.model import ProbeModel
from whitebox_probe.results.run import QR

AXES = (
    "eps",
    "prenorm",
    "basis",
    "lam",
    "class_token",
    "first_layer",
    "embedding",
    "orthonormal",
    "samples",
)
FIRST = 2
"""The layer at which curves start: what enters the first one is the embedding, on which no step has
acted yet."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of everything that a claim's number may depend on.

    Attributes:
        eps, lam, basis, prenorm, class_token: as for `probe`.
        first_layer: where curves begin.
        swapped: whether bases are orthonormalised where the claim leaves them as they are, and left
            where it orthonormalises them.
        samples: how many of them, the first ones; all where it is not given.
        axis: in which it differs from the usual setting; "" for that one.
    """

    eps: float
    lam: float
    basis: str
    prenorm: bool = True
    class_token: bool = True
    first_layer: int = FIRST
    swapped: bool = False
    samples: int | None = None
    axis: str = ""

    def orthonormal(self, usual: bool) -> bool:
        """Whether bases are orthonormalised, where a claim usually does so or not."""
        return usual != self.swapped

    def where(self, *, orthonormal: bool) -> dict[str, Any]:
        """The settings of its rows, as `Result.curve` takes them."""
        label = self.basis + (QR if self.orthonormal(orthonormal) else "")
        return {
            "eps": self.eps,
            "lam": self.lam,
            "basis": label,
            "prenorm": self.prenorm,
            "class_token": self.class_token,
        }

    def told(self, *, orthonormal: bool) -> str:
        """What differs from the usual setting, as `eps=0.2`."""
        if not self.axis:
            return ""
        if self.axis == "orthonormal":
            return f"orthonormal={self.orthonormal(orthonormal)}"
        axis = "first_layer" if self.axis == "embedding" else self.axis
        value = getattr(self, axis)
        return f"{axis}={value:g}" if isinstance(value, float) else f"{axis}={value}"


def usual(model: ProbeModel, **given: Any) -> Setting:
    """The setting of the verdicts: what is given, and the model's own basis."""
    basis = given.pop("basis", None) or model.default_basis
    return Setting(basis=basis, **given)


def around(model: ProbeModel, base: Setting) -> Iterator[Setting]:
    """Each other setting, one thing changed at a time.

    eps halved and doubled; lam a tenth and ten times; without the norm; each other basis that the
    model's weights hold; without the tokens in front of the patches; curves from one layer later,
    and from the embedding on; with orthonormal bases.
    """
    for factor in (0.5, 2):
        yield replace(base, eps=base.eps * factor, axis="eps")
    for factor in (0.1, 10):
        yield replace(base, lam=base.lam * factor, axis="lam")
    if model.layer(1).norm is not None:
        yield replace(base, prenorm=not base.prenorm, axis="prenorm")
    for basis in model.bases:
        if basis != base.basis:
            yield replace(base, basis=basis, axis="basis")
    if model.extra_tokens:
        yield replace(base, class_token=not base.class_token, axis="class_token")
    yield replace(base, first_layer=base.first_layer + 1, axis="first_layer")
    if base.first_layer > 1:
        yield replace(base, first_layer=1, axis="embedding")
    yield replace(base, swapped=True, axis="orthonormal")
