"""One forward pass serves every convention, basis, norm and eps; what they share is taken once."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import whitebox_probe as wp
from whitebox_probe._core import onednn
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.probing.plan import Request, planned
from whitebox_probe.probing.probe import probe as function
from whitebox_probe.probing.settings import Execution, Settings

IMAGES = torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(3))
SEVERAL = {
    "convention": ["paper", "official"],
    "basis": ["native", "random"],
    "orthonormal": [False, True],
    "prenorm": [True, False],
    "class_token": [True, False],
    "eps": [0.1, 0.5],
    "lam": [0.1, 0.3],
    "null": [None, "gaussian", "random_subspaces"],
}


def counting(module):
    """How often a module is run, and what stops the counting."""
    calls = []
    return calls, module.register_forward_pre_hook(lambda *_: calls.append(1))


def test_what_is_measured_is_not_routed(crate, monkeypatch):
    """Each call of torch's within the routing costs one of Python's: measures make most of them."""
    called = []
    plain = onednn._Routed.__torch_function__

    def seen(self, func, types, args=(), kwargs=None):
        called.append(func)
        return plain(self, func, types, args, kwargs)

    monkeypatch.setattr(onednn._Routed, "__torch_function__", seen)
    counts = []
    for names in (["l0"], ["l0", "compression", "coding_rate", "attention_rate_change"]):
        called.clear()
        wp.probe(crate, IMAGES, names, batch_size=12, progress=False)
        counts.append(len(called))
    assert torch.nn.functional.linear in called
    assert counts[0] == counts[1]


def test_a_plan_reads_each_layer_once(crate, monkeypatch):
    """A layer of transformers is found by walking the module: measures ask some thousand times."""
    read = []
    plain = type(crate.anatomy).layer
    monkeypatch.setattr(
        type(crate.anatomy),
        "layer",
        lambda self, module, number: read.append(number) or plain(self, module, number),
    )
    assert crate.layers == 3
    planned(crate, None, Settings(), None)
    assert sorted(read) == sorted(set(read))
    before = len(read)
    crate.layer(1)  # outside of a plan a layer is as the module is now
    crate.layer(1)
    assert len(read) == before + 2


def test_any_number_of_settings_is_one_pass_and_equals_single_runs(crate):
    calls, handle = counting(crate.module)
    names = ["compression", "coding_rate", "sparse_rate_reduction", "l0", "pooled_rate"]
    whole = wp.probe(crate, IMAGES, names, batch_size=12, progress=False, **SEVERAL)
    handle.remove()
    assert len(calls) == 1
    random = np.random.default_rng(0)
    picks = list(itertools.product(*SEVERAL.values()))
    for pick in random.choice(len(picks), size=12, replace=False):
        where = dict(zip(SEVERAL, picks[pick], strict=True))
        one = wp.probe(crate, IMAGES, ["compression", "l0"], progress=False, **where)
        settings = where | {"basis": where["basis"] + "+qr" * where["orthonormal"]}
        orthonormal = settings.pop("orthonormal")
        assert isinstance(orthonormal, bool)
        settings["null"] = settings["null"] or ""
        for metric in ("compression", "l0"):
            got = whole.values(metric, **settings)
            np.testing.assert_allclose(got, one.values(metric), rtol=1e-5, err_msg=str(where))


def test_one_gram_matrix_serves_a_site_norm_and_basis(crate, monkeypatch):
    taken = []
    plain = _linalg.gram
    monkeypatch.setattr(_linalg, "gram", lambda Z: taken.append(1) or plain(Z))
    names = ["coding_rate", "compression", "rate_reduction", "sparse_rate_reduction"]
    options = {"eps": [0.1, 0.5, 1.0], "lam": [0.1, 1.0], "progress": False}
    wp.probe(crate, IMAGES, names, **options)
    # R at z_out, R^c at z_out and at z_half: three Gram matrices a layer, whatever eps and lam.
    assert len(taken) == 3 * crate.layers
    taken.clear()
    wp.probe(crate, IMAGES, names, basis=["native", "random"], **options)
    assert len(taken) == 5 * crate.layers  # R is shared by the bases


def test_an_audit_runs_each_model_once_a_batch():
    model = wp.load("crate-tiny-fmnist")
    calls, handle = counting(model.module)
    images = torch.randn(12, 1, 28, 28)
    wp.audit([model], images, batch_size=6, null=False, progress=False)
    handle.remove()
    assert len(calls) == 4  # two batches: once for the mean updates, once for all measures


def test_a_request_has_settings_of_its_own(crate):
    asked = [Request(metric="compression", convention="official", eps=[0.1, 1.0]), "coding_rate"]
    result = wp.probe(crate, IMAGES, asked, progress=False)
    assert set(result.curve("coding_rate")["convention"]) == {"paper"}
    assert result.curve("compression", eps=1.0)["convention"].unique().tolist() == ["official"]
    assert result.run["convention"] == ["official", "paper"]


def test_what_a_measure_does_not_depend_on_makes_no_rows(crate):
    result = wp.probe(crate, IMAGES, ["l0"], prenorm=[True, False], eps=[0.1, 1.0], progress=False)
    assert len(result.frame) == crate.layers
    assert result.frame["prenorm"].isna().all()
    assert result.frame["eps"].isna().all()
    assert (result.frame["basis"] == "").all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"lam": float("nan")}, "lam is nan"),
        ({"eps": []}, "eps is"),
        ({"prenorm": "yes"}, "prenorm is 'yes'"),
        ({"convention": "papers"}, "unknown convention 'papers'.*Did you mean 'paper'"),
        ({"null": "gausian"}, "unknown null 'gausian'.*Did you mean 'gaussian'"),
        ({"null": "random_weights"}, "unknown null 'random_weights'"),
        ({"workers": -2}, "workers is -2"),
        ({"save_every": -1}, "save_every is -1"),
        ({"metrics": ["l0", "l0"]}, "'l0' is named twice"),
        ({"metrics": [3]}, "a metric is a int"),
    ],
)
def test_wrong_settings_are_told_before_any_pass(crate, wrong, told):
    calls, handle = counting(crate.module)
    metrics = wrong.pop("metrics", ["l0"])
    with pytest.raises(ProbeError, match=told):
        wp.probe(crate, IMAGES, metrics, progress=False, **wrong)
    handle.remove()
    assert not calls


def test_probe_takes_every_setting_and_nothing_is_said_twice():
    import inspect
    from dataclasses import fields

    parameters = set(inspect.signature(function).parameters)
    named = {each.name for kind in (Settings, Execution) for each in fields(kind)}
    named -= {"begin"}  # of a folder that is begun anew, which is given as `checkpoint`
    assert named <= parameters
    assert parameters - named == {"model", "data", "metrics", "sites", "fit_data", "name"}


def test_a_name_and_a_module_stand_for_a_model():
    images = torch.randn(2, 1, 28, 28)
    one = wp.probe("crate-tiny-fmnist", images, ["l0"], progress=False)
    assert one.model == "crate-tiny-fmnist"
    module = wp.load("crate-tiny-fmnist").module
    other = wp.probe(module, images, ["l0"], progress=False)
    np.testing.assert_array_equal(one.samples, other.samples)


def test_the_labels_that_were_used_are_recorded(crate):
    data = TensorDataset(IMAGES, torch.arange(12) % 3)
    run = wp.probe(crate, data, ["neural_collapse"], progress=False).run
    assert run.labels == {"classes": 3, "counts": {"0": 4, "1": 4, "2": 4}}
    assert wp.probe(crate, data, ["l0"], progress=False).run.labels is None


def test_each_part_of_a_module_is_in_its_own_mode_afterwards(crate):
    crate.module.train()
    crate.module.transformer.layers[0].eval()
    before = [part.training for part in crate.module.modules()]
    wp.probe(crate, IMAGES, ["l0"], progress=False)
    assert [part.training for part in crate.module.modules()] == before
