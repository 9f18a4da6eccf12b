"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the mean runs over the channels": Fault(
        "papers/averaging/model.py",
        "x.mean(1, keepdim=True)",
        "x.mean(2, keepdim=True).expand_as(x)",
        "papers/averaging/test_model.py::test_every_token_gets_the_same",
    )
}
