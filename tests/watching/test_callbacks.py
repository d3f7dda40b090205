"""The real libraries, where they are installed: TensorBoard, wandb, Lightning, transformers.

Without them the same callbacks run in a loop that calls what their trainers call.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from watching.tiny import SITES, images, network, train

import whitebox_probe as wp
from whitebox_probe.results.table import read_table

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore::whitebox_probe._core.errors.LoadWarning"),
    # What these libraries warn of in their own code is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def watch(net, **options):
    model = wp.wrap(net, sites=SITES, dim=8, name="tiny")
    return wp.watch(model, images(), **{"metrics": ["l0", "hoyer"], "every": 2} | options)


def steps(watcher):
    return [int(result.model.partition("@")[2]) for result in watcher.results()]


def test_tensorboard_has_a_curve_a_layer_and_no_step_twice(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with watch(network(), to=f"tensorboard:{tmp_path}") as watcher:
        for _ in range(5):
            watcher.step()
    with watch(
        network(), to=f"tensorboard:{tmp_path}", resume=True, first_step=4, every=3
    ) as again:
        for _ in range(2):
            again.step()
    events = EventAccumulator(str(tmp_path)).Reload()
    scalars = events.Scalars("l0/layer_01")
    assert [each.step for each in scalars] == [0, 2, 4, 6]
    first = watcher.results()[0].curve("l0")["mean"]
    assert scalars[0].value == pytest.approx(first[0])
    assert len(events.Tags()["scalars"]) == 6


def test_a_run_of_wandb_gets_the_values_with_a_step_of_their_own(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    with (
        wandb.init(mode="offline", dir=str(tmp_path), project="watch") as run,
        watch(network(), to="wandb") as watcher,
    ):
        for step in range(1, 4):
            watcher.step()
            run.log({"loss": float(step)}, step=step)
        watcher.close()
        summary = dict(run.summary)
    assert steps(watcher) == [0, 2, 3]
    assert summary["whitebox_probe/step"] == 3
    assert summary["loss"] == 3
    assert summary["whitebox_probe/l0/layer_03"] == watcher.results()[-1].curve("l0")["mean"][2]


def trained_by_lightning(lightning, callbacks, folder, *, epochs=2, resume=None):
    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, batch_idx):
            Z, labels = batch
            return F.cross_entropy(self.net(Z), labels)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    torch.manual_seed(3)
    data = TensorDataset(images(24, seed=4), torch.randint(2, (24,)))
    lit = Lit()
    made = callbacks(lit.net)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=made,
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(lit, DataLoader(data, batch_size=4, shuffle=True), ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return {name: tensor.numpy().tobytes() for name, tensor in lit.net.state_dict().items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_trains_the_same_weights_and_its_steps_are_the_optimisers(package, tmp_path):
    lightning = pytest.importorskip(package)
    watchers = []

    def callbacks(net):
        log = tmp_path / "log.csv"
        watchers.append(watch(net, to=log, resume=bool(watchers)))
        return [watchers[-1].lightning_callback()]

    alone = trained_by_lightning(lightning, lambda net: [], tmp_path)
    assert trained_by_lightning(lightning, callbacks, tmp_path) == alone
    assert steps(watchers[0]) == [0, 2, 4, 6]  # 12 batches, two to a step
    last = tmp_path / "last.ckpt"
    trained_by_lightning(lightning, callbacks, tmp_path, epochs=3, resume=last)
    assert steps(watchers[1]) == [6, 8, 9], "the state of the checkpoint, and what came of it"
    trained = watchers[0].results()[-1].curve("hoyer")["mean"].tolist()
    assert watchers[1].results()[0].curve("hoyer")["mean"].tolist() == trained
    logged = read_table(tmp_path / "log.csv")["step"].drop_duplicates().tolist()
    assert logged == [0, 2, 4, 6, 8, 9]


@pytest.mark.filterwarnings("ignore")
def test_transformers_trainer_trains_the_same_weights(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    def trained(watched):
        config = transformers.GPT2Config(
            vocab_size=17, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
        torch.manual_seed(0)
        net = transformers.GPT2LMHeadModel(config)
        ids = torch.randint(17, (24, 8), generator=torch.Generator().manual_seed(1))
        watcher = wp.watch(net, ids[:4], every=2) if watched else None
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / f"{watched}"),
            num_train_epochs=2,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = transformers.Trainer(
            net,
            arguments,
            train_dataset=[{"input_ids": row, "labels": row} for row in ids[4:]],
            callbacks=[watcher.transformers_callback()] if watched else [],
        )
        trainer.train()
        left = {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}
        return left, watcher

    alone, _ = trained(watched=False)
    together, watcher = trained(watched=True)
    assert together == alone
    assert steps(watcher) == [0, 2, 4, 6]
    assert watcher.results()[0].run["metrics"] == ["compression", "coding_rate", "l0", "hoyer"]


class Callback:
    """What Lightning's and transformers' callbacks inherit from, as far as it is used."""


def test_the_callbacks_follow_the_hooks_of_their_trainers(monkeypatch):
    lightning, transformers = ModuleType("lightning.pytorch"), ModuleType("transformers")
    lightning.Callback = transformers.TrainerCallback = Callback
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", lightning)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setattr("whitebox_probe.watching.callbacks.find_spec", lambda name: True)

    watcher = watch(network())
    hooks = watcher.lightning_callback()
    trainer = SimpleNamespace(is_global_zero=True, global_step=10)
    hooks.on_train_start(trainer, None)
    for batch in range(8):  # of two batches one is a step
        trainer.global_step = 10 + (batch + 1) // 2
        hooks.on_train_batch_end(trainer, None, None, None, batch)
    hooks.on_exception(trainer, None, KeyboardInterrupt())
    assert steps(watcher) == [10, 12, 14]

    watcher = watch(network())
    hooks = watcher.transformers_callback()
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    hooks.on_train_begin(None, state, None, model=None)
    for step in range(1, 4):
        state.global_step = step
        hooks.on_step_end(None, state, None, model=None)
    hooks.on_train_end(None, state, None, model=None)
    assert steps(watcher) == [0, 2, 3]


def test_a_plain_loop_needs_no_library():
    net = network()
    with watch(net) as watcher:
        train(net, 3, watcher.step)
    assert steps(watcher) == [0, 2, 3]
