"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "light1 of a file is taken for the paper's light1": Fault(
        "papers/augreg/model.py",
        '"light0": "light1", "light1": "light2"',
        '"light0": "light2", "light1": "light1"',
        "papers/augreg/test_model.py::test_the_best_b32_of_figure_4_is_the_one_whose_file_is_recommended",
    ),
    "stochastic depth is left out of what a model is told": Fault(
        "papers/augreg/model.py",
        '{"dropout": self.dropout, "drop_path": self.stochastic_depth}',
        '{"dropout": self.dropout}',
        "papers/augreg/test_model.py::test_a_model_has_the_regularisation_of_its_recipe",
    ),
    "the head's bias has the wrong sign": Fault(
        "papers/augreg/model.py",
        "-math.log(head.out_features)",
        "math.log(head.out_features)",
        "papers/augreg/test_model.py::test_with_its_prior_every_class_has_its_share_and_the_loss_is_small",
    ),
    "the rate does not rise": Fault(
        "papers/augreg/model.py",
        "return rising * (1 + math.cos(math.pi * progress)) / 2",
        "return (1 + math.cos(math.pi * progress)) / 2",
        "papers/augreg/test_model.py::test_the_rate_rises_on_a_line_and_falls_on_a_cosine",
    ),
}
