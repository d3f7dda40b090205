"""What a model would show without any training: draws of random weights, each measured alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import torch
from torch import nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.gate import named
from whitebox_probe._core.hashing import seed_of
from whitebox_probe._core.lines import shown
from whitebox_probe.models.load import load_random
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.offloaded import is_offloaded
from whitebox_probe.models.wrap import wrap
from whitebox_probe.probing.copying import copied, without
from whitebox_probe.results.result import Result

Untrained = Callable[[int], ProbeModel | nn.Module]

DRAWS = 20
SAMPLES = 16
"""On which draws are measured: there are many of them, and their own spread is what counts."""
_FEW = 4  # so few values may come to lie as they were
INITIAL, PERMUTED = "random weights", "permuted weights"
UNTRAINED = "untrained networks"


def null_kinds(model: ProbeModel, *, given: bool = False) -> tuple[str, ...]:
    """What stands for a model without training; nothing where nothing can.

    A loaded model is built anew with random weights. Of it, and of a wrapped module of a family,
    the entries of each tensor change places as well: of weights that were never trained that is
    another such draw, whatever they were drawn from. Weights of a module mapped by its paths may be
    no weights of layers at all: `untrained` of `audit` draws for them.

    Args: given: whether the caller draws.
    """
    if given:
        return (UNTRAINED,)
    if model.entry is not None:
        return (INITIAL, PERMUTED)
    return (PERMUTED,) if model.family is not None else ()


def identity(model: ProbeModel) -> str | None:
    """What draws of random weights depend on besides their seed; None where it is the weights."""
    if model.entry is None:
        return None
    reads = None if model.preprocess is None else model.preprocess.told()
    return repr((model.entry.family, sorted(model.entry.arch.items()), reads))


def draws(
    model: ProbeModel, kind: str, count: int, *, seed: int, untrained: Untrained | None = None
) -> Iterator[ProbeModel]:
    """So many models without training, one at a time."""
    for number in range(count):
        own = seed_of(seed, "audit", number) % 2**31
        if kind == UNTRAINED:
            assert untrained is not None
            made = untrained(own)
            yield made if isinstance(made, ProbeModel) else wrap(made)
        elif kind == INITIAL:
            yield load_random(model, seed=own)
        else:
            yield _permuted(model, own)


def measured(
    model: ProbeModel,
    kind: str,
    draw: ProbeModel,
    measure: Callable[[ProbeModel], Result],
    *,
    follow: bool = True,
) -> Result:
    """What is measured of a draw.

    Args: follow: what a pass computes with, which is the same in each draw.
    Raises: ProbeError where permuted weights are not all that it computes with.
    """
    if kind != PERMUTED:
        return measure(draw)
    if follow:
        _expect_other_subspaces(model, draw)
    with without(model.module, model.name, draw.module if follow else None):
        return measure(draw)


def _expect_other_subspaces(model: ProbeModel, draw: ProbeModel) -> None:
    """Check that a draw's subspaces are not the model's own, whatever keeps what they are read of.

    Raises: ProbeError.
    """
    for layer, basis in product(range(1, model.layers + 1), model.bases):
        own, drawn = (each.subspaces(layer, basis) for each in (model, draw))
        if len(own.unique()) > _FEW and torch.equal(own, drawn):
            raise ProbeError(
                f"the weights of {model.name} cannot all be permuted",
                f"the subspaces of layer {layer} stay as they are, and what they are read of is no "
                "parameter (packed weights, say)",
                "Make it a parameter, or give models without training (untrained=), or measure no "
                "null (null=False)",
            )


@contextmanager
def _told(model: ProbeModel, why: str) -> Iterator[None]:
    """What becomes of an error of whatever a module holds."""
    try:
        yield
    except Exception as error:
        raise ProbeError(
            f"the weights of {model.name} cannot be permuted",
            f"{why} ({named(error)})",
            "Give models without training (untrained=), or measure no null (null=False)",
        ) from error


def _permuted(model: ProbeModel, seed: int) -> ProbeModel:
    """The same module with the entries of each of its parameters in another order."""
    if is_offloaded(model.module):
        raise ProbeError(
            f"the weights of {model.name} cannot be permuted",
            "they are offloaded, and brought for each pass",
            "Load it whole, or give models without training (untrained=)",
        )
    random = torch.Generator().manual_seed(seed)
    with _told(model, "it cannot be copied"):  # a lock, a file, a sparse buffer
        module = copied(model.module)
    for name, parameter in module.named_parameters():
        with _told(model, f"'{shown(name)}' takes no other order"), torch.no_grad():
            order = torch.randperm(parameter.numel(), generator=random).to(parameter.device)
            flat = parameter.detach().reshape(-1)[order]
            parameter.copy_(flat.view_as(parameter))
    return replace(model, module=module, name=f"{model.name} permuted")
