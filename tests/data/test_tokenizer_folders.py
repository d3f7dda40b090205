"""What a tokenizer's folder names and states has transformers do nothing but read a tokenizer."""

import json
import re

import pytest

from tests.data.test_text import word_level
from whitebox_probe._core.errors import DataError
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.data import _tokenizer_folders
from whitebox_probe.data.text import TextWindows

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
TEXT = "a layer makes a stranger sparse a layer"
CODE = """open({mark!r}, 'w').close()
class T:
    from_pretrained = classmethod(lambda cls, *a, **k: cls())
"""
NO_TOKENIZERS = (
    *("AutoModelForImageClassification", "AutoModel", "AutoTokenizer", "AutoProcessor"),
    *("AutoConfig", "GPT2Config", "GPT2Model", "TimmBackbone", "RagTokenizer", "pipeline", "utils"),
)


@pytest.fixture
def folder(tmp_path):
    """A tokenizer as it is saved, with a configuration beside it."""
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(word_level(tmp_path, frame=True)),
        **{"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
    )
    fast.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "gpt2"}')
    return tmp_path / "saved"


def states(folder, file, **more):
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(known | more))


@pytest.fixture
def mark(folder, monkeypatch):
    """Where code of the folder's would leave its mark, whatever the user would be asked."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    found = folder.parent / "mark"
    (folder / "evil.py").write_text(CODE.format(mark=str(found)))
    return found


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("name", [*NO_TOKENIZERS, 3, ["GPT2Tokenizer"]])
def test_only_a_tokenizer_is_made(folder, mark, file, name):
    named = {str(name): "evil.T", "AutoTokenizer": ["evil.T", "evil.T"]}
    for each in ("config.json", "tokenizer_config.json"):
        states(folder, each, auto_map=named)
    if file == "config.json":
        states(folder, "tokenizer_config.json", tokenizer_class=None)
    states(folder, file, tokenizer_class=name)
    with pytest.raises(DataError, match="tokenizer_class") as told:
        TextWindows(TEXT, str(folder), 5)
    assert len(str(told.value)) < 500
    assert not mark.exists()


def test_code_of_the_folder_is_not_looked_at(folder, mark):
    plain = TextWindows(TEXT, str(folder), 5)
    named = {"AutoTokenizer": ["evil.T", "evil.T"], "AutoConfig": "evil.T"}
    for each in ("config.json", "tokenizer_config.json"):
        states(folder, each, auto_map=named, tokenizer_class="PreTrainedTokenizerFast")
    assert TextWindows(TEXT, str(folder), 5).fingerprint == plain.fingerprint
    assert not mark.exists()


@pytest.mark.parametrize("name", ["NoSuchTokenizer", None])
def test_a_tokenizer_of_the_folders_own_code_is_refused(folder, mark, name):
    """What its files alone would give may be other tokens."""
    states(folder, "config.json", model_type="nosuch")
    states(folder, "tokenizer_config.json", tokenizer_class=name)
    if name is not None:  # a class that is not known, of no code: a plain one, as transformers has
        assert len(TextWindows(TEXT, str(folder), 5)) > 0
    states(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]})
    with pytest.raises(DataError, match="code that comes with it, which is not run"):
        TextWindows(TEXT, str(folder), 5)
    assert not mark.exists()


def test_tokens_that_are_written_with_their_properties(folder):
    plain = TextWindows(TEXT, str(folder), 5)
    token = {"__type": "AddedToken", "content": "[UNK]", "lstrip": False, "normalized": False}
    token |= {"rstrip": False, "single_word": False}
    states(folder, "tokenizer_config.json", unk_token=token)
    assert TextWindows(TEXT, str(folder), 5).fingerprint == plain.fingerprint


@pytest.mark.parametrize("kind", ["ByT5Tokenizer", "CanineTokenizer"])
def test_a_tokenizer_without_files_needs_none(tmp_path, kind):
    made = getattr(transformers, kind)()
    made.save_pretrained(tmp_path)
    want = made.encode("ab", add_special_tokens=False)
    assert TextWindows("ab", str(tmp_path), 2, frame=False).ids.tolist() == [want]


def test_a_tokenizer_whose_model_tells_its_files(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "layer"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    data = TextWindows("a layer", str(tmp_path), 4)
    assert data.ids.tolist() == [[2, 5, 6, 3]]


def test_files_elsewhere_and_other_versions_are_not_read(folder):
    plain = TextWindows(TEXT, str(folder), 5)
    other = json.loads((folder / "tokenizer.json").read_text())
    other["model"]["vocab"] = {word: 20 - i for i, word in enumerate(other["model"]["vocab"])}
    for place in (folder / "tokenizer.4.0.0.json", folder.parent / "other.json"):
        place.write_text(json.dumps(other))
    states(
        folder,
        "tokenizer_config.json",
        tokenizer_file=str(folder.parent / "other.json"),
        vocab_file=str(folder.parent / "other.json"),
        fast_tokenizer_files=["tokenizer.4.0.0.json", "tokenizer.json"],
    )
    assert TextWindows(TEXT, str(folder), 5).fingerprint == plain.fingerprint


def test_a_tokenizer_of_several_files_is_read(tmp_path):
    words = ["<|endoftext|>", "a", "b", "\u0120", "ab", "\u0120a"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n\u0120 a\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    held = dict(vars(tokenizers.models.BPE))
    assert TextWindows("ab a", str(tmp_path), 2).ids.tolist() == [[4, 5]]
    assert dict(vars(tokenizers.models.BPE)) == held  # a tokenizer's class names it as its model


def test_two_tokens_of_one_id_are_told(tmp_path):
    (tmp_path / "vocab.json").write_text('{"<|endoftext|>": 0, "a": 1, "b": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    with pytest.raises(DataError, match="two of its tokens have one id"):
        TextWindows("ab", str(tmp_path), 2)


@pytest.mark.parametrize("number", [[], "../x", None, {}, True, -1, 1.5, 1 << 32, 10**30])
def test_an_id_that_is_none_is_told(tmp_path, number):
    (tmp_path / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0, "a": 1, "b": number}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    with pytest.raises(DataError, match=r"its token 'b' has the id|two of its tokens have one id"):
        TextWindows("ab", str(tmp_path), 2)


def test_a_token_with_two_ids_is_told(folder):
    rules = json.loads((folder / "tokenizer.json").read_text())
    token, known = next(iter(rules["model"]["vocab"].items()))
    behind = max(rules["model"]["vocab"].values()) + 1
    (folder / "added_tokens.json").write_text(json.dumps({token: known, "<new>": behind}))
    assert TextWindows(TEXT, str(folder), 5)
    (folder / "added_tokens.json").write_text(json.dumps({token: 999}))
    told = rf"added token '{re.escape(token)}' has the id 999, and in its vocabulary {known}"
    with pytest.raises(DataError, match=told):
        TextWindows(TEXT, str(folder), 5)
    (folder / "added_tokens.json").unlink()
    more = {"id": 999, "content": token, "special": False, "single_word": False}
    more |= {"lstrip": False, "rstrip": False, "normalized": False}
    states(folder, "tokenizer.json", added_tokens=[more])
    for given in (folder, folder / "tokenizer.json"):
        with pytest.raises(DataError, match=told):
            TextWindows(TEXT, str(given), 5)


def test_how_long_the_tokenizers_own_windows_are_is_not_printed(folder, capfd):
    states(folder, "tokenizer_config.json", model_max_length=3)
    assert TextWindows(TEXT, str(folder), 5)
    assert capfd.readouterr() == ("", "")


def test_a_name_of_the_hub_is_made_of_the_files_that_it_has(folder, monkeypatch):
    plain = TextWindows(TEXT, str(folder), 5)

    class EntryNotFoundError(Exception):
        pass

    def fetch(wanted: Checkpoint, *, progress):
        assert (wanted.source["repo"], wanted.source["revision"]) == ("some/model", "v1")
        if not (path := folder / wanted.source["file"]).exists():
            from whitebox_probe._core.errors import CheckpointError

            raise CheckpointError("no", "such", "file") from EntryNotFoundError()
        return path

    monkeypatch.setattr(_tokenizer_folders, "fetch", fetch)
    assert TextWindows(TEXT, "some/model@v1", 5).fingerprint == plain.fingerprint
    for name in ("a/b/c", "../saved", "some model"):
        with pytest.raises(DataError, match="neither a folder here nor a name"):
            TextWindows(TEXT, name, 5)


def test_a_folder_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match="there is no tokenizer"):
        TextWindows(TEXT, str(tmp_path), 5)


def test_an_added_token_with_the_id_of_another_is_told(folder):
    rules = json.loads((folder / "tokenizer.json").read_text())
    owner, known = next(iter(rules["model"]["vocab"].items()))
    more = {"id": known, "content": "<none of it>", "special": False, "single_word": False}
    more |= {"lstrip": False, "rstrip": False, "normalized": False}
    states(folder, "tokenizer.json", added_tokens=[more])
    told = rf"'<none of it>' has the id {known}, which its vocabulary has for '{re.escape(owner)}'"
    with pytest.raises(DataError, match=told):
        TextWindows(TEXT, str(folder), 5)


@pytest.mark.parametrize("file", ["special_tokens_map.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, 3, {}], ids=repr)
def test_a_special_token_without_its_text_is_told(folder, file, content):
    (folder / file).touch()
    held = json.loads((folder / file).read_text() or "{}")
    described = {"lstrip": True, "__type": "AddedToken", "content": "<mask>"}
    (folder / file).write_text(json.dumps(held | {"mask_token": described, "add_bos_token": False}))
    assert TextWindows(TEXT, str(folder), 5)
    described = {key: value for key, value in described.items() if key != "content"}
    described |= {} if content is None else {"content": content}
    (folder / file).write_text(json.dumps(held | {"mask_token": described}))
    with pytest.raises(DataError, match="its mask_token has no content"):
        TextWindows(TEXT, str(folder), 5)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "in", "the", "beginning"]


def of_words(folder, added, **settings):
    """An old BERT's tokenizer, with tokens added behind its words."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "added_tokens.json").write_text(json.dumps(added))
    return TextWindows("in <new> the zz beginning", str(folder), 3)


