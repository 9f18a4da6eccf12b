"""The scenes: what is seen is what is said."""

import pytest
import torch

from attention_notes.papers.show_attend_tell.data import END, START, VOCABULARY, caption, decode, placed, scenes


def test_captions_are_english():
    assert caption([3], above=False) == "a three"
    assert caption([3, 7], above=True) == "a three above a seven"
    assert caption([8, 8], above=False) == "an eight left of an eight"


def test_ink_lies_in_the_cells_that_the_words_name_and_nowhere_else():
    made = scenes(40, seed=0)
    ink = (1 - made.images[:, 0]).unflatten(1, (3, 8)).unflatten(-1, (3, 8)).sum((2, 4)).flatten(1)
    for dark, places in zip(ink, made.places, strict=True):
        assert {*dark.nonzero().flatten().tolist()} == {place for place in places.tolist() if place >= 0}


def test_the_first_to_be_named_is_the_upper_or_the_left_one():
    made = scenes(40, seed=0)
    for row, places in zip(made.targets.tolist(), made.places, strict=True):
        named, said = [place for place in places.tolist() if place >= 0], decode(row)
        if len(named) == 2:
            assert ("above" in said) == (named[0] // 3 < named[1] // 3)
            assert ("left" in said) == (named[0] // 3 == named[1] // 3)
            assert named[0] < named[1]


def test_the_given_words_are_the_targets_one_word_later_and_the_end_is_present():
    made = scenes(40, seed=0)
    assert (made.given[:, 0] == START).all()
    assert torch.equal(made.given[:, 1:], made.targets[:, :-1])
    last = made.present.sum(1) - 1
    assert (made.targets.gather(1, last[:, None]) == END).all()
    assert made.targets.max() < len(VOCABULARY)


def test_one_scene_in_four_has_one_digit_and_held_out_digits_are_others():
    made, others = scenes(2000, seed=0), scenes(2000, seed=0, held_out=True)
    single = (made.places >= 0).sum(1) == 1
    assert single.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(single, made.present.sum(1) == 3)
    seen, unseen = ({*_cells(part)} for part in (made, others))
    assert len(seen & unseen) < 0.01 * len(unseen)  # a few are alike to the last pixel


def _cells(made):
    """The pixels of every cell with a digit."""
    cells = made.images[:, 0].unflatten(1, (3, 8)).unflatten(-1, (3, 8)).permute(0, 1, 3, 2, 4).flatten(3).flatten(0, 2)
    return (tuple(cell) for cell in cells.tolist() if min(cell) < 1)


def test_rows_and_columns_are_added_as_ones_among_zeros():
    made = placed(torch.zeros(2, 5, 2, 3))
    assert made.shape == (2, 10, 2, 3)
    assert made[0, 5:, 1, 2].tolist() == [0, 1, 0, 0, 1]


def test_a_grid_of_one_cell_is_refused():
    with pytest.raises(ValueError, match="side=1: a grid of one cell has no room for two digits"):
        scenes(1, seed=0, side=1)
