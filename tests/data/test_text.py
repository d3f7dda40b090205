"""Text becomes windows whose ids and masks can be read back."""

import json
import sys

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, MissingDependency
from whitebox_probe.data.text import TextWindows, open_tokenizer

TEXT = "a layer compresses; a layer makes sparse. "


def test_windows_joined_are_the_text_and_nothing_else():
    text = TEXT * 5 + "žluťoučký"
    data = TextWindows(text, "bytes", 16)
    joined = torch.cat([ids[mask] for ids, mask in data])
    assert bytes(joined.tolist()).decode() == text
    assert all(ids.shape == mask.shape == (16,) for ids, mask in data)
    assert all(ids.dtype == torch.int64 and mask.dtype == torch.bool for ids, mask in data)
    assert data.mask[:-1].all()
    used = int(data.mask[-1].sum())
    assert data.mask[-1, :used].all()
    assert (data.ids[-1, used:] == 0).all()


@pytest.mark.parametrize("count", [15, 16, 17, 32])
def test_the_last_window_is_padded_or_left_out(count):
    padded = TextWindows("x" * count, "bytes", 16)
    assert len(padded) == -(-count // 16)
    assert padded.mask.sum() == count
    if count < 16:
        with pytest.raises(DataError, match="no window of 16 tokens.*it has 15"):
            TextWindows("x" * count, "bytes", 16, drop_last=True)
    else:
        dropped = TextWindows("x" * count, "bytes", 16, drop_last=True)
        assert len(dropped) == count // 16
        assert dropped.mask.all()


def test_a_text_file_is_read_by_its_path(tmp_path):
    file = tmp_path / "one.txt"
    file.write_text(TEXT, encoding="utf-8", newline="")
    by_path, by_name = TextWindows(file, "bytes", 8), TextWindows(str(file), "bytes", 8)
    assert by_path.name == "one.txt"
    assert by_path.fingerprint == by_name.fingerprint
    assert by_path.fingerprint == TextWindows(TEXT, "bytes", 8).fingerprint


def test_line_ends_of_a_file_are_those_of_any_system(tmp_path):
    lines = [TEXT.strip()] * 9
    for name, end in (("unix", "\n"), ("windows", "\r\n")):
        (tmp_path / f"{name}.txt").write_bytes(end.join(lines).encode())
    unix, windows = (
        TextWindows(tmp_path / f"{name}.txt", "bytes", 16) for name in ("unix", "windows")
    )
    assert torch.equal(unix.ids, windows.ids)
    assert unix.fingerprint == windows.fingerprint


def test_the_fingerprint_follows_text_length_and_tokens():
    base = TextWindows(TEXT, "bytes", 8).fingerprint
    others = [TextWindows(TEXT, "bytes", 7), TextWindows(TEXT + "!", "bytes", 8)]
    assert base not in {other.fingerprint for other in others}
    assert len(base) == 16


def word_level(folder, frame):
    """A small file of the tokenizers library, with special tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "layer", "makes", "sparse"]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    if frame:
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    made.enable_truncation(3)  # settings that would cut the text in silence
    made.enable_padding(length=9)
    file = folder / "tokenizer.json"
    made.save(str(file))
    return file


def test_special_tokens_frame_each_window_and_are_masked(tmp_path):
    file = word_level(tmp_path, frame=True)
    data = TextWindows("a layer makes a layer sparse a layer", file, 5)
    assert data.ids.tolist() == [[1, 4, 5, 6, 2], [1, 4, 5, 7, 2], [1, 4, 5, 2, 0]]
    assert data.mask.int().tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 0, 0]]
    bare = TextWindows("a layer makes a layer", file, 5, frame=False)
    assert bare.ids.tolist() == [[4, 5, 6, 4, 5]]
    assert bare.mask.all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t["model"]["vocab"].update({"layer": 4}), "two of its tokens have one id"),
        (lambda t: t["post_processor"].update({"single": TWICE}), "does not hold a text just once"),
    ],
)
def test_a_tokenizer_whose_ids_say_two_things_is_refused(tmp_path, change, told):
    file = word_level(tmp_path, frame=True)
    whole = json.loads(file.read_text())
    change(whole)
    file.write_text(json.dumps(whole))
    with pytest.raises(DataError, match=told):
        TextWindows("a layer makes a layer", file, 5)


TWICE = [
    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
]


def test_a_special_token_inside_the_text_is_masked(tmp_path):
    file = word_level(tmp_path, frame=False)
    data = TextWindows("a [SEP] layer a [PAD] sparse", file, 6)
    assert data.ids.tolist() == [[4, 2, 5, 4, 0, 7]]
    assert data.mask.int().tolist() == [[1, 0, 1, 1, 0, 1]]


def test_a_tokenizer_of_transformers_gives_the_same(tmp_path):
    transformers = pytest.importorskip("transformers")
    file = word_level(tmp_path, frame=True)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file),
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
    )
    fast.save_pretrained(tmp_path / "saved")
    text = "a layer makes a stranger sparse a layer"
    one = TextWindows(text, str(tmp_path / "saved"), 5)
    other = TextWindows(text, file, 5)
    assert (one.ids == 3).sum() == 1
    assert one.mask[one.ids == 3].all()
    assert one.fingerprint == other.fingerprint


def test_a_model_of_bytes_is_probed_on_text():
    from whitebox_probe.models.families.crate_gpt import CrateGPT

    model = wp.wrap(CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2))
    data = TextWindows(TEXT * 3, "bytes", 16, drop_last=True)
    result = wp.probe(model, data, metrics=["compression", "l0"], progress=False)
    assert len(result.samples) == len(data)
    assert result.run["tokens"] == 16


class TestErrors:
    def test_a_file_that_is_not_there(self):
        with pytest.raises(DataError, match=r"nowhere\.txt cannot be read: No such file"):
            TextWindows("nowhere.txt")

    def test_a_file_in_another_encoding(self, tmp_path):
        (tmp_path / "x.txt").write_bytes("é".encode("latin-1"))
        with pytest.raises(DataError, match="not UTF-8: byte 0 .*iconv"):
            TextWindows(tmp_path / "x.txt")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_a_file_of_utf_16_names_it(self, tmp_path, encoding):
        (tmp_path / "x.txt").write_bytes("a layer".encode(encoding))
        with pytest.raises(DataError, match="(NUL characters|byte 0 does)") as told:
            TextWindows(tmp_path / "x.txt")
        assert f"iconv -f {encoding.upper().replace('16-', '16')} -t UTF-8" in str(told.value)

    def test_a_byte_order_mark_is_no_text(self, tmp_path):
        for name, encoding in (("a", "utf-8"), ("b", "utf-8-sig")):
            (tmp_path / f"{name}.txt").write_text("a layer\n" * 9, encoding=encoding)
        first, second = (TextWindows(tmp_path / f"{name}.txt", length=8) for name in "ab")
        assert first.fingerprint == second.fingerprint

    def test_no_text(self):
        with pytest.raises(DataError, match="gives no window of 128 tokens: it has 0"):
            TextWindows("")

    @pytest.mark.parametrize("length", [0, -1])
    def test_no_room(self, length):
        with pytest.raises(DataError, match="no room for text"):
            TextWindows("x", "bytes", length)

    def test_no_room_inside_the_frame(self, tmp_path):
        with pytest.raises(DataError, match="2 of them are special tokens"):
            TextWindows("a", word_level(tmp_path, frame=True), 2)

    @pytest.mark.parametrize("content", ["{", json.dumps({"version": "1.0"})])
    def test_a_file_that_is_no_tokenizer(self, tmp_path, content):
        pytest.importorskip("tokenizers")
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(DataError, match=r"x\.json' cannot be had"):
            open_tokenizer(tmp_path / "x.json")

    def test_a_folder_without_a_tokenizer(self, tmp_path):
        pytest.importorskip("transformers")
        with pytest.raises(DataError, match="cannot be had"):
            open_tokenizer(str(tmp_path))

    @pytest.mark.parametrize(
        ("tokenizer", "library"), [("x.json", "tokenizers"), ("gpt2", "transformers")]
    )
    def test_a_library_that_is_missing(self, monkeypatch, tokenizer, library):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingDependency, match=r"needs .*whitebox-probe\[text\]"):
            TextWindows("x", tokenizer)


def test_a_text_is_sized_before_it_is_read(tmp_path):
    with (tmp_path / "x.txt").open("wb") as file:
        file.truncate(1 << 42)  # of no blocks on the disk
    with pytest.raises(DataError, match="x.txt does not fit into memory"):
        TextWindows(tmp_path / "x.txt")
