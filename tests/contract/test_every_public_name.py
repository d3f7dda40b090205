"""What every public function leaves behind, found unaided: nothing.

A function joins by its name in `whitebox_probe` or `whitebox_probe.plots`; one that is not called
here says why.
"""

import inspect
import logging
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from contract.as_found import Vandal, differing, module, network, process

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots.kind import kind_of

sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
import synthetic

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
mpl.use("agg")
QUICK = {"limit": 10, "batch_size": 3, "progress": False}
METRICS = ["l0", "compression", "descent_cosine", "class_rate"]


def wrapped(net):
    return wp.wrap(net, name="net")


def recorded(net, data, folder):
    with wp.record(wrapped(net), ["z_out", "heads_k"]):
        for n in range(6):
            with torch.no_grad():  # the pass is the caller's own: what it draws is too
                net.eval()(data[n][0][None])


def watched(net, data, folder):
    with wp.watch(net, data, metrics=["l0"], every=1, to=folder / "watch.csv") as watcher:
        watcher.step()


def explored(net, data, folder):
    explorer = wp.explore(net, data, metrics=["l0"], limit=8)
    explorer.panes.measures(0, 1)


def segmented(net, data, folder):
    seen = wp.view(net, data, limit=8)
    wp.segmentation(seen, torch.ones(seen.images.shape[:3]).numpy())


def compared(net, data, folder):
    results = [
        wp.probe(net, data, ["l0"], name=name, **QUICK).save(folder / name) for name in ("a", "b")
    ]
    wp.compare([wp.Result.load(folder / name) for name in ("a", "b")[: len(results)]])


CALLS = {
    "audit": lambda net, data, _: wp.audit(
        net, data, draws=2, null_limit=4, robustness=False, **QUICK
    ),
    "compare": compared,
    "data": lambda net, data, _: list(wp.data(data, model=wrapped(net)).batches(3)),
    "explore": explored,
    "load": lambda net, data, _: (
        wp.probe(wp.load("crate-tiny-fmnist"), "fashion-mnist", ["l0"], limit=3, progress=False)
        and wp.probe(net, data, ["l0"], **QUICK)
    ),
    "nulls": lambda net, data, _: wp.nulls(
        wrapped(net), data, ["compression"], kinds=["gaussian", "random_subspaces"], **QUICK
    ),
    "probe": lambda net, data, _: wp.probe(
        net, data, METRICS, basis=["qkv:k", "pca"], fit_data=data, **QUICK
    ),
    "record": recorded,
    "segmentation": segmented,
    "similarity": lambda net, data, _: wp.similarity(
        wrapped(net), wrapped(net), data, rank=2, **QUICK
    ),
    "view": lambda net, data, _: wp.view(net, data, limit=8),
    "watch": watched,
    "wrap": lambda net, data, _: wrapped(net) and wp.probe(net, data, ["l0"], **QUICK),
}
"""What calls each public function on a network and data; all of them read the sixth sample."""
OTHERS = {
    "metrics": "pure functions of tensors",
    "plots": "below",
    "report": "draws what it is given, under the same decorator; tests/reporting runs it",
    "sweep": "calls `probe` cell by cell, under the same decorator; tests/sweeping runs it",
    "reference": "networks of its own, made with generators of its own",
}
OF_PLOTS = {
    "figures": "the figures, each below",
    "run_of": "reads a file",
    "save": "with each figure, below",
    "text_html": "makes a text of a view",
}
OWN_CODE = {"data": "what its batches read is the caller's own code, run by the caller"}
"""Where the caller's own code may disturb the process, as it is the caller who runs it."""
OWN_CODE["record"] = "the passes in its block are the caller's own"


@contextmanager
def restored(before):
    """The process as it was, whatever the test finds."""
    try:
        yield
    finally:
        torch.set_num_threads(before["threads"])
        torch.backends.cuda.enable_flash_sdp(before["flash_sdp_enabled"])
        torch.backends.cudnn.benchmark = before["cuDNN"][1]
        torch.set_float32_matmul_precision(before["precision"])
        np.seterr(**before["NumPy's errors"])
        logging.getLogger("PIL").setLevel(before["loggers"]["PIL"])
        logging.root.setLevel(before["root logger"][0])
        sys.path[:] = before["path"]
        mpl.rcParams["lines.linewidth"] = before["rcParams"]["lines.linewidth"]
        signal.signal(signal.SIGINT, before["signals"][0])


def public():
    return [name for name in wp.__all__ if not inspect.isclass(getattr(wp, name))]


def test_each_public_function_is_called_here_or_says_why_not():
    assert set(public()) == set(CALLS) | set(OTHERS)
    assert set(dir(wp.plots)) == set(wp.plots.figures) | set(OF_PLOTS)


@pytest.mark.parametrize(
    "error",
    [None, RuntimeError("in the middle"), KeyboardInterrupt(), SystemExit(3)],
    ids=["as it ends", "an error", "Ctrl-C", "an exit"],
)
@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_process_and_the_module_are_as_they_were(name, error, tmp_path, monkeypatch):
    if name == "explore":
        pytest.importorskip("ipywidgets")
    monkeypatch.chdir(tmp_path)  # what is disturbed on purpose is put back by the fixture
    monkeypatch.setenv("DISTURBED", "no")
    net, data = network(), Vandal(error)
    before, held = process(), module(net)
    with restored(before):
        raised = None
        try:
            CALLS[name](net, data, tmp_path)
        except BaseException as found:
            raised = found
        after, kept = process(), module(net)
    if error is None:
        assert raised is None, raised
    elif isinstance(error, Exception):
        assert isinstance(raised, ProbeError | RuntimeError)
    else:
        assert raised is error
    if name not in OWN_CODE:
        assert not differing(before, after)
    if name == "record":  # the caller has put the network into evaluation mode
        held.pop("modes"), kept.pop("modes"), held.pop("tables"), kept.pop("tables")
    assert not differing(held, kept)
    net.train()
    net(torch.randn(2, 3, 12, 12)).sum().backward()  # and it can be trained


@pytest.mark.parametrize("name", list(wp.plots.figures))
def test_a_figure_leaves_the_process_as_it_was(name, tmp_path):
    figure, names = wp.plots.figures[name], ("crate", "vit")
    given = synthetic.inputs(kind_of(figure).takes, names=names)
    parameters = inspect.signature(figure).parameters.values()
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    needed = dict.fromkeys(needed, "hoyer")
    mpl.rcParams["lines.linewidth"] = 3.5  # of the user's own
    try:
        before = process()
        drawn = figure(*given, **needed)
        wp.plots.save(drawn, tmp_path / "figure", ["svg"])
        assert not differing(before, process())
        spoilt = pytest.MonkeyPatch()
        with spoilt.context() as patch:
            for part in ("set_title", "set_xlim", "set_xticks", "plot", "imshow", "set"):
                patch.setattr(mpl.axes.Axes, part, raising(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt, match="in the middle"):
                figure(*given, **needed)
        assert not differing(before, process())
    finally:
        mpl.rcParams["lines.linewidth"] = mpl.rcParamsDefault["lines.linewidth"]


def raising(error):
    def spoilt(*_, **__):
        raise error("in the middle")

    return spoilt
