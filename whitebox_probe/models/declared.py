"""What a mapping declares of a layer's steps: its dictionary D, lam and eta.

Each is a number, a path with `{layer}` (of D perhaps `:T` behind it: the tensor is transposed), or
a function of (module, layer).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import ShapeError, SiteError, nearest
from whitebox_probe.models.paths import found_at, nearest_paths

Operator = float | str | Callable[[nn.Module, int], Tensor | float]
NAMES = ("D", "lam", "eta")
TRANSPOSED = "T"


class Operators:
    """The operators of a mapping, read of a module layer by layer."""

    def __init__(
        self,
        given: Mapping[str, Operator] | None,
        at: Callable[[str, int], str],
    ) -> None:
        """Args: at: a path with the layer's number put in."""
        if given is not None and not isinstance(given, Mapping):
            raise SiteError(
                f"operators is a {type(given).__name__}",
                "it says of each operator where it is",
                "Pass a mapping, such as {'D': 'path.of.{layer}.weight', 'lam': 0.1, 'eta': 0.1}",
            )
        self._given = dict(given or {})
        self._at = at
        for name in self._given:
            if name not in NAMES:
                raise SiteError(
                    f"'{name}' is no operator", "a step is made of others", nearest(name, NAMES)
                )

    def of(self, module: nn.Module, layer: int, dim: int) -> dict[str, Tensor | float]:
        """Those of a layer, D checked against the width of the tokens.

        Raises: SiteError for a path that is not there; ShapeError for what has another shape.
        """
        return {name: self._one(name, module, layer, dim) for name in self._given}

    def _one(self, name: str, module: nn.Module, layer: int, dim: int) -> Tensor | float:
        given = self._given[name]
        found = self._called(name, given, module, layer) if callable(given) else given
        if isinstance(found, str):
            path, _, turned = found.partition(":")
            found = self._tensor(name, module, self._at(path, layer))
            if turned not in ("", TRANSPOSED):
                raise SiteError(
                    f"the operator {name} has the layout '{turned}'",
                    "it is taken as it is, or transposed",
                    f"Write '{path}' or '{path}:{TRANSPOSED}'",
                )
            found = found.mT if turned else found
        if name != "D":
            return _number(name, layer, found)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[0] != dim:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(
                f"the operator D of layer {layer} is {shape}",
                f"(d, h) with d = {dim} is needed: codes of h atoms become tokens as A D^T",
                f"Transpose it with ':{TRANSPOSED}' behind its path, or name another tensor",
            )
        if not bool(torch.isfinite(found).all()):
            raise ShapeError(
                f"the operator D of layer {layer} holds values that are not finite",
                "a step cannot be made of it",
                "Mend the tensor, or name another one",
            )
        return found.detach()

    @staticmethod
    def _called(
        name: str, given: Callable[[nn.Module, int], Any], module: nn.Module, layer: int
    ) -> Any:
        try:
            return given(module, layer)
        except Exception as error:
            raise SiteError(
                f"the function of the operator {name} failed at layer {layer}",
                f"{type(error).__name__}: {error}",
                "It is called with the module and the layer's number, from 1",
            ) from error

    @staticmethod
    def _tensor(name: str, module: nn.Module, path: str) -> Tensor:
        found = found_at(module, path)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return torch.tensor(float(found))
        if not isinstance(found, Tensor):
            known = [each for each, _ in module.named_parameters()]
            raise SiteError(
                f"the operator {name} names '{path}', which is not in the module",
                f"a {type(module).__name__} has no such tensor or number",
                nearest_paths(path, known),
            )
        return found


def _number(name: str, layer: int, found: Tensor | float) -> float:
    """The value of an operator that is a number.

    Raises: ShapeError for what is none, or not above 0.
    """
    found = found.detach() if isinstance(found, Tensor) else found
    single = found.numel() == 1 if isinstance(found, Tensor) else isinstance(found, int | float)
    value = float(found) if single else math.nan
    if not 0 < value < math.inf:
        raise ShapeError(
            f"the operator {name} of layer {layer} is {found if single else 'no single number'}",
            "it is a positive number",
            "Pass one, a path to it, or a function of (module, layer)",
        )
    return value
