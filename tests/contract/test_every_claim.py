"""What holds for each claim of the audit, found unaided.

A contract that does not apply to a claim is named in its `exempt`, with the reason.
"""

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe.auditing.claim import Statistic, claims
from whitebox_probe.auditing.judge import judge
from whitebox_probe.auditing.verdicts import (
    CONTRADICTED,
    NOT_APPLICABLE,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    VERDICTS,
    Thresholds,
)
from whitebox_probe.probing.plan import planned
from whitebox_probe.probing.settings import Settings

ROOT = Path(__file__).parents[2]
CLAIMS = list(claims())
CONTRACTS = {"says", "requests", "statistic", "missing", "verdicts", "side"}
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


@cache
def measured(name, asked):
    """What a claim asks for, measured of a shipped model."""
    model = shipped(name)
    text = "tokenizer" in checkpoints.entry(name).preprocess
    data = torch.randint(2, 1024, (6, 24), generator=torch.Generator().manual_seed(4))
    return wp.probe(model, data if text else IMAGES, list(asked), progress=False)


def results(claim):
    """(model's name, Result) of each shipped model that there is something to measure of."""
    for name in SHIPPED:
        asked = tuple(claim.requests(shipped(name)))
        if asked:
            yield name, measured(name, asked)


def says(claim):
    """A name, words, statistic and rule."""
    assert claim.name.isidentifier()
    assert type(claim).__doc__
    for words in (claim.text, claim.statistic, claim.rule):
        assert len(words.split()) >= 3
        assert not words.endswith(".")
    assert claim.wants in ("low", "high")
    assert not claim.revised or len(claim.revised.split()) > 10


def requests(claim):
    """What it needs can be planned for every shipped model, whatever their family."""
    for name in SHIPPED:
        model = shipped(name)
        for request in claim.requests(model):
            assert list(planned(model, [request], Settings(), {}))
    assert any(True for _ in results(claim))


def statistic(claim):
    """A number within its interval, a curve of every layer, and a verdict in the known words."""
    for name, result in results(claim):
        found = claim.take(result, Thresholds())
        assert claim.verdict(found, Thresholds()) in VERDICTS
        if not found.missing:
            # Samples that all rank alike have an interval of no width, up to rounding.
            assert found.low - 1e-12 <= found.value <= found.high + 1e-12, name
            curve = claim.curve(result)
            assert curve["layer"].tolist() == list(range(1, shipped(name).layers + 1))
            assert {"mean", "ci_low", "ci_high"} <= set(curve)


def missing(claim):
    """Where there is no number, it is told why, and no verdict is given."""
    for name, result in results(claim):
        found = claim.take(result, Thresholds())
        assert bool(found.missing) == np.isnan(found.value), name
        if found.missing:
            assert len(found.missing.split()) >= 4
    found = Statistic(missing="it is made up here")
    assert claim.verdict(found, Thresholds()) == NOT_APPLICABLE
    audit = judge(dict(results(claim)), {}, of=[claim])
    assert (audit.frame["reason"].str.len() > 10).all()


def made_up():
    """Statistics of many sizes, certain and uncertain ones."""
    sizes = (-20, -0.9, -0.3, 0.0, 0.3, 0.9, 20)
    for value, second in itertools.product(sizes, (-1.0, 0.0, 0.4, 1.0)):
        for half in (0.01, 30):
            yield Statistic(value, value - half, value + half, second=second)


def verdicts(claim):
    """Each verdict is given for some statistic."""
    found = {claim.judge(each, Thresholds()) for each in made_up()}
    assert found == {SUPPORTED, NOT_SUPPORTED, CONTRADICTED}
    revised = {claim.verdict(each, Thresholds()) for each in made_up()}
    assert revised == ({NOT_JUDGED} if claim.revised else found)


def side(claim):
    """Values on the side that it wants support it; those on the other contradict it."""
    told = [(claim.judge(each, Thresholds()), each.value) for each in made_up()]
    supported, against = (
        [value for verdict, value in told if verdict == which]
        for which in (SUPPORTED, CONTRADICTED)
    )
    low, high = (supported, against) if claim.wants == "low" else (against, supported)
    assert max(low) < min(high)


CHECKS = (says, requests, statistic, missing, verdicts, side)


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
