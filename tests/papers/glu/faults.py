"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the non-linearity is on the value": Fault(
        "papers/glu/model.py",
        "self.activation(self.gate(x)) * self.value(x)",
        "self.gate(x) * self.activation(self.value(x))",
        "papers/glu/test_model.py::test_two_hidden_units_by_hand",
    ),
    "the gate is added": Fault(
        "papers/glu/model.py",
        "self.activation(self.gate(x)) * self.value(x)",
        "self.activation(self.gate(x)) + self.value(x)",
        "papers/glu/test_model.py::test_with_one_matrix_for_gate_and_value_glu_is_swish_and_reglu_is_relu_squared",
    ),
    "hidden units are rounded down": Fault(
        "papers/glu/model.py",
        "-(-2 * hidden // (3 * multiple)) * multiple",
        "2 * hidden // (3 * multiple) * multiple",
        "papers/glu/test_model.py::test_two_thirds_are_rounded_up_as_llamas_authors_do",
    ),
    "the start does not know the number of inputs": Fault(
        "papers/glu/model.py",
        "layer.in_features**-0.5",
        "layer.out_features**-0.5",
        "papers/glu/test_model.py::test_networks_start_as_the_authors_code_does",
    ),
}
