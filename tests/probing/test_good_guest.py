"""A probe inside a training, and beside one: the training is the same, bit for bit."""

import decimal
import gc
import io
import logging
import subprocess
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from functools import partial
from multiprocessing.pool import ThreadPool

import numpy as np
import pandas as pd
import pytest
import torch
from contract.as_found import Cache, Vandal, differing, module, network, process
from PIL import ImageFile
from torch import nn
from torch.overrides import TorchFunctionMode

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe._core import randomness, threads
from whitebox_probe.models.wrappers import as_written
from whitebox_probe.probing.precision import full_float32
from whitebox_probe.probing.probe import DrawsWarning

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
IMAGES = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(64).reshape(2, 32) % 40


def trained(net, steps=4, between=lambda net: None):
    """Weights and losses of a training with dropout, and the random state that it leaves."""
    torch.manual_seed(1)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = net(torch.randn(6, 3, 12, 12)).square().mean()
        loss.backward()
        between(net)  # between backward and step: gradients count as well
        optimiser.step()
        losses.append(loss.item())
    state = torch.get_rng_state().numpy().tobytes()
    return losses, {n: t.numpy().tobytes() for n, t in net.state_dict().items()}, state


def probed(net):
    wp.probe(net, Vandal(), ["l0", "compression"], progress=False)


def refused(net):
    with pytest.raises(wp.ProbeError):
        wp.probe(net, Vandal(RuntimeError("in the middle")), ["l0"], progress=False)


@pytest.mark.parametrize("between", [probed, refused])
def test_a_training_with_a_probe_inside_gives_the_same_weights(between, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    alone = trained(network())
    torch.manual_seed(0)
    assert trained(network(), between=between) == alone


def test_what_a_module_caches_at_the_first_pass_is_made_by_the_training():
    net = small_vit()
    net.norm_pre = Cache()
    wp.probe(net, IMAGES, ["l0"], progress=False)
    assert (net.norm_pre.table, net.norm_pre.of, net.norm_pre.plain.table) == (None, {}, None)
    net.train()(IMAGES).sum().backward()
    table = net.norm_pre.table
    wp.probe(net, IMAGES, ["l0"], progress=False)
    assert net.norm_pre.table is table


def test_a_cache_that_no_module_holds_can_be_trained_with():
    kept = {}

    class Scaled(nn.Module):
        def forward(self, Z):
            return Z * kept.setdefault("table", torch.ones(Z.shape[-1]))

    net = small_vit()
    net.norm_pre = Scaled()
    wp.probe(net, IMAGES, ["l0"], progress=False)
    net.train()(IMAGES).sum().backward()  # an inference tensor would be refused here


BUFFERS = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "CSR": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor(
        [torch.ones(2), torch.ones(3)], layout=torch.jagged
    ),
    "meta": lambda: torch.ones(3, device="meta"),
}


@pytest.mark.parametrize("when", ["before it is wrapped", "after"])
@pytest.mark.parametrize("kind", BUFFERS)
def test_buffers_that_torch_cannot_compare_are_no_hindrance_and_are_put_back(kind, when):
    class Writes(nn.Module):
        def forward(self, Z):
            self.odd.mul_(2)
            return Z

    torch.manual_seed(0)
    net = small_vit().eval()
    want = wp.probe(wp.wrap(net), IMAGES, ["l0"], progress=False).frame
    part = net.norm_pre = Writes()
    part.register_buffer("odd", torch.ones(3))
    if when == "before it is wrapped":
        part.odd = BUFFERS[kind]()
    model = wp.wrap(net)
    held = part.odd = BUFFERS[kind]()
    version = held._version
    found = wp.probe(model, IMAGES, ["l0"], progress=False).frame
    wp.view(model, IMAGES[:2])
    pd.testing.assert_frame_equal(found, want, check_exact=True)
    assert part.odd is held
    assert held._version > version
    if kind != "meta":
        parts = [BUFFERS[kind](), held]
        dense = [
            each.to_padded_tensor(0.0) if each.is_nested else each.to_dense() for each in parts
        ]
        assert torch.equal(*dense)


