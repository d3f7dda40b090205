"""A training run: seeded, logged, and resumable after any epoch."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, DataError, NonFiniteError
from whitebox_probe._core.gate import Unfit, gate
from whitebox_probe._core.memory import available
from whitebox_probe._core.progress import bar
from whitebox_probe._core.versions import version_of
from whitebox_probe.training import files
from whitebox_probe.training.recipe import Recipe, TextRecipe, moments, optimizers, schedule

Of = TypeVar("Of", Recipe, TextRecipe)


class Run(ABC, Generic[Of]):
    """A training run in progress: what image and language models share.

    Args:
        model: at its initialisation. facts: what the log says of the data.
        count: of examples in an epoch.
    Raises: CheckpointError when there is nothing to resume, or a run of another recipe, or any
        run where none is resumed, is there; DataError for fewer examples than a batch has.
    """

    library = "timm"

    def __init__(
        self,
        recipe: Of,
        model: nn.Module,
        out: Path,
        facts: dict[str, Any],
        count: int,
        *,
        resume: bool,
    ) -> None:
        self.recipe: Of = recipe
        self.model, self.out, self.count = model, out, count
        _expect_room(model)
        self.optimizers = optimizers(model, recipe)
        self.base = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.per_epoch = count // recipe.batch_size
        if not self.per_epoch:
            raise DataError(
                "an epoch has no whole batch",
                f"there are {count} examples to train on, and a batch takes {recipe.batch_size}",
                "Use a smaller --batch-size, or more data",
            )
        self.log: dict[str, Any] = {
            "recipe": asdict(recipe),
            "parameters": sum(p.numel() for p in model.parameters()),
            "data": facts,
            "threads": torch.get_num_threads(),
            "versions": {name: version_of(name) for name in ("torch", self.library, "numpy")},
            "epochs": [],
        }
        if resume:
            self._resume()
        else:
            files.expect_no_run(out)
            self._save("init")

    @abstractmethod
    def loss(self, batch: Tensor, random: torch.Generator) -> Tensor:
        """The loss of the examples with these numbers."""

    @abstractmethod
    def held_out(self) -> dict[str, float]:
        """What is measured on validation data after each epoch."""

    def weights(self) -> dict[str, Tensor]:
        """The state dict as it is saved."""
        return self.model.state_dict()

    @property
    def done(self) -> int:
        """Whole epochs so far."""
        return len(self.log["epochs"])

    def epoch(self, epoch: int, *, progress: bool) -> None:
        """One pass over the examples, then validation, then everything is saved."""
        start, total = time.perf_counter(), 0.0
        # One generator an epoch: a resumed run draws what the uninterrupted one would have.
        random = torch.Generator().manual_seed(1000 * self.recipe.seed + epoch)
        order = torch.randperm(self.count, generator=random)
        batches = order[: self.per_epoch * self.recipe.batch_size].split(self.recipe.batch_size)
        self.model.train()
        title = f"{self.recipe.kind} epoch {epoch + 1}/{self.recipe.epochs}"
        for number, batch in enumerate(bar(batches, progress=progress, desc=title)):
            total += self._step(epoch * self.per_epoch + number, batch, random)
        loss = total / len(batches)
        if not np.isfinite(loss):
            raise NonFiniteError(
                f"the loss is {loss} in epoch {epoch + 1}",
                f"training diverged at lr {self.recipe.lr}",
                "Use a smaller --lr",
            )
        self.log["epochs"].append(
            {
                "loss": round(loss, 5),
                **self.held_out(),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
        last = epoch + 1 == self.recipe.epochs
        self._save("final" if last else f"epoch-{epoch + 1:02d}")
        self._keep()

    def _step(self, step: int, batch: Tensor, random: torch.Generator) -> float:
        steps = self.per_epoch * self.recipe.epochs
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps, self.recipe)
        loss = self.loss(batch, random)
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def _save(self, stage: str) -> None:
        files.write_weights(self.out / f"{stage}.safetensors", self.weights())

    def _keep(self) -> None:
        """Save what a resumed run needs, then the log."""
        state = {
            "log": json.dumps(self.log),
            "model": self.model.state_dict(),
            "moments": [o.state_dict()["state"] for o in self.optimizers],
        }
        files.write_state(self.out, state)
        files.write_log(self.out, self.log)

    def _resume(self) -> None:
        state = files.read_state(self.out)
        log = state["log"]
        before, now = log["recipe"], asdict(self.recipe)
        changed = [
            f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]
        ]
        if changed or log["data"] != self.log["data"]:
            raise self._unfit("changed: " + ", ".join(changed or ["the data"]))
        try:
            with gate():
                if len(log["epochs"]) > self.recipe.epochs:
                    raise Unfit(f"it tells of {len(log['epochs'])} epochs")
                files.expect_like(state["model"], self.model.state_dict(), "its network")
                self.model.load_state_dict(state["model"])
                for optimizer, saved in zip(self.optimizers, state["moments"], strict=True):
                    files.expect_like(saved, moments(optimizer), "its optimiser")
                    self._expect_steps(saved, len(log["epochs"]))
                    groups = optimizer.state_dict()["param_groups"]
                    optimizer.load_state_dict({"state": saved, "param_groups": groups})
        except Unfit as error:
            raise self._unfit(f"its state is of another run: {error}") from error
        self.log = log
        if not files.tells(self.out, log["epochs"]):  # a kill can fall between the two
            files.write_log(self.out, log)

    def _expect_steps(self, saved: Mapping[int, Mapping[str, Tensor]], epochs: int) -> None:
        told = {int(each["step"]) for each in saved.values() if "step" in each}
        if told - {epochs * self.per_epoch}:
            raise Unfit(f"its optimiser tells of {min(told)} steps")

    def _unfit(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"the run in {self.out} cannot be resumed",
            why,
            "Resume with the arguments of that run, or use another --out",
        )


def _expect_room(model: nn.Module) -> None:
    """Refuse a network whose gradients and moments would not fit: the kernel tells nobody.

    Raises: CheckpointError.
    """
    needed = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    if needed > available():
        raise CheckpointError(
            "this recipe's network cannot be trained here",
            f"its gradients and the optimisers' moments take {needed / 1e9:.1f} GB",
            "Use smaller sizes, or a machine with more memory",
        )
