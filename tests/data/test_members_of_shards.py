"""What a tar holds beside plain files: links, sparse files, names that stand twice, no samples."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import warnings

import numpy as np
import pytest

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe._core.errors import DataError
from whitebox_probe.data._left_out import LeftOutWarning


def array(number):
    held = io.BytesIO()
    np.save(held, np.full((3, 12, 12), number / 10, np.float32))
    return held.getvalue()


def written(path, members, kind=tarfile.REGTYPE):
    """A shard of arrays by their names; a pair of names is a link of that kind to the second."""
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(members):
            about = tarfile.TarInfo(name if isinstance(name, str) else name[0])
            content = array(number)
            if isinstance(name, str):
                about.size = len(content)
            else:
                about.type, about.linkname, content = kind, name[1], b""
            tar.addfile(about, io.BytesIO(content))
    return path


def told(path):
    return wp.data.open_data(wp.data(str(path), column="npy"))


def opened(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOutWarning)
        return told(path)


def values(source):
    batches = list(source.batches(8, 0))
    return [round(float(each[0, 0, 0]) * 10) for batch in batches for each in batch.inputs]


@pytest.mark.parametrize("linked", ["0.npy", "./0.npy", "/0.npy"])
def test_a_hard_link_is_the_member_that_it_names(linked, tmp_path):
    members = ["0.npy", "1.npy", ("2.npy", linked), ("3.npy", "2.npy")]
    source = opened(written(tmp_path / "s.tar", members, tarfile.LNKTYPE))
    assert values(source) == [0, 1, 0, 0]
    assert not source.left_out


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
def test_what_tar_makes_of_linked_files_is_whole(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.npy").write_bytes(array(number))
    os.link(tmp_path / "0.npy", tmp_path / "3.npy")
    names = [f"{number}.npy" for number in range(4)]
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "s.tar", *names], check=True)
    assert values(opened(tmp_path / "s.tar")) == [0, 1, 2, 0]


def test_a_hard_link_to_what_is_not_there_is_told(tmp_path):
    path = written(tmp_path / "s.tar", ["0.npy", ("1.npy", "9.npy")], tarfile.LNKTYPE)
    with pytest.raises(DataError, match=r"'1.npy' of the shard .* hard link to '9.npy'"):
        opened(path)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.SYMTYPE, "1 symbolic links"),
        (tarfile.FIFOTYPE, "1 that are no files"),
        (tarfile.CHRTYPE, "1 that are no files"),
    ],
)
def test_what_is_no_file_is_told(kind, why, tmp_path):
    path = written(tmp_path / "s.tar", ["0.npy", "1.npy", ("2.npy", "0.npy")], kind)
    with pytest.warns(LeftOutWarning, match=rf"1 member is left out of s.tar: {why}.*\(2.npy\)"):
        source = told(path)
    assert values(source) == [0, 1]


def test_a_hard_link_to_a_symbolic_link_is_told_as_one(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, to in (("0.npy", tarfile.REGTYPE, ""), ("1.npy", tarfile.SYMTYPE, "0.npy")):
            about = tarfile.TarInfo(name)
            about.type, about.linkname, about.size = kind, to, 0 if to else len(array(0))
            tar.addfile(about, io.BytesIO(array(0)))
        about = tarfile.TarInfo("2.npy")
        about.type, about.linkname = tarfile.LNKTYPE, "1.npy"
        tar.addfile(about)
    with pytest.warns(LeftOutWarning, match=r"2 symbolic links \(1.npy, ...\)"):
        assert values(told(path)) == [0]


def test_members_of_no_sample_are_in_the_record(tmp_path):
    path = written(
        tmp_path / "s.tar", ["0.npy", "README", "1.npy", "a/LICENSE", ".hidden", "._1.npy"]
    )
    model = wp.wrap(small_vit())
    with pytest.warns(LeftOutWarning, match=r"2 members are left out.*\(README, ...\)"):
        result = wp.probe(model, wp.data(str(path), column="npy"), ["l0"], progress=False)
    result.save(tmp_path / "r")
    record = json.loads((tmp_path / "r" / "run.json").read_text())["data"]
    assert record["left_out"] == {"with no end to their names": 2}
    assert result.run["count"] == 2


def test_a_shard_of_nothing_else_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"hold no sample: .*and 'README' has none"):
        opened(written(tmp_path / "s.tar", ["README"]))
    path = written(tmp_path / "s.tar", [("0.npy", "1.npy")], tarfile.SYMTYPE)
    with pytest.raises(DataError, match=r"hold no sample: .*1 symbolic links \(0.npy\)"):
        opened(path)


@pytest.mark.parametrize("names", [["002.npy"] * 2, ["002.npy", "002.NPY"], ["2.npy", "/2.npy"]])
@pytest.mark.parametrize("folder", ["", "a/"])
def test_what_stands_twice_is_refused(names, folder, tmp_path):
    members = [
        "1.npy",
        *(f"{folder}{name}" if name[0] != "/" else f"/{folder}{name[1:]}" for name in names),
    ]
    with pytest.raises(DataError, match="stands there twice|are one part of one sample"):
        opened(written(tmp_path / "s.tar", members))
    with pytest.raises(DataError, match="are one part of one sample"):
        opened(written(tmp_path / "s.tar", ["./2.npy", "b/../2.npy"]))
    assert len(opened(written(tmp_path / "s.tar", ["a/2.npy", "b/2.npy"])).numbers) == 2


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_file_is_refused(form, tmp_path):
    np.save(tmp_path / "0.npy", np.ones((3, 12, 12), np.float32))
    with (tmp_path / "1.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (3, 256, 256)}
        )
        file.truncate(file.tell() + 3 * 256 * 256 * 4)
    made = ["tar", f"--format={form}", "-S", "-C", tmp_path, "-cf", tmp_path / "s.tar"]
    if subprocess.run([*made, "0.npy", "1.npy"], capture_output=True).returncode:
        pytest.skip("this tar packs no sparse files")
    with tarfile.open(tmp_path / "s.tar") as tar:
        if not any(member.issparse() for member in tar):
            pytest.skip("this disk has no sparse files")
    with pytest.raises(DataError, match=r"'1.npy' of the shard .* sparse file"):
        opened(tmp_path / "s.tar")


def test_shards_of_texts_tell_too(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("0.txt", "README"):
            about = tarfile.TarInfo(name)
            about.size = 400
            tar.addfile(about, io.BytesIO(b"in the beginning was the word. " * 13))
    model = wp.load("gpt2-tiny-kjv")
    with pytest.warns(LeftOutWarning, match="1 member is left out"):
        result = wp.probe(model, str(path), ["l0"], limit=1, progress=False)
    assert result.run["data"]["left_out"] == {"with no end to their names": 1}