class Mode(TorchFunctionMode):
    """One that changes nothing."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def modes_and_device():
    torch.set_default_device("meta")
    Mode().__enter__()
    Mode().__enter__()


DISTURBED = {
    "pandas": lambda: pd.set_option("display.precision", 3, "display.max_rows", 7),
    "print of NumPy": lambda: np.set_printoptions(precision=2, formatter={"float": str}),
    "print of torch": lambda: torch.set_printoptions(precision=2, sci_mode=True),
    "called at errors": lambda: np.seterrcall(print),
    "shown warnings": lambda: setattr(warnings, "showwarning", print),
    "captured warnings": lambda: logging.captureWarnings(True),
    "hooks": lambda: nn.modules.module.register_module_forward_hook(lambda *_: None),
    "hooks with words": lambda: nn.modules.module.register_module_forward_hook(
        lambda *_: None, with_kwargs=True, always_call=True
    ),
    "hooks in front": lambda: nn.modules.module.register_module_forward_pre_hook(lambda *_: None),
    "a mode": lambda: Mode().__enter__(),
    "modes and a device": modes_and_device,
    "decimal": lambda: setattr(decimal.getcontext(), "prec", 5),
    "another decimal context": lambda: decimal.setcontext(decimal.Context(prec=7, traps=[])),
    "always warned": lambda: torch.set_warn_always(True),
    "threads of autograd": lambda: torch.autograd.set_multithreading_enabled(False),
    "filled memory": lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "depth": lambda: sys.setrecursionlimit(3333),
    "garbage": lambda: (gc.disable(), gc.set_threshold(11, 5, 5)),
    "streams": lambda: [setattr(sys, name, io.StringIO()) for name in ("stdout", "stderr")],
    "hooks of Python": lambda: setattr(sys, "excepthook", print),
    "arguments": lambda: sys.argv.append("disturbed"),
    "other arguments": lambda: setattr(sys, "argv", ["disturbed"]),
    "no arguments": lambda: setattr(sys, "argv", None),
    "Pillow": lambda: (
        setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
        setattr(ImageFile.Image, "MAX_IMAGE_PIXELS", 3),
    ),
}


@pytest.mark.parametrize("error", [None, KeyError("in the middle")], ids=["returns", "raises"])
@pytest.mark.parametrize("name", DISTURBED)
def test_what_a_pass_of_the_model_disturbs_is_put_back(name, error):
    class Disturbs(nn.Module):
        at_work = False

        def forward(self, Z):
            if self.at_work:
                DISTURBED[name]()
                if error is not None:
                    raise error
            return Z

    net = small_vit().eval()
    part = net.norm_pre = Disturbs()
    model = wp.wrap(net)
    part.at_work = True
    for call in (
        lambda: wp.probe(model, IMAGES, ["l0"], batch_size=4, progress=False),
        lambda: wp.view(model, IMAGES[:2]),
        lambda: wp.similarity(model, model, IMAGES, progress=False),
    ):
        before = process()
        with nullcontext() if error is None else pytest.raises(wp.ProbeError):
            call()
        assert not differing(before, process())


def test_weights_that_a_class_merges_in_eval_are_not_merged():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode=True):
            if not mode and not self.merged:
                self.weight.data += 1
                self.merged = True
            return super().train(mode)

    net = small_vit().train()
    net.head = Merging(16, 5)
    before = net.head.weight.clone()
    wp.probe(net, IMAGES, ["l0"], progress=False)
    assert torch.equal(net.head.weight, before)
    assert not net.head.merged


def together(*runs):
    """Run functions in threads of their own at once; what they raise is raised."""
    start, errors = threading.Barrier(len(runs)), []

    def guarded(run):
        try:
            start.wait(20)
            run()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=guarded, args=(run,)) for run in runs]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(120)
    if errors:
        raise errors[0]


def test_two_probes_in_two_threads_give_the_tables_of_one_after_the_other():
    models = [wp.wrap(small_vit(), name=name) for name in ("a", "b")]
    options = {"metrics": ["l0", "compression", "rank_me"], "progress": False, "batch_size": 2}
    alone = [wp.probe(model, IMAGES, **options) for model in models]
    before = process()
    found = {}
    together(
        *(
            lambda model=model: found.update({model.name: wp.probe(model, IMAGES, **options)})
            for model in (*models, models[0])  # and one module from two threads
        )
    )
    assert found["a"].frame.equals(alone[0].frame)
    assert found["b"].frame.equals(alone[1].frame)
    assert not differing(before, process())


def test_a_probe_beside_a_training_disturbs_neither():
    torch.manual_seed(0)
    alone = trained(network(), 12)
    model = wp.wrap(small_vit(), name="other")
    table = wp.probe(model, IMAGES, ["l0", "compression"], progress=False)
    torch.manual_seed(0)
    net, found = network(), []
    losses = []
    done = threading.Event()

    def probing():
        while not done.is_set():
            found.append(wp.probe(model, IMAGES, ["l0", "compression"], progress=False))
            wp.load("crate-tiny-fmnist")

    def training():
        try:
            losses.append(trained(net, 12))
        finally:
            done.set()

    together(training, probing)
    assert losses[0] == alone
    assert found
    assert all(each.frame.equals(table.frame) for each in found)


def test_beside_others_a_model_that_draws_is_seeded_by_a_stream_of_its_own(monkeypatch):
    net = small_vit()
    net.norm_pre = nn.Dropout(0.5)
    net.norm_pre.forward = lambda x: nn.functional.dropout(x, 0.5) + torch.rand_like(x)
    model = wp.wrap(net)
    alone = wp.probe(model, IMAGES, ["coding_rate"], progress=False)
    monkeypatch.setattr(randomness, "alone", lambda: False)
    before = torch.get_rng_state()
    beside = wp.probe(model, IMAGES, ["coding_rate"], progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert beside.frame.equals(alone.frame)
    assert beside.run.network["draws"] == "seeded"


def test_threads_that_run_the_users_code_are_told_from_those_that_wait():
    done = threading.Event()
    mine = threading.Thread(target=lambda: done.wait(20))
    assert threads.alone() or threading.active_count() > 1
    mine.start()
    try:
        assert not threads.alone()
    finally:
        done.set()
        mine.join()


@pytest.mark.parametrize(
    ("module", "helps"),
    [
        ("torch._inductor.compile_worker.subproc_pool", True),  # stays behind torch.compile
        ("tensorboard.summary.writer.event_file_writer", True),
        ("jedi.inference.compiled.subprocess", True),  # completes names in a notebook
        ("torch._inductor.compile_fx", False),
        ("tensorboard_of_mine", False),
        ("asyncio.base_events", False),  # a loop, whose tasks may draw
        ("asyncio.unix_events", True),  # waits for a process, as beside a browser
    ],
)
def test_threads_of_libraries_that_only_wait_are_no_threads_at_work(module, helps):
    done = threading.Event()
    theirs = type("Theirs", (threading.Thread,), {"__module__": module})
    thread = theirs(target=done.wait, args=(20,))
    thread.start()
    try:
        assert threads.alone() == helps
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("kind", ["executor", "pool", "timer", "partial"])
def test_what_may_begin_to_draw_at_any_time_is_at_work(kind):
    """What runs in C, such as NumPy's draws, has no frame that tells of it."""
    with ExitStack() as stack:
        if kind == "executor":
            executor = stack.enter_context(ThreadPoolExecutor(1))
            executor.submit(int).result()
        elif kind == "pool":
            stack.enter_context(ThreadPool(1))
        else:
            done = threading.Event()
            wait = done.wait if kind == "timer" else partial(done.wait, 20)
            timer = threading.Timer(20, wait)
            thread = timer if kind == "timer" else threading.Thread(target=wait)
            thread.start()
            stack.callback(thread.join)
            stack.callback(timer.cancel)
            stack.callback(done.set)
        assert not threads.alone()


