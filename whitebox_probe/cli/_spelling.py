"""Errors of the Python functions as a command tells them: arguments spelled as its options."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from whitebox_probe._core.errors import CheckpointError, ProbeError, SettingError

_ALIASES = {"normalise": "per_token", "null": "with_null"}
"""Arguments of the functions whose option has another name."""
_OF_NETWORKS = frozenset(
    {
        *("layers", "dim", "heads", "dim_head", "channels", "image_size", "num_classes"),
        *("lam", "eta", "atoms", "mask_ratio", "interpolate_positions"),
    }
)
"""Arguments that --set gives to a network; of a checkpoint also where an option has the name."""
_VALUE = r"(?:'(?P<text>[^']*)'|\((?P<row>[^()]*)\)|\[(?P<list>[^][]*)\]|(?P<truth>True|False)\b)?"
_ARGUMENT = re.compile(rf"(?<!--set )(?<!--option )\b(?P<name>[a-z_]+)={_VALUE}(?!\{{)")
_CALL = re.compile(r"\bwp\.[a-z]+\(\.\.\., ([^()]*)\)")
_OTHER_CALL = re.compile(r"[\w.]\([^()]*\)")


def _none(name: str) -> bool:
    return False


@dataclass(frozen=True)
class Options:
    """How a command spells arguments of the Python functions.

    Attributes:
        flags: argument -> its option. bare: those whose option takes no value. off: those of which
            the option says False.
        rest: the option of KEY=VALUE, for arguments with none of their own; "" for none. takes:
            whether one may be given with it.
    """

    flags: Mapping[str, str] = field(default_factory=dict)
    bare: frozenset[str] = frozenset()
    off: frozenset[str] = frozenset()
    rest: str = ""
    takes: Callable[[str], bool] = _none


def options_of(parser: argparse.ArgumentParser, keywords: Callable[[str], bool]) -> Options:
    """The options of a command.

    Args: keywords: whether a name is one that its --option takes.
    """
    actions = [action for action in parser._actions if action.option_strings]
    flags = {action.dest: action.option_strings[0] for action in actions}
    bare = {action.dest for action in actions if action.nargs == 0}
    flags |= {name: flags[dest] for name, dest in _ALIASES.items() if dest in flags}
    bare |= {name for name, dest in _ALIASES.items() if dest in bare}
    off = {action.dest for action in actions if action.const is False}
    off |= {name for name, dest in _ALIASES.items() if dest in off}
    by_key = next((flag for flag in ("--set", "--option") if flag in flags.values()), "")
    return Options(flags, frozenset(bare), frozenset(off), by_key, keywords)


def as_options(error: ProbeError, options: Options) -> ProbeError:
    """The error with arguments of the Python functions spelled as a command's options.

    >>> given = Options({"arch": "--arch", "size": "--size"}, rest="--set")
    >>> str(as_options(ProbeError("no", "it is", "Pass arch='crate_small'"), given))
    'no: it is. Pass --arch crate_small.'
    >>> str(as_options(CheckpointError("no", "it is", "Pass size=(6.8, 3), or heads="), given))
    'no: it is. Pass --size 6.8,3, or --set heads=.'
    """
    of_checkpoint = isinstance(error, CheckpointError)

    def one(match: re.Match[str]) -> str:
        name = match["name"]
        of_network = options.rest == "--set" and name in _OF_NETWORKS
        if of_network and (of_checkpoint or name not in options.flags):
            return f"--set {name}={_json(match)}"
        if name in options.flags:
            return _flag(match, options)
        if options.rest == "--option" and options.takes(name):
            return f"--option {name}={_json(match)}"
        return match[0]

    def spelled(text: str) -> str:
        text = _CALL.sub(lambda whole: _call(whole, options), text)
        text = _OTHER_CALL.sub(lambda whole: whole[0].replace("=", "\0"), text)
        return _ARGUMENT.sub(one, text).replace("\0", "=")

    what = error.what
    if (begins := _ARGUMENT.match(what)) and begins["name"] in options.flags:
        what = _flag(begins, options) + what[begins.end() :]
    elif isinstance(error, SettingError) and error.setting in options.flags:
        flag = options.flags[error.setting]
        what = re.sub(rf"(?<![\w-]){re.escape(error.setting)}", flag, what, count=1)
    return ProbeError(what, spelled(error.why), spelled(error.fix))


def _call(match: re.Match[str], options: Options) -> str:
    """A call's keywords, where all of them are options: half of them would be neither."""
    given = re.findall(r"\b([a-z_]+)=", match[1])
    if not given or any(name not in options.flags for name in given):
        return match[0].replace("=", "\0")
    return re.sub(r"=(True|\.\.\.)", "=", match[1])


def _flag(match: re.Match[str], options: Options) -> str:
    """An option with its value, as it is typed."""
    flag = options.flags[match["name"]]
    if match["name"] in options.bare:
        contrary = match["truth"] == ("True" if match["name"] in options.off else "False")
        return f"no {flag}" if contrary else flag
    row = match["row"] or match["list"]
    value = match["text"] or (row and re.sub(r"'|,$|\s", "", row)) or match["truth"]
    behind = match.string[match.end() : match.end() + 1]
    return f"{flag} {value}" if value else f"{flag} " if behind.isalnum() else flag


def _json(match: re.Match[str]) -> str:
    """A value as KEY=VALUE takes it."""
    row = match["row"] or match["list"]
    return match["text"] or (f"[{row}]" if row else (match["truth"] or "").lower())
