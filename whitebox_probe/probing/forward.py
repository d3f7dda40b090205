"""Running a model: on its device, in evaluation mode, and as it was found afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from whitebox_probe._core import onednn
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe._core.hashing import seed_of
from whitebox_probe.data.images import Transform, image_transform
from whitebox_probe.data.source import Batch
from whitebox_probe.data.text import TextReader
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.probing.padding import arguments


def transform_of(
    preprocess: Preprocess | TextPreprocess | None,
) -> Transform | TextReader | None:
    """What makes a model's input of an image or a text, if it is known."""
    if preprocess is None:
        return None
    if isinstance(preprocess, TextPreprocess):
        return TextReader(preprocess.tokenizer, preprocess.length)
    return image_transform(
        size=preprocess.size,
        mean=preprocess.mean,
        std=preprocess.std,
        mode=preprocess.mode,
        crop=preprocess.crop,
        interpolation=preprocess.interpolation,
        crop_mode=preprocess.crop_mode,
    )


@contextmanager
def ready(model: ProbeModel, device: str | torch.device | None) -> Iterator[torch.device]:
    """The model in evaluation mode on the device; each part in its own mode again afterwards."""
    before = model.device
    try:
        where = before if device is None else torch.device(device)
        if where.type == "mps":
            raise RuntimeError("measures are taken in float64, which it does not have")
        model.module.to(where)
    except (RuntimeError, AssertionError) as error:
        raise ProbeError(
            f"device '{device}' cannot be used", str(error).splitlines()[0], "Use device='cpu'"
        ) from error
    modes = [(part, part.training) for part in model.module.modules()]
    model.module.eval()
    try:
        yield where
    finally:
        for part, training in modes:
            part.training = training
        model.module.to(before)


def run_batch(
    model: ProbeModel,
    batch: Batch,
    device: torch.device,
    sites: Sequence[str],
    *,
    fast: bool = True,
    seed: int = 0,
) -> bool:
    """One forward pass of a batch, told of its padding; arguments as for `run_model`.

    Args: seed: of what the model draws, with the number of the first sample: a pass is repeatable,
        and leaves the caller's random numbers as they were.
    Returns: whether the model drew random numbers.
    """
    inputs = batch.inputs.to(device, non_blocking=True)
    more = arguments(model, inputs, batch.mask, sites)
    where = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=where):
        torch.manual_seed(seed_of(seed, int(batch.ids[0])))
        before = _random_state(device)
        run_model(model, inputs, fast=fast, more=more)
        return not all(map(torch.equal, before, _random_state(device)))


def _random_state(device: torch.device) -> list[Tensor]:
    found = [torch.get_rng_state()]
    return found + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def run_model(
    model: ProbeModel,
    batch: Tensor,
    *,
    fast: bool = True,
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """One forward pass; an input that does not fit the model is the user's error.

    Args: fast: run linear maps on the CPU through oneDNN. more: what the model is given beside.
    """
    try:
        with onednn.routed(model.module) if fast else nullcontext():
            model.module(batch, **(more or {}))
    except torch.OutOfMemoryError as error:
        raise DataError(
            f"{model.name} has no memory for a batch of shape {tuple(batch.shape)}",
            str(error).splitlines()[0],
            "Use a smaller batch_size",
        ) from error
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise DataError(
            f"{model.name} cannot take an input of shape {tuple(batch.shape)}",
            str(error).splitlines()[0],
            "Prepare the data as model.preprocess says",
        ) from error
