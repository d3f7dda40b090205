"""In a process of its own: how others are started, threads and signals are as they were found."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEN = """
    import atexit, multiprocessing, signal, sys, threading
    import torch, tqdm.std
    import whitebox_probe as wp
    from tests.conftest import small_crate
    from torch.utils.data import DataLoader

    def seen():
        return (
            signal.getsignal(signal.SIGCHLD),
            multiprocessing.get_start_method(allow_none=True),
            sorted(thread.name for thread in threading.enumerate()),
            atexit._ncallbacks(),
        )

    def probe(**options):
        wp.probe(model, images, ["l0"], batch_size=2, **options)

    if __name__ == "__main__":
        sys.stderr.isatty = lambda: True
        model, images = wp.wrap(small_crate()), torch.randn(6, 3, 12, 12)
        probe(progress=False, limit=2)
        before = list(seen())
"""


def run(code, tmp_path):
    file = tmp_path / "guest.py"
    file.write_text(textwrap.dedent(SEEN) + textwrap.indent(textwrap.dedent(code), "    "))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, file],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("progress", [False, True])
def test_a_first_call_leaves_no_thread_and_no_start_method(progress, tmp_path):
    code = f"""
        assert before[:3] == [signal.SIG_DFL, None, ["MainThread"]], before
        probe(progress={progress})
        assert list(seen()) == before, (before, seen())
        multiprocessing.set_start_method("spawn")
    """
    run(code, tmp_path)


def test_readers_leave_no_answer_to_a_signal(tmp_path):
    code = """
        probe(progress=False, workers=1)
        after = list(seen())
        assert after[:3] == before[:3], (before, after)
        list(DataLoader(images, num_workers=1))  # the caller's own sets it, as without us
        assert signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL
        kept = signal.getsignal(signal.SIGCHLD)
        probe(progress=False, workers=1)
        assert signal.getsignal(signal.SIGCHLD) is kept
    """
    run(code, tmp_path)


@pytest.mark.parametrize("own", [False, True])
def test_a_reader_that_dies_is_told_and_not_the_model(own, tmp_path):
    code = f"""
        import os, time
        images = torch.randn(60, 3, 12, 12)
        data = images
        if {own}:
            list(DataLoader(images, num_workers=1))  # sets torch's answer, which raises
            data = DataLoader(images, batch_size=1, num_workers=1)
        answer = signal.getsignal(signal.SIGCHLD)

        def killing(*_):
            for reader in multiprocessing.active_children():
                os.kill(reader.pid, signal.SIGKILL)
            time.sleep(0.3)

        model.module.register_forward_hook(killing)
        try:
            how = {{}} if {own} else {{"workers": 1, "batch_size": 1}}
            wp.probe(model, data, ["l0"], progress=False, **how)
        except wp.ProbeError as error:
            assert "DataLoader worker" in str(error), error
            assert "a process that reads the data has ended" in str(error), error
        else:
            raise AssertionError("all was read")
        assert signal.getsignal(signal.SIGCHLD) is answer
    """
    run(code, tmp_path)
