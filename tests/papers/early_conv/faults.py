"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the norm comes after the rectifier": Fault(
        "papers/early_conv/model.py",
        "self.layers.append(nn.Sequential(convolution, norm(width), activation()))",
        "self.layers.append(nn.Sequential(convolution, activation(), norm(width)))",
        "papers/early_conv/test_model.py::test_the_stem_equals_loops_over_tokens_and_pixels",
    ),
    "the stem keeps its block": Fault(
        "papers/early_conv/model.py",
        '"depth": row["depth"] - 1}',
        '"depth": row["depth"]}',
        "papers/early_conv/test_model.py::test_every_variant_has_exactly_the_parameters_of_torchvision_and_costs_what_"
        "is_recorded",
    ),
    "tokens are read column by column": Fault(
        "papers/early_conv/model.py",
        "b c gy gx -> b (gy gx) c",
        "b c gy gx -> b (gx gy) c",
        "papers/early_conv/test_model.py::test_the_stem_equals_loops_over_tokens_and_pixels",
    ),
    "a layer of patches is padded": Fault(
        "papers/early_conv/model.py",
        "padding = 0 if kernel == stride else kernel // 2",
        "padding = kernel // 2",
        "papers/early_conv/test_model.py::test_of_five_stems_of_table_3_the_reach_is",
    ),
}
