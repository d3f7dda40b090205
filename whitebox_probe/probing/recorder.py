"""Record the named sites of a model: tensors for a notebook, joined over forward passes.

with wp.record(model, sites=["z_half", "heads"]) as recording:
    model.module(images)
recording["z_half", 3]
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from whitebox_probe._core.errors import SiteError, nearest
from whitebox_probe.models.hooks import attach
from whitebox_probe.models.model import ProbeModel


class Recording:
    """Tensors by (site, layer), joined over the forward passes of the block."""

    def __init__(self, model: ProbeModel, sites: Sequence[str], layers: Sequence[int]) -> None:
        self._model = model
        self._sites = sites
        self._layers = layers
        self._parts: dict[tuple[str, int], list[Tensor]] = {}

    def keep(self, site: str, layer: int, tensor: Tensor) -> None:
        """Keep a copy: later in-place operations cannot change it, and it pins no larger tensor."""
        self._parts.setdefault((site, layer), []).append(
            tensor.clone(memory_format=torch.contiguous_format)
        )

    def __getitem__(self, key: tuple[str, int]) -> Tensor:
        """The tensor of a site in a layer.

        Raises: SiteError when it was not asked for, or the model has not been run in the block.
        """
        site, layer = key
        if site not in self._sites:
            raise SiteError(
                f"site '{site}' was not recorded",
                "it was not asked for",
                nearest(site, self._sites),
            )
        if layer not in self._layers:
            raise SiteError(
                f"layer {layer} was not recorded",
                "it was not asked for, or does not exist",
                f"Use one of: {', '.join(map(str, self._layers))}",
            )
        if key not in self._parts:
            raise SiteError(
                f"site '{site}' of layer {layer} holds nothing",
                "the model was not run inside the record() block",
                "Call model.module(x) inside it",
            )
        parts = self._parts[key]
        if len(parts) > 1:
            self._parts[key] = [torch.cat(parts)]
        return self._parts[key][0]

    def keys(self) -> list[tuple[str, int]]:
        """The (site, layer) pairs that hold a tensor, in the order of the forward pass."""
        return list(self._parts)

    def __len__(self) -> int:
        """How many (site, layer) pairs hold a tensor."""
        return len(self._parts)


@contextmanager
def record(
    model: ProbeModel, sites: Sequence[str] | str, layers: Sequence[int] | None = None
) -> Iterator[Recording]:
    """Record the named sites of every forward pass inside the block.

    Args:
        model: from `wp.load` or `wp.wrap`.
        sites: names of sites (`model.sites` lists them).
        layers: layers counted from 1; all when not given.

    Yields: a `Recording`; `recording[site, layer]` is a tensor of the site's shape, detached, on
        the model's device.
    Raises: SiteError for a site or a layer that the model does not have.
    """
    sites = [sites] if isinstance(sites, str) else list(sites)
    layers = list(range(1, model.layers + 1)) if layers is None else list(layers)
    recording = Recording(model, sites, layers)
    with attach(model, sites, layers, recording.keep):
        yield recording
