"""Errors that a user can act on: what happened, why, and what to do.

Every error raised for bad input is a `ProbeError`. Printed, it is one line of at most `LINE`
characters, none of which acts on a terminal, whatever stood in a file; the command line shows that
line on stderr and exits with status 2.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whitebox_probe._core.lines import sentence

LINE = 470
"""With what the command line puts in front of it, a line stays under 500 characters."""


class ProbeError(Exception):
    """Input that cannot be used: what happened, why, and how to mend it."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, also where its class takes more: reading processes hand errors on."""
        return _again, (type(self), self.args, dict(vars(self)))

    def __str__(self) -> str:
        return sentence(str(self.what), str(self.why), str(self.fix), LINE)


def _again(kind: type[Exception], args: tuple[Any, ...], held: dict[str, Any]) -> Exception:
    """An error or a warning as it was, without its constructor."""
    made = kind.__new__(kind, *args)
    made.args = args
    vars(made).update(held)
    return made


class SettingError(ProbeError):
    """A setting that cannot have the value that it was given.

    Attributes: setting: its name, as an argument of the Python functions.
    """

    def __init__(self, what: str, why: str, fix: str, *, setting: str) -> None:
        super().__init__(what, why, fix)
        self.setting = setting


class SiteError(ProbeError):
    """A site that the model's family does not have, that was not recorded, or that passes wrongly.

    It is to pass once in each batch, with a row a sample.
    """


class BasisError(ProbeError):
    """A basis of subspaces that the model's family does not have."""


class ShapeError(ProbeError):
    """A tensor whose shape, or kind of numbers, does not fit; or what is no tensor."""


class CheckpointError(ProbeError):
    """A checkpoint that cannot be found, trusted, or matched with its architecture."""


class ArchitectureError(CheckpointError):
    """A checkpoint that does not hold all of its architecture.

    Attributes: choices: each argument that is missing -> the values that are plausible.
    """

    def __init__(
        self, what: str, why: str, fix: str, choices: Mapping[str, Sequence[object]]
    ) -> None:
        super().__init__(what, why, fix)
        self.choices = choices


class RegistryError(ProbeError):
    """An entry of checkpoints.yaml that does not follow its schema."""


class DataError(ProbeError):
    """Data that cannot be read or do not fit the model."""


class NonFiniteError(ProbeError):
    """NaN or infinity where a finite number is needed."""


class ResultError(ProbeError):
    """A saved result that cannot be read, or results that cannot be put together."""


class PluginError(ProbeError):
    """A part that another installed package adds, and that cannot be used."""


class ProcessError(ProbeError):
    """A run of several processes that cannot go on, or an unfinished run that cannot be resumed."""


class SweepError(ProbeError):
    """A sweep's file that cannot be followed, or a sweep that cannot go on."""


class MissingDependency(ProbeError):  # noqa: N818 - the public name says what is missing
    """An optional package that this function needs."""


class LoadWarning(UserWarning):
    """What a user should know of a checkpoint that was loaded; one line, as an error is.

    Attributes: told: the line's parts.
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.told = CheckpointError(what, why, fix)

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, also where its class takes other arguments."""
        return _again, (type(self), self.args, dict(vars(self)))

    def __str__(self) -> str:
        return str(self.told)


class AssumedWarning(LoadWarning):
    """Values that no file holds and nobody stated, taken from the published models.

    Attributes: values: each argument of the network -> the value that is used.
    """

    def __init__(self, source: str, values: Mapping[str, object], why: str) -> None:
        told = [f"{key}={value}" for key, value in values.items()]
        what = " and ".join([", ".join(told[:-1]), told[-1]] if told[1:] else told)
        fix = f"Pass others with {', '.join(f'{key}=' for key in values)}"
        why = f"no file holds that and none was stated; {why}"
        super().__init__(f"{source} is loaded with {what}", why, fix)
        self.values = dict(values)


class InternalError(Exception):
    """Something of ours that failed while a model ran: no word on the user's input."""


def expect_names_differ(names: Sequence[str], folders: Sequence[object] = ()) -> None:
    """Check that no two models have one name.

    Args: folders: that the models' results were read from, if they were: one each.
    Raises: ResultError that names those which stand twice.
    """
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice and folders:
        one, two = [at for at, name in enumerate(names) if name == twice[0]][:2]
        raise ResultError(
            f"{folders[one]} and {folders[two]} hold results of the same model ({twice[0]})",
            "their rows and curves could not be told apart",
            "Leave one out if it is a copy, or measure it again with another name (run --name)",
        )
    if twice:
        more = f" and {len(twice) - FEW} more" if len(twice) > FEW else ""
        raise ResultError(
            f"two results are of the same model ({', '.join(twice[:FEW])}{more})",
            "their rows and curves could not be told apart",
            "Leave one out, or give it another name, as in wp.probe(..., name=...)",
        )


MOST, FEW = 16, 6
"""Names that an error lists; of more than `MOST`, the `FEW` nearest."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which names are allowed, the nearest ones first, and of many only those.

    >>> nearest("z_oot", ["z_in", "z_out"])
    "Did you mean 'z_out'? Use one of: z_out, z_in"
    >>> nearest("label", [])
    'Leave it out: there is none to choose from'
    >>> nearest("hoier", ["hoyer", *(f"l{i}" for i in range(40))])
    "Did you mean 'hoyer'? Use one of: hoyer, and 40 more"
    """
    names = list(dict.fromkeys(allowed))
    if not names:
        return "Leave it out: there is none to choose from"
    close = near(name, names)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    listed = [*close, *(each for each in names if each not in close)]
    if len(names) > MOST:
        listed = close[:FEW] or names[:FEW]
        listed = [*listed, f"and {len(names) - len(listed)} more"]
    return f"{hint}Use one of: {', '.join(listed)}"


def near(name: str, allowed: Iterable[str]) -> list[str]:
    """The names that one may stand for, the nearest first: alike, or with it at their beginning.

    >>> near("Crate", ["vit", "crate-small", "crate-base"]), near("???", ["vit"])
    (['crate-base', 'crate-small'], [])
    """
    names = {each.lower(): each for each in reversed(list(allowed))}
    typed = str(name).lower()  # of what a caller passed for a name
    close = difflib.get_close_matches(typed, names, n=MOST)
    close += [each for each in sorted(names) if typed and each.startswith(typed)]
    return [names[each] for each in dict.fromkeys(close)]
