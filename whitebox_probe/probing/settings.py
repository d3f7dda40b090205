"""What a number depends on (`Settings`), and how the pass is run (`Execution`): frozen values.

Each field is said once, here: the options of the command line, the record in run.json and what must
be the same for a run to be resumed are all made from these fields.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.metrics.measure import CONVENTIONS
from whitebox_probe.probing import null

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NONFINITE = ("raise", "drop")


def _of(
    default: Any,
    why: str,
    *,
    choices: Callable[[], Sequence[Any]] | None = None,
    check: Callable[[Any], str] | None = None,
    several: bool = False,
) -> Any:
    """A field: its default, what it says, and which values it may have.

    Args: choices: the values allowed. check: "" for a value that may be used, or what is needed.
        several: whether one measurement is planned for each of several values.
    """
    about = {"why": why, "choices": choices, "check": check, "several": several}
    return field(default=(default,) if several else default, metadata=about)


def _positive(value: Any) -> str:
    fits = _number(value) and 0 < value < math.inf
    return "" if fits else "Use 0.1, say"


def _finite(value: Any) -> str:
    return "" if _number(value) and math.isfinite(value) else "Use a number, such as 0.1"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(least: int, *, optional: bool = False) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value is None and optional:
            return ""
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return "" if fits else f"Use a whole number of {least} or more"

    return check


def _truth(value: Any) -> str:
    return "" if isinstance(value, bool) else "Use True or False"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a number depends on, besides model, data and measure.

    Of the fields that may have several values, one measurement is planned for each, in one pass.
    """

    convention: tuple[str, ...] = _of(
        "paper",
        "it says how tokens enter the formulas",
        choices=lambda: CONVENTIONS,
        several=True,
    )
    basis: tuple[str, ...] = _of("", "it says which subspaces U are", several=True)
    orthonormal: tuple[bool, ...] = _of(
        False, "each basis is orthonormalised, or left as it is", check=_truth, several=True
    )
    prenorm: tuple[bool, ...] = _of(
        True, "rates are taken after the attention norm, or before it", check=_truth, several=True
    )
    class_token: tuple[bool, ...] = _of(
        True, "the tokens before the patches are measured, or not", check=_truth, several=True
    )
    eps: tuple[float, ...] = _of(
        0.1, "the coding precision is positive", check=_positive, several=True
    )
    lam: tuple[float, ...] = _of(
        0.1, "it is the weight of a non-zero entry", check=_finite, several=True
    )
    null: tuple[str | None, ...] = _of(
        None, "it says what stands in for the tokens", choices=null.for_probe, several=True
    )
    limit: int | None = _of(None, "at least one sample is needed", check=_whole(1, optional=True))
    fit_limit: int = _of(256, "bases are fitted on one sample or more", check=_whole(1))
    nonfinite: str = _of("raise", "it says what becomes of such samples", choices=lambda: NONFINITE)
    dtype: str = _of(
        "float32", "it is the precision of the forward pass", choices=lambda: tuple(DTYPES)
    )
    fast: bool = _of(True, "linear maps run through oneDNN, or as torch runs them", check=_truth)
    seed: int = _of(0, "random numbers are drawn from it", check=_whole(0))

    @classmethod
    def of(cls, **given: Any) -> "Settings":
        """Settings from single values or sequences of them.

        Raises: ProbeError for a value that cannot be used, or that is given twice.
        """
        kept: dict[str, Any] = {}
        for each in fields(cls):
            if each.name in given:
                value = given[each.name]
                kept[each.name] = several(value, each.name) if each.metadata["several"] else value
        made = cls(**kept)
        check(made)
        return made

    def told(self) -> dict[str, Any]:
        """Every field by name, as JSON holds it: several values as a list."""
        return {
            each.name: list(value)
            if isinstance(value := getattr(self, each.name), tuple)
            else value
            for each in fields(self)
        }


SEVERAL = tuple(each.name for each in fields(Settings) if each.metadata["several"])


def several(value: Any, name: str) -> tuple[Any, ...]:
    """One value, or several, as a tuple.

    Raises: ProbeError for none at all, or one that is there twice.
    """
    values = (
        tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    )
    if name in ("eps", "lam"):
        values = tuple(float(v) if _number(v) else v for v in values)
    told = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    if not values or len(set(told)) < len(told):
        raise ProbeError(
            f"{name} is {list(values)}",
            "each value is measured once, and six digits tell two apart",
            "Name different values",
        )
    return values


def check(values: Any) -> None:
    """Check the fields of `Settings`, or of `Execution`, against what they may be.

    Raises: ProbeError that names the field, the value, and what may stand there.
    """
    for each in fields(values):
        about = each.metadata
        found = getattr(values, each.name)
        for value in found if about["several"] else (found,):
            if about["choices"] is not None and value not in about["choices"]():
                allowed = [str(choice) for choice in about["choices"]()]
                raise ProbeError(
                    f"unknown {each.name} '{value}'", about["why"], nearest(str(value), allowed)
                )
            fix = about["check"](value) if about["check"] is not None else ""
            if fix:
                raise ProbeError(f"{each.name} is {value!r}", about["why"], fix)


def _device(value: Any) -> str:
    fits = value is None or isinstance(value, str | torch.device)
    return "" if fits else "Name it, as in 'cuda:1'"


def _seconds(value: Any) -> str:
    return "" if _number(value) and value >= 0 else "Use a number of seconds"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the pass is run: no number depends on it beyond rounding."""

    batch_size: int = _of(32, "a batch holds samples", check=_whole(1))
    workers: int = _of(0, "so many processes read the samples", check=_whole(0))
    device: str | torch.device | None = _of(None, "the pass runs there", check=_device)
    progress: bool = _of(True, "a bar is shown, or not", check=_truth)
    checkpoint: Path | None = _of(None, "the state of the pass is kept there")
    save_every: float = _of(60.0, "it is the time between two saves", check=_seconds)
    distributed: bool = _of(True, "the samples are shared between processes, or not", check=_truth)

    @classmethod
    def of(cls, **given: Any) -> "Execution":
        """Execution from the arguments of `probe`.

        Raises: ProbeError for a value that cannot be used.
        """
        kept = {each.name: given[each.name] for each in fields(cls) if each.name in given}
        if kept.get("checkpoint") is not None:
            kept["checkpoint"] = Path(kept["checkpoint"])
        made = cls(**kept)
        check(made)
        return made

    def told(self, device: torch.device, processes: int) -> Mapping[str, Any]:
        """What run.json holds of it."""
        return {
            "batch_size": self.batch_size,
            "workers": self.workers,
            "device": str(device),
            "processes": processes,
        }
