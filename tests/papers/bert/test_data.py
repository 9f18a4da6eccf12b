"""The letters of the chapter's training."""

import re

import pytest
import torch

from attention_notes.chapters.data import sentences
from attention_notes.papers.bert.data import PIECES, by_neighbours, ends_by_pairs, f1, letters, pairs, stretches


def test_the_text_is_that_of_the_manual_and_its_end_is_held_out():
    train, test = letters()
    assert len(test.tokens) == pytest.approx(len(train.tokens) / 7, rel=0.01)
    tokens, ends = (torch.cat(parts).tolist() for parts in zip(train, test, strict=True))
    apart = "".join(PIECES[token] + " " * end for token, end in zip(tokens, ends, strict=True))
    assert apart.split() == re.findall("[a-z]+", " ".join(sentences()).lower())
    with pytest.raises(ValueError, match="held_out=1 leaves nothing"):
        letters(held_out=1)


def test_a_pair_follows_half_the_time_and_has_its_segments():
    text = torch.arange(1000) % 26 + 5
    tokens, segments, other = pairs(text, 2000, length=4, generator=torch.Generator().manual_seed(0))
    assert tokens.shape == segments.shape == (2000, 11)
    assert tokens[:, [0, 5, 10]].eq(torch.tensor([2, 3, 3])).all()
    assert segments[0].tolist() == [0] * 6 + [1] * 5
    follows = (tokens[:, 6] - tokens[:, 4]) % 26 == 1
    assert follows[other == 0].all()
    assert other.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert follows[other == 1].float().mean() < 0.1


def test_counts_by_hand():
    a, b, c = (PIECES.index(letter) for letter in "abc")
    text = torch.tensor([a, b, a, b, a, c, a, b])
    scores = by_neighbours(text, torch.tensor([a]), torch.tensor([a]))
    assert {name: PIECES[score[0].argmax()] for name, score in scores.items()} == {
        "most frequent letter": "a", "left neighbour": "b", "right": "b", "both": "b",
    }  # fmt: skip
    after = scores["left neighbour"][0]
    assert after[b] == pytest.approx((3 + 3 / 7) / 5)
    assert after.sum() == pytest.approx(1)


def test_ends_of_words_are_learned_from_pairs_of_letters():
    train, _ = letters()
    draw = torch.Generator().manual_seed(0)
    tokens, ends = stretches(train, 300, length=10, generator=draw)
    assert tokens.shape == (300, 12)
    assert ends.shape == (300, 10)
    found = ends_by_pairs(tokens, ends, tokens)
    assert found.shape == (300, 9)
    assert f1(found, ends[:, :-1]) > 0.4
    assert f1(ends, ends) == 1
    assert f1(torch.zeros_like(ends), ends) == 0
