"""A training file of timm's script: which network its arguments name, and how it saw images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.lines import shown
from whitebox_probe.models.families._timm_arguments import OVERLAY

_IMAGES = ("mean", "std", "crop_pct", "crop_mode", "interpolation")
_FIELDS = {"crop_pct": "crop"}
_SIZES = ("in_chans", "chans", "input_size", "img_size")
_OUTSIDE = frozenset(
    {"model", "model_name", "pretrained", "checkpoint_path", "cache_dir", "features_only"}
    | {"pretrained_cfg", OVERLAY, "pretrained_strict", "pretrained_filter_fn"}
    | {"scriptable", "exportable", "no_jit", "device", "dtype"}
)
"""What is no matter of the network, and would have timm read or fetch another file."""


class Trained(NamedTuple):
    """The name that timm has for a network, and the arguments that it was made with."""

    name: str
    arguments: dict[str, Any]


def trained(path: Path) -> Trained | None:
    """What a training file of timm says of its network; None for any other file.

    Its `model_kwargs` and pooling are the factory's arguments. How images were prepared is among
    them as `pretrained_cfg_overlay`: what the script was not told is the architecture's own, as
    `timm.data.resolve_data_config` has it.

    Raises: CheckpointError for arguments of images that contradict each other.
    """
    told = checkpoints.read_script(path)
    name = told.get("arch")
    if name is None:
        return None
    import timm

    if not timm.is_model(name):
        return None
    arguments = {
        str(key): value
        for key, value in told["model_kwargs"].items()
        if value is not None and key not in _OUTSIDE
    }
    if told.get("gp"):
        arguments.setdefault("global_pool", told["gp"])
    images = _images(path, name, told, arguments)
    return Trained(name, arguments | ({OVERLAY: images} if images else {}))


def as_trained(path: Path, arch: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network of timm (`model`), with what a training file of it says.

    Of a file that names another network, how images were prepared is all that is taken.
    """
    found = trained(path)
    if found is None:
        return dict(arch)
    model, _, tag = str(arch["model"]).partition(".")
    if found.name.partition(".")[0] != model:
        kept = {k: v for k, v in found.arguments.items() if k == OVERLAY}
        return {**kept, **arch}
    # What the script was not told is that of the pretraining which it names.
    return {**found.arguments, **arch, **({} if tag else {"model": found.name})}


def fields_trained(arch: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Preprocess` that a training file states, of what `as_trained` gives."""
    told: dict[str, Any] = dict(arch.get(OVERLAY, {}))
    _, *sides = told.pop("input_size", (None,))
    if sides:
        told["size"] = sides[0] if len(set(sides)) == 1 else tuple(sides)
    return {_FIELDS.get(key, key): value for key, value in told.items()}


def _images(
    path: Path, name: str, told: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What the script was told of its images, and nothing else of the architecture's defaults."""
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    given = {key: told[key] for key in (*_IMAGES, *_SIZES) if told.get(key)}
    # timm's own has three numbers there; those of its kin give the side.
    if isinstance(given.get("input_size"), int):
        given.setdefault("img_size", given.pop("input_size"))
    if "in_chans" in arguments:
        given["in_chans"] = arguments["in_chans"]
    config = get_pretrained_cfg(name)
    try:
        found = resolve_data_config(given, pretrained_cfg=config.to_dict() if config else {})
    except Exception as error:  # of values that are of no kind which timm knows
        words = ", ".join(f"{key}={shown(value)}" for key, value in given.items())
        raise CheckpointError(
            f"how {path} was trained to see images is not understood",
            f"its args say {words}",
            "Say it with preprocess=, and the network with arch={'family': 'timm_vit', ...}",
        ) from error
    kept = [key for key in _IMAGES if key in given]
    if "img_size" in given or "input_size" in given:
        kept.append("input_size")
    return {key: found[key] for key in kept}
