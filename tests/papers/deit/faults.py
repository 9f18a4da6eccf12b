"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "a distilled model forgets its second head": Fault(
        "papers/deit/model.py",
        "logits if self.training and self.separate else logits.mean(dim=1)",
        "logits if self.training and self.separate else logits[:, 0]",
        "papers/deit/test_model.py::test_the_two_answers_stay_apart_only_in_training_and_only_where_that_is_asked_for",
    ),
    "the temperature is not made up for": Fault(
        "papers/deit/model.py",
        "weight * tau**2 * divergence",
        "weight * divergence",
        "papers/deit/test_model.py::test_soft_distillation_is_equation_2_written_out",
    ),
    "the teacher judges the class head": Fault(
        "papers/deit/model.py",
        "own, taught = student.unbind(1)",
        "taught, own = student.unbind(1)",
        "papers/deit/test_model.py::test_labels_judge_the_first_output_and_the_teacher_the_second",
    ),
    "labels of CutMix ignore what the border cut off": Fault(
        "papers/deit/model.py",
        "kept = 1 - mixed[0, 0, rows, columns].numel() / mixed[0, 0].numel()",
        "kept = share",
        "papers/deit/test_model.py::test_targets_of_cutmix_say_what_share_of_the_pixels_is_whose",
    ),
}
