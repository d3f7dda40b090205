"""How an image or a text becomes a model's input."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input: size, crop and normalisation.

    `mode` is 'RGB' or 'L' (one channel); `crop` the share of the resized side that is kept, so that
    224 with crop 0.875 is the usual "resize 256, centre crop 224".
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: Literal["RGB", "L"] = "RGB"
    crop: float = 0.875
    interpolation: str = "bilinear"

    @classmethod
    def imagenet(cls, size: int = 224) -> "Preprocess":
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
