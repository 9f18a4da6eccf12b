"""WordPiece against the tokenizer of transformers."""

import pytest
import torch

from attention_notes.papers.bert import SPECIAL, WordPiece, words

PIECES = [*SPECIAL, "un", "##aff", "##able", "##a", "play", "##ing", "the", "cafe", "naive", "!", ",", "$", "'", "-"]
PIECES += ["s", "##s", "中", "文", "2", "##0", "[", "]", "mask", "è", "ß"]
TEXTS = [
    "Unaffable",
    "the UNAFFABLE, playing!",
    "Café  naïve\tthe\u00a0cafe",
    "中文the",
    "it's $20 -- un[MASK] the [mask]",
    "a\u200bplay\x00ing\ufffd",
    "straße \u00df \u0130",
    "un" + "a" * 99,
    "",
    "…—“the”",
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    import transformers

    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return transformers.BertTokenizer(vocab=str(file)), WordPiece.read(file)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_those_of_transformers(reference, text):
    theirs, ours = reference
    assert ours.cut(text) == theirs.tokenize(text)


def test_tokens_and_segments_are_those_of_transformers(reference):
    theirs, ours = reference
    pairs = [("the cafe", "un-affable!"), ("play", "the the the the")]
    for texts in (TEXTS, pairs):
        tokens, segments = ours.encode(texts)
        wanted = theirs(texts, padding=True, return_tensors="pt")
        assert torch.equal(tokens, wanted["input_ids"])
        assert torch.equal(segments, wanted["token_type_ids"])


def test_the_longest_piece_is_taken_and_a_word_with_an_unknown_part_is_unknown_as_a_whole():
    tokenizer = WordPiece([*SPECIAL, "a", "ab", "##b", "##c"])
    assert tokenizer.cut("abc abb abd") == ["ab", "##c", "ab", "##b", "[UNK]"]
    assert words("It's a-b") == ["it", "'", "s", "a", "-", "b"]
    assert len(tokenizer) == 9


def test_a_vocabulary_without_special_tokens_is_refused():
    with pytest.raises(ValueError, match=r"the vocabulary lacks \[PAD\], \[CLS\], \[MASK\]: put them"):
        WordPiece(["[UNK]", "[SEP]", "word"])
