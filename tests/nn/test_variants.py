"""Models by name."""

import pytest

from attention_notes.nn.variants import given, lookup

VARIANTS = {"pvt_tiny": 1, "pvt_small": 2, "vit": 3}


def test_a_name_that_is_there_has_its_row():
    assert lookup(VARIANTS, "pvt_small") == 2


def test_an_unknown_name_is_answered_with_all_and_with_the_nearest(unchecked):
    with pytest.raises(ValueError, match=r"known: pvt_tiny, pvt_small, vit; did you mean 'pvt_small'"):
        lookup(VARIANTS, "pvt_smal")
    with pytest.raises(ValueError, match=r"^unknown variant 'resnet'; known: pvt_tiny, pvt_small, vit$"):
        lookup(VARIANTS, "resnet")


def test_what_is_given_is_what_is_not_none():
    assert given(a=None, b=0, c=False) == {"b": 0, "c": False}
