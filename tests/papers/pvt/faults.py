"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the reduction reads one token of each window": Fault(
        "papers/pvt/model.py",
        "nn.Conv2d(dim, dim, ratio, stride=ratio)",
        "nn.Conv2d(dim, dim, 1, stride=ratio)",
        "papers/pvt/test_model.py::test_the_reduction_is_the_equation_reshape_then_linear_then_norm",
    ),
    "windows that should overlap lie side by side": Fault(
        "papers/pvt/model.py",
        "kernel=2 * stride - 1, padding=stride - 1)",
        "kernel=stride)",
        "papers/pvt/test_model.py::test_windows_overlap_by_three_pixels_in_the_first_stage_and_by_one_later",
    ),
    "maps for dense tasks come before the last norm": Fault(
        "papers/pvt/model.py",
        "rearrange(self.norm(self.blocks(self.embed(x)))",
        "rearrange(self.blocks(self.embed(x))",
        "papers/pvt/test_model.py::test_version_two_equals_timm_in_outputs_and_gradients",
    ),
    "the class token has the place of the first patch": Fault(
        "papers/pvt/model.py",
        "(self.token + self.position).expand",
        "self.token.expand",
        "papers/pvt/test_model.py::test_the_class_token_comes_first_with_its_own_position_and_only_it_is_read",
    ),
    "the pooled reduction takes the maximum": Fault(
        "papers/pvt/model.py",
        "nn.AdaptiveAvgPool2d(size)",
        "nn.AdaptiveMaxPool2d(size)",
        "papers/pvt/test_model.py::test_the_pooled_reduction_has_as_many_keys_at_every_size_and_reads_every_token",
    ),
    "a branch of a block is normalised as a map": Fault(
        "papers/pvt/model.py",
        "_on_map(self.mlp, self.mlp_norm(row), gy)",
        "_row(self.mlp(self.mlp_norm(_map(row, gy))))",
        "papers/pvt/test_model.py::test_the_tokens_of_a_block_stand_in_a_row_and_the_numbers_are_those_of_any_block",
    ),
}
