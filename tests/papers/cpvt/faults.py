"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "positions take the place of the tokens": Fault(
        "papers/cpvt/model.py",
        'return x + rearrange(codes, "b c gy gx -> b gy gx c")',
        'return rearrange(codes, "b c gy gx -> b gy gx c")',
        "papers/cpvt/test_model.py::test_the_code_of_a_place_by_hand",
    ),
    "rows and columns of the patches are exchanged": Fault(
        "papers/cpvt/model.py",
        "self.positions(z[:, extra:].unflatten(1, grid))",
        "self.positions(z[:, extra:].unflatten(1, grid[::-1]))",
        "papers/cpvt/test_model.py::test_outputs_and_gradients_equal_those_of_timm",
    ),
    "generators follow the other layers": Fault(
        "papers/cpvt/model.py",
        "if next(layers) in after else",
        "if next(layers) not in after else",
        "papers/cpvt/test_model.py::test_a_generator_follows_the_layers_that_are_named_and_the_class_token_passes_it",
    ),
    "a generator starts as PyTorch starts a convolution": Fault(
        "papers/cpvt/model.py",
        "    if isinstance(layer, nn.Conv2d):\n",
        "    if isinstance(layer, nn.Conv1d):\n",
        "papers/cpvt/test_model.py::test_the_weights_start_as_the_authors_code_starts_them",
    ),
}
