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
    "   ",
    "the [MASK][SEP]the",
    "un\x0bable un\x0cable un\x1cable un\x1fable un\x85able",  # Python takes these controls for spaces
    "un\u2028able un\u3000able un\u00adable \ufeffun",
    "the\u0378 un",  # no character of any version of Unicode so far
    "문文ｶﾞ\U00020000the\u0301",
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


def test_a_piece_of_the_vocabulary_can_be_an_end_of_line_to_python(tmp_path):
    """The tokens after it must not move."""
    import transformers

    pieces, file = [*SPECIAL, "\u2028", "the", "un"], tmp_path / "vocab.txt"
    file.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    ours, theirs = WordPiece.read(file), transformers.BertTokenizer(vocab=str(file))
    assert len(ours) == theirs.vocab_size == len(pieces)
    assert ours.encode(["the un"])[0].tolist() == theirs(["the un"])["input_ids"]


def test_where_transformers_differs_the_authors_code_is_followed():
    """Its ``_clean_text`` drops Cc and Cf alone, and its ``lower`` is Python's."""
    assert words("a\ue000b ΟΔΟΣ") == ["a\ue000b", "οδος"]


def test_one_text_in_place_of_several_and_none_are_refused():
    tokenizer = WordPiece([*SPECIAL, "a"])
    with pytest.raises(ValueError, match=r"'a text' is one text, .* give it \[text\]"):
        tokenizer.encode("a text")
    with pytest.raises(ValueError, match="no texts: give one or more"):
        tokenizer.encode([])


def test_the_longest_piece_is_taken_and_a_word_with_an_unknown_part_is_unknown_as_a_whole():
    tokenizer = WordPiece([*SPECIAL, "a", "ab", "##b", "##c"])
    assert tokenizer.cut("abc abb abd") == ["ab", "##c", "ab", "##b", "[UNK]"]
    assert words("It's a-b") == ["it", "'", "s", "a", "-", "b"]
    assert len(tokenizer) == 9


def test_a_vocabulary_without_special_tokens_is_refused():
    with pytest.raises(ValueError, match=r"the vocabulary lacks \[PAD\], \[CLS\], \[MASK\]: put them"):
        WordPiece(["[UNK]", "[SEP]", "word"])
