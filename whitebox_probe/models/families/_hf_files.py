"""Files of transformers' models, brought into the names that the library has today."""

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, nearest
from whitebox_probe._core.gate import Unfit, gate
from whitebox_probe._core.lines import shown
from whitebox_probe._core.randomness import kept
from whitebox_probe.checkpoints import same
from whitebox_probe.models.keys.twice import twice

TASKS = (
    *("lm_head.", "cls.", "score.", "classifier.", "qa_outputs.", "generator_predictions."),
    *("discriminator_predictions.", "transform.", "predictions.", "dense.", "out_proj."),
    *("pre_classifier.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
    *(
        "embed_out.",
        "decoder.bias",
        "head.dense.",
        "head.norm.",
        "visual_projection.",
        "text_projection.",
    ),
)
"""Beside the base model: what tasks put on top of it."""
_LEFT_OUT = (
    *(".attn.bias", ".attn.masked_bias", ".position_ids", ".rotary_emb.inv_freq"),
    ".mask_token",
)
_MASKS, _MASKED = ".attention.bias", ".attention.masked_bias"
_FEW = 4  # of a base model's tensors: with a prefix they are strays, and not the model
_FIRST = 1 << 20
"""The number in place of a file's first tensor: no weight begins as large, and all are exact."""
_WHOLE = "_whitebox_probe_whole"
"""Under which attribute a tower keeps the model that it was taken from, and its path there."""


def tower_of(module: nn.Module, path: str) -> nn.Module:
    """A part of a model, which remembers where it stood: for its weights in a file of the whole.

    Raises: CheckpointError with the nearest path.
    """
    import transformers

    inner = dict(module.named_modules()).get(path)
    if not isinstance(inner, transformers.PreTrainedModel) or not path:
        towers = [
            name
            for name, part in module.named_modules()
            if name and isinstance(part, transformers.PreTrainedModel)
        ]
        raise CheckpointError(
            f"a {type(module).__name__} has no tower '{path}'",
            "it is no model of its own in it",
            nearest(path, towers) if towers else "Leave out tower=",
        )
    config: Any = module.config
    inner.config._name_or_path = config._name_or_path  # where its image processor is described
    object.__setattr__(inner, _WHOLE, (config, type(module), path))
    return inner


def is_tower(module: nn.Module) -> bool:
    """Whether it was taken out of a larger model."""
    return _WHOLE in vars(module)


def in_todays_names(weights: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """The base model's tensors of a file, under the names that it has today.

    What a task's head holds is left out; `gamma` and `beta` are the old names of a norm's weight
    and bias. Where names still differ, the library's own table of renamed and merged weights is
    asked (ViT, mixtures of experts).
    """
    whole = vars(network).get(_WHOLE)
    if whole is not None:
        config, kind, path = whole
        found = _converted(weights, kind, config, prefix=f"{kind.base_model_prefix}.")
        inside = {
            key.removeprefix(f"{path}."): tensor
            for key, tensor in found.items()
            if key.startswith(f"{path}.")
        }
        own = network.state_dict()
        return {k: t for k, t in inside.items() if k in own or not k.startswith(TASKS)}
    prefix = prefix_in(weights, network)
    bare = {k[len(prefix) :]: t for k, t in weights.items() if k.startswith(prefix)}
    own = network.state_dict()
    if not prefix:
        bare = {k: t for k, t in bare.items() if k in own or not k.startswith(TASKS)}
    bare = _in_new_names(bare)
    for key in weights if prefix else ():
        if not key.startswith(prefix) and _renamed(key) in bare:
            raise twice(_renamed(key), f"{prefix}{_renamed(key)}", key)
    if not set(bare) - set(own) or not _others(bare, network):
        return bare
    found = _converted(weights, type(network), network.config, prefix=prefix, beside=not prefix)
    return found if len(_others(found, network)) < len(_others(bare, network)) else bare


def prefix_in(weights: Mapping[str, Tensor], network: Any) -> str:
    """What the base model's names begin with in a file; empty where few begin so.

    A head may have more tensors than the base model, and a file fewer where it has them joined.
    """
    prefix = f"{network.base_model_prefix}."
    with_it = sum(key.startswith(prefix) for key in weights)
    return prefix if with_it and with_it >= len(network.state_dict()) / _FEW else ""


def is_left_out(key: str, tensor: Tensor) -> bool:
    """Whether a tensor follows from the configuration, or has no part in a pass of whole images.

    Older files hold such ones. A bias has one axis, and a mask of attention four.
    """
    if key.endswith(_MASKS):
        return tensor.ndim == 4
    return key.endswith(_LEFT_OUT) or (key.endswith(_MASKED) and tensor.numel() == 1)


def _others(tensors: dict[str, Tensor], network: nn.Module) -> set[str]:
    """The keys of a network that are not among the tensors."""
    return {key for key in network.state_dict() if key not in tensors}


def _converted(
    weights: dict[str, Tensor], kind: Any, config: Any, *, prefix: str, beside: bool = True
) -> dict[str, Tensor]:
    """The weights as the library itself brings them into a model; what it does not find is absent.

    What the model has no place for is there too, so that a configuration of fewer layers, or
    without biases, is not taken for that of the file. No file is read, and no code of one is run:
    the tensors are handed over.

    Args: prefix: of the base model's names, which comes off. beside: whether names without it may
        be the model's too; they are a head's otherwise.
    """
    own, unused = _traced(weights, kind, config)
    tensors, info = _loaded(weights, kind, config)
    found = {key: tensor for key, tensor in tensors.items() if key not in own}
    for key in info["missing_keys"]:
        found.pop(key, None)
    for key, got, _ in info["mismatched_keys"]:
        found[key] = tensors[key].new_zeros(tuple(got))  # told with its shape, and never loaded
    odd = bool(info["mismatched_keys"])
    for key in sorted(info["unexpected_keys"]):  # by today's names: refused
        if _is_ours(key, prefix, beside):
            odd, found[key.removeprefix(prefix)] = True, weights.get(key, torch.zeros(0))
    if odd:
        return found  # refused by these
    ignored = getattr(kind, "_keys_to_ignore_on_load_unexpected", None) or ()
    lost = {
        key
        for key in unused
        if _is_ours(key, prefix, beside)
        and not is_left_out(key, weights[key])
        and ".lm_head." not in key
        and not any(re.search(pattern, key) for pattern in ignored)
    }
    if lost and (other := _with_another(lost, weights, kind, config)) is not None:
        raise CheckpointError(
            "two tensors of the file are one of the network's",
            f"'{shown(other)}' is not used, as another one has its place",
            "Leave out the one that does not belong to it",
        )
    return found


def _traced(weights: Mapping[str, Tensor], kind: Any, config: Any) -> tuple[set[str], set[str]]:
    """The model's tensors that are not all of a file's, and the file's that are in none of them.

    The library does not tell of what is tied to a weight of another shape, and stays random, nor
    of two weights with one place. So each is a number of its own, which shows where it went.
    """
    numbers = {k: _FIRST + at for at, (k, t) in enumerate(weights.items()) if _is_weight(t)}
    marked = {k: torch.tensor(float(n)).expand(weights[k].shape) for k, n in numbers.items()}
    placed, _ = _loaded({**weights, **marked}, kind, config)
    own, seen = set[str](), set[float]()
    for key, tensor in placed.items():
        if tensor.is_floating_point():
            held = tensor.flatten().unique_consecutive()
            of_file = held[held >= _FIRST]
            seen.update(of_file.tolist())
            own |= {key} if len(of_file) < len(held) else set()
    return own, {key for key, number in numbers.items() if number not in seen}


def _with_another(
    unused: set[str], weights: Mapping[str, Tensor], kind: Any, config: Any
) -> str | None:
    """The first of a file's unused tensors in whose place is one of other numbers.

    A tied tensor may be there under each of its names: without those that are equal to it, it is
    used.
    """
    equal = {
        key
        for key, tensor in weights.items()
        if key not in unused and any(same(tensor, weights[other]) for other in unused)
    }
    left = {key: tensor for key, tensor in weights.items() if key not in equal}
    try:
        _, still = _traced(left, kind, config)
    except CheckpointError:  # without those the others do not fit together
        still = unused
    return min(still & unused, default=None)


def _loaded(
    weights: dict[str, Tensor], kind: Any, config: Any
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a model that the library fills with weights, and what it says of them."""
    from transformers.utils import logging

    quiet, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with gate(), kept():
            model, info = kind.from_pretrained(
                None,
                config=copy.deepcopy(config),
                state_dict=dict(weights),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Unfit as why:
        parts = "some of its parts lack, are too many, or are of another shape than the others"
        raise CheckpointError(
            f"the weights of a {config.model_type} network cannot be put together",
            parts if "conversion" in str(why) else str(why),  # which it prints, and does not raise
            "Get the file again, or the configuration that it was saved with",
        ) from why
    finally:
        logging.set_verbosity(quiet)
        if bars:
            logging.enable_progress_bar()
    return dict(model.state_dict()), info


def _is_weight(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.numel() > 0


def _is_ours(key: str, prefix: str, beside: bool) -> bool:
    """Whether a tensor of a file should be one of the base model's."""
    return (bool(prefix) and key.startswith(prefix)) or (beside and not key.startswith(TASKS))


def _in_new_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Norms' weights and biases by these names.

    Raises: CheckpointError where one is there by both.
    """
    found = {_renamed(key): tensor for key, tensor in weights.items()}
    if len(found) < len(weights):
        old = next(key for key in weights if _renamed(key) != key and _renamed(key) in weights)
        raise twice(_renamed(old), _renamed(old), old)
    return found


def _renamed(key: str) -> str:
    stem, _, last = key.rpartition(".")
    return f"{stem}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }" if stem else key