def test_a_model_that_draws_numpys_numbers_beside_other_threads_is_told(monkeypatch):
    net = small_vit()
    net.norm_pre = nn.Identity()
    net.norm_pre.forward = lambda x: x + np.random.rand()  # noqa: NPY002
    assert wp.probe(net, IMAGES, ["l0"], progress=False).run.network["draws"] == "seeded"
    monkeypatch.setattr(randomness, "alone", lambda: False)
    with pytest.warns(DrawsWarning, match="other threads are at work.*not seeded"):
        found = wp.probe(net, IMAGES, ["l0"], progress=False)
    assert found.run.network["draws"] == "perhaps unseeded, beside other threads"


def test_probes_that_overlap_leave_compilation_and_precision_as_they_were():
    """Each put back what it had found, which was the other's."""
    model = torch.compile(nn.Linear(2, 2), backend="eager")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    switch = torch.backends.mkldnn.matmul
    allowed = switch.fp32_precision
    try:
        for make, read in (
            (lambda: as_written(model), lambda: torch._dynamo.eval_frame._stance.stance),
            (full_float32, lambda: switch.fp32_precision),
        ):
            usual = read()
            first, second = make(), make()
            first.__enter__()
            inside = read()
            assert inside != usual
            second.__enter__()
            first.__exit__(None, None, None)
            assert read() == inside
            second.__exit__(None, None, None)
            assert read() == usual
        assert switch.fp32_precision == allowed
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_number_of_threads_is_the_callers_after_two_probes_at_once():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = wp.wrap(small_vit())
        together(*[lambda: wp.probe(model, IMAGES, ["coding_rate"], progress=False)] * 2)
        assert torch.get_num_threads() == 2
        seen = []
        together(lambda: seen.append(torch.get_num_threads()))
        assert seen == [2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_either_kind_leave_no_trace(context):
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(IMAGES),
        batch_size=4,
        num_workers=1,
        shuffle=True,
        multiprocessing_context=context,
    )
    net = network()
    before, held = process(), module(net)
    assert len(wp.probe(net, loader, ["l0"], progress=False).samples) == 8
    assert not differing(before, process())
    assert not differing(held, module(net))


