"""How a module is read by a written mapping: what `wrap(module, mapping=...)` makes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Layer, Tap
from whitebox_probe.models.layouts import Place, place
from whitebox_probe.models.mapped import MappedAnatomy
from whitebox_probe.models.maps import MASKS, softmax
from whitebox_probe.models.named import Written, flag, joined, number, sides
from whitebox_probe.models.paths import nearest_paths, tensor_at
from whitebox_probe.models.weights import tokens

_FUSED = "(3 K p) d"


class NamedAnatomy(MappedAnatomy):
    """A written mapping of one module; paths start where the module's layers are kept.

    Beside what `MappedAnatomy` maps: heads and attention maps that are made here of a projection
    that no module applies (`attention`, as of nn.MultiheadAttention); what the steps add
    (`second`), the norms behind them (`after`), what stands elsewhere in the last layer (`last`).
    """

    def __init__(
        self,
        module: nn.Module,
        mapping: Written,
        root: str,
        changes: Mapping[str, Any],
        left: dict[str, str],
    ) -> None:
        """Args: changes: arguments of `MappedAnatomy` that are given instead of the file's.

        left: sites that are left out -> why.
        """
        fields = mapping.fields
        self._root = root
        self._first_batch = flag(module, root, fields.get("batch_first", True))
        sites = {n: self._rooted(text) for n, text in fields["sites"].items() if n not in left}
        self._last = {
            name: place(name, self._rooted(text), layered=False)
            for name, text in fields.get("last", {}).items()
        }
        self._attention = {k: joined(root, v) for k, v in fields.get("attention", {}).items()}
        self._more = {n: self._rooted(fields[n]) for n in ("second", "context") if n in fields}
        self._after = [joined(root, path) for path in fields.get("after", ())]
        self._run = joined(root, fields["run"]) if "run" in fields else None
        self._patch = sides(module, fields.get("patch"))
        options = self._options(module, fields)
        if isinstance(fields.get("prefix_tokens"), str) and not options["prefix_tokens"]:
            options.pop("class_token", None)  # of a module that was made without one
        super().__init__(module, sites, **(options | dict(changes)))
        self._expect_more(module)
        self.name = mapping.name
        made = {"heads_q", "heads_k", "heads_v", "attn_weights"} if self._attention else set()
        self.absent = {name: why for name, why in self.absent.items() if name not in made} | left

    def _options(self, module: nn.Module, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What the file says of the arguments of `MappedAnatomy`; tokens stand outside the root."""
        inside, outside = ("heads", "dim_head", "dim"), ("prefix_tokens", "class_token")
        found: dict[str, Any] = {
            name: number(module, root, fields[name], least=least)
            for names, root, least in ((inside, self._root, 1), (outside, "", 0))
            for name in names
            if name in fields
        }
        found |= {name: fields[name] for name in ("layers", "first_layer") if name in fields}
        found["subspaces"] = self._weights(fields)
        if "grid" in fields:
            found["grid"] = tuple(fields["grid"])
        if "prenorm" in fields:
            found["prenorm"] = joined(self._root, fields["prenorm"])
        if "operators" in fields:
            found["operators"] = {
                name: joined(self._root, value) if isinstance(value, str) else float(value)
                for name, value in fields["operators"].items()
            }
        return found | {"causal": flag(module, self._root, fields.get("causal", False))}

    def _expect_more(self, module: nn.Module) -> None:
        """Check the paths that say nothing of the number of layers.

        Raises: SiteError.
        """
        modules = dict(module.named_modules())
        told = {f"'{name}'": text.split(":")[0] for name, text in self._more.items()}
        told |= {f"norm {n} of 'after'": path for n, path in enumerate(self._after, start=1)}
        told |= {
            f"'{k}' of 'attention'": self._attention[k]
            for k in ("module", "out")
            if k in self._attention
        }
        last = {f"site '{name}' of 'last'": each.path for name, each in self._last.items()}
        for what, path in (told | last).items():
            for layer in range(
                self.dims(module).layers if what in last else 1, self._dims.layers + 1
            ):
                here = self._at(path, layer)
                if here not in modules:
                    raise SiteError(
                        f"{what} names '{here}', which is not in the module",
                        f"a {type(module).__name__} has no such module",
                        nearest_paths(here, [*modules][1:]),
                    )

    def layer(self, module: nn.Module, number: int) -> Layer:
        """As mapped, with the sites that are made here, and what is only tried."""
        found = super().layer(module, number)
        changes: dict[str, Any] = {"taps": {**found.taps, **self._made(module, number)}}
        changes |= {name: self._tap(text, number) for name, text in self._more.items()}
        if self._after:
            norms = (module.get_submodule(self._at(path, number)) for path in self._after)
            changes["after"] = tuple(norms)
        if "out" in self._attention:
            changes["out"] = module.get_submodule(self._at(self._attention["out"], number))
        return replace(found, **changes)

    def official_site(self, basis: str) -> str | None:
        """The heads that are made here are such sites too."""
        if self._attention and basis in ("qkv:q", "qkv:k", "qkv:v"):
            return f"heads_{basis[-1]}"
        return super().official_site(basis)

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """As given, or as patches of the stated size cut the images."""
        known = super().grid(module, inputs)
        if known is not None or self._patch is None or inputs.ndim != 4:
            return known
        rows, columns = self._patch
        return int(inputs.shape[-2]) // rows, int(inputs.shape[-1]) // columns

    def trial(self, module: nn.Module) -> Callable[[], object] | None:
        """The layers alone, on random tokens; as `MappedAnatomy` does where no `run` is given."""
        if self._run is None:
            return super().trial(module)
        return partial(self._try_layers, module, self._run)

    def _try_layers(self, module: nn.Module, run: str) -> None:
        x = tokens(module, self.dims(module).dim, 5)
        module.get_submodule(run)(x if self._first_batch else x.transpose(0, 1))

    def _rooted(self, text: str) -> str:
        """A site's text below the root; tokens first where the module has them so."""
        path, side, *layout = text.split(":")
        if not layout and not self._first_batch:
            layout = ["n B d"]
        return ":".join((joined(self._root, path), side, *layout))

    def _weights(self, fields: Mapping[str, Any]) -> dict[str, str]:
        """The subspaces: as written, or the thirds of the attention's one weight."""
        written = {k: joined(self._root, v) for k, v in fields.get("subspaces", {}).items()}
        if written or not self._attention:
            return written
        weight = f"{self._attention['weight']}:{_FUSED}"
        return {f"qkv:{third}": weight for third in "kqv"}

    def _paths(self) -> Iterator[tuple[str, str, bool]]:
        """What stands elsewhere in the last layer says nothing of their number."""
        skipped = {f"site '{name}'" for name in self._last}
        return (each for each in super()._paths() if each[0] not in skipped)

    def _place(self, name: str, layer: int) -> Place:
        elsewhere = self._last.get(name) if layer == self._dims.layers else None
        return elsewhere or super()._place(name, layer)

    def _tap(self, text: str, layer: int) -> Tap:
        path, side, *layout = text.split(":")
        turn = (lambda x: x.transpose(0, 1)) if layout == ["n B d"] else None
        return Tap(self._at(path, layer), "input" if side == "input" else "output", turn)

    def _made(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Heads and attention maps of a projection that no module applies."""
        if not self._attention:
            return {}
        path = self._at(self._attention["module"], layer)
        project = partial(self._projected, module, layer)
        taps = {f"heads_{t}": Tap(path, "input", partial(project, t)) for t in "qkv"}

        def weights(x: Tensor, **given: Any) -> Tensor:  # (B, n, d) -> (B, K, n, n)
            return softmax(project("q", x), project("k", x), causal=self._causal, **given)

        return taps | {"attn_weights": Tap(path, "input", weights, MASKS)}

    def _projected(self, module: nn.Module, layer: int, third: str, x: Tensor) -> Tensor:
        """Queries, keys or values of the tokens: (B, n, d) -> (B, K, n, p)."""
        x = x if self._first_batch else x.transpose(0, 1)
        third_of = "qkv".index(third)
        weight = tensor_at(module, self._at(self._attention["weight"], layer))
        if weight is None:
            raise SiteError(
                f"layer {layer} has no '{self._attention['weight']}'",
                "its queries, keys and values are projected otherwise",
                "Map its own projections",
            )
        written = self._attention.get("bias")
        bias = None if written is None else tensor_at(module, self._at(written, layer))
        part = None if bias is None else bias.chunk(3)[third_of]
        heads = F.linear(x, weight.chunk(3)[third_of], part)
        return heads.unflatten(-1, (self._dims.heads, -1)).transpose(1, 2)
