"""The recipe: reproducible, resumable, and blind to the test images."""

import gzip
import hashlib
import io
import json
import math
import os
import pickle
import re
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, NonFiniteError
from whitebox_probe.data import fashion_mnist
from whitebox_probe.training import files
from whitebox_probe.training.__main__ import main
from whitebox_probe.training.loop import load_data, split_numbers, train
from whitebox_probe.training.recipe import Recipe, build, schedule, sincos

SMALL = {"dim": 16, "depth": 2, "heads": 2, "epochs": 2, "batch_size": 32, "validation": 100}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over threads would round differently from run to run
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    """The shipped images as if they were the training set; no test files at all."""
    images, labels = fashion_mnist.read_embedded()
    write(tmp_path / "idx", "train", images[:300], labels[:300])
    return tmp_path / "idx"


def write(folder, prefix, images, labels):
    folder.mkdir(exist_ok=True)
    for name, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
        sizes = np.array(array.shape, dtype=">i4").tobytes()
        raw = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
        (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(raw))


@pytest.mark.parametrize("kind", ["crate", "vit"])
def test_a_seed_gives_one_model_bit_for_bit_and_resuming_does_too(kind, folder, tmp_path):
    recipe = Recipe(kind=kind, **SMALL)
    data = load_data(recipe, folder)
    log = train(recipe, data, tmp_path / "a", progress=False)
    train(recipe, data, tmp_path / "b", progress=False)
    want = load_file(tmp_path / "a" / "final.safetensors")

    class Stopped(Exception):  # noqa: N818
        pass

    from whitebox_probe.training import loop

    run = loop._Run(recipe, data, tmp_path / "c", resume=False)
    run.epoch(0, progress=False)  # killed here
    resumed = train(recipe, data, tmp_path / "c", resume=True, progress=False)
    for other in ("b", "c"):
        got = load_file(tmp_path / other / "final.safetensors")
        assert all(torch.equal(got[key], want[key]) for key in want)
    assert [e["loss"] for e in resumed["epochs"]] == [e["loss"] for e in log["epochs"]]
    assert json.loads((tmp_path / "a" / "log.json").read_text())["recipe"]["kind"] == kind
    init = load_file(tmp_path / "a" / "init.safetensors")
    assert all(torch.equal(init[key], value) for key, value in build(recipe).state_dict().items())
    assert not torch.equal(init[next(iter(want))], want[next(iter(want))]) or len(want) > 1


def test_the_weights_of_every_epoch_are_kept_and_are_those_of_a_shorter_run(folder, tmp_path):
    recipe = Recipe(**{**SMALL, "epochs": 3})
    data = load_data(recipe, folder)
    train(recipe, data, tmp_path / "run", progress=False)
    kept = sorted(path.stem for path in (tmp_path / "run").glob("*.safetensors"))
    assert kept == ["epoch-01", "epoch-02", "final", "init"]
    stages = [load_file(tmp_path / "run" / f"{stage}.safetensors") for stage in kept]
    for number, one in enumerate(stages):
        for other in stages[:number]:
            assert any(not torch.equal(one[key], other[key]) for key in one)

    from whitebox_probe.training import loop

    run = loop._Run(recipe, data, tmp_path / "stopped", resume=False)
    run.epoch(0, progress=False)  # killed here, and gone on with
    train(recipe, data, tmp_path / "stopped", resume=True, progress=False)
    for stage, want in zip(kept, stages, strict=True):
        got = load_file(tmp_path / "stopped" / f"{stage}.safetensors")
        assert all(torch.equal(got[key], want[key]) for key in want)


def test_a_run_is_watched_and_trains_the_same_weights(folder, tmp_path):
    from whitebox_probe.training import loop

    recipe = Recipe(**{**SMALL, "epochs": 1})
    data = load_data(recipe, folder)
    train(recipe, data, tmp_path / "alone", progress=False)
    run = loop._Run(recipe, data, tmp_path / "watched", resume=False)
    with wp.watch(run.model, data.validation, every=2, limit=4) as watcher:
        for optimizer in run.optimizers[-1:]:
            optimizer.register_step_post_hook(lambda *_: watcher.step())
        run.epoch(0, progress=False)
    assert [result.model for result in watcher.results()] == [f"crate@{n}" for n in (0, 2, 4, 6)]
    want = load_file(tmp_path / "alone" / "final.safetensors")
    got = load_file(tmp_path / "watched" / "final.safetensors")
    assert all(torch.equal(got[key], want[key]) for key in want)


