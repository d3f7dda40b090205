"""What every public function says of an argument that cannot be: one line, before any pass.

An argument with a few choices is held to them: a mistyped one would be another in silence.
"""

import inspect
import re
import sys
from itertools import count
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

import matplotlib as mpl
import numpy as np
import pytest
import torch
from contract.as_found import network
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.data.choices import Choices
from whitebox_probe.plots.kind import kind_of
from whitebox_probe.probing.settings import Execution, Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
import synthetic

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
mpl.use("agg")
QUICK = {"limit": 6, "batch_size": 3, "progress": False}
HUGE = 10**400
LONGER = 10**5000  # than Python prints


def named(value):
    """As it is printed, without addresses: workers of pytest-xdist have others."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return wp.wrap(network(), name="net")


@pytest.fixture(scope="module")
def result(model, images):
    return wp.probe(model, images, ["l0"], **QUICK)


def refused(call, match=""):
    with pytest.raises(ProbeError, match=match) as error:
        call()
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["Random", "untrained", 0, "x", None, True, ["random"]])
def test_weights_of_no_such_kind_are_not_the_trained_ones(weights):
    refused(lambda: wp.load("crate-tiny-fmnist", weights=weights), "weights is .*pretrained")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": 5}, "source is 5"),
        ({"arch": 5}, "arch is 5"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"name": 5}, "name is 5"),
        ({"name": "a\ud800"}, "name is .*half of a surrogate pair"),
        ({"wrapper": 5}, "wrapper is 5"),
        ({"mapping": 5}, "mapping is 5"),
        ({"preprocess": 5}, "preprocess is 5"),
        ({"progress": "x"}, "progress is 'x'"),
    ],
)
def test_load(given, told):
    refused(lambda: wp.load(**{"source": "crate-tiny-fmnist", **given}), told)


class Mixing(nn.Module):
    """Mixes tokens, each with those that `mask` lets through."""

    def __init__(self, mask):
        super().__init__()
        self.mask, self.value = mask, nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return (self.mask / self.mask.sum(1, keepdim=True)) @ self.value(x)


class Layers(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"attn": Mixing(mask)}) for _ in range(2))
        self.ends = nn.ModuleList(nn.Identity() for _ in range(2))

    def forward(self, x):
        for block, end in zip(self.blocks, self.ends, strict=True):
            x = end(x + block["attn"](x))
        return x


SITES = {
    "z_in": "blocks.{layer}.attn:input",
    "attn_out": "blocks.{layer}.attn:output",
    "z_out": "ends.{layer}:output",
}
ALL, PAST = torch.ones(5, 5), torch.ones(5, 5).tril()


def mapped(mask=ALL, **given):
    torch.manual_seed(0)
    usual = {"sites": SITES, "dim": 8, "example": torch.randn(2, 5, 8)}
    return wp.wrap(Layers(mask), **{**usual, **given})


@pytest.mark.parametrize(
    "given",
    [
        *[{name: bad} for name in ("heads", "dim_head", "dim") for bad in (0, False, 4.0, "4", -1)],
        *[{"layers": bad} for bad in (0, True, "2", 2.0, HUGE)],
        *[{"first_layer": bad} for bad in (False, -1, "0", 0.0)],
        *[{"prefix_tokens": bad} for bad in (-1, False, 0.5, "1", 5, 10**9, 10**30)],
        *[{"class_token": bad} for bad in (0.5, False, -1, 5, 10**9, "0")],
        *[
            {"grid": bad}
            for bad in ("x", (0, 0), (-2, -5), (float("nan"), 1), (2, 5, 1), object(), 4, [2.0, 2])
        ],
        *[{"causal": bad} for bad in ("x", 1, 0)],
        *[{"preprocess": bad} for bad in ("imagenett", "x", 5)],
        *[{"name": bad} for bad in ([None], {}, 5, b"x")],
        *[{"sites": bad} for bad in ("x", [], {"z_out": 5}, {})],
        *[{"subspaces": bad} for bad in (5, {"native": 5}, lambda *_: 5, lambda *_: 1 / 0)],
        *[{"prenorm": 5}, {"example": "x"}, {"family": 5, "sites": None}, {"mapping": 5}],
        *[{"module": bad} for bad in (5, "x", None)],
    ],
    ids=named,
)
def test_wrap(given):
    module = given.pop("module", None) if "module" in given else Layers(ALL)
    usual = {"sites": SITES, "dim": 8, "example": torch.randn(2, 5, 8)}
    refused(lambda: wp.wrap(module, **{**usual, **given}))


def test_wrap_takes_what_it_took():
    given = {"layers": np.int64(2), "heads": np.int32(2), "grid": [2, np.int64(2)]}
    model = mapped(**given, prefix_tokens=1, class_token=np.int64(0))
    assert (model.layers, model.dims.heads, model.class_index) == (2, 2, 0)
    assert model.grid(torch.zeros(1)) == (2, 2)
    assert mapped(grid=np.array([2, 2])).grid(torch.zeros(1)) == (2, 2)


def test_numbers_of_numpy_are_taken_to_the_end(images):
    random = [wp.load("crate-tiny-fmnist", weights="random", seed=s) for s in (1, np.int64(1))]
    one, two = (list(each.module.parameters()) for each in random)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    model = wp.load("crate-tiny-fmnist")
    found = [
        wp.nulls(model, "fashion-mnist", ["l0"], kinds=["random_weights"], seed=s, limit=2)
        for s in (1, np.int64(1))
    ]
    assert found[0]["random_weights"].frame.equals(found[1]["random_weights"].frame)
    net = network()
    with wp.watch(net, images, batch_size=np.int64(4), limit=np.int64(6)) as watcher:
        assert len(watcher.results()) == 1
    assert len(wp.view(wp.wrap(net), images, limit=2, layers=[1, 1]).ids) == 2


def test_attention_that_is_said_to_be_causal_does_not_look_ahead():
    assert mapped(PAST, causal=True).layer(1).causal
    refused(lambda: mapped(ALL, causal=True), "looks ahead, and is stated to be causal")
    assert not mapped(ALL).layer(1).causal


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": 5}, "a int is no model"),
        ({"model": None}, "no model"),
        ({"sites": ["z_out"]}, "sites is"),
        ({"sites": "x"}, "sites is 'x'"),
        ({"sites": {"l0": 5}}, "site is 5"),
        ({"sites": {"l0": [["z_out"]]}}, "site is"),
        ({"name": 5}, "name is 5"),
        ({"name": "a\ud800"}, "name is .*half of a surrogate pair"),
        ({"name": [None]}, "name is"),
        ({"checkpoint": 5}, "checkpoint is 5"),
        ({"eps": b"a"}, "eps is b'a'"),
        ({"lam": bytearray(b"a")}, "lam is bytearray"),
        ({"eps": HUGE}, "eps is 1000"),
        ({"eps": LONGER}, "eps is"),
        ({"limit": LONGER}, "limit is"),
        ({"eps": range(1, 10**9)}, "eps has more than"),
        ({"eps": count(1)}, "eps is count"),
        ({"null": ["gaussian"] * 5000}, "null has more than"),
        ({"metrics": range(10**9)}, "metrics has more than"),
        ({"metrics": count()}, "a metric is a count"),
        ({"sites": {"l0": ["z_out"] * 5000}}, "more than"),
        ({"nonfinite": np.array([1, 2])}, "unknown nonfinite"),
    ],
    ids=lambda each: str(each)[:40] if isinstance(each, str) else "",
)
def test_probe_before_the_pass(model, given, told):
    class Unread(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            raise AssertionError("the pass has begun")

    given = {"model": model, "metrics": ["l0"], **given}
    refused(lambda: wp.probe(given.pop("model"), Unread(), **given), told)


def test_numbers_of_numpy_are_numbers():
    for narrow in (np.float16, np.float32, np.float64, np.longdouble):
        assert Settings.of(eps=narrow("0.1")).eps == (0.1,)
        assert wp.metrics.CodingRate(eps=narrow("0.1")).eps == 0.1
    made = Settings.of(eps=[np.float32(0.5)], limit=np.int64(3), fast=np.bool_(True))
    assert made == Settings.of(eps=0.5, limit=3, fast=True)
    assert [type(each) for each in (made.eps[0], made.limit, made.fast)] == [float, int, bool]
    assert Execution.of(batch_size=np.uint8(4)).batch_size == 4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        *[({"batch_size": bad}, "batch_size is") for bad in (0, -1, True, 2.0, "4")],
        *[({"limit": bad}, "limit is") for bad in (0, -1, True, 2.5, "3")],
        *[({"rank": bad}, "rank is") for bad in (-1, 0, float("inf"), 2.7, True, "3")],
        *[({"seed": bad}, "seed is") for bad in ("x", None, 1.5)],
        *[({"site": bad}, "site is") for bad in (5, ["z_out"], {})],
        *[({"first": 5}, "no model"), ({"second": "x"}, "no model"), ({"device": 5}, "device is")],
    ],
    ids=named,
)
def test_similarity(model, images, given, told):
    given = {"first": model, "second": model, **given}
    refused(lambda: wp.similarity(data=images, progress=False, **given), told)


def test_similarity_takes_what_it_took(model, images):
    one = wp.similarity(model, model, images, rank=1, limit=5, batch_size=2, progress=False)
    two = wp.similarity(
        model, model, images, rank=np.uint8(1), limit=np.int64(5), batch_size=np.int64(2)
    )
    assert np.array_equal(one.cka, two.cka)
    assert np.array_equal(one.overlap, two.overlap, equal_nan=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        *[({"limit": bad}, "limit is") for bad in (0, True, "3", 2.5, None, 65)],
        *[({"seed": bad}, "seed is") for bad in ("x", None, -1)],
        *[({"sites": bad}, "sites is") for bad in (5, [5], [["z_out"]], {"z_out": 1})],
        *[({"layers": bad}, "layers is") for bad in ("12", [True], [1.0], ["1"], 1)],
        *[({"layers": bad}, "layers is.*Use a list") for bad in (torch.tensor(2), np.array(2))],
        *[({"sites": bad}, "sites is") for bad in (torch.tensor(2), np.array("z_out"))],
        *[({"layers": [0]}, "layer 0"), ({"layers": count(1)}, "more than")],
        ({"model": 5}, "no model"),
    ],
    ids=named,
)
def test_view(model, images, given, told):
    given = {"model": model, **given}
    refused(lambda: wp.view(given.pop("model"), images, **given), told)


def test_layers_and_sites_are_taken_in_any_row(model, images):
    kept = wp.view(model, images, limit=2, sites=("z_out",), layers=np.array([1, 2])).sites
    assert list(kept) == [("z_out", 1), ("z_out", 2)]
    assert list(wp.view(model, images, limit=2, sites={"z_out"}, layers=range(1, 3)).sites)


def test_record(model):
    def recorded(given=model, sites="z_out", layers=None):
        with wp.record(given, sites, layers):
            pass

    recorded(layers=range(1, 3))
    for bad in ({"given": 5}, {"sites": 5}, {"sites": [5]}, {"layers": 1}, {"layers": "1"}):
        refused(lambda bad=bad: recorded(**bad))


@pytest.mark.parametrize(
    "given",
    [
        *[{"kinds": bad} for bad in (5, [5], [["gaussian"]], count(), "gausian", torch.tensor(2))],
        *[{"model": 5}, {"name": 5}, {"seed": "x"}],
    ],
    ids=named,
)
def test_nulls(model, images, given):
    given = {"model": model, **given}
    refused(lambda: wp.nulls(given.pop("model"), images, ["l0"], **given))


@pytest.mark.parametrize(
    "given",
    [
        *[{"models": bad} for bad in (5, None, [5], [None], torch.tensor(2), np.array(2))],
        *[{"basis": 5}, {"basis": {}}, {"robustness": "no"}, {"thresholds": 5}, {"untrained": 5}],
        *[{"draws": bad} for bad in (10**18, HUGE, LONGER, "x", 1.5)],
        *[{"seed": "x"}, {"limit": "3"}, {"null_limit": LONGER}, {"eps": HUGE}, {"eps": b"a"}],
        *[{"batch_size": bad} for bad in (0, -3, 1.5, True, None, "x", [2], np.int64(0), HUGE)],
        *[{"dtype": bad} for bad in ("bf16", "cpu", "", None, 5, b"x", torch.bfloat16)],
        *[{"lam": None}, {"eps": None}, {"begin": None}, {"workers": -1}, {"fit_limit": 0}],
        *[{"device": 5}, {"fast": "x"}, {"progress": 5}, {"nonfinite": "x"}, {"on_error": 5}],
    ],
    ids=lambda each: named(list(each)),
)
def test_audit(model, images, given):
    given = {"models": model, **given}
    refused(lambda: wp.audit(given.pop("models"), images, **given))


def test_an_audit_takes_numbers_of_numpy(model, images, tmp_path):
    def audited(number, truth):
        few = {"batch_size": number(2), "fit_limit": number(3), "fast": truth(True)}
        few |= {"null": truth(False), "robustness": truth(False), "progress": truth(False)}
        found = wp.audit(model, images, **few, draws=number(2), limit=number(6))
        return (found.save(tmp_path / number.__name__) / "audit.json").read_text()

    assert audited(np.int64, np.bool_) == audited(int, bool)


def test_compare_and_report(result, tmp_path):
    for bad in (5, None, "x", [5, 6], [result, 5], result, [result], torch.tensor(2), np.array(2)):
        refused(lambda bad=bad: wp.compare(bad))
    refused(lambda: wp.report(torch.tensor(2), tmp_path / "page.html"))
    other = wp.Result(result.frame.assign(model="b"), result.samples, {}, result.run)
    for bad in ({"seed": "x"}, {"form": ["x"]}, {"form": 5}):
        refused(lambda bad=bad: wp.compare([result, other], **bad))
    path = tmp_path / "page.html"
    for bad in (
        *({"path": 5}, {"path": None}, {"title": 5}, {"overwrite": "no"}, {"format": ["html"]}),
        *({"steps": 5}, {"steps": "1"}, {"steps": ["x"]}, {"steps": count()}),
    ):
        refused(lambda bad=bad: wp.report(result, **{"path": path, **bad}))
    assert not path.exists()


@pytest.mark.parametrize(
    "given",
    [
        *[{"name": 5}, {"sites": ["z_out"]}, {"limit": "x"}, {"resume": "no"}],
        *[{"every": LONGER}, {"batch_size": True}, {"seed": "x"}, {"share": HUGE}],
    ],
    ids=lambda each: named(list(each)),
)
def test_watch(images, given):
    refused(lambda: wp.watch(network(), images, metrics=["l0"], **given))


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"batch_size": "3"}, {"limit": True}, {"seed": "x"}]
)
def test_batches_of_data(model, images, bad):
    refused(lambda: list(wp.data(images, model=model).batches(**bad)))


def test_other_functions(tmp_path):
    sweep = {"models": ["crate-tiny-fmnist"], "data": "fashion-mnist", "out": str(tmp_path / "o")}
    for bad in (
        *({"workers": 0}, {"workers": True}, {"threads": 0}, {"threads": "3"}, {"engine": 5}),
        *({"only": 5}, {"retry_failed": 1}, {"progress": "no"}, {"out": 5}, {"file": 5}),
    ):
        refused(lambda bad=bad: wp.sweep(**{"file": sweep, **bad}), f"{next(iter(bad))} is")
    assert not (tmp_path / "o").exists()
    (seen,) = synthetic.inputs("view", names=("crate", "vit"))
    for bad in ("x", 0, True, HUGE):
        refused(lambda bad=bad: wp.plots.attention(seen, mass=bad, boxes=True), "mass is")
    refused(lambda: wp.segmentation(5, []), "no view")
    refused(lambda: wp.Thresholds(alpha=LONGER), "alpha")


def few(hint):
    """The values that may stand at a parameter, if they are few."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = all(get_origin(p) is Literal or p in (bool, NoneType) for p in parts)
    return plain and any(get_origin(p) is Literal for p in parts)


