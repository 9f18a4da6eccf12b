"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FILE, TESTS = "papers/show_attend_tell/model.py", "papers/show_attend_tell/test_model.py"
FAULTS = {
    "the doubly stochastic term sums over places first": Fault(
        FILE,
        "(weights * present[..., None]).sum(1))",
        "(weights * present[..., None]).sum(2))",
        f"{TESTS}::test_the_doubly_stochastic_term_is_zero_where_every_place_gets_one_in_all",
    ),
    "the reward carries a gradient": Fault(
        FILE,
        "likelihood.detach() - baseline",
        "likelihood - baseline",
        f"{TESTS}::test_the_mean_of_the_estimator_over_all_choices_is_the_exact_gradient_of_the_bound",
    ),
    "the gate is left out": Fault(
        FILE,
        "context = self.gate(h).sigmoid() * context",
        "context = context * 1",
        f"{TESTS}::test_outputs_and_gradients_equal_the_equations_written_as_loops",
    ),
    "a caption that is reordered keeps its old memory": Fault(
        FILE,
        "self.h, self.c = self.h[rows], self.c[rows]",
        "self.h = self.h[rows]",
        f"{TESTS}::test_captions_can_be_reordered_part_of_the_way",
    ),
}