def test_training_and_validation_images_are_apart_and_the_same_for_every_seed():
    train_numbers, validation = split_numbers(60_000, 5_000)
    assert len(validation) == 5_000
    assert set(train_numbers.tolist()).isdisjoint(validation.tolist())
    assert len(set(train_numbers.tolist()) | set(validation.tolist())) == 60_000
    torch.manual_seed(99)
    assert torch.equal(split_numbers(60_000, 5_000)[1], validation)


def test_test_images_are_not_read_while_training(folder, tmp_path):
    # The folder holds no test files: reading them would fail.
    recipe = Recipe(**{**SMALL, "epochs": 1})
    log = train(recipe, load_data(recipe, folder), tmp_path / "run", progress=False)
    assert "test_accuracy" not in log
    assert main(["test", str(tmp_path / "run"), "--data", str(folder)]) == 2
    images, labels = fashion_mnist.read_embedded()
    write(folder, "t10k", images, labels)
    assert main(["test", str(tmp_path / "run"), "--data", str(folder)]) == 0
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    assert 0 < log["test_accuracy"]["first 2,000"] < 1


def test_a_changed_recipe_refuses_to_resume_and_says_what_changed(folder, tmp_path):
    recipe = Recipe(**{**SMALL, "epochs": 1})
    data = load_data(recipe, folder)
    train(recipe, data, tmp_path / "run", progress=False)
    with pytest.raises(CheckpointError, match="lam 0.1 -> 0.5"):
        train(Recipe(**{**SMALL, "epochs": 1, "lam": 0.5}), data, tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(recipe, data, tmp_path / "none", resume=True)


def told_in_one_line(words, capsys):
    capsys.readouterr()
    try:
        status = main([str(word) for word in words])
    except SystemExit as end:
        status = end.code
    err = capsys.readouterr().err
    assert status == 2, err
    assert err.count("\n") == 1
    assert len(err) < 500
    return err


FEW = ["--dim=16", "--depth=2", "--heads=2", "--batch-size=32", "--validation=100", "--quiet"]


@pytest.fixture
def half(folder, tmp_path):
    """A run that was killed behind the first of two epochs."""
    from whitebox_probe.training import loop

    recipe = Recipe(**SMALL)
    data = load_data(recipe, folder)
    loop._Run(recipe, data, tmp_path / "run", resume=False).epoch(0, progress=False)
    return tmp_path / "run"


def resumed(half, folder):
    return ["crate", *FEW, "--epochs=2", "--resume", "--out", half, "--data", folder]


def weights_in_half(content):
    state = torch.load(io.BytesIO(content), weights_only=True)
    held = io.BytesIO()
    torch.save(state | {"model": {k: t.half() for k, t in state["model"].items()}}, held)
    return held.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],
        lambda b: b[:-200],
        lambda b: b"",
        lambda b: pickle.dumps({"log": "{}"}),
        weights_in_half,
    ],
    ids=["a bit", "cut", "empty", "a pickle", "saved anew"],
)
def test_a_state_that_is_not_as_it_was_written_is_refused(damage, half, folder, capsys):
    path = half / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    assert "state.pt cannot be read" in told_in_one_line(resumed(half, folder), capsys)


def test_a_state_is_resumed_by_the_command_and_read_by_torch(half, folder, capsys):
    assert set(torch.load(half / "state.pt", weights_only=True)) == {"log", "model", "moments"}
    assert main([str(word) for word in resumed(half, folder)]) == 0
    assert (half / "final.safetensors").is_file()


def saved(path, state):
    held = io.BytesIO()
    torch.save(state, held)
    content = held.getvalue()
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def with_log(**changes):
    def change(state):
        log = {k: v for k, v in (json.loads(state["log"]) | changes).items() if v is not None}
        return state | {"log": json.dumps(log)}

    return change