OF_FIGURES = [
    (name, each.name)
    for name, figure in wp.plots.figures.items()
    for each in inspect.signature(figure).parameters.values()
    if few(each.annotation)
]


@pytest.mark.parametrize(("name", "keyword"), OF_FIGURES)
def test_a_figure_is_held_to_the_choices_of_its_keywords(name, keyword):
    figure = wp.plots.figures[name]
    given = synthetic.inputs(kind_of(figure).takes, names=("crate", "vit"))
    parameters = inspect.signature(figure).parameters.values()
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    for bad in ("zzz", 5, ["x"]):
        refused(lambda bad=bad: figure(*given, **{**dict.fromkeys(needed, "hoyer"), keyword: bad}))


def test_choices_of_other_functions_are_held_to():
    """Each argument of few choices is one that the tests above, or these, give another to."""
    found = {
        (name, each.name)
        for name in wp.__all__
        if callable(function := getattr(wp, name))
        for each in inspect.signature(function).parameters.values()
        if few(each.annotation) and not inspect.isclass(function)
    }
    assert found == {("load", "weights"), ("report", "format")}
    for bad in ({"windows": "zzz"}, {"windows": ["x"]}, {"pixels": "no"}, {"stream": 5}):
        refused(lambda bad=bad: Choices(**bad))


def test_nought_and_false_change_a_mapping_too(monkeypatch):
    seen = []
    module = sys.modules["whitebox_probe.models.wrap"]
    monkeypatch.setattr(module, "_tried", lambda *given: seen.append(given[2]))
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, nhead=2, batch_first=True), 2)
    wp.wrap(net, mapping="torch-encoder-postnorm", causal=False, prefix_tokens=0, first_layer=0)
    wp.wrap(net, mapping="torch-encoder-postnorm", causal=None)
    assert seen == [{"causal": False, "prefix_tokens": 0, "first_layer": 0}, {}]
