"""Folders of a model's files: whether weights that are read are there, and an adapter's files."""

import re
from pathlib import Path

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import Unfit, read_mapping
from whitebox_probe._core.lines import shown
from whitebox_probe.models.hub import FORMS, WEIGHTS

_FOREIGN = ("*.gguf", "consolidated*", "*.pth", "*.pt", "*.onnx", "*/*.onnx", "*.ot", "*.npz")
_VARIANT = r"model\.[\w-]+\.safetensors"


def expect_weights(folder: Path) -> None:
    """Check that a folder has weights in a form that is read, and no adapter that changes them.

    Raises: CheckpointError that names the files there, and how to write a form that is read.
    """
    if not folder.is_dir():
        return
    adapters = adapters_beside(folder)
    if adapters and not any((folder / form).is_file() for form in FORMS):
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
    if any((folder / form).is_file() for form in FORMS):
        return
    gone = sorted(path.name for path in folder.glob("*") if path.is_symlink() and not path.exists())
    if there := [name for name in gone if name in FORMS]:
        raise CheckpointError(
            f"{folder} holds no {WEIGHTS}",
            f"{there[0]} is a link to nothing: what it led to was removed, as from a cache",
            "Fetch the model again, or copy the file itself there",
        )
    forms = ("model*.safetensors*", "pytorch_model*", "*.h5", "*.msgpack")
    others = sorted({path.name for form in forms for path in folder.glob(form)})
    foreign = sorted(
        {str(path.relative_to(folder)) for form in _FOREIGN for path in folder.glob(form)}
    )
    below = sorted(path.parent for form in FORMS for path in folder.glob(f"checkpoint-*/{form}"))
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
        stated = read_mapping(folder / "adapter_config.json")
    except Unfit:
        stated = {}
    return shown(stated.get("base_model_name_or_path") or "a model that is not named there")
