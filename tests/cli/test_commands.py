"""The command line, as a process and called: what it writes, what it says, how it ends."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.errors import ResultError
from whitebox_probe.cli import main as cli

COMMANDS = sorted(cli.command_modules())


def process(*words, cwd=None):
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "whitebox_probe", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


@pytest.fixture
def call(capsys):
    """Run the command here; gives exit status, stdout and stderr."""

    def run(*words):
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two results, made by the command as a process."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for model in ("crate-tiny-fmnist", "vit-tiny-fmnist"):
        made[model] = process("run", model, "--limit", 8, "--out", folder / model, "--quiet")
    return folder, made


def test_without_a_command_it_says_what_there_is(call):
    status, out, _ = call()
    assert status == 0
    assert all(command in out for command in COMMANDS)


def test_help_does_not_load_torch():
    code = (
        "import sys; from whitebox_probe.cli.main import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(call):
    assert call("--version")[1].startswith("whitebox-probe 0.")


def test_run_writes_a_whole_result_and_says_where(runs):
    folder, made = runs
    for model, done in made.items():
        assert done.returncode == 0, done.stderr
        assert str(folder / model) in done.stdout
        result = wp.Result.load(folder / model)
        assert len(result.samples) == 8
        assert result.run["seed"] == 0
        assert len(result.run["checkpoint"]["sha256"]) == 64
        table = pd.read_csv(folder / model / "table.csv")
        assert set(table["layer"]) == set(range(1, 9))


def test_the_command_gives_what_the_function_gives(runs):
    folder, _ = runs
    here = wp.probe(wp.load("crate-tiny-fmnist"), "fashion-mnist", limit=8, progress=False)
    there = wp.Result.load(folder / "crate-tiny-fmnist")
    pd.testing.assert_frame_equal(here.frame, there.frame)


def test_compare_and_plot_take_what_run_wrote(runs, call, tmp_path):
    folder, made = runs
    results = [folder / model for model in made]
    status, out, err = call("compare", *results, "--out", tmp_path / "both", "--formats", "png")
    assert status == 0, err
    differences = pd.read_csv(tmp_path / "both" / "differences.csv")
    assert {"compression", "l0"} <= set(differences["metric"])
    for line in out.splitlines():
        if line.strip().endswith(".png"):
            with Image.open(line.strip()) as picture:
                assert picture.width > 500
    status, out, err = call("plot", *results, "--metric", "hoyer", "--out", tmp_path / "h.pdf")
    assert status == 0, err
    assert (tmp_path / "h.pdf").read_bytes().startswith(b"%PDF")


@pytest.fixture
def few_draws(monkeypatch):
    """Of each demo's verdicts three draws of random weights, where a user gets twenty.

    What the demo writes and which passes it makes are tried here; tests/auditing judges by twenty.
    """
    from whitebox_probe.auditing import audit as module

    monkeypatch.setattr(module, "audit", partial(module.audit, draws=3))


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_demo_runs_each_model_once_and_writes_every_figure_and_the_table(
    tmp_path, monkeypatch, call
):
    """Called, so that passes can be counted."""
    from whitebox_probe.probing import probe as module

    passes, plain = [], module.forward
    monkeypatch.setattr(
        module,
        "forward",
        lambda model, *args, **more: passes.append(model.name) or plain(model, *args, **more),
    )
    monkeypatch.chdir(tmp_path)
    status, out, err = call("demo", "--limit", 16, "--out", "figures", "--quiet")
    assert (status, err) == (0, "")
    assert len(set(passes[:4])) == 4
    # Then the verdicts: each trained model once, and its draws of random weights.
    assert all(passes.count(name) == 1 for name in passes if name.endswith("-init"))
    assert passes.count("crate-tiny-fmnist") == passes.count("vit-tiny-fmnist") == 2
    written = [Path(line.strip()) for line in out.splitlines() if "figures/" in line]
    assert written
    for path in written:
        assert (tmp_path / path).exists()
    names = {path.name for path in written}
    for stem in ("compression", "coding-rate", "sparsity", "coherence"):
        assert {f"{stem}.pdf", f"{stem}.png"} <= names
    summary = pd.read_csv(tmp_path / "figures" / "tables" / "summary.csv")
    assert summary["model"].nunique() == 4
    own = wp.Result.load(tmp_path / "figures" / "results" / "official" / "crate-tiny-fmnist")
    row = summary[(summary["metric"] == "compression") & (summary["model"] == own.model)].iloc[0]
    assert row["last"] == pytest.approx(own.curve("compression")["mean"].iloc[-1], rel=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_demo_of_text_writes_every_figure_and_the_table(tmp_path, monkeypatch, call):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    words = ("--limit", 3, "--out", "figures", "--formats", "png", "--quiet")
    status, out, err = call("demo", "--text", *words)
    assert (status, err) == (0, "")
    assert "3 windows of text, kjv, 6 layers" in out
    assert "images" not in out
    assert "the key projections of the GPT-2" in out
    for stem in ("compression", "coding-rate", "sparsity", "coherence"):
        with Image.open(tmp_path / "figures" / f"{stem}.png") as picture:
            assert picture.width > 500
    summary = pd.read_csv(tmp_path / "figures" / "tables" / "summary.csv")
    assert set(summary["model"]) == {
        f"{kind}-tiny-kjv{end}" for kind in ("crate", "gpt2") for end in ("", "-init")
    }


def test_run_reads_a_text_file_with_the_model_s_own_tokenizer(tmp_path, call):
    pytest.importorskip("tokenizers")
    (tmp_path / "book.txt").write_text(
        "And God said, Let there be light: and there was light. " * 60
    )
    for data, count in (("kjv", 8), (tmp_path / "book.txt", 8)):
        out = tmp_path / "out"
        words = ("--data", data, "--limit", 8, "--out", out, "--overwrite", "--quiet")
        status, _, err = call("run", "crate-tiny-kjv", *words)
        assert status == 0, err
        result = wp.Result.load(out)
        assert 1 <= len(result.samples) <= count
        assert result.run["data"]["name"] == Path(data).name
        assert result.run["tokens"] == 128


def test_a_language_model_of_transformers_is_run_and_told_of_by_its_folder(tmp_path, call):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    entry = wp.checkpoints.entry("gpt2-tiny-kjv")
    arch = {key: value for key, value in entry.arch.items() if key != "model_type"}
    folder = tmp_path / "saved"
    transformers.GPT2Model(transformers.GPT2Config(**arch)).save_pretrained(folder)
    weights = Path(wp.__file__).parent / "weights"
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(weights / "kjv.tokenizer.json"))
    fast.save_pretrained(folder)
    status, out, err = call("info", f"hf:{folder}")
    assert status == 0, err
    assert "6 layers" in out
    words = (
        "--data",
        "kjv",
        "--limit",
        3,
        "--metrics",
        "hoyer",
        "--out",
        tmp_path / "o",
        "--quiet",
    )
    status, _, err = call("run", f"hf:{folder}", *words)
    assert status == 0, err
    assert len(wp.Result.load(tmp_path / "o").samples) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list",), "crate-tiny-fmnist"),
        (("list",), "gpt2-tiny-kjv"),
        (("list",), "by hand"),
        (("list", "--data"), "kjv"),
        (("info", "crate-tiny-kjv"), "nats a token"),
        (("info", "crate-tiny-kjv"), "n = any number of tokens"),
        (("info", "kjv"), "public domain"),
        (("list", "--architectures"), "crate_small"),
        (("list", "--metrics"), "compression"),
        (("list", "--data"), "fashion-mnist"),
        (("list", "--figures"), "coherence"),
        (("list", "--sites"), "z_half"),
        (("info", "crate-tiny-fmnist"), "bases"),
        (("info", "crate_small"), "12 layers"),
        (("info", "crate-demo-in21k"), "not here; get the file and put it at"),
        (("info", "crate-gpt2-base"), "run FILE --arch crate-gpt2-base"),
        (("info", "simdinov2-large-in1k"), "n = 201 tokens"),
        (("info", "compression"), "logdet"),
        (("info", "fashion-mnist"), "MIT"),
        (("info", "timm:vit_tiny_patch16_224"), "qkv:k"),
    ],
)
def test_what_there_is_can_be_asked(call, words, told):
    status, out, err = call(*words)
    assert status == 0, err
    assert told in out


def test_info_knows_every_entry(call):
    for name in wp.checkpoints.registry():
        status, out, err = call("info", name)
        assert status == 0, err
        assert name in out


def wrong(tmp_path):
    """Command lines that cannot work, and what the message has to say."""
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.png").write_text("this is no picture")
    empty = tmp_path / "empty"
    empty.mkdir()
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    good = tmp_path / "weights.safetensors"
    save_file(small_crate().state_dict(), good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:2000])
    out = ("--out", tmp_path / "out")
    crate = "crate-tiny-fmnist"
    return {
        "no such model": (("run", "crate-tini-fmnist", *out), "crate-tiny-fmnist"),
        "no such command": (("rum", crate, *out), "Did you mean 'run'"),
        "no such file": (("run", "a/b.pth", "--arch", "crate_small", *out), "no file"),
        "no such option": (("run", crate, "--metric", "l0", *out), "--metric"),
        "no --out": (("run", crate), "--out"),
        "a file without arch": (("run", good, *out), "--arch"),
        "wrong architecture": (("run", good, "--arch", "crate_small", *out), "missing"),
        "no such architecture": (("run", good, "--arch", "crate_smal", *out), "crate_small"),
        "truncated": (("run", cut, "--arch", "crate_small", *out), "cut.safetensors"),
        "an empty folder": (("run", crate, "--data", empty, *out), "no image"),
        "text named .png": (("run", crate, "--data", text, *out), "a.png"),
        "no such data": (("run", crate, "--data", "fashion-mist", *out), "fashion-mnist"),
        "text for an image model": (("run", crate, "--data", "kjv", *out), "reads images"),
        "images for a text model": (("run", "crate-tiny-kjv", *out), "reads text"),
        "no such text": (("run", "crate-tiny-kjv", "--data", "no.txt", *out), "no.txt"),
        "no such metric": (("run", crate, "--metrics", "l00", *out), "l0"),
        "no such site": (("run", crate, "--sites", "l0=z_haf", *out), "z_half"),
        "a site it has not": (("run", crate, "--sites", "l0=mlp_hidden", *out), "ISTA"),
        "no such basis": (("run", crate, "--basis", "qkv:k", *out), "native"),
        "native on a ViT": (("run", "vit-tiny-fmnist", "--basis", "native", *out), "qkv:k"),
        "limit of 0": (("run", crate, "--limit", 0, *out), "--limit"),
        "eps of 0": (("run", crate, "--eps", 0, *out), "eps"),
        "no such device": (("run", crate, "--device", "quantum", *out), "--device"),
        "a folder in use": (("run", crate, "--out", full), "--overwrite"),
        "out is a file": (("run", crate, "--out", good), "--out"),
        "no result": (("compare", empty, full, "--out", tmp_path / "o"), "no result"),
        "no figure format": (("plot", empty, "--metric", "l0", "--out", "a.jpg"), "pdf"),
        "nothing of that name": (("info", "compresion"), "compression"),
    }


CASES = (
    "no such model",
    "no such command",
    "no such file",
    "no such option",
    "no --out",
    "a file without arch",
    "wrong architecture",
    "no such architecture",
    "truncated",
    "an empty folder",
    "text named .png",
    "no such data",
    "text for an image model",
    "images for a text model",
    "no such text",
    "no such metric",
    "no such site",
    "a site it has not",
    "no such basis",
    "native on a ViT",
    "limit of 0",
    "eps of 0",
    "no such device",
    "a folder in use",
    "out is a file",
    "no result",
    "no figure format",
    "nothing of that name",
)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """One wrong command line, and the folder of its files."""
    folder = tmp_path_factory.mktemp("wrong")
    return *wrong(folder)[request.param], folder


def test_every_wrong_case_has_a_test(tmp_path):
    assert set(wrong(tmp_path)) == set(CASES)


def test_wrong_input_is_told_in_one_line(call, case):
    words, told, tmp_path = case
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, out, err = call(*words)
    assert status == 2, err
    assert told in err
    assert err.startswith("whitebox-probe: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err + out
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before, "a failed command changed files"


def test_a_wrong_line_ends_a_process_with_2():
    done = process("run", "no-such-model", "--out", "nowhere")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_fault_of_a_measure_is_ours_and_not_the_datas(call, monkeypatch, tmp_path):
    from whitebox_probe.metrics.sparsity import L0

    monkeypatch.setattr(L0, "measure", lambda *args: torch.ones(2, 3) @ torch.ones(2, 3))
    words = ["run", "crate-tiny-fmnist", "--limit", "2", "--metrics", "l0", "--quiet"]
    status, _, err = call(*words, "--out", tmp_path / "out")
    assert status == 1
    assert "InternalError: 'z_out' of layer 1 could not be read or measured: RuntimeError" in err
    assert "fault of the program" in err
    assert "cannot take an input" not in err
    assert not (tmp_path / "out").exists()


def test_a_fault_of_ours_ends_with_1_and_shows_where(call, monkeypatch):
    def broken(args):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli.command_modules()["list"], "run", broken)
    status, _, err = call("list")
    assert status == 1
    assert "ZeroDivisionError" in err
    assert "please report" in err


def test_a_pickle_that_would_run_code_does_not(call, tmp_path):
    mark = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (mark,))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    status, _, err = call(
        "run", tmp_path / "trap.pth", "--arch", "crate_small", "--out", tmp_path / "o"
    )
    assert status == 2, err
    assert not mark.exists()


def test_a_kill_while_saving_leaves_no_result(runs, tmp_path, monkeypatch):
    folder, made = runs
    result = wp.Result.load(folder / next(iter(made)))

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", stop)
    with pytest.raises(KeyboardInterrupt):
        result.save(tmp_path / "half")
    monkeypatch.undo()
    assert not list((tmp_path / "half").glob(".*"))
    with pytest.raises(ResultError, match="no result"):
        wp.Result.load(tmp_path / "half")
