"""The configuration of a network of transformers, read without running code that comes with it."""

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.arguments import is_number
from whitebox_probe._core.errors import CheckpointError, MissingDependency, nearest
from whitebox_probe._core.gate import Unfit, gate, read_mapping
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.arguments import expect_values, is_size
from whitebox_probe.models.hub import CONFIG, fetch_processor, in_repository

_MOST = 1 << 24  # bytes of a configuration
_NAME = "_name_or_path"
_KEPT = (_NAME, "__type")  # the latter of a token that is written with its properties
_STEERING = frozenset(
    {
        *("auto_map", "custom_pipelines", "configuration_files", "attn_implementation"),
        *("experts_implementation", "kernel_config", "use_kernels", "quantization_config"),
        *("backbone_kwargs", "use_timm_backbone", "gguf_file", "trust_remote_code"),
        *("code_revision", "name_or_path", "token", "cache_dir", "proxies", "subfolder"),
        *("revision", "fast_tokenizer_files", "base_model_name_or_path"),
    }
)
"""Fields by which a file would have the library look for code, kernels, or other files."""


_ROTARY = ("rope_parameters", "rope_scaling")
_OF_NUMBERS = re.compile(r"(theta|factor|embeddings|fast|slow|mscale|all_dim|section)$")


def transformers() -> Any:
    """The transformers library, imported when it is first needed.

    Raises: MissingDependency.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency(
            "models of the family 'hf' need transformers",
            str(error),
            "Run: pip install 'whitebox-probe[text]'",
        ) from error
    return transformers


def configuration(arch: Mapping[str, Any]) -> Any:
    """The configuration that a network's arguments describe.

    Args: arch: `model` (a folder or a hub name; its config.json is read, or downloaded) with
        `revision`, or `model_type`; and options of that configuration.
    Raises: CheckpointError for an unknown type or option, or a configuration that cannot be had.
    """
    options = dict(arch)
    library = transformers()
    if "model" in options:
        model, revision = options.pop("model"), options.pop("revision", "main")
        folder = _folder(model, revision)
        config = _read(folder, model)
        if _takes_pictures(config) and not Path(model).is_dir():
            fetch_processor(model, folder)
        _check_options(config, options)
        for key, value in options.items():
            setattr(config, key, value)
    else:
        kind = options.pop("model_type", None)
        if not isinstance(kind, str) or kind not in library.CONFIG_MAPPING:
            raise CheckpointError(
                f"transformers has no model_type '{shown(kind)}'",
                f"transformers {library.__version__} does not list it",
                "Use one such as gpt2, bert or llama",
            )
        _check_options(library.AutoConfig.for_model(kind), options)
        config = library.AutoConfig.for_model(kind, **options)
    config.use_cache = False
    return config


def _read(folder: Path, model: str) -> Any:
    """The configuration in a folder, without what would have the library load anything else.

    Raises: CheckpointError.
    """
    library = transformers()
    try:
        stated = read_mapping(folder / CONFIG, most=_MOST)
        _expect_known(stated, model)
        kept = unsteered(stated)
        expect_values(kept, family="hf", source=model)
        with copy_of(folder) as place:
            (place / CONFIG).write_text(json.dumps(kept), encoding="utf-8")
            config = library.AutoConfig.from_pretrained(place, trust_remote_code=False)
            _expect_kinds(kept, config, model)
    except Unfit as why:
        error = why.__cause__
        lines = [line.strip() for line in str(error or why).splitlines() if line.strip()]
        raise CheckpointError(
            f"the configuration of '{model}' cannot be read",
            shown(lines[-1] if lines and "validat" in lines[0].lower() else str(why), 160),
            f"Check {CONFIG} in {folder}; code that comes with a model is not run",
        ) from why
    config._name_or_path = str(folder)  # where its image processor is described
    return config


@contextmanager
def copy_of(source: str | Path) -> Iterator[Path]:
    """A folder to copy what a library may read of another one; errors name that.

    Raises: Unfit for whatever the library, which is silent there, raises.
    """
    with tempfile.TemporaryDirectory() as place, quietly(transformers()):
        try:
            with gate():
                yield Path(place)
        except Unfit as why:
            raise Unfit(str(why).replace(place, str(source))) from why.__cause__


@contextmanager
def quietly(library: Any) -> Iterator[None]:
    """The library without its remarks on what a file holds: what matters is raised."""
    logging = library.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def unsteered(stated: Mapping[str, Any], places: re.Pattern[str] | None = None) -> dict[str, Any]:
    """A configuration without what says where code, kernels or other files are, at any depth.

    Args: places: names of further fields that do.
    """

    def steers(key: str) -> bool:
        own = key.startswith("_") and key not in _KEPT
        return own or key in _STEERING or (places is not None and places.search(key) is not None)

    def kept(value: Any) -> Any:
        if isinstance(value, Mapping):
            return unsteered(value, places)
        return [kept(each) for each in value] if isinstance(value, list) else value

    return {key: kept(value) for key, value in stated.items() if not steers(str(key))}


def flat(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration by name, those of its parts too: of one name the largest."""
    found: dict[str, Any] = {}
    for key, value in stated.items():
        inner = flat(value) if isinstance(value, Mapping) else {key: value}
        for name, each in inner.items():
            known = found.get(name)
            if not isinstance(known, int) or (isinstance(each, int) and each > known):
                found[name] = each
    return found


