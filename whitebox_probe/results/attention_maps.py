"""Where heads look, from what a view holds, and how well that parts an object from its ground."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from whitebox_probe._core.arguments import SEED, expect, finite, is_whole, plain, told
from whitebox_probe._core.errors import DataError, ProbeError, ResultError
from whitebox_probe._core.process import as_found
from whitebox_probe.results import boxes
from whitebox_probe.results.view import View
from whitebox_probe.stats import summarise

SITE = "attn_weights"
Query = Literal["class", "mean"] | tuple[int, int]
MASS = 0.6
_DRAWS = 20  # of patches at random, for what chance gives


@as_found()
def segmentation(
    view: View,
    masks: Any,
    *,
    query: Query | None = None,
    mass: float = MASS,
    seed: int = 0,
) -> pd.DataFrame:
    """How well the patches that a head looks at are the object: mean IoU with masks, each head.

    Of each sample the fewest patches that hold a share of the attention are taken as the object,
    each as large as it is in the image. `chance` is what the same number of patches at random
    gives, on average. `box_iou` is of boxes: the one about the connected patches that hold the most
    of that attention, and the one about the mask.

    Args:
        view: from `wp.view`, of images, with the site attn_weights.
        masks: (samples, H, W), true where the object is; H and W as in the images.
        query: whose attention, as for `wp.plots.attention`.
        mass: the share.

    Returns: layer, head, miou, ci_low, ci_high (95% interval of the mean over samples), chance,
        count; box_iou, box_ci_low, box_ci_high, box_chance. Samples whose mask is empty are left
        out.
    Raises: DataError for masks of another shape, or without an object; ResultError for what the
        view does not hold; ProbeError for a query or mass that cannot be.
    References: Caron et al. 2021, arXiv:2104.14294; Yu et al. 2023, arXiv:2308.16271; boxes as in
        Wang et al. 2022, arXiv:2202.11539.
    """
    seed = expect("seed", seed, *SEED)
    if not isinstance(view, View):
        raise ResultError(
            f"a {type(view).__name__} is no view",
            "it holds where heads look",
            "Pass what wp.view gave",
        )
    truth = _masks(view, masks)
    held = truth.any(axis=(1, 2))
    random = np.random.default_rng(seed)
    rows = []
    for layer in sorted(n for site, n in view.sites if site == SITE):
        maps = maps_of(view, layer, query)[held]  # (B, K, patches)
        seen = heaviest(maps, mass)
        found = _scores(seen, maps, truth[held], view)
        drawn = np.zeros(found.shape)
        order = np.broadcast_to(np.arange(maps.shape[-1]), maps.shape)
        for _ in range(_DRAWS):
            mixed = random.permuted(order, axis=-1)
            there, weights = (np.take_along_axis(each, mixed, axis=-1) for each in (seen, maps))
            drawn += _scores(there, weights, truth[held], view)
        told, boxed = (summarise(each, seed=seed) for each in found)
        chance, box_chance = drawn.mean(axis=1) / _DRAWS
        rows += [
            {"layer": layer, "head": k + 1, "miou": told.mean[k]}
            | {"ci_low": told.ci_low[k], "ci_high": told.ci_high[k]}
            | {"chance": chance[k], "count": found.shape[1]}
            | {"box_iou": boxed.mean[k], "box_ci_low": boxed.ci_low[k]}
            | {"box_ci_high": boxed.ci_high[k], "box_chance": box_chance[k]}
            for k in range(maps.shape[1])
        ]
    return pd.DataFrame(rows)


def boxes_of(view: View, layer: int, query: Query | None = None, mass: float = MASS) -> np.ndarray:
    """The box about the connected patches that hold the most of a head's attention, in pixels.

    Args: query, mass: as for `segmentation`.
    Returns: (B, K, 4): top, left, bottom and right, the last two beyond the box.
    Raises: ResultError for what the view does not hold; ProbeError for a query or mass that cannot
        be.
    """
    assert view.images is not None
    maps = maps_of(view, layer, query)
    return _boxes(heaviest(maps, mass), maps, view, view.images.shape[1:3])


def _boxes(seen: np.ndarray, maps: np.ndarray, view: View, size: Any) -> np.ndarray:
    grid, weights = view.in_grid(seen), view.in_grid(maps)
    found = boxes.about_the_heaviest(grid, weights * grid)
    return boxes.in_pixels(found, grid.shape[-2:], size)


def _scores(seen: np.ndarray, maps: np.ndarray, truth: np.ndarray, view: View) -> np.ndarray:
    """IoU with the masks, and of the boxes: (B, K, patches), (B, H, W) -> (2, B, K)."""
    heads = range(seen.shape[1])
    with_masks = np.stack([_iou(seen[:, k], truth, view) for k in heads], axis=1)
    found = _boxes(seen, maps, view, truth.shape[1:])
    return np.stack([with_masks, boxes.iou(found, boxes.about(truth)[:, None])])


def _masks(view: View, masks: Any) -> np.ndarray:
    if view.images is None:
        raise ResultError(
            f"the samples of this view of {view.model} are no images",
            "masks are of images",
            "Make a view of an image model",
        )
    truth = np.asarray(masks)
    if truth.shape != view.images.shape[:3]:
        raise DataError(
            f"the masks have shape {truth.shape}",
            f"the view's images have {view.images.shape[:3]}",
            "Pass one mask an image, of its size behind the model's preprocessing",
        )
    truth = truth.astype(bool)
    if not truth.any():
        raise DataError("no mask holds an object", "all of them are empty", "Mark it with True")
    return truth


def _iou(seen: np.ndarray, truth: np.ndarray, view: View) -> np.ndarray:
    """Intersection over union of each sample: (B, patches), (B, H, W) -> (B,)."""
    grid = view.in_grid(seen).astype(bool)
    tall, wide = truth.shape[1:]
    at = np.arange(tall) * grid.shape[1] // tall, np.arange(wide) * grid.shape[2] // wide
    large = grid[:, at[0]][:, :, at[1]]
    both, either = (large & truth).sum(axis=(1, 2)), (large | truth).sum(axis=(1, 2))
    share: np.ndarray = both / np.maximum(either, 1)
    return share


def maps_of(view: View, layer: int, query: Query | None) -> np.ndarray:
    """The attention of a query to the patches: (B, K, patches), each row of it adding up to 1."""
    weights = view.at(SITE, layer)
    patches = list(view.patches)
    if query is None:
        query = "mean" if view.class_index is None else "class"
    if isinstance(query, str) and query == "class":
        if view.class_index is None:
            raise ResultError(
                f"{view.model} has no class token",
                "its attention is that of patches",
                "Use query='mean', or query=(row, column)",
            )
        found = weights[:, :, view.class_index, :][..., patches]
    elif isinstance(query, str) and query == "mean":
        found = weights[:, :, patches, :][..., patches].mean(axis=2)
    else:
        found = weights[:, :, patches[_place(view, query)], :][..., patches]
    whole: np.ndarray = found / np.maximum(found.sum(axis=-1, keepdims=True), 1e-30)
    return whole


def heaviest(maps: np.ndarray, mass: float) -> np.ndarray:
    """1 for the fewest entries that hold a share of each row, 0 for the others: (..., n).

    Raises: ProbeError for a share that is none.
    """
    if finite(plain(mass)) or not 0 < mass < 1:
        raise ProbeError(
            f"mass is {told(mass)}", "it is the share of attention that is shown", "Use mass=0.6"
        )
    order = np.argsort(-maps, axis=-1, kind="stable")
    held = np.cumsum(np.take_along_axis(maps, order, axis=-1), axis=-1)
    before = held - np.take_along_axis(maps, order, axis=-1)
    kept = np.zeros_like(maps)
    np.put_along_axis(kept, order, (before < mass).astype(maps.dtype), axis=-1)
    return kept


def _place(view: View, query: Any) -> int:
    rows, columns = view.grid or (0, 0)
    fits = isinstance(query, tuple) and len(query) == 2 and all(map(is_whole, map(plain, query)))
    if not fits or not (0 <= query[0] < rows and 0 <= query[1] < columns):
        raise ProbeError(
            f"query={told(query)} is no token of the image",
            f"its patches are (0, 0) to ({rows - 1}, {columns - 1})",
            "Use 'class', 'mean' or a patch (row, column)",
        )
    return int(query[0]) * columns + int(query[1])
