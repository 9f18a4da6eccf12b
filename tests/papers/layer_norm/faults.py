"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "layer norm averages over the tokens": Fault(
        "papers/layer_norm/model.py",
        "centred = x - x.mean(-1, keepdim=True)",
        "centred = x - x.mean(-2, keepdim=True)",
        "papers/layer_norm/test_model.py::test_by_hand",
    ),
    "batch norm keeps the biased variance": Fault(
        "papers/layer_norm/model.py",
        "unbiased = var.detach() * len(tokens) / (len(tokens) - 1)",
        "unbiased = var.detach()",
        "papers/layer_norm/test_model.py::test_batch_norm_equals_pytorchs_in_training_and_in_evaluation",
    ),
    "PowerNorm divides by a statistic that has seen the batch": Fault(
        "papers/layer_norm/model.py",
        "torch.where(exact, square, self.running_square)",
        "torch.where(exact, square, self.running_square.lerp(square, 1 - self.alpha_forward))",
        "papers/layer_norm/test_model.py::test_what_an_output_depends_on",
    ),
    "PowerNorm forgets Gamma": Fault(
        "papers/layer_norm/model.py",
        "nu.mul_(1 - (1 - ctx.alpha) * gamma)",
        "nu.mul_(ctx.alpha)",
        "papers/layer_norm/test_model.py::test_power_norm_is_the_papers_algorithm_over_several_steps",
    ),
}
