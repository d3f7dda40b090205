"""Train a language model by its recipe, and measure it on the held-out text."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, DataError, MissingDependency
from whitebox_probe._core.gate import is_file
from whitebox_probe._core.io import atomic_path
from whitebox_probe.checkpoints import read_state_dict
from whitebox_probe.data import kjv
from whitebox_probe.training import files
from whitebox_probe.training.recipe import TextRecipe, build_text
from whitebox_probe.training.run import Run

TOKENIZER, HELD_OUT = "tokenizer.json", "held-out.txt"
WINDOWS = 200
_HEAD, _EMBEDDING = "lm_head.weight", "transformer.wte.weight"


@dataclass(frozen=True)
class TextData:
    """Token ids of the training text, windows of the other parts, and what made them.

    Shapes: train (N,), validation (V, n), held_out (200, n).
    """

    train: Tensor
    validation: Tensor
    held_out: Tensor
    tokenizer: Any
    held_out_text: str
    fingerprint: str


def load_text(recipe: TextRecipe, file: Path | None = None) -> TextData:
    """The King James Version, split by books, and a byte-level BPE of its training part.

    Raises: DataError when the text cannot be had or is too short; MissingDependency.
    """
    training, validation, held_out = kjv.split(kjv.corpus(file))
    tokenizer = train_tokenizer(training, recipe.vocabulary)
    ids = [torch.tensor(tokenizer.encode(t).ids) for t in (training, validation, held_out)]
    n = recipe.length
    counts = [len(part) // n for part in ids]
    if not all(counts):
        raise DataError(
            "the text is too short to train on",
            f"its parts give {counts} windows of {n} tokens",
            "Use the whole text, or a smaller --length",
        )
    windows = min(WINDOWS, counts[2])
    digest = hashlib.sha256()
    for part in ids:
        digest.update(part.numpy().tobytes())
    return TextData(
        train=ids[0],
        validation=ids[1][: counts[1] * n].view(-1, n),
        held_out=ids[2][: windows * n].view(-1, n),
        tokenizer=tokenizer,
        held_out_text=_whole_verses(held_out, tokenizer, windows * n),
        fingerprint=digest.hexdigest()[:16],
    )


def train_tokenizer(text: str, vocabulary: int) -> Any:
    """A byte-level byte-pair encoding of that many tokens, none of them special."""
    try:
        import tokenizers
    except ImportError as error:
        raise MissingDependency(
            "training a language model needs tokenizers",
            str(error),
            "Run: pip install 'whitebox-probe[text]'",
        ) from error
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(text.splitlines(keepends=True), trainer)
    return made


def _whole_verses(text: str, tokenizer: Any, count: int) -> str:
    """The first lines of a text that give at least `count` tokens."""
    kept, used = [], 0
    for line in text.splitlines(keepends=True):
        if used >= count:
            break
        kept.append(line)
        used += len(tokenizer.encode(line).ids)
    return "".join(kept)


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    """The next token's logits at every token, (B, n) -> (B, n, vocabulary)."""
    network: Any = model
    if hasattr(network, "tokens"):  # CrateGPT's own forward gives the last token's only
        return network.logits(network.tokens(ids))
    return network(ids).logits


def loss_of(model: nn.Module, ids: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of each window's tokens after the first, in nats."""
    predicted = logits(model, ids)[:, :-1].flatten(0, 1)
    return F.cross_entropy(predicted, ids[:, 1:].flatten(), reduction=reduction)


@torch.inference_mode()
def measured_loss(model: nn.Module, windows: Tensor, tokenizer: Any) -> dict[str, float]:
    """Nats per token and per byte of UTF-8, over each window's tokens after the first."""
    model.eval()
    total = sum(float(loss_of(model, ids, "sum").double()) for ids in windows.split(50))
    bytes_of = [len(tokenizer.decode([i])) for i in range(tokenizer.get_vocab_size())]
    targets = windows[:, 1:]
    # The text is ASCII: a character is a byte.
    length = int(torch.tensor(bytes_of)[targets].sum())
    return {
        "nats_per_token": total / targets.numel(),
        "nats_per_byte": total / length,
        "bits_per_byte": total / length / math.log(2),
    }


def train_text(
    recipe: TextRecipe, data: TextData, out: Path, *, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train a language model; writes what `loop.train` writes, and the tokenizer.

    Returns: the log.
    Raises: as `loop.train`.
    """
    run = TextRun(recipe, data, out, resume=resume)
    with atomic_path(out / TOKENIZER) as path:
        data.tokenizer.save(str(path))
    with atomic_path(out / HELD_OUT) as path:
        path.write_text(data.held_out_text, encoding="utf-8")
    for epoch in range(run.done, recipe.epochs):
        run.epoch(epoch, progress=progress)
    return run.log


class TextRun(Run[TextRecipe]):
    """A training run on text in progress."""

    library = "tokenizers"

    def __init__(self, recipe: TextRecipe, data: TextData, out: Path, *, resume: bool) -> None:
        self.data = data
        facts = {
            "name": "kjv",
            "fingerprint": data.fingerprint,
            "training_tokens": len(data.train),
        }
        # One window less than fits: an epoch starts anywhere within the first.
        count = len(data.train) // recipe.length - 1
        super().__init__(recipe, build_text(recipe), out, facts, count, resume=resume)

    def loss(self, batch: Tensor, random: torch.Generator) -> Tensor:
        """Cross-entropy of a batch of windows, which start anywhere."""
        n = self.recipe.length
        start = int(torch.randint(n, (1,), generator=random))
        places = batch[:, None] * n + torch.arange(n) + start  # (B, n)
        return loss_of(self.model, self.data.train[places])

    def held_out(self) -> dict[str, float]:
        """Nats per token on the validation text."""
        found = measured_loss(self.model, self.data.validation, self.data.tokenizer)
        return {"validation_loss": round(found["nats_per_token"], 5)}

    def weights(self) -> dict[str, Tensor]:
        """Without the output embedding, which is the input embedding's tensor."""
        return {key: t for key, t in self.model.state_dict().items() if key != _HEAD}


def measure_on_held_out(out: Path, file: Path | None = None) -> dict[str, dict[str, float]]:
    """Loss of a finished run's weights on the held-out windows, before and after training.

    Called once, when the recipe is settled; written into the log.
    """
    if not is_file(out / files.FINAL):
        raise CheckpointError(
            f"{out} holds no finished run", "there is no final.safetensors", "Train first"
        )
    log = files.read_log(out)
    recipe = files.recipe_of(log, TextRecipe, out)
    data = load_text(recipe, file)
    found = {}
    for stage in ("init", "final"):
        model = build_text(recipe)
        path = out / f"{stage}.safetensors"
        weights = read_state_dict(path)
        tied = {_HEAD: weights[_EMBEDDING]} if _EMBEDDING in weights else {}
        files.fill(model, weights | tied, path)
        found[stage] = measured_loss(model, data.held_out, data.tokenizer)
    log["held_out_loss"] = {"windows": len(data.held_out), **found}
    files.write_log(out, log)
    return found
