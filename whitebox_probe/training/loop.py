"""Train an image model by its recipe, and measure it on the test images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, DataError
from whitebox_probe._core.gate import is_file
from whitebox_probe.checkpoints import read_state_dict
from whitebox_probe.data import fashion_mnist
from whitebox_probe.training import files
from whitebox_probe.training.recipe import Recipe, build
from whitebox_probe.training.run import Run

SPLIT_SEED = 20171  # of the validation split: the same images for every recipe and seed


@dataclass(frozen=True)
class Data:
    """Training and validation images, normalised, with their labels."""

    train: Tensor
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    fingerprint: str


def split_numbers(total: int, validation: int) -> tuple[Tensor, Tensor]:
    """Numbers of the training and of the validation images."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return order[validation:], order[:validation]


def load_data(recipe: Recipe, folder: Path | None = None) -> Data:
    """Fashion-MNIST's training images, a part of them held out; test images are not read."""
    images, labels = fashion_mnist.read_split("train", folder)
    if recipe.validation >= len(images):
        raise DataError(
            "no image is left to train on",
            f"there are {len(images)}, and {recipe.validation} are held out",
            "Use a smaller --validation",
        )
    train, validation = split_numbers(len(images), recipe.validation)
    if recipe.limit_train is not None:
        train = train[: recipe.limit_train]
    pixels, classes = normalise(images), torch.from_numpy(labels)
    return Data(
        train=pixels[train],
        train_labels=classes[train],
        validation=pixels[validation],
        validation_labels=classes[validation],
        fingerprint=fashion_mnist.fingerprint(images),
    )


def normalise(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Bytes (N, 28, 28) -> normalised float32 (N, 1, 28, 28)."""
    pixels = torch.from_numpy(images.copy()).float() / 255
    return ((pixels - fashion_mnist.MEAN) / fashion_mnist.STD)[:, None]


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is that of their class."""
    model.eval()
    right = sum(
        int((model(x).argmax(dim=1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return right / len(images)


def train(
    recipe: Recipe, data: Data, out: Path, *, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train; writes the weights as safetensors, at the start (init), after each epoch (epoch-01,
    ...) and after the last one (final), and the log.

    A killed run continues with `resume=True` from its last whole epoch, to the same weights.

    Returns: the log.
    Raises: CheckpointError when there is nothing to resume, what is there is damaged, or another
        run is there; DataError; NonFiniteError when the loss diverges.
    """
    run = _Run(recipe, data, out, resume=resume)
    for epoch in range(run.done, recipe.epochs):
        run.epoch(epoch, progress=progress)
    return run.log


class _Run(Run[Recipe]):
    """A training run on images in progress."""

    def __init__(self, recipe: Recipe, data: Data, out: Path, *, resume: bool) -> None:
        self.data = data
        facts = {"name": "fashion-mnist:train", "fingerprint": data.fingerprint}
        super().__init__(recipe, build(recipe), out, facts, len(data.train), resume=resume)

    def loss(self, batch: Tensor, random: torch.Generator) -> Tensor:
        """Cross-entropy of a batch of images, each flipped by chance."""
        flip = torch.rand(len(batch), generator=random) < 0.5
        images = self.data.train[batch]
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        return F.cross_entropy(
            self.model(images),
            self.data.train_labels[batch],
            label_smoothing=self.recipe.label_smoothing,
        )

    def held_out(self) -> dict[str, float]:
        """Accuracy on the validation images."""
        found = accuracy(self.model, self.data.validation, self.data.validation_labels)
        return {"validation_accuracy": found}


def measure_on_test(out: Path, folder: Path | None = None) -> dict[str, float]:
    """Accuracy of a finished run's final weights on the test images; written into its log.

    The only function that reads the test images: it is called once, when the recipe is settled.
    """
    final = out / files.FINAL
    if not is_file(final):
        raise CheckpointError(
            f"{out} holds no finished run", "there is no final.safetensors", "Train first"
        )
    log = files.read_log(out)
    model = build(files.recipe_of(log, Recipe, out))
    files.fill(model, read_state_dict(final), final)
    images, labels = fashion_mnist.read_split("test", folder)
    pixels, classes = normalise(images), torch.from_numpy(labels)
    log["test_accuracy"] = {
        "all 10,000": accuracy(model, pixels, classes),
        "first 2,000": accuracy(model, pixels[:2000], classes[:2000]),
    }
    files.write_log(out, log)
    found: dict[str, float] = log["test_accuracy"]
    return found
