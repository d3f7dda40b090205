"""A text reaches a language model through its own tokenizer, whatever it comes in."""

import math

import pytest
import torch

import whitebox_probe as wp
from tests import oracle
from tests.conftest import small_crate
from whitebox_probe._core.errors import DataError
from whitebox_probe.data import kjv, open_data
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.data.text import TextReader, TextWindows
from whitebox_probe.models.families.crate_gpt import CrateGPT

BYTES = TextReader("bytes", 16)
TEXT = "a layer compresses; a layer makes sparse. " * 20


@pytest.fixture
def model():
    """A model of bytes that knows its tokenizer."""
    module = CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2)
    return wp.wrap(module, name="bytes", preprocess=wp.TextPreprocess("bytes", 16))


class Rows:
    """What a Hugging Face dataset looks like from here."""

    def __init__(self, rows, columns=("text", "label")):
        self.rows = rows
        self.column_names = columns

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            return [row[key] for row in self.rows]
        return self.rows[key]


def inputs(source):
    return torch.cat([batch.inputs for batch in source.batches(4, 0)])


def test_a_file_a_data_set_and_windows_of_one_text_are_the_same_samples(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT, newline="")
    half = TEXT.index(";")
    rows = Rows([{"text": TEXT[:half]}, {"text": TEXT[half + 1 :]}])
    by_rows = TEXT[:half] + "\n" + TEXT[half + 1 :]
    by_file = open_data(str(tmp_path / "book.txt"), transform=BYTES)
    by_path = open_data(tmp_path / "book.txt", transform=BYTES)
    windows = TextWindows(TEXT, "bytes", 16, drop_last=True)
    assert by_file.name == "book.txt"
    assert by_file.fingerprint == by_path.fingerprint == windows.fingerprint
    assert open_data(windows).fingerprint == windows.fingerprint
    assert torch.equal(inputs(by_file), windows.ids)
    found = inputs(open_data(rows, transform=BYTES)).flatten().tolist()
    assert bytes(found).decode() == by_rows[: len(found)]


def test_a_data_set_of_the_datasets_library_is_read(tmp_path):
    import datasets

    data = datasets.Dataset.from_dict({"text": [TEXT], "label": [1]})
    assert open_data(data, transform=BYTES).count == len(TEXT) // 16


def nulls(kind):
    """Two texts and two rows without one, as libraries give them."""
    import datasets

    rows = [TEXT, None, TEXT[::-1], None]
    if kind == "numpy":
        return Rows([{"text": row} for row in (TEXT, math.nan, TEXT[::-1], None)], ("text",))
    data = datasets.Dataset.from_dict({"text": rows})
    return data if kind == "plain" else data.with_format(kind)


@pytest.mark.parametrize("kind", ["plain", "arrow", "pandas", "numpy"])
def test_rows_without_a_text_are_left_out_and_told(kind, model):
    pytest.importorskip("datasets")
    with pytest.warns(LeftOutWarning, match=r"2 of 4 rows .* are left out.* row 1"):
        result = wp.probe(model, nulls(kind), ["l0"], progress=False)
    windows = TextWindows(f"{TEXT}\n{TEXT[::-1]}", "bytes", 16, drop_last=True)
    assert result.run.data["left_out"] == {"without a text (null)": 2}
    assert (
        result.run.data["fingerprint"]
        == (wp.probe(model, windows, ["l0"], progress=False).run.data["fingerprint"])
    )


@pytest.mark.parametrize("row", [["a", "list"], {"a": "mapping"}, b"bytes", 3, 2.5, True])
def test_rows_that_are_no_text_are_refused(row):
    rows = Rows([{"text": TEXT}, {"text": row}], ("text",))
    with pytest.raises(DataError, match=f"row 1 of a Rows is a {type(row).__name__}"):
        open_data(rows, transform=BYTES)


def test_rows_that_are_all_null_are_no_text():
    with pytest.raises(DataError, match="all 2 rows of its column 'text' are null"):
        open_data(Rows([{"text": None}, {"text": math.nan}], ("text",)), transform=BYTES)


def test_the_named_text_gives_each_model_its_own_windows(model):
    by_bytes = wp.probe(model, "kjv", ["l0"], limit=5, progress=False)
    assert by_bytes.run["data"]["name"] == "kjv"
    assert len(by_bytes.samples) == 5
    pytest.importorskip("tokenizers")
    shipped = wp.probe(wp.load("crate-tiny-kjv"), "kjv", ["l0"], progress=False)
    assert len(shipped.samples) == 200
    assert shipped.run["tokens"] == 128
    assert kjv.read().isascii()


def test_measures_of_a_text_are_those_of_a_loop_over_its_windows(tmp_path):
    pytest.importorskip("tokenizers")
    model = wp.load("crate-tiny-kjv")
    (tmp_path / "book.txt").write_text(kjv.read()[:4000])
    result = wp.probe(
        model,
        tmp_path / "book.txt",
        ["coding_rate", "compression", "l0"],
        prenorm=False,
        progress=False,
        batch_size=3,
    )
    windows = TextWindows(
        tmp_path / "book.txt", model.preprocess.tokenizer, model.preprocess.length, drop_last=True
    )
    assert len(result.samples) == len(windows) > 5
    for number, (ids, _) in enumerate(windows):
        with torch.inference_mode(), wp.record(model, sites=["z_half", "z_out"]) as rec:
            model.module(ids[None])
        for layer in (1, model.layers):
            row = result.samples.loc[number]
            out = rec["z_out", layer][0].double().numpy()
            half = rec["z_half", layer][0].double().numpy()
            U = model.subspaces(layer).double().numpy()
            want = {
                f"coding_rate@z_out:{layer}": oracle.coding_rate(out, eps=0.1),
                f"compression@z_half:{layer}": oracle.compression(half, U, eps=0.1),
                f"l0@z_out:{layer}": (out != 0).mean(),
            }
            for key, value in want.items():
                assert row[key] == pytest.approx(value, rel=1e-5), key


