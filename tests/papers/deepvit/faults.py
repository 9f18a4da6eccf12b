"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "heads are mixed by the transposed matrix": Fault(
        "papers/deepvit/model.py",
        "mix_heads(maps, self.theta.T, self.bias)",
        "mix_heads(maps, self.theta, self.bias)",
        "papers/deepvit/test_model.py::test_two_heads_by_hand",
    ),
    "the norm is left out": Fault(
        "papers/deepvit/model.py",
        "return self.norm(mix_heads(maps, self.theta.T, self.bias)) * self.scale",
        "return mix_heads(maps, self.theta.T, self.bias) * self.scale",
        "papers/deepvit/test_model.py::test_rows_of_new_maps_sum_to_the_norms_bias_in_training",
    ),
    "the first layers have it": Fault(
        "papers/deepvit/model.py",
        "[plain] * (depth - last) + [attention] * last",
        "[attention] * last + [plain] * (depth - last)",
        "papers/deepvit/test_model.py::test_the_last_layers_have_it",
    ),
    "what the perceptron adds is not divided": Fault(
        "papers/deepvit/model.py",
        "self.mlp_scale(self.mlp(self.mlp_norm(z * a))) / a)",
        "self.mlp_scale(self.mlp(self.mlp_norm(z * a))))",
        "papers/deepvit/test_model.py::test_with_a_factor_of_one_half_every_branch_counts_twice",
    ),
}
