"""Models of the Hugging Face hub by name: where their files are, and how they are fetched."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe.checkpoints import Checkpoint

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Where a model's image processor is kept, alone or with a tokenizer's settings (by now)."""
_INDEX = ".index.json"
ABSENT = ("EntryNotFoundError", "RemoteEntryNotFoundError")
"""The errors by which the hub says that a repository has no such file."""
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""A model's name on the hub."""
FORMS = (WEIGHTS, WEIGHTS + _INDEX, "pytorch_model.bin", "pytorch_model.bin" + _INDEX)
"""What save_pretrained writes, the first of them that is there being read."""
LENGTH = 128  # tokens in a window of text; every model of the hub takes that many


def hub_entry(name: str) -> Checkpoint:
    """A registry entry for `NAME`, `NAME@REVISION`, or a folder that save_pretrained wrote.

    Weights in one file or in several with an index are read, safetensors before PyTorch's own.

    Raises: CheckpointError for a name that is neither a folder nor a hub repository's.
    """
    model, _, revision = name.partition("@")
    if Path(name).is_dir():
        there = next((form for form in FORMS if (Path(name) / form).is_file()), WEIGHTS)
        model, source = name, {"kind": "path", "path": str(Path(name) / there)}
    elif NAME.fullmatch(model) and ".." not in model:
        source = in_repository(model, WEIGHTS, revision or "main")
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


def fetched(entry: Checkpoint, *, progress: bool) -> Path:
    """The file of weights, or the index of several, downloaded with them if need be.

    Raises: CheckpointError.
    """
    if entry.source["kind"] != "huggingface":
        return checkpoints.fetch(entry, progress=progress)
    wanted = [replace(entry, source={**entry.source, "file": form}) for form in FORMS]
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


def is_here(entry: Checkpoint) -> bool:
    """Whether an entry's weights are on this machine, in one of the forms that are read."""
    if entry.source["kind"] != "huggingface" or "file" not in entry.source:
        return checkpoints.locate(entry) is not None
    forms = (replace(entry, source={**entry.source, "file": form}) for form in FORMS)
    return any(checkpoints.locate(each) is not None for each in (entry, *forms))


def expect_timm(name: str) -> None:
    """Refuse what is no name of timm's, such as an address or a path.

    Raises: CheckpointError.
    """
    if re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_.-]+)?", name) is None:
        raise CheckpointError(
            f"timm has no model '{name}'",
            "its names are of letters, digits and _, with a tag behind a point",
            "Look for the name with timm.list_models()",
        )


def in_repository(model: str, file: str, revision: str) -> dict[str, str]:
    """Where a file of a repository of the hub is, as an entry's source."""
    return {"kind": "huggingface", "repo": model, "file": file, "revision": revision}


def fetch_processor(model: str, folder: Path) -> None:
    """Have the file of a model's image processor beside its configuration, if it has one.

    Args: folder: of the configuration, in the hub's cache, where it has the name of its revision.
    """
    from huggingface_hub import try_to_load_from_cache

    for file in PROCESSORS:
        if (known := try_to_load_from_cache(model, file, revision=folder.name)) is not None:
            if isinstance(known, str):
                return
            continue  # it is known not to be there
        source = in_repository(model, file, folder.name)
        name = f"{Path(model).name}-processor"
        try:
            checkpoints.fetch(Checkpoint(name, "hf", {}, source), progress=False)
        except CheckpointError as error:
            if type(error.__cause__).__name__ in ABSENT:
                continue
            note = LoadWarning(
                f"how images are prepared for '{model}' is not known",
                f"its {file} is not here, and cannot be fetched: {error.why}",
                "Say it with preprocess=, such as preprocess='imagenet'",
            )
            warnings.warn(note, stacklevel=2)
        return
