"""Language models of transformers: sites, the bases of their head projections, their files."""

import copy
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, float32, nn

from whitebox_probe._core.errors import LoadWarning
from whitebox_probe.checkpoints import HEADS, listed
from whitebox_probe.models.arguments import NOTHING, TEXT, any_of, expect_arguments, one_of
from whitebox_probe.models.configuration import configuration, flat, transformers, unsteered
from whitebox_probe.models.families._hf_anatomy import HfAnatomy
from whitebox_probe.models.families._hf_examples import EXAMPLES
from whitebox_probe.models.families._hf_files import (
    TASKS,
    in_todays_names,
    is_left_out,
    is_tower,
    prefix_in,
    tower_of,
)
from whitebox_probe.models.family import Family, Recognised
from whitebox_probe.models.room import made

_BOOKKEEPING = ("architectures", "dtype", "torch_dtype", "transformers_version")
_OWN = {
    "tower": any_of(TEXT, NOTHING),
    "attn_implementation": any_of(
        one_of("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"), NOTHING
    ),
}
# What no file holds, for the types that a file alone is recognised as.
_RELEASED: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    "bert": {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    "roberta": {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 1},
}
_GPT2 = {
    "wte.weight": 2,
    "wpe.weight": 2,
    "h.0.mlp.c_fc.weight": 2,
    "h.0.attn.c_attn.weight": 2,
}
_BERT = {
    "embeddings.word_embeddings.weight": 2,
    "embeddings.position_embeddings.weight": 2,
    "encoder.layer.0.intermediate.dense.weight": 2,
    "embeddings.token_type_embeddings.weight": 2,
    "encoder.layer.0.attention.self.query.weight": 2,
}


def _is_encoder(config: Any, module: nn.Module) -> bool:
    """Whether the encoder alone of an encoder and decoder was saved, such as a T5EncoderModel."""
    saved = getattr(config, "architectures", None) or ()
    both = hasattr(module, "encoder") and hasattr(module, "decoder")
    return both and any(name.endswith("EncoderModel") for name in saved)


