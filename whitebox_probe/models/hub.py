"""Models of the Hugging Face hub by name: where their files are, and their configuration."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning, MissingDependency, nearest
from whitebox_probe.checkpoints import Checkpoint

WEIGHTS, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
_INDEX = ".index.json"
_ABSENT = ("EntryNotFoundError", "RemoteEntryNotFoundError")
_FORMS = (WEIGHTS, WEIGHTS + _INDEX, "pytorch_model.bin", "pytorch_model.bin" + _INDEX)
"""What save_pretrained writes, the first of them that is there being read."""
_FOREIGN = ("*.gguf", "consolidated*", "*.pth", "*.pt", "*.onnx", "*/*.onnx", "*.ot", "*.npz")
_VARIANT = r"model\.[\w-]+\.safetensors"
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

    Weights in one file or in several with an index are read, safetensors before PyTorch's own.

    Raises: CheckpointError for a name that is neither a folder nor a hub repository's.
    """
    model, _, revision = name.partition("@")
    if Path(name).is_dir():
        there = next((form for form in _FORMS if (Path(name) / form).is_file()), WEIGHTS)
        model, source = name, {"kind": "path", "path": str(Path(name) / there)}
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


def expect_weights(folder: Path) -> None:
    """Check that a folder has weights in a form that is read, and no adapter that changes them.

    Raises: CheckpointError that names the files there, and how to write a form that is read.
    """
    if not folder.is_dir():
        return
    adapters = adapters_beside(folder)
    if adapters and not any((folder / form).is_file() for form in _FORMS):
        raise CheckpointError(
            f"{folder} holds an adapter, and not the model that it changes",
            f"there are {', '.join(adapters)}, of '{_base_of(folder)}'",
            "Load it with peft (AutoPeftModel.from_pretrained), and pass the model to wrap()",
        )
    if adapters:
        raise CheckpointError(
            f"{folder} holds an adapter beside the weights",
            f"{', '.join(adapters)} would change them, and only the weights are read",
            "Merge it with peft (merge_and_unload) and save the model anew, or move it elsewhere",
        )
    if any((folder / form).is_file() for form in _FORMS):
        return
    forms = ("model*.safetensors*", "pytorch_model*", "*.h5", "*.msgpack")
    others = sorted({path.name for form in forms for path in folder.glob(form)})
    foreign = sorted(
        {str(path.relative_to(folder)) for form in _FOREIGN for path in folder.glob(form)}
    )
    below = sorted(path.parent for form in _FORMS for path in folder.glob(f"checkpoint-*/{form}"))
    if not others and foreign:
        raise CheckpointError(
            f"{folder} holds no {WEIGHTS}",
            f"its weights are in {', '.join(foreign[:4])}, of another format",
            "Get the model's safetensors, or load that file by its own path with arch=",
        )
    variants = [name.split(".")[1] for name in others if re.fullmatch(_VARIANT, name)]
    if variants:
        raise CheckpointError(
            f"{folder} holds no {WEIGHTS}",
            f"its weights are in {others[0]}, a variant of it",
            f"Rename it to {WEIGHTS}, or write it with transformers: AutoModel.from_pretrained("
            f"'{folder}', variant='{variants[0]}').save_pretrained('NEW')",
        )
    if not others:
        raise CheckpointError(
            f"{folder} holds no weights",
            f"there is no {WEIGHTS}",
            f"Load one of its checkpoints, such as hf:{below[-1]}"
            if below
            else "Save the model there with save_pretrained, or load it with weights='random'",
        )
    more = ", ..." if others[4:] else ""
    raise CheckpointError(
        f"{folder} holds no {WEIGHTS}",
        f"its weights are in {', '.join(others[:4])}{more}, and no index says which is where",
        f"Write it with transformers: AutoModel.from_pretrained('{folder}').save_pretrained('NEW')"
        ", and copy the tokenizer's files",
    )


def fetched(entry: Checkpoint, *, progress: bool) -> Path:
    """The file of weights, or the index of several, downloaded with them if need be.

    Raises: CheckpointError.
    """
    if entry.source["kind"] != "huggingface":
        return checkpoints.fetch(entry, progress=progress)
    wanted = [replace(entry, source={**entry.source, "file": form}) for form in _FORMS]
    wanted.sort(key=lambda each: checkpoints.locate(each) is None)  # what is in the cache first
    for each in wanted:
        try:
            path = checkpoints.fetch(each, progress=progress)
        except CheckpointError as error:
            absent = "EntryNotFound" in type(error.__cause__).__name__
            if not absent or each is wanted[-1]:
                raise
            continue
        for shard in sorted(checkpoints.named(path)) if path.name.endswith(_INDEX) else ():
            part = replace(entry, source={**entry.source, "file": shard.name})
            checkpoints.fetch(part, progress=progress)
        break
    return path


def adapters_beside(folder: Path, *, below: bool = True) -> list[str]:
    """The files of an adapter in a folder: they change what its weights compute.

    An adapter that has a name of its own is saved in a subfolder of that name.

    Args: below: look in the subfolders, too.
    """
    forms = ("adapter_*", "*/adapter_*") if below else ("adapter_*",)
    paths = (path for form in forms for path in folder.glob(form))
    return sorted(str(path.relative_to(folder)) for path in paths if path.is_file())


def _base_of(folder: Path) -> str:
    """The model that an adapter is of, as its configuration says."""
    try:
        stated = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return str(stated["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return "a model that is not named there"


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
            _fetch_processor(model, folder)
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
    source = _in_repository(model, CONFIG, revision)
    wanted = Checkpoint(name=f"{Path(model).name}-config", family="hf", arch={}, source=source)
    return checkpoints.fetch(wanted, progress=False).parent


def _takes_pictures(config: Any) -> bool:
    """Whether a configuration is of a model of images, or has one inside."""
    return any(hasattr(config, name) for name in ("patch_size", "vision_config"))


def _fetch_processor(model: str, folder: Path) -> None:
    """Have the file of a model's image processor beside its configuration, if it has one.

    Args: folder: of the configuration, in the hub's cache, where it has the name of its revision.
    """
    from huggingface_hub import try_to_load_from_cache

    source = _in_repository(model, PROCESSOR, folder.name)
    wanted = Checkpoint(name=f"{Path(model).name}-processor", family="hf", arch={}, source=source)
    if try_to_load_from_cache(model, PROCESSOR, revision=folder.name) is not None:
        return  # it is there, or known not to be
    try:
        checkpoints.fetch(wanted, progress=False)
    except CheckpointError as error:
        if type(error.__cause__).__name__ in _ABSENT:
            return
        warnings.warn(
            LoadWarning(
                f"how images are prepared for '{model}' is not known",
                f"its {PROCESSOR} is not here, and cannot be fetched: {error.why}",
                "Say it with preprocess=, such as preprocess='imagenet'",
            ),
            stacklevel=2,
        )


def _check_options(config: Any, options: Mapping[str, Any]) -> None:
    known = {*config.to_dict(), *config.attribute_map}
    for key in options:
        if key not in known:
            raise CheckpointError(
                f"'{key}' is no option of a {config.model_type} network",
                "transformers would take it and do nothing with it",
                nearest(key, sorted(known)),
            )
