"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the queries are not whitened": Fault(
        "papers/dnl/model.py",
        "return _attend(whitened(self.query(x)), whitened(self.key(x)), v, self.scale)",
        "return _attend(self.query(x), whitened(self.key(x)), v, self.scale)",
        "papers/dnl/test_model.py::test_outputs_and_gradients_equal_loops_over_positions",
    ),
    "whitening takes the mean over features": Fault(
        "papers/dnl/model.py",
        "return x - x.mean(dim=-2, keepdim=True)",
        "return x - x.mean(dim=-1, keepdim=True)",
        "papers/dnl/test_model.py::test_two_positions_by_hand",
    ),
    "gamma scales both halves": Fault(
        "papers/dnl/model.py",
        "return self.gamma * self.pairwise(x, v) + self.unary(x, v)",
        "return self.gamma * (self.pairwise(x, v) + self.unary(x, v))",
        "papers/dnl/test_model.py::test_a_new_block_starts_without_its_pairwise_half_but_not_without_its_unary_half",
    ),
    "the block forgets what it got": Fault(
        "papers/dnl/model.py",
        "return x + y.transpose(1, 2).unflatten(2, x.shape[2:])",
        "return y.transpose(1, 2).unflatten(2, x.shape[2:])",
        "papers/dnl/test_model.py::test_outputs_and_gradients_equal_loops_over_positions",
    ),
}