class HfFamily(Family):
    """Causal models, encoders and vision towers of transformers, of the kinds in a table of blocks.

    Input is token ids (B, n), or images (B, C, H, W). Folders that save_pretrained wrote are read;
    a task's head is not built. Of a model of several towers `tower` names the one that is.
    """

    name = "hf"
    reads = HfAnatomy
    example = EXAMPLES
    tested = (
        "tokens, attention and A V against what transformers itself returns, in float64 with "
        "random weights, for the types in `tests/models/test_hf_types.py`, without deviation; "
        "145 types by `benchmarks/architectures.py` (RESULTS.md); saved folders, shards and bare "
        "files of GPT-2 and BERT. `minilm-l6` was run: sentences of one meaning lie near each "
        "other (marker `weights`)"
    )
    assumed_from = "the released models of this type have them"
    fingerprints = tuple(
        {f"{prefix}{key}": rank for key, rank in marks.items()}
        for marks, prefixes in ((_GPT2, ("", "transformer.")), (_BERT, ("", "bert.")))
        for prefix in prefixes
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a base model by name (`model`), or by `model_type` and its configuration's options.

        `attn_implementation` is passed on to transformers; `tower` is the path of the part that is
        built alone, such as `vision_model` of a CLIP.

        Raises: CheckpointError for a tower that is not there.
        """
        arguments = dict(arch)
        tower = arguments.pop("tower", None)
        # Never the one that a file names: transformers would fetch the code of some.
        chosen = {"attn_implementation": arguments.pop("attn_implementation", None)}
        expect_arguments(
            {"tower": tower, **chosen}, _OWN, family=self.name, source=str(arch.get("model", "it"))
        )
        config = configuration(arguments)

        def make() -> nn.Module:
            fresh = copy.deepcopy(config)
            make_of: Any = transformers().AutoModel.from_config
            found: nn.Module = make_of(fresh, dtype=float32, trust_remote_code=False, **chosen)
            return found

        module = made(make, flat(config.to_dict()), source=str(arch.get("model", "this network")))
        if tower is None and _is_encoder(config, module):
            tower = "encoder"
        return module if tower is None else tower_of(module, tower)

    def matches(self, module: nn.Module) -> bool:
        """Any model of transformers; what is not understood of it is told by its part."""
        library: Any = sys.modules.get("transformers")
        return library is not None and isinstance(module, library.PreTrainedModel)

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """Activation and norms' eps of the released models; a config.json states its own."""
        return {} if "model" in arch else dict(_RELEASED.get(str(arch.get("model_type")), {}))

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """GPT-2 by its fused d x 3d projection; BERT by its names, with `bert.` or without."""
        if not self.marked(shapes):
            return None
        prefix = "bert." if any(key.startswith("bert.") for key in shapes) else "transformer."
        named = {key.removeprefix(prefix): shape for key, shape in shapes.items()}
        arch: dict[str, Any]
        asked: dict[str, tuple[Any, ...]] = {}
        if "h.0.attn.c_attn.weight" in named:
            words, positions, hidden, fused = (named[key] for key in _GPT2)
            if fused[1] != 3 * fused[0]:
                return None
            arch = {"model_type": "gpt2", "n_inner": hidden[1]}
            layers = {key.split(".")[1] for key in named if key.startswith("h.")}
        else:
            words, positions, hidden, types, _ = (named[key] for key in _BERT)
            arch = {"intermediate_size": hidden[0], "type_vocab_size": types[0]}
            if prefix == "bert." or types[0] == 2:
                arch["model_type"] = "bert"
            else:  # RoBERTa's names are the same without their prefix, and its positions shifted
                asked["model_type"] = ("bert", "roberta")
            layers = {key.split(".")[2] for key in named if key.startswith("encoder.layer.")}
        arch |= {
            "hidden_size": words[1],
            "num_hidden_layers": len(layers),
            "vocab_size": words[0],
            "max_position_embeddings": positions[0],
        }
        return Recognised(arch, inner=words[1], ask=asked)

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Of a config.json everything: each option may change what a model computes."""
        if "model_type" not in arguments:
            return {}
        names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers"}
        names |= {"n_positions": "max_position_embeddings"}
        told = {names.get(key, key): value for key, value in arguments.items()}
        kind = told["model_type"]
        if not isinstance(kind, str) or kind not in transformers().CONFIG_MAPPING:
            return {"model_type": kind}
        known = transformers().CONFIG_MAPPING[kind]()
        left = {*HEADS, *_BOOKKEEPING}
        if kind == "gpt2" and told.get("n_inner") is None:
            left.add("n_inner")  # four times the width, as the tensors have it
        kept = {k: v for k, v in unsteered(told).items() if k not in left and hasattr(known, k)}
        return kept | {"model_type": kind}

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"num_attention_heads": heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Take the base model's tensors, under the names that it has today.

        What a task's head holds is left out, and so are masks and positions that older files hold;
        `gamma` and `beta` are the old names of a norm's weight and bias. A pooler without weights
        in the file is taken out of the module: random weights would stand there.
        """
        network: Any = module
        fitting = in_todays_names(weights, network)
        if getattr(network, "pooler", None) is not None and not any(
            key.startswith("pooler.") for key in fitting
        ):
            network.pooler = None
        elif getattr(network, "pooler", None) is None:  # behind the last layer, as heads are
            fitting = {k: t for k, t in fitting.items() if not k.startswith("pooler.")}
        expected = network.state_dict()
        return {k: t for k, t in fitting.items() if k in expected or not is_left_out(k, t)}

    def is_part(self, module: nn.Module) -> bool:
        """A tower is."""
        return is_tower(module)

    def notes(
        self, weights: Mapping[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> list[LoadWarning]:
        """Which tensors beside the base model are of no known head."""
        network: Any = module
        if is_tower(module):
            return []  # it was asked for alone
        prefix = prefix_in(weights, network)
        own = network.state_dict()
        told = [k for k in weights if not k.startswith((prefix, *TASKS)) and k not in own]
        if not told or not prefix:
            return []
        warning = LoadWarning(
            f"{len(told)} tensors of the file were left out",
            f"they stand beside the base model, and are of no known head: {listed(told)}",
            "Check their names if they belong to it; every other tensor is loaded",
        )
        return [warning]
