"""Texts in documents: packed or one window each, and padding as an attention mask states it."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError
from whitebox_probe.cli.main import main
from whitebox_probe.data._documents import DocumentWindows
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.data.text import TextReader, TextWindows
from whitebox_probe.models.families.crate_gpt import CrateGPT
from whitebox_probe.probing.forward import opened

TEXTS = ["a layer compresses its tokens", "", "short", "towards subspaces " * 4] * 4
LENGTH = 16


@pytest.fixture(scope="module")
def model():
    """A model of bytes that knows its tokenizer."""
    module = CrateGPT(vocabulary=256, block_size=LENGTH, dim=16, depth=2, heads=2)
    return wp.wrap(module, name="bytes", preprocess=wp.TextPreprocess("bytes", LENGTH))


class Lines(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def windows(model, data, **options):
    """Ids and masks of all samples."""
    batches = list(opened(model, data, **options).batches(4, 0))
    return torch.cat([b.inputs for b in batches]), torch.cat([b.mask for b in batches])


def forms(tmp_path):
    """The same texts in every form that they come in."""
    datasets = pytest.importorskip("datasets")
    (tmp_path / "all.txt").write_text("\n".join(TEXTS), newline="")
    whole = datasets.Dataset.from_dict({"text": TEXTS, "n": range(len(TEXTS))})
    return {
        "list": TEXTS,
        "array": np.array(TEXTS),
        "table": pd.DataFrame({"text": TEXTS}),
        "columns": {"text": TEXTS},
        "pairs": [(text, 0) for text in TEXTS],
        "stream": Lines(TEXTS),
        "generator": (text for text in TEXTS),
        "stream of keys": Lines([{"text": text} for text in TEXTS]),
        "dataset": whole,
        "streamed": whole.to_iterable_dataset(),
        "renamed": whole.rename_column("text", "body"),
        "chosen": wp.data(whole.rename_column("text", "body"), column="body"),
        "file": tmp_path / "all.txt",
    }


def test_packed_windows_are_the_same_of_every_form(model, tmp_path):
    want = TextWindows("\n".join(TEXTS), "bytes", LENGTH, drop_last=True)
    for name, data in forms(tmp_path).items():
        ids, mask = windows(model, data)
        assert torch.equal(ids, want.ids), name
        assert torch.equal(mask, want.mask), name


def test_a_document_keeps_its_class_and_joined_texts_have_none(model):
    datasets = pytest.importorskip("datasets")
    marks = [n % 3 for n in range(len(TEXTS))]
    want = [mark for text, mark in zip(TEXTS, marks, strict=True) if text]  # the others are empty
    whole = datasets.Dataset.from_dict({"text": TEXTS, "label": marks})
    pairs = list(zip(TEXTS, marks, strict=True))
    every = {
        "pairs": (pairs, {}),
        "generator": (iter(pairs), {}),
        "columns": ({"text": TEXTS, "kind": marks}, {"label": "kind"}),
        "dataset": (whole, {"label": "label"}),
        "arrow": (whole.with_format("arrow"), {}),
        "streamed": (whole.to_iterable_dataset(), {}),
        "words": (whole.map(lambda row: {"label": "abc"[row["label"]]}), {}),
    }
    for name, (data, said) in every.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeftOutWarning)
            source = opened(model, wp.data(data, windows="documents", **said))
            labels = [batch.labels for batch in source.batches(4, 0)]
        assert source.labelled, name
        assert torch.cat(labels).tolist() == want, name
    for data in (pairs, whole, whole.to_iterable_dataset()):
        source = opened(model, data)
        assert not source.labelled
        assert "texts are joined" in source.why
    with pytest.raises(wp.ProbeError, match="label='label' says nothing of .* which are joined"):
        opened(model, wp.data(whole, label="label"))
    halves = whole.map(lambda row: {"label": row["label"] / 2})
    with pytest.raises(DataError, match="'label' of a Dataset is no class: its class is a frac"):
        opened(model, wp.data(halves, windows="documents", label="label"))


def test_one_window_a_document_is_the_same_of_every_form(model, tmp_path):
    rows = [text.encode()[:LENGTH] for text in TEXTS if text]
    want = torch.tensor([list(row.ljust(LENGTH, b"\0")) for row in rows])
    for name, data in forms(tmp_path).items():
        said = {"separator": "\n"} if name == "file" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeftOutWarning)
            ids, mask = windows(model, wp.data(data, windows="documents", **said))
        assert torch.equal(ids, want), name
        assert mask.sum(dim=1).tolist() == [len(row) for row in rows], name


def test_empty_documents_are_left_out_and_counted(model):
    with pytest.warns(LeftOutWarning, match="4 of 16 documents of list .* document 1"):
        result = wp.probe(model, wp.data(TEXTS, windows="documents"), ["l0"], progress=False)
    assert result.run["count"] == 12
    assert result.run["data"]["left_out"] == {"without a token that is text": 4}
    assert result.run["data"]["read with"] == {"windows": "documents"}


def test_a_documents_numbers_are_those_of_its_text_alone(model):
    with pytest.warns(LeftOutWarning):
        result = wp.probe(
            model, wp.data(TEXTS, windows="documents"), ["coding_rate"], progress=False
        )
    alone = torch.tensor([list(b"short")])
    want = wp.probe(model, alone, ["coding_rate"], progress=False).samples.iloc[0]
    for key, value in want.items():
        assert result.samples.iloc[1][key] == pytest.approx(value, rel=1e-5)


def test_a_separator_stands_between_documents(model, tmp_path):
    for number, text in enumerate(TEXTS[:4]):
        (tmp_path / f"{number}.txt").write_text(text)
    want = TextWindows("<e>".join(TEXTS[:4]), "bytes", LENGTH, drop_last=True).ids
    for data in (TEXTS[:4], tmp_path / "?.txt", Lines(TEXTS[:4])):
        assert torch.equal(windows(model, wp.data(data, separator="<e>"))[0], want)
    with pytest.raises(DataError, match="where the documents of .* end is not known"):
        windows(model, wp.data(tmp_path / "0.txt", windows="documents"))


def test_a_stream_gives_its_first_windows(model):
    ids, _ = windows(model, Lines(TEXTS), limit=3)
    assert torch.equal(ids, windows(model, TEXTS)[0][:3])


def test_texts_that_give_nothing_are_told(model):
    with pytest.raises(DataError, match="gives no window of 16 tokens"):
        windows(model, ["", ""])
    with pytest.raises(DataError, match="all its documents are empty"):
        windows(model, wp.data(["", ""], windows="documents"))
    with pytest.raises(DataError, match="is a text, and no path of a file"):
        list(opened(wp.load("crate-tiny-fmnist"), TEXTS).batches(4, 0))
    with pytest.raises(DataError, match="row 1 of a list is a int"):
        windows(model, ["a" * 40, 3])


def test_what_may_be_two_columns_is_told(model):
    rows = {"text": ["a" * 20] * 2, "input_ids": [list(range(LENGTH))] * 2}
    with pytest.raises(DataError, match=r"'text' and 'input_ids'.*column='text'"):
        windows(model, rows)
    assert opened(model, wp.data(rows, column="input_ids")).count == 2


def test_special_tokens_frame_a_document(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "b"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(words[:4])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    found = DocumentWindows(["a b", "a b a b a b"], TextReader(str(tmp_path / "tokenizer.json"), 6))
    assert [each.inputs.tolist() for each in found] == [[1, 4, 5, 2, 0, 0], [1, 4, 5, 4, 5, 2]]
    assert found[0].mask.tolist() == [False, True, True, False, False, False]
    assert found[0].attended.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
class TestAttentionMasks:
    """Padding as an attention mask states it, whichever ids stand there."""

    @pytest.fixture
    def network(self, kind):
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        if kind == "gpt2":
            sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
            made = transformers.GPT2Config(
                vocab_size=64, **sizes, bos_token_id=None, eos_token_id=None
            )
            return wp.wrap(transformers.GPT2Model(made).eval())
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        made = transformers.BertConfig(
            vocab_size=64, **sizes, intermediate_size=24, max_position_embeddings=32
        )
        return wp.wrap(transformers.BertModel(made).eval())

    @staticmethod
    def rates(network, data):
        return wp.probe(network, data, ["coding_rate"], progress=False).frame["mean"].to_numpy()

    @pytest.mark.parametrize("pads", [(1, 0), (0, 1), (3, 2)])
    def test_change_no_number(self, network, pads):
        transformers = pytest.importorskip("transformers")
        ids = torch.randint(3, 60, (4, 10), generator=torch.Generator().manual_seed(0))
        left, right = (torch.full((4, n), 7 + n) for n in pads)
        padded = torch.cat([left, ids, right], dim=1)
        kept = torch.tensor([[0] * pads[0] + [1] * 10 + [0] * pads[1]] * 4)
        columns = {"input_ids": padded, "attention_mask": kept, "labels": padded}
        rows = [{name: column[n] for name, column in columns.items()} for n in range(4)]
        want = self.rates(network, ids)
        for data in (
            columns,
            transformers.BatchEncoding(columns),
            rows,
            [{name: each.tolist() for name, each in row.items()} for row in rows],
            DataLoader(rows, 3),
            {"input_ids": padded, "key_padding_mask": kept == 0},
        ):
            assert self.rates(network, data) == pytest.approx(want, rel=1e-5)

    def test_of_another_meaning_are_told(self, network):
        ids = torch.randint(3, 60, (4, 10), generator=torch.Generator().manual_seed(0))
        ones = torch.ones_like(ids)
        split = ones.clone()
        split[:, 4] = 0
        for more, why in (
            ({"padding_mask": ones}, r"mask='padding_mask'"),
            ({"token_type_ids": ones}, "a second segment"),
            ({"position_ids": ones}, "'position_ids' of its own"),
            ({"attention_mask": split}, "in the midst of a window"),
            ({"attention_mask": ones[:, :9]}, "no mask of the tokens"),
            ({"attention_mask": 2 * ones}, "no mask of the tokens"),
        ):
            with pytest.raises(DataError, match=why):
                self.rates(network, {"input_ids": ids, **more})
        same = {"token_type_ids": 0 * ones, "position_ids": torch.arange(10).expand(4, 10)}
        want = self.rates(network, ids)
        assert self.rates(network, {"input_ids": ids, **same}) == pytest.approx(want)

    def test_special_tokens_are_attended_to_and_not_measured(self, network):
        ids = torch.randint(3, 60, (4, 10), generator=torch.Generator().manual_seed(0))
        special = torch.tensor([[1] + [0] * 8 + [1]] * 4)
        columns = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        found = self.rates(network, columns | {"special_tokens_mask": special})
        network.module.config.pad_token_id = 63  # else a first token without a measure is padding
        by_mask = [(row, keep) for row, keep in zip(ids, special == 0, strict=True)]
        assert found == pytest.approx(self.rates(network, by_mask), rel=1e-5)


class TestCommand:
    def run(self, out, *words):
        return main(["run", *words, "--metrics", "l0", "--quiet", "--out", str(out)])

    def test_texts_in_documents(self, tmp_path, capsys):
        pytest.importorskip("tokenizers")
        (tmp_path / "a.txt").write_text("and it came to pass\n\nin those days\n\n")
        words = ["crate-tiny-kjv", "--data", str(tmp_path / "a.txt"), "--windows", "documents"]
        assert self.run(tmp_path / "out", *words) == 2
        assert "--separator" in capsys.readouterr().err
        assert self.run(tmp_path / "out", *words, "--separator", r"\n\n") == 0
        assert wp.Result.load(tmp_path / "out").run["count"] == 2

    def test_arrays_and_keys(self, tmp_path, capsys):
        pixels = np.arange(4 * 28 * 28, dtype=np.float64).reshape(4, 28, 28) / (4 * 28 * 28)
        np.savez(tmp_path / "a.npz", one=pixels, two=pixels, kind=np.arange(4) % 2)
        words = ["crate-tiny-fmnist", "--data", str(tmp_path / "a.npz")]
        assert self.run(tmp_path / "out", *words) == 2
        assert "its keys are one, two, kind" in capsys.readouterr().err
        more = ["--column", "two", "--label", "kind", "--pixels"]
        assert self.run(tmp_path / "out", *words, *more) == 0
        run = wp.Result.load(tmp_path / "out").run
        assert run["data"]["read with"] == {"column": "two", "label": "kind", "pixels": True}

    def test_what_is_not_there_is_told_before_the_model_is_loaded(self, tmp_path, capsys):
        for name in ("none.tar", "none-{0..3}.npy", "none*.png"):
            assert self.run(tmp_path / "out", "crate-tiny-fmnist", "--data", name) == 2
            assert "cannot be read" in capsys.readouterr().err


def test_a_separator_is_somewhere_and_line_ends_are_any_systems(model, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"one two three\r\n\r\nfour five six\r\n\r\nseven eight\r\n")
    said = {"separator": "\n\n", "windows": "documents"}
    assert len(windows(model, wp.data(str(path), **said))[0]) == 3
    with pytest.raises(wp.ProbeError, match="separator '@@@' is nowhere in text.txt"):
        windows(model, wp.data(str(path), separator="@@@", windows="documents"))


class TestStreamsOfDocuments:
    """A stream counts what gives no window as every other form does."""

    ROWS = ["a layer", None, "", "short", ""]

    @pytest.mark.parametrize("form", ["iterable", "hugging face"])
    def test_what_is_left_out_is_told_and_counted(self, model, form):
        data = Lines(self.ROWS)
        if form == "hugging face":
            datasets = pytest.importorskip("datasets")
            data = datasets.Dataset.from_dict({"text": self.ROWS}).to_iterable_dataset()
        with pytest.warns(LeftOutWarning) as told:
            result = wp.probe(model, wp.data(data, windows="documents"), ["l0"], progress=False)
        assert result.run["count"] == 2
        assert result.run["data"]["left_out"] == {
            "without a text (null)": 1,
            "without a token that is text": 2,
        }
        lines = " ".join(str(each.message) for each in told)
        assert "1 row of a" in lines
        assert "first one is row 1" in lines
        assert "2 rows of a" in lines
        assert "first one is row 2" in lines

    def test_only_what_was_read_counts(self, model):
        data = wp.data(Lines(["a", "", "b", "", ""]), windows="documents")
        with pytest.warns(LeftOutWarning, match="1 row of a Lines is left out"):
            result = wp.probe(model, data, ["l0"], limit=2, progress=False)
        assert result.run["data"]["left_out"] == {"without a token that is text": 1}

    def test_a_second_pass_counts_anew(self, model):
        source = opened(model, wp.data(Lines(self.ROWS), windows="documents"))
        for _ in range(2):
            with pytest.warns(LeftOutWarning):
                list(source.batches(4, 0))
        assert {why: len(rows) for why, rows in source.left_out.items()} == {
            "without a text (null)": 1,
            "without a token that is text": 2,
        }

    def test_packed_rows_without_a_text_are_told(self, model):
        with pytest.warns(LeftOutWarning, match="1 row .*null.* first one is row 1"):
            windows(model, Lines(["a" * 40, None, "b" * 40]))

    def test_nothing_but_such_rows_is_no_text(self, model):
        with pytest.raises(DataError, match="holds no text: all its documents are empty"):
            windows(model, wp.data(Lines(["", ""]), windows="documents"))
        for how in ("packed", "documents"):
            with pytest.raises(DataError, match="holds no text: all its 2 rows are null"):
                windows(model, wp.data(Lines([None, None]), windows=how))


def test_texts_that_a_transform_renames_are_read(model):
    datasets = pytest.importorskip("datasets")
    plain = datasets.Dataset.from_dict({"body": TEXTS, "n": range(len(TEXTS))})
    renamed = plain.with_transform(lambda rows: {"text": rows["body"]})
    want = windows(model, TEXTS)[0]
    assert torch.equal(windows(model, renamed)[0], want)
    changed = plain.rename_column("body", "text").with_transform(
        lambda rows: {"text": [text.upper() for text in rows["text"]], "n": rows["n"]}
    )
    upper = windows(model, [text.upper() for text in TEXTS])[0]
    assert torch.equal(windows(model, changed)[0], upper)
    mapped = plain.to_iterable_dataset().map(
        lambda row: {"text": row["body"]}, remove_columns=["body"]
    )
    assert torch.equal(windows(model, mapped)[0], want)


def test_a_folder_of_texts_is_streamed_by_its_name(model, tmp_path):
    pytest.importorskip("datasets")
    rows = pd.DataFrame({"body": TEXTS, "n": range(len(TEXTS))})
    (tmp_path / "texts").mkdir()
    rows.to_parquet(tmp_path / "texts" / "train.parquet")
    name = f"hf:{tmp_path / 'texts'}"
    for more in ("", ":train"):
        data = wp.data(name + more, column="body", stream=True)
        found = opened(model, data, limit=3)
        assert found.numbers == ()
        assert torch.equal(
            torch.cat([b.inputs for b in found.batches(4, 0)]), windows(model, TEXTS)[0][:3]
        )
    with pytest.raises(wp.ProbeError, match="stream=True says nothing of a text file"):
        wp.data(tmp_path / "a.txt", stream=True)


def test_the_command_streams_a_name(tmp_path, capsys):
    pytest.importorskip("datasets")
    (tmp_path / "texts").mkdir()
    pd.DataFrame({"body": ["a layer compresses its tokens " * 9] * 9}).to_parquet(
        tmp_path / "texts" / "train.parquet"
    )
    out = tmp_path / "out"
    code = main(
        [
            *("run", "crate-tiny-kjv", "--data", f"hf:{tmp_path / 'texts'}:train", "--stream"),
            *("--column", "body", "--metrics", "l0", "--limit", "3", "--out", str(out), "--quiet"),
        ]
    )
    assert code == 0
    run = wp.Result.load(out).run
    assert run["count"] == 3
    assert run["data"]["read with"] == {"column": "body", "stream": True}
