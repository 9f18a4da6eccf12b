"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the maximum is an average": Fault(
        "papers/cbam/model.py",
        "return x.amax(over, keepdim=True)",
        "return x.mean(over, keepdim=True)",
        "papers/cbam/test_model.py::test_the_maximum_of_one_bright_place_reaches_the_gate_and_its_average_hardly_does",
    ),
    "a map is added to itself": Fault(
        "papers/cbam/model.py",
        "return spatial(x) * x",
        "return spatial(x) * x + x",
        "papers/cbam/test_model.py::test_a_map_is_multiplied_by_its_gate_not_added_to_itself",
    ),
}
