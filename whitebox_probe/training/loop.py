"""Train by a recipe: seeded, logged, and resumable after any epoch."""

import json
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, NonFiniteError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.data import fashion_mnist
from whitebox_probe.training.recipe import Recipe, build, optimizers, schedule

LOG, STATE = "log.json", "state.pt"
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
    """Train; writes init, early (after epoch 1) and final safetensors, and the log.

    A killed run continues with `resume=True` from its last whole epoch, to the same weights.

    Returns: the log.
    Raises: CheckpointError when there is nothing to resume, or a run of another recipe is there;
        NonFiniteError when the loss diverges.
    """
    run = _Run(recipe, data, out, resume=resume)
    for epoch in range(run.done, recipe.epochs):
        run.epoch(epoch, progress=progress)
    return run.log


class _Run:
    """A training run in progress."""

    def __init__(self, recipe: Recipe, data: Data, out: Path, *, resume: bool) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self.model = build(recipe)
        self.optimizers = optimizers(self.model, recipe)
        self.base = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.per_epoch = len(data.train) // recipe.batch_size
        self.log: dict[str, Any] = {
            "recipe": asdict(recipe),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "data": {"name": "fashion-mnist:train", "fingerprint": data.fingerprint},
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
            "epochs": [],
        }
        if resume:
            self._resume()
        else:
            self._save("init")

    @property
    def done(self) -> int:
        """Whole epochs so far."""
        return len(self.log["epochs"])

    def epoch(self, epoch: int, *, progress: bool) -> None:
        """One pass over the training images, then validation, then everything is saved."""
        from tqdm.auto import tqdm

        start, total = time.perf_counter(), 0.0
        # One generator an epoch: a resumed run draws what the uninterrupted one would have.
        random = torch.Generator().manual_seed(1000 * self.recipe.seed + epoch)
        order = torch.randperm(len(self.data.train), generator=random)
        batches = order[: self.per_epoch * self.recipe.batch_size].split(self.recipe.batch_size)
        self.model.train()
        title = f"{self.recipe.kind} epoch {epoch + 1}/{self.recipe.epochs}"
        for number, batch in enumerate(
            tqdm(batches, desc=title, disable=None if progress else True)
        ):
            total += self._step(epoch * self.per_epoch + number, batch, random)
        loss = total / len(batches)
        if not np.isfinite(loss):
            raise NonFiniteError(
                f"the loss is {loss} in epoch {epoch + 1}",
                f"training diverged at lr {self.recipe.lr}",
                "Use a smaller --lr",
            )
        held_out = accuracy(self.model, self.data.validation, self.data.validation_labels)
        self.log["epochs"].append(
            {
                "loss": round(loss, 5),
                "validation_accuracy": held_out,
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
        if epoch == 0:
            self._save("early")
        if epoch + 1 == self.recipe.epochs:
            self._save("final")
        self._keep()

    def _step(self, step: int, batch: Tensor, random: torch.Generator) -> float:
        steps = self.per_epoch * self.recipe.epochs
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps, self.recipe)
        flip = torch.rand(len(batch), generator=random) < 0.5
        images = self.data.train[batch]
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        loss = F.cross_entropy(
            self.model(images),
            self.data.train_labels[batch],
            label_smoothing=self.recipe.label_smoothing,
        )
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def _save(self, stage: str) -> None:
        with atomic_path(self.out / f"{stage}.safetensors") as path:
            save_file(self.model.state_dict(), path)

    def _keep(self) -> None:
        """Save what a resumed run needs, then the log."""
        state = {
            "log": json.dumps(self.log),
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        with atomic_path(self.out / STATE) as path:
            torch.save(state, path)
        with atomic_path(self.out / LOG) as path:
            path.write_text(json.dumps(self.log, indent=1) + "\n")

    def _resume(self) -> None:
        path = self.out / STATE
        if not path.is_file():
            raise CheckpointError(
                f"there is nothing to resume in {self.out}",
                "it holds no state of a run",
                "Leave --resume out to start a new run",
            )
        state = torch.load(path, weights_only=True)
        log = json.loads(state["log"])
        before, now = log["recipe"], asdict(self.recipe)
        changed = [f"{key} {before[key]} -> {now[key]}" for key in now if before[key] != now[key]]
        if changed or log["data"] != self.log["data"]:
            raise CheckpointError(
                f"the run in {self.out} cannot be resumed",
                "changed: " + ", ".join(changed or ["the data"]),
                "Resume with the arguments of that run, or use another --out",
            )
        self.log = log
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def measure_on_test(out: Path, folder: Path | None = None) -> dict[str, float]:
    """Accuracy of a finished run's final weights on the test images; written into its log.

    The only function that reads the test images: it is called once, when the recipe is settled.
    """
    log_path = out / LOG
    if not (out / "final.safetensors").is_file():
        raise CheckpointError(
            f"{out} holds no finished run", "there is no final.safetensors", "Train first"
        )
    log = json.loads(log_path.read_text())
    model = build(Recipe(**log["recipe"]))
    model.load_state_dict(load_file(out / "final.safetensors"))
    images, labels = fashion_mnist.read_split("test", folder)
    pixels, classes = normalise(images), torch.from_numpy(labels)
    log["test_accuracy"] = {
        "all 10,000": accuracy(model, pixels, classes),
        "first 2,000": accuracy(model, pixels[:2000], classes[:2000]),
    }
    with atomic_path(log_path) as path:
        path.write_text(json.dumps(log, indent=1) + "\n")
    return log["test_accuracy"]
