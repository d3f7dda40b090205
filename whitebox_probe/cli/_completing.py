"""What a shell may put in the place of an argument: names that the package knows, and files.

Options say which names they take where they are added; the names are looked up when a script is
made, so that nothing slow is imported for any other command.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from whitebox_probe.cli import _shared

_PLAIN = re.compile(r"[\w.:@+-]+", re.ASCII)  # another name would have to be quoted in each shell
MARK = "completed_by"
"""The attribute of an argument that holds its `Names`."""


@dataclass(frozen=True)
class Names:
    """What an argument takes.

    Attributes: kinds: of names, as `KINDS` has them. files: whether it may be a file instead.
        several: whether it is a list with commas.
    """

    kinds: tuple[str, ...]
    files: bool = False
    several: bool = False

    @property
    def function(self) -> str:
        """What a script calls it."""
        ending = ("_or_file" if self.files else "") + ("_list" if self.several else "")
        return f"_whitebox_probe_{'_'.join(self.kinds)}{ending}"


def by(
    action: argparse.Action, *kinds: str, files: bool = False, several: bool = False
) -> argparse.Action:
    """Mark an argument as one that takes these names."""
    setattr(action, MARK, Names(kinds, files, several))
    return action


def prepare(parser: argparse.ArgumentParser) -> None:
    """Give every argument of a parser and its commands what `shtab` reads.

    Raises: KeyError for a kind of names that there is not, which is a fault of ours.
    """
    for action in _actions(parser):
        names = getattr(action, MARK, None)
        if isinstance(names, Names):
            words = [word for kind in names.kinds for word in KINDS[kind]()]
            setattr(action, "complete", _spoken(names, words))  # noqa: B010 - shtab's own name
        elif action.type in (_shared.path, _shared.place):
            from shtab import DIRECTORY, FILE

            folder = "DIR" in str(action.metavar)
            setattr(action, "complete", DIRECTORY if folder else FILE)  # noqa: B010


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)


def _spoken(names: Names, words: Iterable[str]) -> dict[str, Any]:
    """The words in each shell's own terms, as shtab takes them."""
    said = " ".join(filter(_PLAIN.fullmatch, words))
    if names.several:
        of_bash = [
            'local done=""; [[ "$1" == *,* ]] && done="${1%,*},"',
            f"""compgen -P "$done" -W '{said}' -- "${{1##*,}}\"""",
        ]
    else:
        of_bash = [f"""compgen -W '{said}' -- "$1\""""]
    of_bash += ['compgen -f -- "$1"'] * names.files
    of_zsh = [f"_sequence compadd - {said}" if names.several else f"compadd -- {said}"]
    of_zsh += ["_files"] * names.files
    body = {"bash": of_bash, "zsh": of_zsh}
    scripts = {
        shell: "\n".join([f"{names.function}() {{", *(f"  {line}" for line in lines), "}"])
        for shell, lines in body.items()
    }
    calls = {"bash": names.function, "zsh": names.function, "tcsh": f"({said})"}
    return calls | {"preamble": scripts}


def _checkpoints() -> list[str]:
    from whitebox_probe.checkpoints import registry

    return list(registry())


def _architectures() -> list[str]:
    from whitebox_probe.checkpoints import architectures

    return list(architectures())


def _metrics() -> list[str]:
    from whitebox_probe.metrics.catalogue import catalogue

    return list(catalogue())


def _data() -> list[str]:
    from whitebox_probe.data.names import names

    return list(names())


def _figures() -> list[str]:
    from whitebox_probe import plots

    return list(plots.figures)


def _mappings() -> list[str]:
    from whitebox_probe.models.named import shipped

    return list(shipped())


def _sites() -> list[str]:
    from whitebox_probe.sites import SITES

    return list(SITES)


def _claims() -> list[str]:
    from whitebox_probe.auditing.claim import claims

    return ["all", *claims()]


def _nulls() -> list[str]:
    from whitebox_probe.probing.null import for_probe

    return [kind or "none" for kind in for_probe()]


def _bases() -> list[str]:
    return ["native", "qkv:q", "qkv:k", "qkv:v", "qk", "pca", "pca:clusters", "random"]


def _conventions() -> list[str]:
    from whitebox_probe.probing.settings import CONVENTIONS

    return list(CONVENTIONS)


KINDS: dict[str, Callable[[], list[str]]] = {
    "checkpoints": _checkpoints,
    "architectures": _architectures,
    "metrics": _metrics,
    "data": _data,
    "figures": _figures,
    "mappings": _mappings,
    "sites": _sites,
    "claims": _claims,
    "null": _nulls,
    "basis": _bases,
    "convention": _conventions,
}
