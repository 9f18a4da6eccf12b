"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the Gaussian of local-p is as wide as the window": Fault(
        "papers/luong/model.py",
        "(2 * (self.reach / 2) ** 2)",
        "(2 * self.reach**2)",
        "papers/luong/test_model.py::test_local_p_equals_equations_9_and_10_written_as_loops",
    ),
    "the attentional state is not fed": Fault(
        "papers/luong/model.py",
        "torch.cat([x, self.fed], -1)",
        "torch.cat([x, 0 * self.fed], -1)",
        "papers/luong/test_model.py::test_the_whole_model_equals_an_lstm_and_equations_5_to_7_written_out",
    ),
    "padding moves the encoder": Fault(
        "papers/luong/model.py",
        "(torch.where(real, new[0], old[0]), torch.where(real, new[1], old[1]))",
        "new",
        "papers/luong/test_model.py::test_padding_of_the_source_changes_nothing",
    ),
}