def with_moment(tensor):
    def change(state):
        first = {**state["moments"][0], 0: {"momentum_buffer": tensor}}
        return state | {"moments": [first, state["moments"][1]]}

    return change


def with_steps(count):
    def change(state):
        adam = {
            n: {**m, "step": torch.tensor(float(count))} for n, m in state["moments"][1].items()
        }
        return state | {"moments": [state["moments"][0], adam]}

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(lambda s: [], lambda s: {}, lambda s: s | {"log": "{"}, lambda s: s | {"log": None}),
        *(with_log(epochs=[]), with_log(epochs=[{"loss": "x"}]), with_log(recipe=None)),
        *(with_log(epochs=[{"loss": 1.0}] * 3), with_log(data=[])),
        *(lambda s: s | {"model": {}}, lambda s: s | {"model": None}, lambda s: s | {"moments": 1}),
        *(lambda s: s | {"moments": []}, lambda s: s | {"moments": [{}, {}]}),
        lambda s: s | {"model": {k: t.double() for k, t in s["model"].items()}},
        lambda s: s | {"model": {k: t * torch.nan for k, t in s["model"].items()}},
        with_log(epochs=[{"loss": 1.0, "validation_accuracy": 10**400, "seconds": 1.0}]),
        with_log(epochs=[{"loss": 1.0, "validation_\x1b[31m": 0.5, "seconds": 1.0}]),
        *(with_steps(-1), with_steps(3)),
        with_moment(torch.zeros(1, 1).expand(16, 16)),
        *(with_moment(None), with_moment(torch.zeros(2)), with_moment(torch.zeros(1).to("meta"))),
    ],
)
def test_a_state_that_somebody_made_is_one_line(change, half, folder, capsys):
    content = (half / "state.pt").read_bytes()
    saved(half / "state.pt", change(torch.load(io.BytesIO(content), weights_only=True)))
    told_in_one_line(resumed(half, folder), capsys)


def test_a_log_that_a_kill_left_behind_is_written_by_the_next(half, folder, capsys):
    assert main([str(word) for word in resumed(half, folder)]) == 0
    whole = (half / "log.json").read_text()
    log = files.read_log(half)
    files.write_log(half, log | {"epochs": log["epochs"][:1]})
    assert main([str(word) for word in resumed(half, folder)]) == 0
    assert (half / "log.json").read_text() == whole
    files.write_log(half, log | {"test_accuracy": {"x": 0.5}})
    assert main([str(word) for word in resumed(half, folder)]) == 0
    assert "test_accuracy" in (half / "log.json").read_text()  # of whole epochs it stays


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--depth=65536"], "more than 131,072 tensors"),
        (["--dim=2048", "--mlp-ratio=512"], "cannot be built: it has more than"),
        (["--dim=512", "--depth=10"], "gradients and the optimisers' moments take"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(
    words, told, folder, tmp_path, monkeypatch, capsys
):
    from whitebox_probe.models import room
    from whitebox_probe.training import run

    monkeypatch.setattr(room, "available", lambda: 1 << 30)
    monkeypatch.setattr(run, "available", lambda: 1 << 25)
    usual = ["vit", *FEW, "--epochs=1", "--data", folder, "--out", tmp_path / "run"]
    assert told in told_in_one_line([*usual, *words], capsys)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "smaller --batch-size"),
        (OSError(28, "No space left on device"), "cannot be written: No space left"),
    ],
)
def test_what_runs_out_is_one_line(error, told, folder, tmp_path, monkeypatch, capsys):
    from whitebox_probe.training import loop

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(loop._Run, "loss", fails)
    usual = ["crate", *FEW, "--epochs=1", "--data", folder, "--out", tmp_path / "run"]
    assert told in told_in_one_line(usual, capsys)


