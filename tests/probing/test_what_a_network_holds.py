"""The digest of a network covers whatever its output depends on, in whatever form it is kept."""

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.probing.sharing import LABELLED, model_of
from whitebox_probe._core.errors import ProcessError
from whitebox_probe.probing.identity import digest, held


class Keeps(nn.Module):
    """A part that keeps something beside its parameters and buffers."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x


class Saves(Keeps):
    """A part that keeps something where only its state shows it."""

    def __init__(self, kept):
        super().__init__(None)
        self._of = lambda: kept

    def get_extra_state(self):
        return self._of()

    def set_extra_state(self, state):
        pass


def packed(value):
    with torch.no_grad():
        linear = nn.Linear(4, 3)
        linear.weight.fill_(value)
        linear.weight[0, 0] = 1
        linear.bias.zero_()
    whole = nn.Sequential(linear, nn.ReLU())
    return torch.ao.quantization.quantize_dynamic(whole, {nn.Linear})


FORMS = {
    "tensor": lambda v: Keeps(torch.tensor(v)),
    "list": lambda v: Keeps([1, torch.tensor(v)]),
    "mapping": lambda v: Keeps({"a": (torch.tensor(v),)}),
    "array": lambda v: Keeps(np.array([v])),
    "sparse": lambda v: Keeps(torch.tensor([0.0, v]).to_sparse()),
    "quantised": lambda v: Keeps(torch.quantize_per_tensor(torch.tensor([v]), 0.5, 0, torch.qint8)),
    "complex": lambda v: Keeps(torch.tensor([1j * v]).conj()),
    "extra state": lambda v: Saves({"gain": v, "more": [torch.tensor(v)]}),
    "saved bytes": lambda v: Saves(str(v).encode()),
    "parameter": lambda v: nn.ParameterList([torch.tensor([v])]),
    "packed weights": packed,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("form", FORMS)
def test_other_values_give_another_digest(form):
    one, same, other = (nn.Sequential(FORMS[form](v)) for v in (2.0, 2.0, 5.0))
    assert digest(one) == digest(same)
    assert digest(one) != digest(other)


def test_what_a_pass_leaves_behind_and_what_holds_itself_is_not_digested():
    part = Keeps([])
    before = digest(part)
    with torch.inference_mode():
        part.seen = torch.ones(3)
    part.kept.append(part.kept)
    assert digest(part) == before


def test_a_hook_is_part_of_the_layout():
    part = Keeps(None)
    before = held(part)
    part.register_forward_hook(lambda module, given, out: 2 * out)
    assert held(part) != before
    assert held(part) == held(part)


def test_a_pass_does_not_go_on_with_another_loose_tensor(tmp_path):
    for gain, fails in ((1.0, False), (1.0, False), (5.0, True)):
        model = model_of("vit")
        model.module.add_module("scale", Keeps(torch.tensor(gain)))
        options = {"batch_size": 4, "progress": False, "checkpoint": tmp_path, "save_every": 0.0}
        if not fails:
            wp.probe(model, LABELLED, ["l0"], **options)
            continue
        with pytest.raises(ProcessError, match="weights"):
            wp.probe(model, LABELLED, ["l0"], **options)