def test_added_tokens_with_the_ids_that_they_get_are_read(tmp_path):
    for added in ({"<new>": 8, "zz": 9}, {"zz": 8, "<new>": 9}):
        windows = of_words(tmp_path, added)
        assert added["<new>"] in {each for ids, *_ in windows for each in ids.tolist()}


@pytest.mark.parametrize("number", [9, 13, -1, 8.5, 10**30, True, 5], ids=repr)
def test_an_added_token_with_an_id_that_it_does_not_get_is_told(tmp_path, number):
    with pytest.raises(DataError, match="its added token '(<new>|zz)' has the id"):
        of_words(tmp_path, {"<new>": number, "zz": 9})


@pytest.mark.parametrize(("at", "token"), [("15", "<new>"), ("5", "<new>"), ("8", ""), ("8", "yy")])
def test_a_decoder_that_says_another_id_is_told(tmp_path, at, token):
    flags = dict.fromkeys(("special", "lstrip", "rstrip", "normalized", "single_word"), False)
    described = {"content": token, **flags}
    with pytest.raises(DataError, match="its added token '.*' has the id"):
        of_words(tmp_path, {"<new>": 8, "zz": 9}, added_tokens_decoder={at: described})


def test_a_decoder_that_is_no_table_is_told(folder):
    states(folder, "tokenizer_config.json", added_tokens_decoder=["<new>"])
    with pytest.raises(DataError, match="added_tokens_decoder is no table"):
        TextWindows(TEXT, str(folder), 5)


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b", "\x1c"], ids=ascii)
def test_a_line_of_a_vocabulary_ends_where_it_does_for_transformers(tmp_path, monkeypatch, end):
    monkeypatch.setitem(globals(), "WORDS", [*WORDS[:5], f"in{end}side", *WORDS[5:]])
    assert of_words(tmp_path, {"<new>": 9, "zz": 10})
