"""A watcher as a callback of Lightning's Trainer and of transformers'; both are imported late."""

import importlib
import sys
from importlib.util import find_spec
from typing import Any

from whitebox_probe._core.errors import MissingDependency
from whitebox_probe.watching.watcher import Watcher

_LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


def of_lightning(watcher: Watcher) -> Any:
    """A callback that measures after the optimiser's steps, of the process that logs.

    It is of each package that the program has imported, `lightning` or `pytorch_lightning` (their
    trainers take callbacks of their own alone), or else of the one that is installed.

    Raises: MissingDependency.
    """
    names = [name for name in _LIGHTNING if name in sys.modules]
    names = names or [n for n in _LIGHTNING if find_spec(n.partition(".")[0])][:1]
    if not names:
        raise MissingDependency(
            "a callback for Lightning needs lightning",
            "it is not installed",
            "Run: pip install 'whitebox-probe[lightning]'",
        )
    bases: Any = [importlib.import_module(name).Callback for name in names]

    class Watching(*bases):  # type: ignore[misc]  # imported late, so not known to it
        """Measures the layers of a model while it is trained."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.is_global_zero:
                watcher.start(trainer.global_step)
            self.seen = trainer.global_step

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            # Of batches whose gradients are accumulated, only the last one is a step.
            if trainer.is_global_zero and trainer.global_step != self.seen:
                watcher.step(trainer.global_step)
            self.seen = trainer.global_step

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            watcher.close()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            watcher.close(last=False)

    return Watching()


def of_transformers(watcher: Watcher) -> Any:
    """A callback that measures after the optimiser's steps, of the process that logs.

    Raises: MissingDependency.
    """
    if find_spec("transformers") is None:
        raise MissingDependency(
            "a callback for transformers' Trainer needs transformers",
            "it is not installed",
            "Run: pip install 'whitebox-probe[text]'",
        )
    base: Any = importlib.import_module("transformers").TrainerCallback

    class Watching(base):  # type: ignore[misc]  # imported late, so not known to it
        """Measures the layers of a model while it is trained."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                watcher.start(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                watcher.step(state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.close()

    return Watching()