def _expect_known(stated: Mapping[str, Any], model: str) -> None:
    """Refuse what transformers would run the code of, or hand to another library.

    Raises: CheckpointError.
    """
    kind, library = stated.get("model_type"), transformers()
    if kind is not None and not isinstance(kind, str):
        raise Unfit(f"its model_type is {shown(kind)}, and no text")
    if stated.get("auto_map") and kind not in library.CONFIG_MAPPING:
        raise CheckpointError(
            f"the network of '{model}' is made by code that comes with it",
            f"its {CONFIG} names it (auto_map), and transformers {library.__version__} has no "
            f"model_type '{kind}'; such code is not run",
            "Load it with transformers yourself (trust_remote_code=True), and pass the module to "
            "wrap() with sites= or a mapping",
        )
    if kind in (None, "timm_wrapper") and "architecture" in stated:
        name = stated["architecture"]
        raise CheckpointError(
            f"'{model}' is a model of timm",
            f"its {CONFIG} names the architecture {name}",
            f"Load its file with arch='timm:{name}', or timm:{name} by name",
        )
    _expect_plain(stated, model)
    _expect_own(stated, model)


def _expect_own(stated: Mapping[str, Any], model: str) -> None:
    """Refuse a configuration, or a part of one, that has a network made by another library.

    Raises: CheckpointError.
    """
    foreign = stated.get("backbone") or stated.get("use_pretrained_backbone")
    if foreign or stated.get("model_type") == "timm_wrapper":
        raise CheckpointError(
            f"a part of '{model}' is made by another library",
            f"its {CONFIG} names {shown(foreign or 'a model of timm')}, which would be looked for",
            "Load it with transformers yourself, and pass the module to wrap()",
        )
    for part in stated.values():
        if isinstance(part, Mapping):
            _expect_own(part, model)


def _expect_plain(stated: Mapping[str, Any], model: str) -> None:
    """Refuse quantised weights, which only their own library reads.

    Raises: CheckpointError.
    """
    held = stated.get("quantization_config")
    if held:
        method = held.get("quant_method") if isinstance(held, Mapping) else None
        raise CheckpointError(
            f"the weights of '{model}' are quantised",
            f"its {CONFIG} names the method {shown(method or type(held).__name__)}",
            f"Load it with transformers (AutoModel.from_pretrained('{model}')) and pass the module "
            "to wrap(), or load the model that it was made from",
        )


def _expect_kinds(stated: Mapping[str, Any], config: Any, model: str) -> None:
    """Check that values are of the kinds that this type of network has by itself.

    Raises: CheckpointError.
    """
    usual = type(config)().to_dict()
    names = config.attribute_map
    for key, value in stated.items():
        own = usual.get(names.get(key, key))
        if not _alike(own, value, key):
            raise CheckpointError(
                f"the configuration of '{model}' cannot be read",
                f"{shown(key)} is {shown(value)}, and {shown(own)} in a usual one",
                f"Check {CONFIG}",
            )
    _expect_rotations(stated, model)


def _expect_rotations(stated: Mapping[str, Any], model: str, *, inside: bool = False) -> None:
    """Check what is said of rotary positions, which no usual configuration states in full.

    Args: inside: whether this is of rotary positions already; some have one mapping a kind of
        layer.
    Raises: CheckpointError.
    """
    for key, value in stated.items():
        if isinstance(value, Mapping):
            _expect_rotations(value, model, inside=inside or key in _ROTARY)
        elif inside and _OF_NUMBERS.search(key) and not _is_numbers(value):
            raise CheckpointError(
                f"the configuration of '{model}' cannot be read",
                f"{shown(key)} of its rotary positions is {shown(value)}, and no number",
                f"Check {CONFIG}",
            )


def _is_numbers(value: Any) -> bool:
    """Whether it is one finite number, several of them, or nothing."""
    if isinstance(value, list):
        return all(map(_is_numbers, value))
    return value is None or (is_number(value) and abs(value) < math.inf)


def _alike(own: Any, value: Any, name: str) -> bool:
    """Whether a value can stand where a usual one does; what is usually empty may be anything."""
    if value is None and own is not None and is_size(name):
        return False
    if isinstance(own, list) and is_number(value) and name.endswith("_token_id"):
        return True  # one where a usual network has several
    if own is None or isinstance(own, Mapping | list) or isinstance(value, Mapping):
        return own is None or isinstance(value, type(own) | None)
    if isinstance(own, bool) or isinstance(value, bool):
        return isinstance(own, bool) and isinstance(value, bool | None)
    if isinstance(own, int | float):
        return isinstance(value, int | float | list | None)
    return isinstance(value, type(own) | list | None)


def _folder(model: str, revision: str) -> Path:
    """The folder that holds the model's config.json."""
    if Path(model).is_dir():
        return Path(model)
    source = in_repository(model, CONFIG, revision)
    wanted = Checkpoint(name=f"{Path(model).name}-config", family="hf", arch={}, source=source)
    return checkpoints.fetch(wanted, progress=False).parent


def _takes_pictures(config: Any) -> bool:
    """Whether a configuration is of a model of images, or has one inside."""
    return any(hasattr(config, name) for name in ("patch_size", "vision_config"))


def _check_options(config: Any, options: Mapping[str, Any]) -> None:
    usual = config.to_dict()
    known = unsteered({**usual, **config.attribute_map})
    expect_values(options, family="hf", source=f"a {config.model_type} network")
    for key, value in options.items():
        own = usual.get(config.attribute_map.get(key, key))
        if key in known and not _alike(own, value, key):
            raise CheckpointError(
                f"'{key}' of a {config.model_type} network cannot be {shown(value)}",
                f"it is {shown(own)} where nothing is said",
                "Give a value of that kind",
            )
        if key not in known:
            raise CheckpointError(
                f"'{key}' is no option of a {config.model_type} network",
                "transformers would take it and do nothing with it",
                nearest(key, sorted(known)),
            )
