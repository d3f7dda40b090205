"""Running a model: on its device, in evaluation mode, and as it was found afterwards."""

import inspect
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core import onednn
from whitebox_probe._core.errors import DataError, InternalError, ProbeError, SiteError
from whitebox_probe._core.gate import MEND_MODEL, may_be_of_input, named, reason, said
from whitebox_probe._core.hashing import seed_of
from whitebox_probe._core.memory import is_lack
from whitebox_probe._core.process import callers_device
from whitebox_probe._core.randomness import Draws, seeded
from whitebox_probe.checkpoints import listed
from whitebox_probe.data._prepared import transform_of as transform_of
from whitebox_probe.data.source import Batch, Source, open_data
from whitebox_probe.models.guest import evaluated, held_alone, renew, unchanged
from whitebox_probe.models.hooks import Sink, attach
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.offloaded import is_offloaded, without_weights
from whitebox_probe.models.preprocess import TextPreprocess
from whitebox_probe.models.verify import expect_finite_weights, verified_again
from whitebox_probe.models.weights import devices_of
from whitebox_probe.models.wrappers import is_compiled
from whitebox_probe.probing.groups import NOT_ONCE, expect_rows
from whitebox_probe.probing.padding import arguments, mask_name
from whitebox_probe.probing.precision import full_float32
from whitebox_probe.probing.provenance import passed
from whitebox_probe.probing.unpadded import without_padding


def _taken_by(model: ProbeModel) -> dict[str, Any]:
    """What a model takes, as `open_data` is told of it."""
    module = model.module
    name = getattr(module, "main_input_name", None)
    if not isinstance(name, str):
        taken = inspect.signature(module.forward).parameters
        name = next(iter(taken), None)
    kinds = {p.dtype for p in module.parameters() if p.is_floating_point()}
    return {
        "input_name": name,
        "mask_name": mask_name(module),
        "sample_axes": model.anatomy.sample_axes,
        "dtype": next(iter(kinds)) if len(kinds) == 1 else None,
    }


def opened(model: ProbeModel, data: Any, **options: Any) -> Source:
    """Data as a model takes them; options as for `open_data`."""
    taken = _taken_by(model)
    found = open_data(data, transform=transform_of(model.preprocess), **taken, **options)
    return without_padding(model, found)


@contextmanager
def ready(model: ProbeModel, device: str | torch.device | None) -> Iterator[torch.device]:
    """The model in evaluation mode on the device, float32 in full, without gradients.

    All is as it was found afterwards.

    It is tried again first where weights or hooks are others than when it was wrapped. Autocast of
    the caller's is off: a pass sets its own.
    """
    _expect_loaded(model)
    with ExitStack() as stack:
        stack.enter_context(held_alone(model.module))
        expect_finite_weights(model)
        verified_again(model)
        stack.enter_context(evaluated(model.module))
        renew(model.module)
        stack.enter_context(unchanged(model.module))
        where = stack.enter_context(_moved(model, device))
        for kind in {"cpu", where.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(full_float32())
        yield where


@contextmanager
def _moved(model: ProbeModel, device: str | torch.device | None) -> Iterator[torch.device]:
    """The model on a device, and back on its own afterwards.

    Raises: ProbeError where it cannot be there.
    """
    before = model.device
    spread = len(devices_of(model.module)) > 1 or is_offloaded(model.module)
    if spread and device is not None:
        raise ProbeError(
            f"device '{device}' cannot be used",
            f"{model.name} is spread over several or offloaded, and stays where it is",
            "Leave device out",
        )
    try:
        where = before if device is None else torch.device(device)
        if where.type == "mps":
            raise RuntimeError("measures are taken in float64, which it does not have")
        if where.type == "meta":  # moving there would lose the weights
            raise RuntimeError("it holds shapes, and no numbers")
        if not spread:
            _move(model.module, where)
    except Exception as error:  # each kind of device has errors of its own
        _moved_one_by_one(model.module, before)  # a part of it may have been moved
        raise ProbeError(
            f"device '{device}' cannot be used", reason(error), "Use device='cpu'"
        ) from error
    try:
        yield where
    finally:
        if not spread:
            _move(model.module, before)


def _move(module: nn.Module, where: torch.device) -> None:
    """Move a module that is not there yet.

    torch's own move takes each weight's lock while it holds Python's, and another thread that
    builds a graph of that weight takes them in the other order: both wait for ever. What lies on
    meta has no numbers to move.
    """
    tensors = itertools.chain(module.parameters(), module.buffers())
    if any(each.device != where for each in tensors if not each.is_meta):
        module.to(where)


def _moved_one_by_one(module: nn.Module, where: torch.device) -> None:
    """The same after an error of torch's own move, which stops at what cannot be moved."""
    module._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(where))


