"""Readers of files from outside: sound ones are read, all others are refused in words of ours.

The corpus is what coverage-guided fuzzing kept (`python -m tests.fuzz.guided`), with what once
ended in another error than a refusal.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import pool
from tests.fuzz.readers import CORPUS, READERS, accepts

QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
OF_JSON = ("json", "run", "config", "tokenizer")


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name, tmp_path):
    found = [accepts(name, content, tmp_path) for content in READERS[name].sound()]
    # The second text of JSON has half a character and a number of no size.
    assert found == ([True, False] if name == "json" else [True] * len(found))
    assert found


@pytest.mark.parametrize("name", READERS)
def test_what_fuzzing_kept_is_read_or_refused(name, tmp_path):
    kept = sorted((CORPUS / name).iterdir()) if (CORPUS / name).is_dir() else []
    assert kept, "no corpus: run `python -m tests.fuzz.guided`"
    for file in kept:
        accepts(name, file.read_bytes(), tmp_path)  # whatever else it raises fails


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes_are_read_or_refused(name, tmp_path):
    sound = list(READERS[name].sound())

    @QUICK
    @given(st.data())
    def damaged(data):
        content = bytearray(data.draw(st.sampled_from(sound)))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content)))
            if data.draw(st.booleans()):
                del content[at : at + data.draw(st.integers(1, 16))]
            content[at:at] = data.draw(st.binary(max_size=8))
        accepts(name, bytes(content), tmp_path)

    damaged()


@pytest.mark.parametrize("name", OF_JSON)
def test_documents_with_another_value_somewhere_are_read_or_refused(name, tmp_path):
    sound = [json.loads(each) for each in READERS[name].sound() if b"1e400" not in each]
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=6,
    )

    @QUICK
    @given(st.data())
    def changed(data):
        document = json.loads(json.dumps(data.draw(st.sampled_from(sound))))
        at = document
        while True:
            key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
            inner = at[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
                break
            at = inner
        at[key] = data.draw(values | st.randoms(use_true_random=False).map(pool))
        accepts(name, json.dumps(document).encode(), tmp_path)

    changed()
