"""Record the named sites of a model: tensors for a notebook, joined over forward passes.

with wp.record(model, sites=["z_half", "heads"]) as recording:
    model.module(images)
recording["z_half", 3]
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from whitebox_probe._core.arguments import expect_each, is_whole, plain, text, told
from whitebox_probe._core.errors import SiteError, nearest
from whitebox_probe.models.hooks import attach
from whitebox_probe.models.model import ProbeModel, expect_model
from whitebox_probe.probing.passes import Passes

_WHY = "they are recorded"


def _layer(value: object) -> str:
    return "" if is_whole(value) else "Use whole numbers; layers are counted from 1"


class Recording:
    """Tensors by (site, layer), joined over the forward passes of the block.

    `passes` gives those of each forward pass alone. What activation checkpointing computes once
    more, in a backward pass, is the same tensor and not kept again. A pass that raises is dropped,
    be it of the whole module, of a part of it or of a method such as `forward_features`.
    """

    def __init__(self, model: ProbeModel, sites: Sequence[str], layers: Sequence[int]) -> None:
        self._model = model
        self._sites = sites
        self._layers = layers
        self._parts: dict[tuple[str, int], list[Tensor]] = {}
        self._joined: dict[tuple[str, int], Tensor] = {}
        self._rows: Counter[tuple[str, int]] = Counter()  # what the pass at hand has given
        self.pass_at_hand = Passes(model.module, self._rows.clear, self._drop)

    def _drop(self) -> None:
        """Forget what the pass at hand has given."""
        for key, count in self._rows.items():
            parts = self._parts.get(key, [])[:-count]
            self._joined.pop(key, None)
            if parts:
                self._parts[key] = parts
            else:
                self._parts.pop(key, None)
        self._rows.clear()

    def keep(self, site: str, layer: int, tensor: Tensor) -> None:
        """Keep a copy: later in-place operations cannot change it, and it pins no larger tensor.

        Raises: SiteError where the site passes twice in one forward pass.
        """
        if torch._C._current_graph_task_id() != -1:  # a backward pass computes it once more
            return
        if self.pass_at_hand.whole and (site, layer) in self._rows:
            raise SiteError(
                f"site '{site}' of layer {layer} passes more than once in a forward pass",
                "its module is used by several layers, or several times",
                "Record it from a module of the layer's own",
            )
        with torch.inference_mode(mode=False):  # so that the copy may be used with gradients
            copy = tensor.clone(memory_format=torch.contiguous_format)
        self._parts.setdefault((site, layer), []).append(copy)
        self._rows[site, layer] += 1

    def __getitem__(self, key: tuple[str, int]) -> Tensor:
        """The tensor of a site in a layer, the samples of all passes behind each other.

        Raises: SiteError when it is no pair of a site and a layer, was not asked for, the model has
            not been run in the block, or its passes were of different sizes.
        """
        if not isinstance(key, tuple) or len(key) != 2:
            raise SiteError(
                f"{told(key)} is no key of a recording",
                "its tensors are found by site and layer",
                f"Use {self._example()}",
            )
        parts = self.passes(*key)
        sizes = {tuple(part.shape[1:]) for part in parts}
        if len(sizes) > 1:
            shapes = " and ".join(str(tuple(part.shape)) for part in parts[:4])
            raise SiteError(
                f"site '{key[0]}' of layer {key[1]} cannot be joined over its forward passes",
                f"they are of different sizes: {shapes}",
                f"Take each alone, from recording.passes('{key[0]}', {key[1]})",
            )
        if len(parts) == 1:
            return parts[0]
        whole = self._joined.get(key)
        if whole is None or len(whole) != sum(map(len, parts)):
            whole = self._joined[key] = torch.cat(parts)
            # Views of the whole, so that nothing is held twice.
            self._parts[key] = list(whole.split([len(part) for part in parts]))
        return whole

    def passes(self, site: str, layer: int) -> list[Tensor]:
        """The tensors of a site in a layer, one of each forward pass, in their order.

        Raises: SiteError when it was not asked for, or the model has not been run in the block.
        """
        if not isinstance(site, str) or site not in self._sites:
            shown = f"'{site}'" if isinstance(site, str) else told(site)
            raise SiteError(
                f"site {shown} was not recorded",
                "it was not asked for" if isinstance(site, str) else "sites are named by texts",
                nearest(site if isinstance(site, str) else "", self._sites),
            )
        layer = plain(layer)
        if not is_whole(layer) or layer not in self._layers:
            raise SiteError(
                f"layer {told(layer)} was not recorded",
                "it was not asked for, or does not exist",
                nearest(told(layer), map(str, self._layers)),
            )
        key = (site, layer)
        if key not in self._parts:
            raise SiteError(
                f"site '{site}' of layer {layer} holds nothing",
                "the model was not run inside the record() block",
                "Call model.module(x) inside it",
            )
        return list(self._parts[key])

    def _example(self) -> str:
        """How a tensor of this recording is had."""
        asked = ((site, layer) for site in self._sites for layer in self._layers)
        site, layer = next(asked, ("z_out", 1))
        return f"recording['{site}', {layer}]"

    def keys(self) -> list[tuple[str, int]]:
        """The (site, layer) pairs that hold a tensor, in the order of the forward pass."""
        return list(self._parts)

    def __len__(self) -> int:
        """How many (site, layer) pairs hold a tensor."""
        return len(self._parts)


def layers_of(model: ProbeModel, layers: Sequence[int] | None) -> list[int]:
    """The layers that are asked for, all when none is given.

    Raises: SettingError for what is no list of whole numbers.
    """
    if layers is None:
        return list(range(1, model.layers + 1))
    return list(dict.fromkeys(expect_each("layers", layers, _layer, _WHY)))


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
    expect_model(model, ProbeModel, "what wp.load or wp.wrap gives")
    sites = [sites] if isinstance(sites, str) else expect_each("sites", sites, text, _WHY)
    layers = layers_of(model, layers)
    recording = Recording(model, sites, layers)
    with recording.pass_at_hand.watched(), attach(model, sites, layers, recording.keep):
        yield recording
