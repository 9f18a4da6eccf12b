"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "a finished text is scored without its length": Fault(
        "papers/decoding/model.py",
        "scores[:, :beams] / length_penalty(length)",
        "scores[:, :beams]",
        "papers/decoding/test_model.py::test_a_beam_that_is_wide_enough_finds_what_exhaustive_search_finds",
    ),
    "the state's rows stay when the beam's texts change": Fault(
        "papers/decoding/model.py",
        "if width != beams or not torch.equal(rows, torch.arange(size * beams, device=device)):",
        "if width != beams:",
        "papers/decoding/test_model.py::test_a_beam_that_is_wide_enough_finds_what_exhaustive_search_finds",
    ),
    "rows of one text are taken for those of another": Fault(
        "papers/decoding/model.py",
        "rows = (offset * width + parents.gather(1, kept)).flatten()",
        "rows = (offset + parents.gather(1, kept)).flatten()",
        "papers/decoding/test_model.py::test_a_batch_is_its_texts_one_by_one_and_rows_move_only_when_they_change",
    ),
    "only K candidates are looked at": Fault(
        "papers/decoding/model.py",
        "together.topk(min(2 * beams, together.shape[1]))",
        "together.topk(min(beams, together.shape[1]))",
        "papers/decoding/test_model.py::test_beams_equal_those_of_transformers",
    ),
    "a small p leaves no token": Fault(
        "papers/decoding/model.py",
        "left_out[..., -1] = False  # the likeliest token always stays",
        "pass",
        "papers/decoding/test_model.py::test_a_seed_repeats_a_sample_and_the_limits_of_sampling_are_greedy",
    ),
    "the nucleus falls short of p": Fault(
        "papers/decoding/model.py",
        "cumsum(-1) <= 1 - p",
        "cumsum(-1) < 1.1 - p",
        "papers/decoding/test_model.py::test_the_nucleus_is_the_smallest_set_that_holds_p",
    ),
}