def run_batch(
    model: ProbeModel,
    batch: Batch,
    device: torch.device,
    sites: Sequence[str],
    *,
    fast: bool = True,
    seed: int = 0,
) -> Draws:
    """One forward pass of a batch, told of its padding; arguments as for `run_model`.

    The model is given a copy of the inputs: it may write to them, and a loader's are the caller's.

    Args: seed: of what the model draws, with the number of the first sample: a pass is repeatable,
        and leaves the caller's random numbers as they were.
    Returns: what random numbers were drawn.
    """
    inputs = batch.inputs.to(device, non_blocking=True, copy=True)
    more = arguments(model, inputs, batch.mask, sites, batch.attended)
    with seeded(model.module, seed_of(seed, int(batch.ids[0])), device) as drew:
        run_model(model, inputs, fast=fast, more=more)
        return drew()


class Reader:
    """Hands on what sites hold, batch by batch: each passes once in a batch, with a row a sample.

    What the model's module runs for anybody else meanwhile is not read.

    Args: sink: called with (site, layer, tensor), as `attach` calls it.
    """

    def __init__(
        self, model: ProbeModel, sites: Sequence[str], layers: Sequence[int], sink: Sink
    ) -> None:
        self._model, self._sites, self._layers, self._sink = model, sites, layers, sink
        self._samples: int | None = None  # of the batch at hand
        self._passed: Counter[tuple[str, int]] = Counter()

    def attached(self) -> AbstractContextManager[None]:
        """Read the sites while the block runs."""
        return attach(self._model, self._sites, self._layers, self._take)

    def run(self, batch: Batch, device: torch.device, *, fast: bool = True, seed: int = 0) -> Draws:
        """One forward pass of a batch, as `run_batch` makes it.

        Raises: SiteError for a site that did not pass, or passed several times: what is held of it
            would be another batch's, or a part of what the layer does.
        """
        self._samples = len(batch.ids)
        self._passed.clear()
        try:
            drew = run_batch(self._model, batch, device, self._sites, fast=fast, seed=seed)
        finally:
            self._samples = None
        for layer in self._layers:
            for site in self._sites:
                if (times := self._passed[site, layer]) != 1:
                    raise SiteError(
                        f"'{site}' of layer {layer} passed {times} times in a batch, not once",
                        *NOT_ONCE,
                    )
        return drew

    def _take(self, site: str, layer: int, tensor: Tensor) -> None:
        if self._samples is None:
            return
        expect_rows(tensor, site, layer, self._samples)
        self._passed[site, layer] += 1
        self._sink(site, layer, tensor)


def _expect_loaded(model: ProbeModel) -> None:
    """Check that the weights are there.

    Raises: ProbeError.
    """
    absent = without_weights(model.module)
    if absent:
        raise ProbeError(
            f"{model.name} has no weights at {listed(absent)}",
            "they are on the meta device: the model was built without them, or a hook of another "
            "part brings them (offloaded with preload_module_classes)",
            "Load it whole, or with a device map by which each part has a hook of its own",
        )


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
        with callers_device(), onednn.routed(model.module) if fast else nullcontext():
            passed(model.module, batch, more or {})
    except (ProbeError, InternalError):
        raise
    except Exception as error:  # whatever the model's own code raises
        told = _no_memory if is_lack(error) else _fault if may_be_of_input(error) else _failed
        raise told(model, batch, error) from error


