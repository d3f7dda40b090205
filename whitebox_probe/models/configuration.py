"""The configuration of a network of transformers, read without running code that comes with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, MissingDependency, nearest
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.hub import CONFIG, fetch_processor, in_repository


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
        _expect_known(folder, model)
        try:
            config = library.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # its checks raise errors of many kinds
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(
                f"the configuration of '{model}' cannot be read",
                (lines[-1] if "validat" in lines[0] else lines[0])
                if lines
                else type(error).__name__,
                f"Check {CONFIG} in {folder}; code that comes with a model is not run",
            ) from error
        _expect_plain(config, model)
        if _takes_pictures(config) and not Path(model).is_dir():
            fetch_processor(model, folder)
        _check_options(config, options)
        for key, value in options.items():
            setattr(config, key, value)
    else:
        kind = options.pop("model_type", None)
        if kind not in library.CONFIG_MAPPING:
            raise CheckpointError(
                f"transformers has no model_type '{kind}'",
                f"transformers {library.__version__} does not list it",
                "Use one such as gpt2, bert or llama",
            )
        _check_options(library.AutoConfig.for_model(kind), options)
        config = library.AutoConfig.for_model(kind, **options)
    config.use_cache = False
    return config


def _expect_known(folder: Path, model: str) -> None:
    """Refuse what transformers would run the code of, or hand to another library.

    Raises: CheckpointError.
    """
    try:
        stated = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # transformers says what is wrong
    if not isinstance(stated, Mapping):
        return
    kind, library = stated.get("model_type"), transformers()
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


def _expect_plain(config: Any, model: str) -> None:
    """Refuse quantised weights, which only their own library reads.

    Raises: CheckpointError.
    """
    stated = getattr(config, "quantization_config", None)
    if stated:
        method = stated.get("quant_method") if isinstance(stated, Mapping) else None
        raise CheckpointError(
            f"the weights of '{model}' are quantised",
            f"its {CONFIG} names the method {method or type(stated).__name__}",
            f"Load it with transformers (AutoModel.from_pretrained('{model}')) and pass the module "
            "to wrap(), or load the model that it was made from",
        )


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
    known = {*config.to_dict(), *config.attribute_map}
    for key in options:
        if key not in known:
            raise CheckpointError(
                f"'{key}' is no option of a {config.model_type} network",
                "transformers would take it and do nothing with it",
                nearest(key, sorted(known)),
            )
