"""What holds for each claim of the audit, found unaided.

A contract that does not apply to a claim is named in its `exempt`, with the reason.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.auditing import made_up
from whitebox_probe import checkpoints
from whitebox_probe.auditing.claim import Finding, claims
from whitebox_probe.auditing.grid import AXES, around, usual
from whitebox_probe.auditing.judge import Measured, judge
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import VERDICTS
from whitebox_probe.probing.means import mean_updates, with_means
from whitebox_probe.probing.plan import planned
from whitebox_probe.probing.settings import Settings

ROOT = Path(__file__).parents[2]
CLAIMS = list(claims())
CONTRACTS = {"says", "requests", "effect", "missing", "settings", "flat"}
SHIPPED = [
    name
    for name, e in checkpoints.registry().items()
    if e.source["kind"] == "packaged" and not name.endswith("-init")
]
IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(3))


@cache
def shipped(name):
    if checkpoints.entry(name).family == "hf":
        pytest.importorskip("transformers")
    return wp.load(name)


def base(name):
    return usual(shipped(name), eps=0.1, lam=0.1)


@cache
def measured(name, asked):
    """What a claim asks for, measured of a shipped model."""
    text = "tokenizer" in checkpoints.entry(name).preprocess
    data = torch.randint(2, 1024, (6, 24), generator=torch.Generator().manual_seed(4))
    data = data if text else IMAGES
    model = with_means(shipped(name), mean_updates(shipped(name), data, limit=None))
    return wp.probe(model, data, list(asked), progress=False)


def results(claim):
    """(model's name, Result) of each shipped model that there is something to measure of."""
    for name in SHIPPED:
        asked = tuple(claim.requests(base(name)))
        try:
            planned(with_means(shipped(name), None), list(asked), Settings(), {})
        except wp.ProbeError:
            continue
        yield name, measured(name, asked)


def says(claim):
    """A name, words, an effect with its unit, and a rule."""
    assert claim.name.isidentifier()
    assert type(claim).__doc__
    for words in (claim.text, claim.statistic, claim.rule):
        assert len(words.split()) >= 3
        assert not words.endswith(".")
    assert claim.unit
    assert claim.wants in ("low", "high")
    assert {*claim.keeps, *claim.loses} <= set(AXES)
    assert not set(claim.keeps) & set(claim.loses)
    assert all(len(why.split()) > 5 for why in claim.loses.values())


def requests(claim):
    """Some shipped model has what it needs; where one has not, planning says so in one line."""
    assert any(True for _ in results(claim))


def effect(claim):
    """A number within its interval, a p, a sentence, a curve of every layer, a known verdict."""
    for name, result in results(claim):
        readings = Readings(result)
        found = claim.find(readings, base(name), Thresholds())
        if found.missing:
            continue
        assert found.low - 1e-12 <= found.value <= found.high + 1e-12, name
        assert 0 <= found.p <= 1
        assert found.tested
        assert found.side in (-1, 0, 1)
        assert bool(found.why) == (found.side != 1)
        assert len(claim.sentence(found).split()) > 5
        curve = claim.curve(readings, base(name))
        assert curve["layer"].tolist() == list(range(1, shipped(name).layers + 1))
        assert {"mean", "ci_low", "ci_high"} <= set(curve)
        frame = judge({name: Measured(result, base(name))}, of=[claim]).frame
        assert frame["verdict"].str.startswith(VERDICTS).all()


def missing(claim):
    """Where there is no number, it is told why, and no verdict is given."""
    for name, result in results(claim):
        found = claim.find(Readings(result), base(name), Thresholds())
        assert bool(found.missing) == np.isnan(found.value), name
    absent = {claim.name: "it is made up that this was not measured"}
    result = made_up.result({}, layers=8, samples=6)
    audit = judge({"a": Measured(result, made_up.BASE, absent=absent)}, of=[claim])
    assert audit.frame["verdict"].tolist() == ["not applicable"]
    assert audit.frame["reason"].tolist() == [absent[claim.name]]
    assert np.isnan(Finding(missing="x").value)


def settings(claim):
    """What it looks at beside the usual setting can be planned for every model that has it."""
    for name, _ in results(claim):
        for setting in around(shipped(name), base(name)):
            if claim.looks_at(setting):
                model = with_means(shipped(name), None)
                assert list(planned(model, claim.requests(setting), Settings(), {}))


def flat(claim):
    """Of numbers that are noise about nothing it is not supported."""
    for seed in range(20):
        result = made_up.result({}, layers=8, samples=16, seed=seed)
        audit = judge({"a": Measured(result, made_up.BASE)}, of=[claim])
        assert audit.frame["verdict"].tolist() != ["supported"]


CHECKS = (says, requests, effect, missing, settings, flat)


def check_reasons(claim):
    for contract, reason in claim.exempt.items():
        assert contract in CONTRACTS
        assert len(reason.split()) >= 4, f"it does not say why {contract} does not apply"


def check(claim):
    """Every contract that applies."""
    check_reasons(claim)
    for each in CHECKS:
        if each.__name__ not in claim.exempt:
            each(claim)


def test_each_contract_is_checked():
    assert {check.__name__ for check in CHECKS} == CONTRACTS


@pytest.mark.parametrize("name", CLAIMS)
def test_what_does_not_apply_has_a_reason(name):
    check_reasons(claims()[name])


@pytest.mark.parametrize("contract", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CLAIMS)
def test_it_keeps_the_contract(name, contract):
    claim = claims()[name]
    if contract.__name__ in claim.exempt:
        pytest.skip(claim.exempt[contract.__name__])
    contract(claim)


def test_the_docs_list_them_in_their_order():
    page = (ROOT / "docs" / "measures.md").read_text().partition("<!-- table: claims -->")[2]
    rows = [row.split("`")[1] for row in page.split("<!-- end -->")[0].splitlines() if "| `" in row]
    assert rows == CLAIMS
    places = [claims()[name].place for name in CLAIMS]
    assert len(set(places)) == len(places)
