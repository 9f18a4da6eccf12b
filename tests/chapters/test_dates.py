"""The dates: written as Babel writes them, readable without a hint, encoded without loss."""

import random
from datetime import date

import pytest
import torch

from attention_notes.chapters.data.dates import (
    DATE_LOCALES,
    Characters,
    all_days,
    bucketed,
    date_styles,
    sample,
    unambiguous,
)

YEARS = range(1900, 2100)
ASCII = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९০১২৩৪৫৬৭৮৯", "0123456789" * 4)


@pytest.fixture(scope="module")
def styles():
    return date_styles()


@pytest.fixture(scope="module")
def kept(styles):
    return unambiguous(styles)[0]


def test_every_style_writes_what_babel_writes_but_for_the_digits(styles):
    from babel.dates import format_date, format_skeleton

    draw, days = random.Random(0), all_days(YEARS)
    for style in styles:
        for day in draw.sample(days, 5):
            long_names = style.name in ("full", "long", "medium", "short")
            write = format_date if long_names else format_skeleton
            arguments = (day, style.name) if long_names else (style.name, day)
            assert style.write(day).translate(ASCII) == write(*arguments, locale=style.locale)


def test_some_languages_have_digits_of_their_own(styles):
    day = date(1998, 5, 9)
    assert {s.locale: s.write(day) for s in styles if s.name == "long" and s.locale in ("ar_EG", "bn", "fa", "mr")} == {
        "ar_EG": "٩ مايو ١٩٩٨",
        "bn": "৯ মে, ১৯৯৮",
        "fa": "۹ مهٔ ۱۹۹۸",
        "mr": "९ मे, १९९८",
    }


def test_all_languages_keep_some_styles_and_many_scripts_are_there(kept):
    assert {s.locale for s in kept} == set(DATE_LOCALES)
    assert len({s.script for s in kept}) == 12


def test_fields_are_where_they_are_said_to_be(kept):
    day = date(2031, 12, 24)
    for style in kept:
        text, fields = style.write(day), style.where(day)
        assert text[fields["y"]].translate(ASCII) == "2031"
        assert text[fields["d"]].translate(ASCII) == "24"


def test_no_text_that_is_kept_can_be_read_as_two_days(kept):
    draw, readings = random.Random(0), {}
    days = [d for d in all_days(YEARS) if d.day <= 12 and d.year % 100 in (5, 11)]
    for style in kept:
        for day in draw.sample(days, 150):
            assert readings.setdefault(style.write(day), day) == day


def test_what_is_left_out_is_two_days_to_someone(styles, kept):
    left_out = {(s.locale, s.name) for s in styles} - {(s.locale, s.name) for s in kept}
    assert {("en", "short"), ("en", "yMd"), ("fr", "short"), ("de", "short")} <= left_out
    assert not {("de", "medium"), ("sv", "short"), ("en", "yMEd"), ("zh", "short")} & left_out
    month_first = date_styles(["en"])
    alone, ambiguous = unambiguous(month_first)
    assert [s.name for s in ambiguous] == ["short"], "without a day-first language only two-digit years are unclear"
    assert len(alone) == len(month_first) - 1


def test_languages_are_drawn_evenly_and_the_same_for_a_seed(kept):
    drawn = sample(kept, all_days(range(2000, 2001)), 3300, seed=5)
    assert drawn == sample(kept, all_days(range(2000, 2001)), 3300, seed=5)
    assert drawn != sample(kept, all_days(range(2000, 2001)), 3300, seed=6)
    counts = [sum(s.locale == code for s, _ in drawn) for code in DATE_LOCALES]
    assert min(counts) > 60
    assert max(counts) < 140


def test_days_count_leap_years():
    assert len(all_days(range(1900, 1901))) == 365
    assert len(all_days(range(2000, 2001))) == 366
    assert all_days(range(1999, 2001))[365] == date(2000, 1, 1)


def test_what_is_encoded_decodes_to_itself():
    texts = ["samedi 9 mai", "৯ মে", "a"]
    vocabulary = Characters(texts)
    tokens = vocabulary.encode(texts)
    assert tokens.shape == (3, 12)
    assert vocabulary.decode(tokens) == texts
    assert len(vocabulary) == 3 + len(set("".join(texts)))
    assert tokens.max() < len(vocabulary)
    assert tokens[tokens > 0].min() >= 3
    assert tokens[2].tolist()[1:] == [Characters.padding] * 11


def test_decoding_stops_at_the_end_token():
    vocabulary = Characters("ab")
    a, b = vocabulary.encode(["ab"])[0].tolist()
    assert vocabulary.decode(torch.tensor([[1, a, b, 2, a], [a, a, 0, 0, 0]])) == ["ab", "aa"]


def test_a_character_that_was_never_seen_is_named():
    with pytest.raises(ValueError, match="'ж' is not among the 2 characters"):
        Characters("ab").encode(["ab", "aж"])


def test_digits_that_are_not_known_are_named():
    with pytest.raises(ValueError, match="my writes its digits as 'mymr'; known: latn"):
        date_styles(["my"])


def test_batches_hold_every_pair_once_and_little_padding():
    lengths = torch.randint(1, 30, (101,))
    source = (torch.arange(30) < lengths[:, None]).long() * (1 + torch.arange(101)[:, None])
    target = torch.arange(101)[:, None]
    batches = bucketed(source, target, size=7, seed=3, pool=5)
    assert sorted(t for _, ts in batches for t in ts[:, 0].tolist()) == list(range(101))
    for sources, targets in batches:
        assert torch.equal(sources[:, 0], targets[:, 0] + 1)
        assert sources[:, -1].any(), "trimmed to its longest"
    padding = sum((s == 0).sum().item() for s, _ in batches)
    assert padding < 0.2 * (source == 0).sum()
    order = [t[0].item() for _, t in batches]
    assert order != [t[0].item() for _, t in bucketed(source, target, size=7, seed=4, pool=5)]
