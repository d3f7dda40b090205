"""What a masked autoencoder makes of images: the image, what it was shown, what it rebuilt."""

from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reconstruction"]

MOST = 8


def reconstruction(
    images: Any,
    rebuilt: Any,
    hidden: Any = None,
    *,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    width: style.Width = "column",
    title: str | None = None,
) -> "Figure":
    """One row an image: the image, the image with hidden pixels in grey, and what was rebuilt.

    Args:
        images, rebuilt: (B, 3, H, W), normalised by `mean` and `std`; at most eight are drawn.
        hidden: (B, 1, H, W) or (B, H, W), true where the model did not see; none if left out.

    Raises: ProbeError for shapes that do not fit each other.
    """
    shown, made = np.asarray(images)[:MOST], np.asarray(rebuilt)[:MOST]
    if shown.shape != made.shape or shown.ndim != 4 or shown.shape[1] != len(mean):
        raise ProbeError(
            f"images of shape {shown.shape} and {made.shape} cannot be drawn side by side",
            f"both are (B, {len(mean)}, H, W)",
            "Pass the model's input and what `reconstruct` gave",
        )
    inches = style.inches(width)
    with style.styled():
        from whitebox_probe.plots._figure import StyledFigure

        columns = [("image", shown), ("rebuilt", made)]
        if hidden is not None:
            mask = np.asarray(hidden)[:MOST].reshape(len(shown), 1, *shown.shape[2:]).astype(bool)
            columns.insert(1, ("shown to the model", np.where(mask, 0.0, shown)))
        side = inches / len(columns)
        figure = StyledFigure(figsize=(inches, side * len(shown) + 0.25), layout="compressed")
        axes = figure.subplots(len(shown), len(columns), squeeze=False)
        for column, (name, stack) in enumerate(columns):
            axes[0, column].set_title(name)
            for row, picture in enumerate(stack):
                ax = axes[row, column]
                pixels = picture.transpose(1, 2, 0) * np.asarray(std) + np.asarray(mean)
                ax.imshow(pixels.clip(0, 1), interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
        if title:
            figure.suptitle(title)
    return figure