def test_threads_that_share_a_module_do_not_wait_for_each_other(monkeypatch):
    """torch's move of a weight, and a graph of it in another thread, wait for each other for ever:
    what is in place is not moved, and no graph is made of weights that are read."""
    model = wp.wrap(small_vit(), name="a")

    def moved(*_, **__):
        raise AssertionError("a module that is in place was moved")

    monkeypatch.setattr(torch.nn.Module, "to", moved)
    wp.probe(model, IMAGES, ["l0", "compression"], progress=False)
    for basis in model.bases:
        assert model.subspaces(1, basis).grad_fn is None
    layer = model.layer(1)
    held = [value for value in layer.operators.values() if isinstance(value, torch.Tensor)]
    assert all(value.grad_fn is None for value in held)


def test_a_load_beside_other_threads_neither_draws_from_nor_sets_their_generator(monkeypatch):
    def is_set(_):
        raise AssertionError("the generator of all threads was set")

    monkeypatch.setattr(torch, "set_rng_state", is_set)
    before = torch.get_rng_state()
    loaded = []
    together(
        lambda: loaded.append(wp.load("crate-tiny-fmnist")),
        lambda: loaded.append(wp.load("crate-tiny-fmnist", weights="random")),
    )
    assert len(loaded) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_draws_nothing_for_what_has_no_numbers():
    from whitebox_probe._core.randomness import Stream

    with Stream(None) as stream, torch.device("meta"):
        linear = torch.nn.Linear(3, 4)
    assert linear.weight.is_meta
    assert not stream.drew


