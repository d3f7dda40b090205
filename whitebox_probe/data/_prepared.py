"""A transform that fits what is read: images or a text."""

from pathlib import Path

from whitebox_probe._core.errors import DataError
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Opened
from whitebox_probe.data.text import TextReader
from whitebox_probe.models.images import transform_of_images
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess

JOINED = "its texts are joined, which leaves none of their classes (windows='documents' does)"

NONE = "a text alone has no class"


def for_images(transform: Transform | TextReader | None, name: str) -> Transform:
    """The transform, which makes a model's input of an image.

    Raises: DataError if it reads text, or is not known.
    """
    if isinstance(transform, TextReader):
        raise DataError(
            f"{name} holds images",
            "the model reads text",
            "Pass a text, such as 'kjv' or a .txt file, or use an image model",
        )
    if transform is None:
        raise DataError(
            f"the images of {name} cannot be prepared",
            "the model does not say how (size, mean and std)",
            "Pass preprocess='imagenet' if it was trained so, or a Preprocess of its own",
        )
    return transform


def transform_of(
    preprocess: Preprocess | TextPreprocess | None,
) -> Transform | TextReader | None:
    """What makes a model's input of an image or a text, if it is known."""
    if preprocess is None:
        return None
    if isinstance(preprocess, TextPreprocess):
        return TextReader(preprocess.tokenizer, preprocess.length)
    return transform_of_images(preprocess)


def for_text(transform: Transform | TextReader | None, name: str) -> TextReader:
    """The transform, which makes windows of a text.

    Raises: DataError if it reads images, or is not known.
    """
    if transform is None:
        raise DataError(
            f"the text of {name} cannot be prepared",
            "the model does not say how (its tokenizer)",
            "Pass preprocess='text:bytes@128', say, or a TextPreprocess, to load or wrap it",
        )
    if not isinstance(transform, TextReader):
        raise DataError(
            f"{name} is text",
            "the model reads images",
            "Pass images, such as 'fashion-mnist' or a folder, or use a language model",
        )
    return transform


def text_windows(text: str | Path, name: str, transform: Transform | TextReader | None) -> Opened:
    """Windows of a text by the model's own tokenizer.

    Raises: DataError if the transform reads images, or is not known.
    """
    windows = for_text(transform, name).windows(text)
    return Opened(windows, name, windows.fingerprint, choices=Choices(), why=NONE)