def _no_memory(model: ProbeModel, batch: Tensor, error: Exception) -> ProbeError:
    more = "Use smaller inputs, or a device with more memory"
    return DataError(
        f"{model.name} has no memory for a batch of shape {tuple(batch.shape)}",
        said(error) or "its device has no more to give",
        "Use a smaller batch_size or limit" if len(batch) > 1 else more,
    )


def _failed(model: ProbeModel, batch: Tensor, error: Exception) -> ProbeError:
    return ProbeError(
        f"the forward pass of {model.name} failed on an input of shape {tuple(batch.shape)}",
        f"it raised {named(error)}",
        MEND_MODEL,
    )


def _fault(model: ProbeModel, batch: Tensor, error: Exception) -> ProbeError:
    """What of a forward pass failed: the input where it can be shown to be, else the pass."""
    shape = tuple(batch.shape)
    what = f"{model.name} cannot take an input of shape {shape}"
    own = [p for p in model.module.parameters() if p.is_floating_point()]
    if batch.is_floating_point() and own and batch.dtype not in {p.dtype for p in own}:
        kinds = ", ".join(sorted({_word(p.dtype) for p in own}))
        return DataError(
            what,
            f"it is of {_word(batch.dtype)}, and the model's weights are of {kinds}",
            f"Convert the data, or the model (module.to({batch.dtype}))",
        )
    if not batch.is_floating_point() and batch.ndim == 2 and batch.numel():
        words, positions = _vocabulary(model.module), _positions(model.module)
        whole = batch.numpy(force=True)  # torch has no extremes of 64 bits unsigned
        low, high = int(whole.min()), int(whole.max())
        if words is not None and not 0 <= low <= high < words:
            return DataError(
                what,
                f"its ids go from {low} to {high}, and the model's vocabulary has {words}",
                "Use the tokenizer that the model was trained with",
            )
        if positions is not None and shape[1] > positions:
            return DataError(
                what,
                f"its windows have {shape[1]} tokens, and the model has {positions} positions",
                f"Use windows of at most {positions} tokens{_shorter(model, positions)}",
            )
    if is_compiled(model.module):
        return ProbeError(
            f"{model.name} is compiled, and cannot be read while it runs",
            f"hooks inside what is compiled are compiled with it ({reason(error)})",
            "Probe the module before it is compiled, or one that is not",
        )
    fix = "Call model.module on such an input: what fails there is no matter of probing"
    if model.preprocess is not None:
        fix = f"Prepare the data as model.preprocess says. {fix}"
    return DataError(what, f"its forward pass raised {named(error)}", fix)


def _shorter(model: ProbeModel, positions: int) -> str:
    """How a model that names its tokenizer is given shorter windows."""
    if not isinstance(model.preprocess, TextPreprocess):
        return ""
    return f" (preprocess='text:{model.preprocess.tokenizer}@{positions}')"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _vocabulary(module: nn.Module) -> int | None:
    """How many ids a model of text knows: the rows of its first table that is of no positions."""
    tables = _tables(module)
    return next((t.num_embeddings for name, t in tables if not _of_positions(name)), None)


def _positions(module: nn.Module) -> int | None:
    """How many tokens a window may have, where positions are a table of their own."""
    for name, table in _tables(module):
        if _of_positions(name):
            # RoBERTa counts positions from behind the padding's own row.
            first = 0 if table.padding_idx is None else table.padding_idx + 1
            return table.num_embeddings - first
    return None


def _tables(module: nn.Module) -> list[tuple[str, nn.Embedding]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Embedding)]


def _of_positions(name: str) -> bool:
    last = name.rpartition(".")[2]
    return "position" in last or last in ("wpe", "pos_embed", "pos_emb", "embed_positions")
