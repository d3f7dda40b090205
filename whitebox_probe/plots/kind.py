"""What a figure says of itself, so that nothing else needs a list of figures.

    @figure(takes="results", matrices=("coherence",))
    def coherence(*results: Result, axes=None, ...) -> "Figure": ...

A file of this folder, or an entry point of the group `whitebox_probe.figures`, gives a figure by
decorating a function so. The command line finds by it what it can draw of saved results.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.process import ONE_AT_A_TIME, as_found
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.plots import _provenance
from whitebox_probe.plots._keywords import checked
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Kind", "figure", "kind_of"]

Takes = Literal["results", "similarity", "audit", "images", "view", "scores"]
Draw = Callable[..., "Figure"]
# A figure of one thing -> the class of that thing, and what makes it.
_ONE: Mapping[str, tuple[type, str]] = {
    "similarity": (Similarity, "wp.similarity"),
    "audit": (Audit, "wp.audit"),
    "view": (View, "wp.view"),
    "scores": (pd.DataFrame, "wp.segmentation"),
}


@dataclass(frozen=True)
class Kind:
    """What a figure is drawn of.

    Attributes:
        takes: `results` (any number of them), or one `similarity`, `audit`, `view`, table of
            `scores`, or batch of `images`.
        rows: the measures of the table that are its own.
        group: it draws every measure of this group, named with `metric=`.
        matrices: the matrices that it draws.
        exempt: a contract of tests/contract/test_every_plot.py -> why it does not apply.
    """

    takes: Takes
    rows: tuple[str, ...] = ()
    group: str = ""
    matrices: tuple[str, ...] = ()
    exempt: Mapping[str, str] = field(default_factory=dict)


def figure(
    *,
    takes: Takes,
    rows: tuple[str, ...] = (),
    group: str = "",
    matrices: tuple[str, ...] = (),
    exempt: Mapping[str, str] | None = None,
    options: type | None = None,
) -> Callable[[Draw], Draw]:
    """Make a function a figure: it says what it is, and its keywords are held to their annotations.

    Args: options: a dataclass whose fields are further keywords: the signature shows them, and the
        docstring what its own says under `Args:`. The others are as in `Kind`.
    """
    kind = Kind(takes, rows, group, matrices, exempt or {})

    def made(draw: Draw) -> Draw:
        signature = _signature(draw, options)

        @functools.wraps(draw)
        def drawn(*args: Any, **named: Any) -> "Figure":
            named = checked(draw.__name__, signature, named, draw.__globals__)
            _expect_one(draw.__name__, takes, signature, args, named)
            _choose_backend()
            with ONE_AT_A_TIME, as_found():  # settings of figures are of the whole process
                made = draw(*args, **named)
            _provenance.note(made, draw.__name__, args, named)
            return made

        drawn.__doc__ = _doc(draw, options)
        vars(drawn).update(kind=kind, __signature__=signature)
        return drawn

    return made


def _choose_backend() -> None:
    """Let pyplot settle on its backend first, where it is in use: that changes settings for good.

    In a block that puts settings back, a notebook would lose what makes it show figures.
    """
    plt = sys.modules.get("matplotlib.pyplot")
    if plt is not None:
        plt.draw_if_interactive()  # loads it; what is open is as it was


def kind_of(thing: object) -> Kind | None:
    """What a figure says of itself; None for what is none."""
    found = getattr(thing, "kind", None)
    return found if callable(thing) and isinstance(found, Kind) else None


def _signature(draw: Draw, options: type | None) -> inspect.Signature:
    """A function's own parameters, and each option in place of `**options`."""
    found = inspect.signature(draw)
    own = [p for p in found.parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = inspect.signature(options).parameters.values() if options else ()
    named = [p.replace(kind=p.KEYWORD_ONLY) for p in more]
    return found.replace(parameters=[*own, *named])


def _doc(draw: Draw, options: type | None) -> str:
    """A function's docstring, and what that of its options says of each."""
    doc = inspect.getdoc(draw) or ""
    if options is None:
        return doc
    each = [inspect.cleandoc(vars(of).get("__doc__") or "") for of in reversed(options.__mro__)]
    told = "\n".join(filter(None, (text.partition("Args:\n")[2] for text in each)))
    head, raises, tail = doc.partition("\n\nRaises:")
    args = "" if "Args:" in head else "\n\nArgs:"
    return f"{head}{args}\n{told}{raises}{tail}"


def _expect_one(
    name: str,
    takes: Takes,
    signature: inspect.Signature,
    args: Sequence[Any],
    named: Mapping[str, Any],
) -> None:
    """Check that a figure of one thing is given that thing; those of results see to theirs.

    Raises: ProbeError.
    """
    if takes not in _ONE:
        return
    what, maker = _ONE[takes]
    try:
        given = next(iter(signature.bind(*args, **named).arguments.values()))
    except TypeError as error:
        raise ProbeError(
            f"the figure '{name}' takes one {what.__name__}",
            str(error),
            f"Pass what {maker} gave",
        ) from error
    if not isinstance(given, what):
        raise ProbeError(
            f"a {type(given).__name__} cannot be drawn",
            f"the figure '{name}' is of one {what.__name__}",
            f"Pass what {maker} gave",
        )