def test_a_fault_of_ours_is_no_line(folder, tmp_path, monkeypatch):
    from whitebox_probe.training import loop

    def fails(*_, **__):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(loop._Run, "loss", fails)
    with pytest.raises(RuntimeError, match="no such thing"):
        main(["crate", *FEW, "--epochs=1", f"--data={folder}", f"--out={tmp_path / 'run'}"])


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def idx(*sizes, kind=8, count=None):
    head = bytes([0, 0, kind, len(sizes)]) + np.array(sizes, dtype=">i4").tobytes()
    return gzip.compress(head + bytes(math.prod(sizes) if count is None else count))


DAMAGED = [
    (IMAGES, b"", "no idx file"),
    (IMAGES, gzip.compress(b""), "no idx file"),
    (IMAGES, gzip.compress(b"\0\0"), "no idx file"),
    (IMAGES, idx(300, 28, 28)[:-30], "ended before"),
    (IMAGES, b"no gzip", "[Nn]ot a gzip"),
    (IMAGES, idx(300, 28, 28, kind=9), "no idx file"),
    (IMAGES, idx(300, 784), "no idx file"),
    (IMAGES, idx(300, 27, 28), "27 x 28, not 28 x 28"),
    (IMAGES, idx(300, 28, 28, count=9), "holds 9 bytes and states 235200"),
    (IMAGES, idx(0xFFFFFFFF - (1 << 32), 28, 28, count=0), "states -784"),
    (IMAGES, idx(0, 28, 28), "it has no images"),
    (IMAGES, idx(299, 28, 28), "300 labels for 299 images"),
    (IMAGES, idx(1, 28, 28, count=1 << 27), "more than 67,108,864 bytes"),
    (LABELS, idx(200), "200 labels for 300 images"),
    (LABELS, gzip.compress(gzip.decompress(idx(300))[:-1] + b"\n"), "the label 10"),
]


@pytest.mark.parametrize(("name", "content", "told"), DAMAGED, ids=[why for *_, why in DAMAGED])
def test_images_that_are_damaged_are_one_line(name, content, told, folder, tmp_path, capsys):
    (folder / name).write_bytes(content)
    usual = ["crate", *FEW, "--epochs=1", "--data", folder, "--out", tmp_path / "run"]
    assert re.search(told, told_in_one_line(usual, capsys))


@pytest.mark.parametrize("kind", ["crate", "gpt"])
def test_a_pipe_in_place_of_a_file_is_no_hang(kind, folder, tmp_path, capsys):
    pipe = folder / IMAGES
    pipe.unlink()
    os.mkfifo(pipe)
    data = folder if kind == "crate" else pipe
    err = told_in_one_line([kind, "--data", data, "--out", tmp_path / "run"], capsys)
    assert "it is a pipe" in err


def test_a_run_that_is_there_is_not_written_over(half, folder, capsys):
    before = {path: path.read_bytes() for path in half.iterdir()}
    again = [word for word in resumed(half, folder) if word != "--resume"]
    err = told_in_one_line([*again, "--seed", "5"], capsys)
    assert "holds a run already" in err
    assert "--resume" in err
    assert {path: path.read_bytes() for path in half.iterdir()} == before


@pytest.mark.parametrize(
    "words",
    [
        *(["--dim", dim] for dim in ("-4", "0", "17", "18", "1000000")),
        *([f"--{name}", "0"] for name in ("depth", "heads", "epochs", "batch-size", "patch-size")),
        *(["--heads", "3"], ["--batch-size", "1000"], ["--validation", "300"], ["--threads", "0"]),
        *(["--validation", "-1"], ["--lr", "nan"], ["--lr", "-1"], ["--warmup", "2"]),
        *(["--patch-size", "5"], ["--seed", "-1"], ["--seed", str(2**70)], ["--limit-train", "0"]),
        *(["--clip", "0"], ["--eta", "inf"], ["--mlp-ratio", "0"], ["--data", "nowhere"]),
        *(["--out", "/dev/null/x"], ["--length", "3"], ["--depth", "x"], ["--data=--"]),
        *(["--out", ""], ["--out", "a\0b"], ["--out", "x" * 300], ["--data", ""]),
        *(["--lr", "1e300"], ["--weight-decay", "1e9"], ["--mlp-ratio", "1e12"]),
        *(["--mlp-ratio", "0.01"], ["--threads", "100000"], ["--threads", str(2**70)]),
    ],
    ids=" ".join,
)
def test_settings_of_no_run_are_one_line(words, folder, tmp_path, capsys):
    usual = ["crate", *FEW, "--epochs=1", "--data", folder, "--out", tmp_path / "run"]
    told_in_one_line([*usual, *words], capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "log",
    [
        *(b"", b"{}", b"[]", b"\xff", b'{"recipe":', b'{"recipe": []}'),
        *({"recipe": []}, {"recipe": {"kind": "crate", "dim": "x"}}, {"recipe": {"kind": []}}),
        *({"recipe": {"kind": "crate", "evil": 1}}, {"recipe": {"kind": "vit"}}),
        {"recipe": {"kind": "crate", "depth": 65536}},
    ],
)
def test_a_damaged_log_is_one_line(log, half, folder, capsys):
    (half / "epoch-01.safetensors").rename(half / "final.safetensors")
    if isinstance(log, dict):
        files.write_log(half, log)  # by somebody who knows the digest
        log = (half / "log.json").read_bytes()
    (half / "log.json").write_bytes(log)
    told_in_one_line(["test", half, "--data", folder], capsys)
    assert (half / "log.json").read_bytes() == log


