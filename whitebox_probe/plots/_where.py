"""The keywords that pick one of several measurements, of figures of what is in the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_TOLD: dict[str, Callable[[Any], str]] = {
    "basis": lambda name: f"$U$: {_plain(name)}",
    "convention": lambda name: f"{name} convention",
    "prenorm": lambda after: "after norms" if after else "before norms",
    "class_token": lambda kept: "with the class token" if kept else "without the class token",
    "eps": lambda value: rf"$\epsilon={value:g}$",
    "lam": lambda value: rf"$\lambda={value:g}$",
    "null": lambda name: f"null: {_plain(name)}",
}


def _plain(name: str) -> str:
    """A name in a text in which `$...$` is mathematics."""
    return name.replace("$", r"\$")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Keywords that pick what is drawn, where a result holds it with several settings.

    Args:
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        prenorm: which one, if it was taken after norms and without.
        class_token: which one, if it was taken with the class token and without.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
    """

    basis: str | None = None
    convention: str | None = None
    prenorm: bool | None = None
    class_token: bool | None = None
    eps: float | None = None
    lam: float | None = None
    null: str | None = None

    @property
    def where(self) -> dict[str, Any]:
        """What picks the rows, besides the site."""
        asked = {name: getattr(self, name) for name in Where.__dataclass_fields__}
        return {name: value for name, value in asked.items() if value is not None}

    def above(self, title: str | None, *, besides: Sequence[str] = ()) -> str | None:
        """A figure's title: what was picked, where none was given and its labels do not say it.

        Args: besides: settings that its labels do say.
        """
        if title is not None:
            return title
        asked = {name: value for name, value in self.where.items() if name not in besides}
        return ", ".join(_TOLD[name](value) for name, value in asked.items()) or None
