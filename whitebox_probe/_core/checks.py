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
    sizes = dict(zip(letters, tensor.shape, strict=False))
    agree = [sizes.get(letter) for letter in letters] == list(tensor.shape)
    # There may be no sample, but each has something.
    if not agree or 0 in tensor.shape[min(1, len(letters) - 2) :]:
        raise ShapeError(
            f"{name} has shape {tuple(tensor.shape)}",
            f"shape ({', '.join(letters)}) is needed, with at least one token",
            "Add the batch dimension with unsqueeze(0) if it is one sample",
        )


def expect_alike(tensor: Tensor, tokens: Tensor, *, name: str) -> None:
    """Check that a tensor has the shape of the tokens that it belongs to.

    Raises: ShapeError that shows both shapes.
    """
    if tensor.shape != tokens.shape:
        raise ShapeError(
            f"{name} has shape {tuple(tensor.shape)}",
            f"the tokens have shape {tuple(tokens.shape)}",
            "Pass one row for each token",
        )


def expect_basis(Z: Tensor, U: Tensor) -> None:
    """Check that subspaces U, (K, d, p), are of tokens Z, (..., d).

    Raises: ShapeError that shows both shapes.
    """
    if U.ndim != 3 or U.shape[1] != Z.shape[-1] or 0 in U.shape:
        raise ShapeError(
            f"U has shape {tuple(U.shape)}",
            f"tokens of shape {tuple(Z.shape)} need (K, {Z.shape[-1]}, p)",
            "Pass one basis a head, as model.subspaces(layer) gives them",
        )


def expect_finite(values: Tensor, *, name: str, undefined: Tensor | None = None) -> Tensor:
    """Give the values back if each is finite.

    Args: undefined: which samples have no value, (B,), though their tokens are finite: NaN of
        theirs is no fault.
    Raises: NonFiniteError that names the first sample that is not.
    """
    finite = values.isfinite() if undefined is None else values.isfinite() | undefined
    if not finite.all():
        rows = (~finite.flatten(1).all(dim=1)).nonzero()[:, 0] if values.ndim > 1 else None
        bad = ((~finite).nonzero()[:, 0] if rows is None else rows).tolist()
        raise NonFiniteError(
            f"{name} is not finite for {len(bad)} of {len(values)} samples",
            f"the tokens of sample {bad[0]} hold NaN or infinity, or overflow",
            "Check the weights and the input of that sample",
        )
    return values


def heads_not_finite(U: Tensor) -> list[int]:
    """Which heads' subspaces, of (K, d, p), hold NaN or infinity."""
    found: list[int] = (~U.flatten(1).isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    return found


def expect_finite_heads(U: Tensor) -> None:
    """Check that the subspaces of all heads, (K, d, p), are finite.

    Raises: NonFiniteError that names the first one that is not.
    """
    if bad := heads_not_finite(U):
        raise NonFiniteError(
            f"U is not finite for {len(bad)} of {len(U)} heads",
            f"U[{bad[0]}] holds NaN or infinity",
            "Check the weights that it is read from: the training may have diverged",
        )
