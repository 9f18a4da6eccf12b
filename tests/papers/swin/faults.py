"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "V2 normalises what a branch reads": Fault(
        "papers/swin/model.py",
        "self.drop_path(self.norm(branch(x)))",
        "self.drop_path(branch(self.norm(x)))",
        "papers/swin/test_model.py::test_an_untrained_block_of_v2_adds_nothing_and_one_of_v1_does",
    ),
    "every block is shifted": Fault(
        "papers/swin/model.py",
        "shifted=j % 2 == 1",
        "shifted=True",
        "papers/swin/test_model.py::test_the_second_block_of_a_stage_is_shifted_by_half_a_window_unless_there_is_only_one",
    ),
    "windows are seen as if they had not been shifted": Fault(
        "papers/swin/geometry.py",
        "module.windows.cut(numbers)",
        "module.windows.cut(numbers.roll(module.windows.shift, (1, 2)))",
        "inspect/test_attention_maps.py::test_windows_are_put_back_where_brute_force_over_the_padded_map_has_them",
    ),
}
