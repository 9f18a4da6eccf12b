"""What the chapter is run on."""

from datetime import date
from math import log2

import pytest

from attention_notes.chapters.data.dates import date_styles
from attention_notes.papers.gpt.data import as_tokens, manual, ngram_bits, translations


def test_counts_of_one_and_two_bytes_by_hand():
    one, two = ngram_bits(b"aab", b"a", order=2)
    alone = (2 + 2 / 256) / (3 + 2)  # two of three are a, and there are two kinds
    assert one == pytest.approx(-log2(alone))
    assert two == pytest.approx(one)  # nothing came after the end of a line
    # after a there were a and b, once each; the first a stands at the beginning of a line
    mixed = ngram_bits(b"aab", b"aa", order=2)[1]
    assert mixed == pytest.approx((-log2(alone) - log2((1 + 2 * alone) / (2 + 2))) / 2)


def test_a_text_begins_after_the_end_of_a_line():
    """In b"\\na\\na" a follows the end of a line twice, and nothing else does: (2 + 1 P(a)) / (2 + 1)."""
    alone, after = ngram_bits(b"\na\na", b"a", order=2)
    assert alone == pytest.approx(-log2((2 + 2 / 256) / (4 + 2)))
    assert after == pytest.approx(-log2((2 + 2**-alone) / 3))


def test_the_chances_of_all_bytes_are_one_together():
    total = sum(2 ** -ngram_bits(b"abracadabra\n", bytes([c]), order=3)[-1] for c in range(256))
    assert total == pytest.approx(1)


def test_an_order_that_does_not_fit_is_refused():
    for order in (0, 8):
        with pytest.raises(ValueError, match=f"order={order}: from 1 to 7"):
            ngram_bits(b"ab", b"a", order=order)


def test_a_tenth_of_the_manual_is_held_out():
    seen, unseen = manual()
    assert (len(seen), len(unseen)) == (309_402, 32_939)
    assert bytes(as_tokens(unseen).tolist()) == unseen
    assert unseen.splitlines()[1] not in seen


def test_translations_begin_at_one_place():
    style = date_styles(["en"])[1]
    short, long = translations([(style, date(1998, 5, 9)), (style, date(2001, 9, 10))])
    assert (short, long) == ("       May 9, 1998>1998-05-09", "September 10, 2001>2001-09-10")
