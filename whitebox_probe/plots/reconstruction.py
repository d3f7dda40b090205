"""What a masked autoencoder makes of images: the image, what it was shown, what it rebuilt."""

from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._palette import Palette, colours
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Size, extent, page, refuse_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8


@figure(takes="images")
def reconstruction(
    images: Any,
    rebuilt: Any,
    hidden: Any = None,
    *,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    labels: style.Labels = None,
    palette: Palette = None,
    axes: Any = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
) -> "Figure":
    """One row an image: the image, the image with hidden pixels in grey, and what was rebuilt.

    Args:
        images, rebuilt: (B, 3, H, W), normalised by `mean` and `std`; at most eight are drawn.
        hidden: (B, 1, H, W) or (B, H, W), true where the model did not see; none if left out.
        labels: what columns are called: a mapping from their names, or a list in their order.
        palette: its first colour is that of hidden pixels.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the pictures.

    Raises: ProbeError for shapes that do not fit each other.
    """
    refuse_size(axes, size, width, "axes")
    columns = _columns(images, rebuilt, hidden, np.asarray(mean), np.asarray(std), palette)
    names = style.named(list(columns), labels)
    rows = len(next(iter(columns.values())))
    across, _, fixed = extent(size, width, usual="column", height=1)
    tall = size[1] if size else across / len(columns) * rows + 0.25
    with page(
        axes,
        inches=(across, tall, fixed),
        shape=(rows, len(columns)),
        panels=f"{rows} images x {len(columns)} columns",
        layout="compressed",
    ) as sheet:
        for column, (name, pictures) in enumerate(columns.items()):
            for ax, picture in zip(sheet.axes[:, column], pictures, strict=True):
                ax.imshow(picture, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
            top = sheet.axes[0, column]
            top.set_title(names.get(name, name))
            _fit.fit(top.title, top.get_window_extent().width)
        sheet.head(title)
    return sheet.figure


def _columns(
    images: Any, rebuilt: Any, hidden: Any, mean: np.ndarray, std: np.ndarray, palette: Palette
) -> dict[str, np.ndarray]:
    """Column -> pictures (B, H, W, channels) with values 0 to 1."""
    if mean.shape != std.shape:
        raise ProbeError(
            f"mean= has {len(mean)} channels and std= has {len(std)}",
            "images are normalised by one of each a channel",
            "Pass as many of both, such as mean=(0.5,) and std=(0.5,)",
        )
    shown, made = _stack("images", images), _stack("rebuilt", rebuilt)
    if shown.shape != made.shape or shown.ndim != 4 or shown.shape[1] != len(mean):
        raise ProbeError(
            f"images of shape {shown.shape} and {made.shape} cannot be drawn side by side",
            f"both are (B, {len(mean)}, H, W)",
            "Pass the model's input and what `reconstruct` gave",
        )
    if not len(shown):
        raise ProbeError("there is nothing to draw", "no image was given", "Pass one or more")

    def pixels(stack: np.ndarray) -> np.ndarray:
        return (stack.transpose(0, 2, 3, 1) * std + mean).clip(0, 1)

    found = {"image": pixels(shown)}
    if hidden is not None:
        mask = _mask(hidden, shown)
        found["shown to the model"] = np.where(mask, _fill(mean, palette), pixels(shown))
    return found | {"rebuilt": pixels(made)}


def _stack(name: str, given: Any) -> np.ndarray:
    """At most eight images, as numbers."""
    try:
        return np.atleast_1d(np.asarray(given))[:MOST].astype(float)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        what = f"{name}= is a {type(given).__name__} that holds no numbers"
        raise ProbeError(what, "pictures are drawn of it", "Pass an array of pixels") from error


def _mask(hidden: Any, shown: np.ndarray) -> np.ndarray:
    """Where the model did not see: (B, H, W, 1)."""
    mask = _stack("hidden", hidden)
    size = (len(shown), *shown.shape[2:])
    if mask.shape not in (size, (size[0], 1, *size[1:])):
        raise ProbeError(
            f"hidden= has shape {mask.shape}",
            f"the images have shape {shown.shape}",
            f"Pass one of shape {size}",
        )
    return mask.reshape(*size, 1).astype(bool)


def _fill(mean: np.ndarray, palette: Palette) -> np.ndarray:
    """The colour of hidden pixels: that of the mean, which is what zero stands for."""
    if palette is None:
        return mean.clip(0, 1)
    from matplotlib.colors import to_rgb

    return np.asarray(to_rgb(colours({"hidden": "hidden"}, palette)["hidden"]))[: len(mean)]