def test_an_edited_log_is_one_line(half, folder, capsys):
    (half / "epoch-01.safetensors").rename(half / "final.safetensors")
    log = json.loads((half / "log.json").read_text())
    log["recipe"]["heads"] = 4  # fits the weights as well, and is another network
    (half / "log.json").write_text(json.dumps(log))
    assert "not as it was written" in told_in_one_line(["test", half, "--data", folder], capsys)


@pytest.mark.parametrize("kind", [torch.float64, torch.int32])
def test_weights_of_another_type_are_one_line(kind, half, folder, capsys):
    weights = load_file(half / "epoch-01.safetensors")
    few = {key: tensor.to(kind) for key, tensor in weights.items()}
    files.write_weights(half / "final.safetensors", few)
    assert "another kind" in told_in_one_line(["test", half, "--data", folder], capsys)


@pytest.mark.parametrize("content", [b"", b"x" * 99, None])
def test_damaged_weights_are_one_line(content, half, folder, capsys):
    whole = (half / "epoch-01.safetensors").read_bytes()
    (half / "final.safetensors").write_bytes(whole[:-9] if content is None else content)
    assert "final.safetensors" in told_in_one_line(["test", half, "--data", folder], capsys)


@pytest.mark.parametrize("room", [0, 100, 20_000])
def test_a_full_disk_is_one_line_and_leaves_nothing_torn(room, folder, tmp_path, capsys):
    resource = pytest.importorskip("resource")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = ["crate", *FEW, "--epochs=2", "--data", folder, "--out", tmp_path / "run"]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        told_in_one_line(usual, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    for path in (tmp_path / "run").glob("*.safetensors"):
        assert load_file(path)
    assert main([str(word) for word in usual]) == 0  # begins anew


def test_a_diverging_run_stops_with_the_reason(folder, tmp_path):
    recipe = Recipe(**{**SMALL, "kind": "vit"})
    data = load_data(recipe, folder)
    data.train[0] = torch.nan
    with pytest.raises(NonFiniteError, match="diverged at lr.*smaller --lr"):
        train(recipe, data, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["crate"], "--out is needed"),
        (["test"], "folder of a finished run"),
        (["mlp", "--out", "x"], "invalid choice"),
        (["test", "nowhere"], "no finished run"),
    ],
)
def test_wrong_arguments_exit_with_two(argv, told, capsys):
    try:
        status = main(argv)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert told in capsys.readouterr().err


def test_the_schedule_rises_and_ends_at_zero():
    recipe = Recipe(warmup=0.1)
    factors = [schedule(step, 100, recipe) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1
    assert factors[100] == pytest.approx(0)


def test_position_embeddings_tell_rows_and_columns_apart():
    grid = sincos(7, 96)[0]
    assert grid.shape == (50, 96)
    assert grid[0].abs().sum() == 0
    assert len(torch.unique(grid[1:].round(decimals=4), dim=0)) == 49
