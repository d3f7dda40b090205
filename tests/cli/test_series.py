"""`run` of several checkpoints, and their figure over the training."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import small_crate
from whitebox_probe.cli import main as cli
from whitebox_probe.cli._series import name_of
from whitebox_probe.results.result import Result

WORDS = ("--set", "heads=2", "--set", "lam=0.1", "--set", "eta=0.1", "--metrics", "l0,hoyer")


@pytest.fixture
def series(tmp_path):
    """Checkpoints of a training, and inputs."""
    files = []
    for step in (0, 100, 2000):
        torch.manual_seed(step)
        files.append(tmp_path / f"ckpt-{step}.safetensors")
        save_file(small_crate().state_dict(), files[-1])
    np.save(tmp_path / "x.npy", torch.randn(6, 3, 12, 12).numpy())
    return files


@pytest.fixture
def run(series, tmp_path, capsys):
    def call(*words, files=None, out="out"):
        named = [str(file) for file in (series if files is None else files)]
        data = ["--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / out), "--quiet"]
        status = cli.main(["run", *named, *data, *WORDS, *words])
        return status, *capsys.readouterr()

    return call


def test_each_checkpoint_has_the_folder_that_a_run_of_it_alone_has(run, series, tmp_path, capsys):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert f"3 of 3: {series[2]}" in out
    folders = [tmp_path / "out" / f"ckpt-{step}" for step in (0, 100, 2000)]
    results = [Result.load(folder) for folder in folders]
    assert [result.model for result in results] == ["ckpt-0", "ckpt-100", "ckpt-2000"]
    assert {path.name for path in folders[0].iterdir()} == {
        "table.csv", "table.parquet", "samples.parquet", "matrices.npz", "run.json",
    }  # fmt: skip
    status, _, _ = run(files=series[1:2], out="alone")
    assert status == 0
    assert Result.load(tmp_path / "alone") == results[1]
    figure = tmp_path / "figure.png"
    words = ["--figure", "over_steps", "--metric", "l0", "--out", str(figure)]
    assert cli.main(["plot", *map(str, folders), *words]) == 0
    assert cli.main(["plot", *map(str, folders), *words, "--steps", "0,1,20"]) == 0
    assert figure.exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--name", "crate"), "--name is given with 3 models"),
        (("--resume", "somewhere"), "--resume is given with 3 models.*DIR/NAME"),
    ],
)
def test_what_is_of_one_run_is_refused(words, told, run, tmp_path):
    status, _, err = run(*words)
    assert status == 2
    assert told.partition(".*")[0] in err
    assert told.rpartition(".*")[2] in err
    assert not (tmp_path / "out").exists()


def test_nothing_is_measured_if_one_of_them_is_wrong(run, series, tmp_path):
    status, _, err = run(files=[*series, tmp_path / "ckpt-3.safetensors"])
    assert (status, "there is no file" in err) == (2, True)
    (tmp_path / "again").mkdir()
    again = (tmp_path / "again" / series[0].name, series[0])
    again[0].write_bytes(series[0].read_bytes())
    status, _, err = run(files=again)
    assert (status, "two of the models are called 'ckpt-0'" in err) == (2, True)
    assert not (tmp_path / "out").exists()
    assert run(files=series[:2])[0] == 0
    status, _, err = run()
    assert (status, "ckpt-0 is not empty" in err) == (2, True)
    assert not (tmp_path / "out" / "ckpt-2000").exists()
    assert run("--overwrite")[0] == 0


def test_the_name_of_a_checkpoint_keeps_its_step(tmp_path):
    assert name_of("a/step_1.5.ckpt") == "step_1.5"
    assert name_of("crate-tiny-fmnist") == "crate-tiny-fmnist"
    assert (
        name_of("timm:vit_tiny_patch16_224.augreg_in21k")
        == "timm-vit_tiny_patch16_224.augreg_in21k"
    )


@pytest.mark.parametrize("words", [("--steps", "a,b"), ("--steps", "0,1")])
def test_steps_that_do_not_fit_are_told(words, run, tmp_path, capsys):
    assert run()[0] == 0
    folders = [str(tmp_path / "out" / f"ckpt-{step}") for step in (0, 100, 2000)]
    asked = ["plot", *folders, "--figure", "over_steps", "--metric", "l0", *words]
    try:
        status = cli.main([*asked, "--out", str(tmp_path / "figure.png")])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert "A,B," in (err := capsys.readouterr().err) or "2 steps are given for 3 results" in err