def on_default(device, how):
    """A default device of the caller's, as a block or for all that follows."""
    stack = ExitStack()
    if how == "block":
        stack.enter_context(torch.device(device))
    else:
        torch.set_default_device(device)
        stack.callback(torch.set_default_device, None)
    return stack


CALLS = {
    "probe": lambda net: wp.probe(net, IMAGES, progress=False).frame,
    "null": lambda net: (
        wp.probe(net, IMAGES, ["coding_rate"], null="gaussian", progress=False).frame
    ),
    "load": lambda net: wp.probe(wp.load("crate-tiny-kjv"), IDS, ["l0"], progress=False).frame,
    "similarity": lambda net: wp.similarity(
        wp.wrap(net), wp.wrap(net), IMAGES, progress=False
    ).frame(),
    "audit": lambda net: wp.audit(net, IMAGES, draws=2, progress=False).frame,
}


@pytest.mark.parametrize("how", ["block", "setting"])
@pytest.mark.parametrize("call", CALLS)
def test_a_default_device_of_the_callers_moves_nothing(call, how):
    torch.manual_seed(0)
    net = small_vit().eval()
    expected = CALLS[call](net)
    with on_default("meta", how):
        found = CALLS[call](net)
        assert torch.get_default_device().type == "meta"
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_model_makes_its_own_tensors_on_the_callers_default_device():
    made = []

    class Makes(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = small_vit().blocks

        def forward(self, x):
            made.append(torch.empty(0).device.type)
            return self.blocks(x)

    net, x = Makes().eval(), torch.randn(4, 7, 16)
    sites = {"z_in": "blocks.{layer}:input", "z_out": "blocks.{layer}:output"}

    def probed():
        model = wp.wrap(net, sites=sites, layers=3, example=x)
        return wp.probe(model, x, ["l0"], progress=False).frame

    expected = probed()
    assert set(made) == {"cpu"}
    made.clear()
    with torch.device("meta"):
        found = probed()
    assert set(made) == {"meta"}
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


class Notes(nn.Module):
    """Keeps what it is called with in containers of all kinds, and inside containers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.of = {"k": []}
        self.deep = {"a": {"b": [{"c": {1}}]}}
        self.rows, self.pair = [[0]], ([], {})
        self.last = deque(maxlen=3)
        self.itself = []
        self.itself.append(self.itself)

    def held(self):
        return repr([self.of, self.deep, self.rows, self.pair, self.last, self.itself])

    def forward(self, Z):
        self.of["k"].append(1)
        self.deep["a"]["b"][0]["c"].add(2)
        self.deep["a"]["b"].append(3)
        self.rows[0].append(1), self.pair[0].append(1)
        self.pair[1]["z"] = Z
        self.last.append(1), self.itself.append(2)
        return self.inner(Z)


def test_what_containers_hold_inside_containers_is_put_back():
    net = small_vit()
    net.head = Notes(net.head)
    model, inside = wp.wrap(net), net.head.deep["a"]["b"]
    before = net.head.held()
    wp.probe(model, IMAGES, ["l0"], progress=False)
    assert net.head.held() == before
    assert net.head.deep["a"]["b"] is inside


LEAVES = """
import sys, torch, PIL.Image, whitebox_probe as wp
from torch import nn
class Sets(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, z):
        PIL.Image.MAX_IMAGE_PIXELS = 5
        return self.inner(z)
model = wp.load("crate-tiny-fmnist")
model.module.mlp_head = Sets(model.module.mlp_head)
sys.modules.pop("PIL.ImageFile", None)
wp.probe(model, torch.randn(4, 1, 28, 28), ["l0"], progress=False)
print(PIL.Image.MAX_IMAGE_PIXELS)
"""


def test_a_limit_of_pillows_is_put_back_where_its_files_are_not_loaded():
    found = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True)
    assert found.stdout.split()[-1:] == ["89478485"], found.stderr
