"""The wheel of all-MiniLM-L6-v2: weights and tokenizer fit transformers' own BERT."""

import pytest
import torch

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError

SENTENCES = ["A man is eating food.", "A man eats a meal.", "The stock market fell today."]


@pytest.mark.weights
def test_sentences_of_one_meaning_are_near():
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    entry = checkpoints.entry("minilm-l6")
    try:
        path = checkpoints.fetch(entry, progress=False)
    except CheckpointError as error:
        pytest.skip(str(error))
    arch = dict(entry.arch)
    config = transformers.AutoConfig.for_model(arch.pop("model_type"), **arch)
    model = transformers.BertModel(config).eval()
    weights = checkpoints.read_state_dict(path)
    weights.pop("embeddings.position_ids")
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    checkpoints.check_keys(expected, weights, source=str(path))
    model.load_state_dict(weights)
    file = checkpoints.fetch_files(entry, progress=False)["tokenizer.json"]
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    pooled = []
    for text in SENTENCES:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            pooled.append(model(ids).last_hidden_state.mean(dim=1)[0])
    near = torch.cosine_similarity(pooled[0], pooled[1], dim=0)
    far = torch.cosine_similarity(pooled[0], pooled[2], dim=0)
    assert near > 0.7
    assert far < 0.2
