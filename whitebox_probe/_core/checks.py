"""Checks of tensors that come from the user."""

from torch import Tensor

from whitebox_probe._core.errors import NonFiniteError, ShapeError


def expect_shape(tensor: Tensor, grammar: str, *, name: str) -> None:
    """Check that a tensor has the dimensions that a grammar names, such as "B n d".

    Raises: ShapeError that shows both shapes.

    >>> import torch
    >>> expect_shape(torch.zeros(2, 5, 3), "B n d", name="Z")
    """
    letters = grammar.split()
    if tensor.ndim != len(letters) or 0 in tensor.shape[-2:]:
        raise ShapeError(
            f"{name} has shape {tuple(tensor.shape)}",
            f"shape ({', '.join(letters)}) is needed, with at least one token",
            "Add the batch dimension with unsqueeze(0) if it is one sample",
        )


def expect_finite(values: Tensor, *, name: str) -> Tensor:
    """Give the values back if each is finite.

    Raises: NonFiniteError that names the first sample that is not.
    """
    finite = values.isfinite()
    if not finite.all():
        rows = (~finite.flatten(1).all(dim=1)).nonzero()[:, 0] if values.ndim > 1 else None
        bad = ((~finite).nonzero()[:, 0] if rows is None else rows).tolist()
        raise NonFiniteError(
            f"{name} is not finite for {len(bad)} of {len(values)} samples",
            f"the tokens of sample {bad[0]} hold NaN or infinity, or overflow",
            "Check the weights and the input of that sample",
        )
    return values
