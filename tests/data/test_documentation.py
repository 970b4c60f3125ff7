import pytest

from elmo_jax.data.text import pydoc_sentences, pydoc_source


@pytest.fixture(scope="module")
def parts():
    """The sentences of the training and of the held-out part."""
    return [[tuple(s) for s in pydoc_sentences(heldout) if s] for heldout in (False, True)]


def test_there_is_enough_to_train_on(parts):
    train, heldout = (sum(map(len, part)) for part in parts)
    assert train > 150_000
    assert 0.02 < heldout / train < 0.1


def test_no_heldout_sentence_is_trained_on(parts):
    train, heldout = map(set, parts)
    assert not train & heldout


def test_sentences_are_prose(parts):
    for sentence in parts[1]:
        assert len(sentence) >= 4
        assert all(token == "".join(token.split()) != "" for token in sentence)


def test_the_source_gives_the_same_again_and_tells_its_progress(parts):
    source, told = pydoc_source(heldout=True), []
    again = list(source.read(told.append))
    assert [tuple(s) for s in again if s] == parts[1]
    assert again.count(None) > 1000  # documents
    assert sum(told) == sum(path.stat().st_size for path in source.files)
