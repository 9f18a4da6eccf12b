"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "extended tokens are read column by column": Fault(
        "papers/patchification/model.py",
        '"b c gy gx -> b (gy gx) c"',
        '"b c gy gx -> b (gx gy) c"',
        "papers/patchification/test_model.py::test_extended_tokens_equal_loops_in_outputs_and_gradients",
    ),
    "extended tokens are copied, not interpolated": Fault(
        "papers/patchification/model.py",
        'mode="bilinear"',
        'mode="nearest"',
        "papers/patchification/test_model.py::test_four_tokens_of_two_by_hand",
    ),
    "every variant is of 224 pixels": Fault(
        "papers/patchification/model.py",
        '"image_size": pixels}',
        '"image_size": 224}',
        "papers/patchification/test_model.py::test_every_variant_has_exactly_the_parameters_of_timms_and_the_recorded_"
        "cost",
    ),
    "an extended token is said to lie where its patch does": Fault(
        "papers/patchification/geometry.py",
        "blended.mT.repeat_interleave(patch, dim=1) / patch",
        "blended.mT.round().repeat_interleave(patch, dim=1) / patch",
        "papers/patchification/test_model.py::test_an_extended_token_lies_on_its_share_of_a_patch_and_was_made_of_its_"
        "neighbours",
    ),
}