def test_masked_tokens_never_reach_a_measure(model):
    """Ids behind the mask may be anything: a causal model's measured tokens do not see them."""
    windows = TextWindows("x" * 24 + " some text", "bytes", 16)  # the last window is padded
    padded = windows.ids.clone()
    assert not windows.mask[-1].all()
    other = TextWindows("x" * 24 + " some text", "bytes", 16)
    other.ids = torch.where(windows.mask, padded, torch.full_like(padded, 200))
    metrics = ["coding_rate", "compression", "l0", "hoyer", "stable_rank", "attention_entropy"]
    one, two = (wp.probe(model, data, metrics, progress=False) for data in (windows, other))
    assert (one.samples == two.samples).all(axis=None)
    short = int(windows.mask[-1].sum())
    alone = wp.probe(model, padded[-1:, :short], metrics, progress=False)
    for key, value in alone.samples.iloc[0].items():
        assert one.samples.iloc[-1][key] == pytest.approx(value, rel=1e-5), key


def test_special_tokens_of_an_encoder_are_never_measured(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "layer", "makes", "sparse"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(words[:4])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    config = transformers.BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=8,
    )
    reads = wp.TextPreprocess(str(tmp_path / "tokenizer.json"), 8)
    bert = wp.wrap(transformers.BertModel(config).eval(), preprocess=reads)
    (tmp_path / "book.txt").write_text("a layer makes sparse " * 12)
    result = wp.probe(bert, tmp_path / "book.txt", ["coding_rate"], prenorm=False, progress=False)
    windows = TextReader(reads.tokenizer, 8).windows(tmp_path / "book.txt")
    assert windows.mask.sum(dim=1).tolist() == [6] * 8
    with torch.inference_mode(), wp.record(bert, sites=["z_out"]) as rec:
        bert.module(windows.ids[:1])
    Z = rec["z_out", 2][0, 1:-1].double().numpy()  # without [CLS] and [SEP]
    want = oracle.coding_rate(Z, eps=0.1)
    assert result.samples.loc[0, "coding_rate@z_out:2"] == pytest.approx(want, rel=1e-5)


def test_no_number_depends_on_the_batch(model):
    one, two = (
        wp.probe(model, "kjv", limit=11, batch_size=size, progress=False) for size in (1, 4)
    )
    for key in one.samples:
        for a, b in zip(one.samples[key], two.samples[key], strict=True):
            assert math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7), key


class TestErrors:
    def test_text_for_an_image_model(self, tmp_path):
        (tmp_path / "book.txt").write_text(TEXT)
        for data in ("kjv", tmp_path / "book.txt", Rows([{"text": TEXT}])):
            with pytest.raises(DataError, match="is text: the model reads images.*fashion-mnist"):
                wp.probe(wp.load("crate-tiny-fmnist"), data, progress=False)

    def test_images_for_a_language_model(self, model, tmp_path):
        from PIL import Image

        Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
        for data in ("fashion-mnist", tmp_path):
            with pytest.raises(DataError, match="holds images: the model reads text.*kjv"):
                wp.probe(model, data, progress=False)

    def test_a_folder_of_texts_is_told_as_a_pattern(self, model, tmp_path):
        (tmp_path / "a.txt").write_text(TEXT)
        with pytest.raises(DataError, match=r"by a pattern: '.*/\*\.txt'"):
            wp.probe(model, tmp_path, progress=False)

    def test_packed_texts_tell_why_they_have_no_classes(self, model):
        data = {"text": [TEXT], "label": [1]}
        with pytest.raises(DataError, match="texts are joined, which leaves none of their"):
            wp.probe(model, data, ["class_rate"], progress=False)

    def test_images_as_a_tensor_for_a_language_model(self, model):
        with pytest.raises(DataError, match="integer ids .* are needed"):
            wp.probe(model, torch.rand(2, 3, 8, 8), progress=False)

    def test_a_model_without_a_tokenizer(self):
        module = CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2)
        with pytest.raises(DataError, match="its tokenizer.*TextPreprocess"):
            wp.probe(wp.wrap(module), "kjv", progress=False)
        with pytest.raises(DataError, match="cannot be prepared"):
            wp.probe(wp.wrap(small_crate()), "kjv", progress=False)

    def test_ids_that_the_model_does_not_know(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            vocab_size=100,
            n_positions=16,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=None,
            eos_token_id=None,
        )
        gpt = wp.wrap(transformers.GPT2Model(config), preprocess=wp.TextPreprocess("bytes", 16))
        with pytest.raises(DataError, match="cannot take an input"):
            wp.probe(gpt, "kjv", limit=4, progress=False)

    def test_a_text_that_is_too_short(self, model, tmp_path):
        (tmp_path / "book.txt").write_text("short")
        with pytest.raises(DataError, match="no window of 16 tokens: it has 5"):
            wp.probe(model, tmp_path / "book.txt", progress=False)

    def test_a_file_that_is_not_there(self, model):
        with pytest.raises(DataError, match="nowhere.txt cannot be read"):
            wp.probe(model, "nowhere.txt", progress=False)

    @pytest.mark.parametrize(
        ("columns", "told"),
        [
            (["content"], "has no column 'text': its columns are content"),
            (None, "its columns are not known"),
            ({"train": ["text"], "test": ["text"]}, r"several data sets.*data\['train'\]"),
        ],
    )
    def test_a_data_set_without_the_column(self, model, columns, told):
        with pytest.raises(DataError, match=told):
            wp.probe(model, Rows([{"content": TEXT}], columns), progress=False)
