"""All numbers that verdicts depend on, in one place."""

from dataclasses import dataclass, field, fields
from typing import Any

from whitebox_probe._core.arguments import is_number, told
from whitebox_probe._core.errors import SettingError, nearest
from whitebox_probe.stats import LEAST_P


def _of(default: float, least: float, most: float, what: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "what": what})


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """All numbers that verdicts depend on; the command line sets them with --threshold.

    A size says which effects count at all; `alpha` is shared by the claims of a model (Holm).
    """

    alpha: float = _of(
        0.05, LEAST_P, 1, "chance of a wrong verdict of a model whose curves show nothing"
    )
    change: float = _of(0.05, 0, 1, "share that a rate or a count must change by, over all layers")
    step: float = _of(0.01, 0, 1, "share of R^c that an attention step must change it by")
    cosine: float = _of(0.1, 0, 1, "mean cosine that an update must reach along a direction")
    keeps: float = _of(0.8, 0, 1, "share of its first value that R must keep")
    gap: float = _of(0.1, 0, 1, "share of the distance to its optimum that a step must close")
    part: float = _of(0.25, 0, 1, "share of what a step does that controls must leave of it")
    scaling: float = _of(
        0.02, 0, 1, "share of what a step closes that scaling its start must leave of it"
    )
    position: float = _of(
        0.1, 0, 1, "how far subspaces must lie from chance, towards orthogonal or identical ones"
    )
    rises: float = _of(0.5, 0, 1, "share of steps that must rise, for one layer after another")
    zeros: float = _of(0.001, 0, 1, "share of exact zeros without which l0 means nothing")

    def __post_init__(self) -> None:
        """Raises: SettingError for a value that is no share."""
        for each in fields(self):
            value = getattr(self, each.name)
            number = is_number(value)
            inside = number and each.metadata["least"] < value < each.metadata["most"]
            if not inside:
                raise SettingError(
                    f"the threshold '{each.name}' is {told(value)}",
                    f"it is the {each.metadata['what']}",
                    f"Use a number between {each.metadata['least']:g} and 1",
                    setting=each.name,
                )

    @classmethod
    def of(cls, **given: float) -> "Thresholds":
        """Thresholds with these values, the others as usual.

        Raises: SettingError for an unknown name, or a value that cannot be used.
        """
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                raise SettingError(
                    f"there is no threshold '{name}'",
                    "no verdict depends on a number of that name",
                    nearest(name, known),
                    setting=name,
                )
        return cls(**given)

    def halved(self) -> "Thresholds":
        """For the same claim under another setting: half the size in the same direction is enough.

        What is looked for there is a reversal, or nothing left of an effect; not that it is a
        little smaller.
        """
        sizes = ("change", "step", "cosine", "gap", "part", "position")
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        return Thresholds(**{k: v / 2 if k in sizes else v for k, v in kept.items()})
