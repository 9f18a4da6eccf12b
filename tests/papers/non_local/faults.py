"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "a dot product that is not divided by the number of positions": Fault(
        "papers/non_local/model.py",
        "phi.transpose(1, 2) @ (g / phi.shape[1])",
        "phi.transpose(1, 2) @ g",
        "papers/non_local/test_model.py::test_showing_everything_twice_changes_nothing",
    ),
    "prefix sums over the wrong end": Fault(
        "papers/non_local/model.py",
        "sort(dim=1, descending=True)",
        "sort(dim=1)",
        "papers/non_local/test_model.py::test_sums_of_rectified_pairs_by_hand",
    ),
    "a new non-local block that speaks": Fault(
        "papers/non_local/model.py",
        "nn.init.zeros_(last.weight)",
        "nn.init.ones_(last.weight)",
        "papers/non_local/test_model.py::test_a_new_block_is_the_identity",
    ),
    "time is subsampled as well": Fault(
        "papers/non_local/model.py",
        "(1, subsample, subsample) if dims == 3 else (subsample,) * dims",
        "(subsample,) * dims",
        "papers/non_local/test_model.py::test_a_clip_of_one_frame_held_still_is_read_as_the_image",
    ),
    "pooling after the embedding": Fault(
        "papers/non_local/model.py",
        "return embed(pool(x))",
        "return pool(embed(x))",
        "papers/non_local/test_model.py::test_pooling_and_embedding_change_places_only_where_a_pixel_wins_in_all_channels",
    ),
}
