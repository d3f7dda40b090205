"""Models of the Hugging Face hub by name: where their files are, and their configuration."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, MissingDependency, nearest
from whitebox_probe.checkpoints import Checkpoint

WEIGHTS, CONFIG = "model.safetensors", "config.json"
LENGTH = 128  # tokens in a window of text; every model of the hub takes that many


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


def hub_entry(name: str) -> Checkpoint:
    """A registry entry for `NAME`, `NAME@REVISION`, or a folder that save_pretrained wrote.

    Only one file of weights, in safetensors, is read.

    Raises: CheckpointError for a name that is neither a folder nor a hub repository's.
    """
    model, _, revision = name.partition("@")
    if Path(name).is_dir():
        model, source = name, {"kind": "path", "path": str(Path(name) / WEIGHTS)}
    elif re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and ".." not in model:
        source = _in_repository(model, WEIGHTS, revision or "main")
    else:
        raise CheckpointError(
            f"'{model}' is no model's name",
            "it is neither a folder here nor a name of the Hugging Face hub",
            "Use one such as hf:openai-community/gpt2",
        )
    arch = {"model": model} | ({"revision": revision} if source["kind"] != "path" else {})
    if not arch.get("revision"):
        arch.pop("revision", None)
    reads = {"tokenizer": model, "length": LENGTH}
    return Checkpoint(
        name=Path(model).name, family="hf", arch=arch, source=source, preprocess=reads
    )


def expect_one_file(folder: Path) -> None:
    """Check that the weights in a folder are in the one form that is read.

    Raises: CheckpointError that names the files there, and how to write the other form.
    """
    if not folder.is_dir():
        return
    adapters = adapters_beside(folder)
    if adapters:
        raise CheckpointError(
            f"{folder} holds an adapter beside the weights",
            f"{', '.join(adapters)} would change them, and only {WEIGHTS} is read",
            "Merge it with peft (merge_and_unload) and save the model anew, or move it elsewhere",
        )
    if (folder / WEIGHTS).is_file():
        return
    forms = ("model*.safetensors*", "pytorch_model*", "*.h5", "*.msgpack")
    others = sorted(path.name for form in forms for path in folder.glob(form))
    if not others:
        raise CheckpointError(
            f"{folder} holds no weights",
            f"there is no {WEIGHTS}",
            "Save the model there with save_pretrained, or load it with weights='random'",
        )
    more = ", ..." if others[4:] else ""
    raise CheckpointError(
        f"{folder} holds no {WEIGHTS}",
        f"its weights are in {', '.join(others[:4])}{more}, and one {WEIGHTS} is read",
        f"Write it with transformers: AutoModel.from_pretrained('{folder}').save_pretrained('NEW', "
        "max_shard_size='1TB'), and copy the tokenizer's files",
    )


def adapters_beside(folder: Path, *, below: bool = True) -> list[str]:
    """The files of an adapter in a folder: they change what its weights compute.

    An adapter that has a name of its own is saved in a subfolder of that name.

    Args: below: look in the subfolders, too.
    """
    forms = ("adapter_*", "*/adapter_*") if below else ("adapter_*",)
    paths = (path for form in forms for path in folder.glob(form))
    return sorted(str(path.relative_to(folder)) for path in paths if path.is_file())


def _in_repository(model: str, file: str, revision: str) -> dict[str, str]:
    return {"kind": "huggingface", "repo": model, "file": file, "revision": revision}


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
        try:
            config = library.AutoConfig.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"the configuration of '{model}' cannot be read",
                str(error).splitlines()[0],
                f"Check {CONFIG} in {folder}; code that comes with a model is not run",
            ) from error
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


def _folder(model: str, revision: str) -> Path:
    """The folder that holds the model's config.json."""
    if Path(model).is_dir():
        return Path(model)
    source = _in_repository(model, CONFIG, revision)
    wanted = Checkpoint(name=f"{Path(model).name}-config", family="hf", arch={}, source=source)
    return checkpoints.fetch(wanted, progress=False).parent


def _check_options(config: Any, options: Mapping[str, Any]) -> None:
    known = {*config.to_dict(), *config.attribute_map}
    for key in options:
        if key not in known:
            raise CheckpointError(
                f"'{key}' is no option of a {config.model_type} network",
                "transformers would take it and do nothing with it",
                nearest(key, sorted(known)),
            )
