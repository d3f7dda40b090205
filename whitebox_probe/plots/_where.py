"""The keywords that pick one of several measurements, of figures of what is in the table."""

from dataclasses import dataclass
from typing import Any


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
