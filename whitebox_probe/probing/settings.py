"""What a number depends on (`Settings`), and how the pass is run (`Execution`): frozen values.

Each field is said once, here: the options of the command line, the record in run.json and what must
be the same for a run to be resumed are all made from these fields. Nothing heavy is imported, so
that `--help` answers at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.arguments import (
    Check,
    bounded,
    expect,
    finite,
    is_number,
    one_of,
    optional,
    path,
    plain,
    precision,
    text,
    told,
    truth,
    weight,
    whole,
)
from whitebox_probe._core.errors import SettingError

if TYPE_CHECKING:
    import torch

CONVENTIONS = ("paper", "official")
DTYPES = ("float32", "bfloat16", "float16")
NONFINITE = ("raise", "drop")
ON_ERROR = ("stop", "skip")


def _null_kinds() -> tuple[str | None, ...]:
    from whitebox_probe.probing.null import for_probe

    return for_probe()


def _of(
    default: Any,
    why: str,
    *,
    help: str = "",
    metavar: str = "",
    choices: Callable[[], Sequence[Any]] | None = None,
    check: Check | None = None,
    several: bool = False,
) -> Any:
    """A field: its default, what it says, and which values it may have.

    Args: help, metavar: of its option; without a help it has none. choices: the values allowed.
        check: "" for a value that may be used, or what is needed. several: whether one measurement
        is planned for each of several values.
    """
    about: dict[str, Any] = {"why": why, "help": help, "metavar": metavar, "choices": choices}
    about |= {"check": check, "several": several}
    return field(default=(default,) if several else default, metadata=about)


def _name(value: Any) -> str:
    return optional(text)(value) and "Name it as text, or leave it out for the model's own"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a number depends on, besides model, data and measure.

    Of the fields that may have several values, one measurement is planned for each, in one pass.
    """

    convention: tuple[str, ...] = _of(
        "paper",
        "it says how tokens enter the formulas",
        help="how tokens enter the formulas: paper (as they are), or official (as in the CRATE "
        "release's own script)",
        choices=lambda: CONVENTIONS,
        several=True,
    )
    basis: tuple[str | None, ...] = _of(
        None,
        "it says which subspaces U are",
        help="which U: native, qkv:q, qkv:k, qkv:v, qk, pca, pca:clusters, random "
        "(default: the family's own)",
        check=_name,
        several=True,
    )
    orthonormal: tuple[bool, ...] = _of(
        False,
        "each basis is orthonormalised, or left as it is",
        help="orthonormalise each head's basis by QR, as the formulas assume",
        check=truth,
        several=True,
    )
    prenorm: tuple[bool, ...] = _of(
        True,
        "rates are taken after the attention norm, or before it",
        help="take rates of the tokens as they are, not after the layer's attention norm",
        check=truth,
        several=True,
    )
    class_token: tuple[bool, ...] = _of(
        True,
        "the tokens before the patches are measured, or not",
        help="leave out the tokens before the patches (class token, registers)",
        check=truth,
        several=True,
    )
    eps: tuple[float, ...] = _of(
        0.1,
        "the coding precision is positive",
        help="coding precision; squared in the formulas",
        metavar="E",
        check=precision,
        several=True,
    )
    lam: tuple[float, ...] = _of(
        0.1,
        "it is the weight of a non-zero entry",
        help="nats that a non-zero entry costs, in the SRR",
        metavar="L",
        check=weight,
        several=True,
    )
    null: tuple[str | None, ...] = _of(
        None,
        "it says what stands in for the tokens",
        help="measure this null instead of the model's tokens: gaussian, shuffled or "
        "random_subspaces; none stands for the model itself",
        choices=_null_kinds,
        several=True,
    )
    limit: int | None = _of(
        None,
        "at least one sample is needed",
        help="N samples drawn by --seed (default: all)",
        metavar="N",
        check=optional(whole(1)),
    )
    fit_limit: int = _of(
        256,
        "bases are fitted on one sample or more",
        help="fit the bases pca and pca:clusters on so many samples that are not measured",
        metavar="N",
        check=whole(1),
    )
    nonfinite: str = _of(
        "raise",
        "it says what becomes of such samples",
        help="samples whose features hold NaN or infinity: stop (raise), or leave them out and "
        "list them (drop)",
        choices=lambda: NONFINITE,
    )
    on_error: str = _of(
        "stop",
        "it says what becomes of samples that cannot be read",
        help="samples that cannot be read: stop, or skip them and list them in run.json",
        choices=lambda: ON_ERROR,
    )
    dtype: str = _of(
        "float32",
        "it is the precision of the forward pass",
        help="of the forward pass: float32, bfloat16 or float16; measures are in float32 or better "
        "all the same",
        choices=lambda: DTYPES,
    )
    fast: bool = _of(
        True,
        "linear maps run through oneDNN, or as torch runs them",
        help="on the CPU, multiply as torch does by itself, and not through oneDNN",
        check=truth,
    )
    seed: int = _of(
        0,
        "random numbers are drawn from it, of 63 bits",
        help="of the draw of samples, of nulls and random bases, and of the bootstrap",
        metavar="N",
        check=whole(0),
    )

    @classmethod
    def of(cls, **given: Any) -> "Settings":
        """Settings from single values or sequences of them.

        Raises: SettingError for a value that cannot be used, or that is given twice.
        """
        kept: dict[str, Any] = {}
        for each in fields(cls):
            if each.name in given:
                value = given[each.name]
                of_several = each.metadata["several"]
                kept[each.name] = several(value, each.name) if of_several else plain(value)
        made = cls(**kept)
        check(made)
        return made

    def told(self) -> dict[str, Any]:
        """Every field by name, as JSON holds it: several values as a list."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


SEVERAL = tuple(each.name for each in fields(Settings) if each.metadata["several"])


def several(value: Any, name: str) -> tuple[Any, ...]:
    """One value, or several, as a tuple.

    Raises: SettingError for none at all, or one that is there twice.
    """
    one = isinstance(value, str | bytes | bytearray | memoryview)  # of bytes, no numbers
    alone = one or not isinstance(value, Sequence)
    values = tuple(map(plain, (value,) if alone else bounded(name, value)))
    if name in ("eps", "lam"):
        values = tuple(float(v) if finite(v) == "" else v for v in values)
    if None in _usual(name):  # the word of the command line, and of sweeps
        values = tuple(None if isinstance(v, str) and v == "none" else v for v in values)
    words = [
        f"{v:g}" if isinstance(v, float) else v if isinstance(v, str) else told(v) for v in values
    ]
    if not values or len(set(words)) < len(words):
        numbers = ", and six digits tell two apart" if name in ("eps", "lam") else ""
        raise SettingError(
            f"{name} is {told(list(values))}",
            f"each value is measured once{numbers}" if values else "nothing would be measured",
            "Name each value once" if values else "Name one or more",
            setting=name,
        )
    return values


def _usual(name: str) -> tuple[Any, ...]:
    """The values of a setting that are used when none is given."""
    found: Any = next((each.default for each in fields(Settings) if each.name == name), ())
    return tuple(found)


def check(values: Any) -> None:
    """Check the fields of `Settings`, or of `Execution`, against what they may be.

    Raises: SettingError that names the field, the value, and what may stand there.
    """
    for each in fields(values):
        found = getattr(values, each.name)
        for value in found if each.metadata["several"] else (found,):
            _check_one(each, value)


def _check_one(each: "Field[Any]", value: Any) -> None:
    about = each.metadata
    allowed = None if about["choices"] is None else about["choices"]()
    if allowed is not None and (fix := one_of(*allowed)(value)):
        shown = value if isinstance(value, str) else told(value)
        what = f"unknown {each.name} '{shown}'"
        raise SettingError(what, about["why"], fix, setting=each.name)
    if about["check"] is not None:
        expect(each.name, value, about["check"], about["why"])


def _device(value: Any) -> str:
    named = value is None or isinstance(value, str) or type(value).__name__ == "device"
    return "" if named else "Name it, as in 'cuda:1'"


def _seconds(value: Any) -> str:
    return "" if is_number(value) and value >= 0 else "Use a number of seconds"


@dataclass(frozen=True)
class Anew:
    """A folder for the state of a pass that does not go on from what is there.

    Args: begin: called once something is measured, before it is saved: what the folder holds of an
        earlier pass is left alone until then. Every process of a run calls it.
    """

    folder: Path
    begin: Callable[[], None]

    def __fspath__(self) -> str:
        """The folder, wherever a path is taken."""
        return str(self.folder)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the pass is run: no number depends on it beyond rounding."""

    batch_size: int = _of(
        32,
        "a batch holds samples",
        help="samples at a time",
        metavar="N",
        check=whole(1, most=1 << 20),
    )
    workers: int = _of(
        0,
        "so many processes read the samples",
        help="extra processes that read images",
        metavar="N",
        check=whole(0, most=256),
    )
    device: "str | torch.device | None" = _of(
        None, "the pass runs there", help="cpu, cuda, cuda:1, ... (default: cpu)", check=_device
    )
    progress: bool = _of(True, "a bar is shown, or not", check=truth)
    checkpoint: Path | None = _of(None, "the state of the pass is kept there")
    begin: Callable[[], None] | None = _of(None, "see `Anew`")
    save_every: float = _of(60.0, "it is the time between two saves", check=_seconds)
    distributed: bool = _of(True, "the samples are shared between processes, or not", check=truth)

    @classmethod
    def of(cls, **given: Any) -> "Execution":
        """Execution from the arguments of `probe`.

        Raises: SettingError for a value that cannot be used.
        """
        kept = {each.name: plain(given[each.name]) for each in fields(cls) if each.name in given}
        if isinstance(kept.get("checkpoint"), Anew):
            kept["begin"], kept["checkpoint"] = kept["checkpoint"].begin, kept["checkpoint"].folder
        if kept.get("checkpoint") is not None:
            expect("checkpoint", kept["checkpoint"], path, "the state of the pass is kept there")
            kept["checkpoint"] = Path(kept["checkpoint"])
        made = cls(**kept)
        check(made)
        return made

    def told(self, device: Any, processes: int) -> Mapping[str, Any]:
        """What run.json holds of it."""
        return {
            "batch_size": self.batch_size,
            "workers": self.workers,
            "device": str(device),
            "processes": processes,
        }
