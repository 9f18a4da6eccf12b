"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the norm subtracts the mean": Fault(
        "papers/igpt/model.py",
        'cast("Any", RMSNorm(dim))',
        "nn.LayerNorm(dim, bias=False)",
        "papers/igpt/test_model.py::test_one_layer_is_the_papers_equations",
    ),
    "the pixel that is predicted is read": Fault(
        "papers/igpt/model.py",
        "self.start), pixels[:, :-1]], 1)",
        "self.start), pixels[:, 1:]], 1)",
        "papers/igpt/test_model.py::test_later_pixels_change_nothing_before_them",
    ),
    "the non-linearity is Swish": Fault(
        "papers/igpt/model.py",
        "return x * (1.702 * x).sigmoid()",
        "return x * x.sigmoid()",
        "papers/igpt/test_model.py::test_it_equals_transformers_in_outputs_and_gradients",
    ),
    "the map to logits does not start at zero": Fault(
        "papers/igpt/model.py",
        "        nn.init.zeros_(self.output.weight)  # section 3.3\n",
        "",
        "papers/igpt/test_model.py::test_before_training_every_colour_is_equally_likely",
    ),
    "the nearest colour is that of the largest product": Fault(
        "papers/igpt/palette.py",
        "(palette.square().sum(-1) - 2 * pixels",
        "(-2 * pixels",
        "papers/igpt/test_palette.py::test_two_steps_by_hand",
    ),
}
