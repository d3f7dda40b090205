"""How an image or a text becomes a model's input."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input: size, crop and normalisation.

    `mode` is 'RGB' or 'L' (one channel); `crop` the share of the resized side that is kept, so that
    224 with crop 0.875 is the usual "resize 256, centre crop 224". `size` is the side of a square,
    or (height, width). `crop_mode`: `center` keeps the image's proportions and cuts off what is
    left over; `squash` resizes both sides to the model's and so keeps all of it; `border` keeps
    both, with borders of the mean colour. `processor`: the settings of an image processor of
    transformers, as JSON; it then prepares the images, and the other fields describe what it does.
    """

    size: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: Literal["RGB", "L"] = "RGB"
    crop: float = 0.875
    interpolation: str = "bilinear"
    crop_mode: Literal["center", "squash", "border"] = "center"
    processor: str | None = None

    def told(self) -> dict[str, Any]:
        """Every field in plain values; the usual crop goes without saying."""
        found = asdict(self)
        if self.crop_mode == "center":
            del found["crop_mode"]
        if self.processor is None:
            del found["processor"]
        else:
            found["processor"] = json.loads(self.processor)
        return found

    @classmethod
    def imagenet(cls, size: int | tuple[int, int] = 224) -> "Preprocess":
        """Means and spreads of ImageNet's colours, and the usual crop."""
        return cls(size=size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class TextPreprocess:
    """How a text becomes a language model's input: its tokenizer, and the tokens in a window.

    `tokenizer` is `bytes`, the path of a JSON file of the tokenizers library, or a name or folder
    for transformers.
    """

    tokenizer: str
    length: int = 128

    def told(self) -> dict[str, Any]:
        """Every field in plain values."""
        return asdict(self)


def prepares(value: Any) -> str:
    """A check of what is given as `preprocess`: a Preprocess, a TextPreprocess, or a name."""
    fits = value is None or isinstance(value, Preprocess | TextPreprocess | str)
    return "" if fits else "Use 'imagenet', a Preprocess or a TextPreprocess"


PREPARING = prepares, "it says how an image or a text becomes an input"
