"""A few samples seen from inside: what sites hold at each layer, and where their tokens lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whitebox_probe._core.errors import ResultError, nearest
from whitebox_probe._core.lines import names, short
from whitebox_probe.results.held import hold_read_only

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """What figures of single samples are drawn of; `wp.view` makes it.

    Its arrays are copies of what it was made of, and read-only; they are not copied at each access.
    What torch makes of them without a copy (`torch.as_tensor`; it warns) writes into the view: take
    `torch.tensor`.

    Attributes:
        model: its name.
        sites: (site, layer) -> what it holds, float32, (B, n, d) or as the site has it.
        images: (B, H, W, channels), values 0 to 1; None for samples that are no images.
        texts: of each sample its tokens in words; None for samples that are no texts.
        grid: rows and columns of the patches; None where tokens lie in no grid.
        patches: which tokens are the patches, row by row; of a text, all tokens.
        class_index: which token is the class token; None where there is none.
        labels: of the samples, if known.
        ids: their numbers in the data set, as `Result.samples` has them.
    """

    model: str
    sites: Mapping[tuple[str, int], Array]
    images: Array | None = None
    texts: tuple[tuple[str, ...], ...] | None = None
    grid: tuple[int, int] | None = None
    patches: tuple[int, ...] = ()
    class_index: int | None = None
    labels: tuple[str, ...] = field(default=())
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Arrays are the view's own, and read-only, from here on."""
        hold_read_only(self, ["sites", "images"])

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Of a copy, or from another process: arrays are read-only there too."""
        vars(self).update(state)
        self.__post_init__()

    def __repr__(self) -> str:
        """One line: model, samples, sites and layers."""
        told = names(list(dict.fromkeys(site for site, _ in self.sites)))
        of = self.layers
        layers = (
            f"layers {of[0]} to {of[-1]}" if len(of) > 1 else f"layer {of[0]}" if of else "none"
        )
        return f"View('{short(self.model)}', {self.samples} samples, {told}, {layers})"

    def _repr_html_(self) -> str:
        from whitebox_probe.results.pages import of_view

        return of_view(self)

    @property
    def samples(self) -> int:
        """How many."""
        return len(next(iter(self.sites.values())))

    @property
    def layers(self) -> list[int]:
        """Those that were looked at, in their order."""
        return sorted({layer for _, layer in self.sites})

    def at(self, site: str, layer: int) -> Array:
        """What a site holds in a layer.

        Raises: ResultError for one that was not looked at.
        """
        if (site, layer) in self.sites:
            return self.sites[site, layer]
        names = list(dict.fromkeys(name for name, _ in self.sites))
        if site not in names:
            raise ResultError(
                f"this view of {self.model} does not hold '{site}'",
                "it was not looked at",
                f"{nearest(site, names)} Or make one with wp.view(..., sites=['{site}'])",
            )
        raise ResultError(
            f"this view of {self.model} does not hold layer {layer} of '{site}'",
            "it was not looked at",
            f"Use one of: {', '.join(str(n) for s, n in self.sites if s == site)}",
        )

    def in_grid(self, values: Array) -> Array:
        """Values of the patches in the place that they have: (..., patches) -> (..., rows, cols).

        Raises: ResultError where tokens lie in no grid.
        """
        if self.grid is None:
            raise ResultError(
                f"the tokens of {self.model} lie in no grid",
                "its samples are no images, or how they are cut is not known",
                "Use a figure of tokens, as wp.plots.tokens",
            )
        return values.reshape(*values.shape[:-1], *self.grid)
