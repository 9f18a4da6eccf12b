"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "noise is pulled as the neighbour is": Fault(
        "papers/word2vec/model.py",
        "F.logsigmoid(-scores[:, 1:])",
        "F.logsigmoid(scores[:, 1:])",
        "papers/word2vec/test_model.py::test_one_step_by_hand",
    ),
    "the bag counts places where no neighbour stands": Fault(
        "papers/word2vec/model.py",
        "rows.sum(1) / there.sum(1, keepdim=True).clamp(min=1)",
        "rows.mean(1)",
        "papers/word2vec/test_model.py::test_the_bag_is_the_mean_of_those_that_are_there",
    ),
    "noise is drawn by frequency": Fault(
        "papers/word2vec/model.py",
        "raised = counts.double() ** power",
        "raised = counts.double()",
        "papers/word2vec/test_model.py::test_noise_evens_frequencies_out",
    ),
    "the optimum forgets how much noise there is": Fault(
        "papers/word2vec/model.py",
        "(negatives * chance)",
        "chance",
        "papers/word2vec/test_model.py::test_at_the_optimum_no_score_has_a_gradient",
    ),
    "a word is its own neighbour": Fault(
        "papers/word2vec/model.py",
        "around.append(padded[i : i + reach] + padded[i + reach + 1 : i + 2 * reach + 1])",
        "around.append(padded[i : i + reach] + padded[i + reach : i + 2 * reach])",
        "papers/word2vec/test_model.py::test_windows_by_hand",
    ),
}
