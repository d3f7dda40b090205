"""The recipe of the language models: reproducible, and blind to the held-out books."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, DataError
from whitebox_probe.data import kjv
from whitebox_probe.training import text as training
from whitebox_probe.training.__main__ import main
from whitebox_probe.training.recipe import TextRecipe, build_text
from whitebox_probe.training.text import load_text, measured_loss, train_text

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")
SMALL = {
    "dim": 16,
    "depth": 2,
    "heads": 2,
    "length": 16,
    "vocabulary": 300,
    "epochs": 2,
    "batch_size": 8,
}
KINDS = ("crate-lm", "gpt")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over threads would round differently from run to run
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A short Bible: verses of the shipped text under other references."""
    verses = kjv.read().splitlines()
    lines = [f"Ge1:{i} {verse}" for i, verse in enumerate(verses[:120], 1)]
    for start, book in enumerate(kjv.VALIDATION + kjv.HELD_OUT):
        part = verses[200 + 10 * start :][:10]
        lines += [f"{book}1:{i} {verse}" for i, verse in enumerate(part, 1)]
    path = tmp_path_factory.mktemp("bible") / "kjv.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_model_bit_for_bit_and_resuming_does_too(kind, file, tmp_path):
    recipe = TextRecipe(kind=kind, **SMALL)
    data = load_text(recipe, file)
    log = train_text(recipe, data, tmp_path / "a", progress=False)
    run = training.TextRun(recipe, data, tmp_path / "b", resume=False)
    run.epoch(0, progress=False)  # killed here
    train_text(recipe, data, tmp_path / "b", resume=True, progress=False)
    want = load_file(tmp_path / "a" / "final.safetensors")
    got = load_file(tmp_path / "b" / "final.safetensors")
    assert all(torch.equal(got[key], want[key]) for key in want)
    assert "lm_head.weight" not in want  # one tensor, stored once
    assert log["epochs"][-1]["validation_loss"] < math.log(300)
    init = load_file(tmp_path / "a" / "init.safetensors")
    drawn = build_text(recipe).state_dict()
    assert all(torch.equal(tensor, drawn[key]) for key, tensor in init.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_of_each_token_s_own_and_the_bytes_are_the_texts(kind, file):
    recipe = TextRecipe(kind=kind, **SMALL)
    data = load_text(recipe, file)
    model = build_text(recipe).eval()
    found = measured_loss(model, data.held_out, data.tokenizer)
    total, length = 0.0, 0
    with torch.inference_mode():
        for ids in data.held_out:
            for place in range(1, recipe.length):
                out = model(ids[None, :place])  # what is before a token predicts it
                logits = out if isinstance(out, torch.Tensor) else out.logits
                total += float(F.cross_entropy(logits[0, -1], ids[place]))
            length += len(data.tokenizer.decode(ids[1:].tolist()).encode())
    assert found["nats_per_token"] == pytest.approx(total / data.held_out[:, 1:].numel(), rel=1e-5)
    assert found["nats_per_byte"] == pytest.approx(total / length, rel=1e-5)


def test_held_out_books_reach_neither_the_tokenizer_nor_the_training_text(file, tmp_path):
    recipe = TextRecipe(**SMALL)
    data = load_text(recipe, file)
    changed = tmp_path / "changed.txt"
    kept = [line for line in file.read_text().splitlines() if line.startswith("Ge")]
    rest = [
        f"{book}1:{i} zzqx {'kjv ' * 40}"
        for book in kjv.VALIDATION + kjv.HELD_OUT
        for i in range(1, 5)
    ]
    changed.write_text("\n".join(kept + rest) + "\n")
    other = load_text(recipe, changed)
    assert other.tokenizer.to_str() == data.tokenizer.to_str()
    assert torch.equal(other.train, data.train)
    assert not torch.equal(other.held_out, data.held_out)


def test_matrices_are_trained_by_muon_and_embeddings_are_not():
    from whitebox_probe.training.recipe import optimizers

    for kind in KINDS:
        recipe = TextRecipe(kind=kind, **SMALL)
        model = build_text(recipe)
        names = {id(p): name for name, p in model.named_parameters()}
        muon, adam = optimizers(model, recipe)
        hidden = {names[id(p)] for group in muon.param_groups for p in group["params"]}
        rest = {names[id(p)] for group in adam.param_groups for p in group["params"]}
        assert all(".h." in name and name.endswith(".weight") for name in hidden)
        assert len(hidden) == recipe.depth * (3 if kind == "crate-lm" else 4)
        assert {"transformer.wte.weight", "transformer.wpe.weight"} <= rest


def test_the_command_trains_and_tests(file, tmp_path, capsys):
    words = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    run = tmp_path / "run"
    assert main(["gpt", "--out", str(run), "--data", str(file), "--quiet", *words]) == 0
    assert "validation loss" in capsys.readouterr().out
    assert "held_out_loss" not in json.loads((run / "log.json").read_text())
    assert main(["test", str(run), "--data", str(file)]) == 0
    log = json.loads((run / "log.json").read_text())
    losses = [log["held_out_loss"][stage]["nats_per_token"] for stage in ("init", "final")]
    assert losses[1] < losses[0]
    arch = {"family": "hf", **TextRecipe(kind="gpt", **SMALL).arch()}
    with pytest.warns(wp.AssumedWarning, match="activation_function=gelu_new"):
        model = wp.load(run / "final.safetensors", arch=arch)
    assert model.layers == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gpt", "--out", "x", "--patch-size", "4"], "a gpt has no --patch-size"),
        (["crate", "--out", "x", "--vocabulary", "9"], "a crate has no --vocabulary"),
        (["crate-lm", "--out", "x", "--data", "nowhere.txt"], "nowhere.txt cannot be read"),
    ],
)
def test_wrong_arguments_exit_with_two(words, told, capsys):
    try:
        status = main(words)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert told in capsys.readouterr().err


def test_another_text_is_refused(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("Ge1:1 In the beginning\nno reference here\n")
    with pytest.raises(DataError, match=r"line 2 .* is no verse: it starts with 'no reference"):
        kjv.corpus(path)
    path.write_text("Ge1:1 In the beginning\n")
    with pytest.raises(DataError, match="cannot be split: it lacks Heb"):
        kjv.split(kjv.corpus(path))


def test_a_program_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(kjv, "COMMAND", ("no-such-bible",))
    with pytest.raises(DataError, match="Install Debian's packages bible-kjv"):
        kjv.corpus()


def test_a_run_that_is_not_finished_has_no_loss(tmp_path):
    with pytest.raises(CheckpointError, match="no finished run"):
        training.measure_on_held_out(tmp_path)
