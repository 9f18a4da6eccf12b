"""Tests of the tests: each seeded fault in the package must fail the test that is about it.

A fault is planted in a copy of the package. The test is named, so that nothing else can pass for a catch; that it
passes on the right code, in the same kind of process, is shown first. The faults of a paper are in
``tests/papers/<key>/faults.py``; here are those of what no paper owns.
"""

import shutil

import pytest

from tests.discovery import of_papers
from tests.planting import ROOT, Fault, outcomes

CORE = {
    "the scores are not divided by the root of the width": Fault(
        "nn/attention.py",
        "transpose(-2, -1) * (q.shape[-1] ** -0.5",
        "transpose(-2, -1) * (1.0",
        "nn/test_attention.py::test_the_scores_are_divided_by_the_root_of_the_width",
    ),
    "a compiler is given the equation however many keys there are": Fault(
        "nn/attention.py",
        " and k.shape[-2] <= 64",
        "",
        "nn/test_attention.py::test_a_compiler_for_a_cpu_is_given_the_equation_where_keys_are_few",
    ),
    "the mask is dropped": Fault(
        "nn/attention.py",
        "attn_mask=mask, scale=scale",
        "scale=scale",
        "nn/test_attention.py::test_a_query_that_may_look_nowhere_gets_nothing",
    ),
    "the softmax runs over the queries": Fault(
        "nn/attention.py",
        "return scores.softmax(-1)",
        "return scores.softmax(-2)",
        "nn/test_attention.py::test_two_keys_by_hand",
    ),
    "heads are cut from the wrong axis": Fault(
        "nn/attention.py",
        '"b n (h d) -> b h n d", h=self.heads)',
        '"b n (d h) -> b h n d", h=self.heads)',
        "nn/test_attention.py::test_heads_equal_those_of_pytorch_in_outputs_and_gradients",
    ),
    "windows are shifted the wrong way": Fault(
        "nn/windows.py",
        "x.roll([-by for by in self.shift], (1, 2))",
        "x.roll(self.shift, (1, 2))",
        "nn/test_windows.py::test_a_shift_brings_the_second_half_of_a_window_to_its_start",
    ),
    "the shift's mask hides nothing": Fault(
        "nn/windows.py",
        "pieces[:, :, None] == pieces[:, None, :]",
        "pieces[:, :, None] * 0 == pieces[:, None, :] * 0",
        "nn/test_windows.py::test_the_mask_lets_tokens_see_only_the_piece_that_they_came_with",
    ),
    "patches are merged row by row": Fault(
        "nn/windows.py",
        "(px py c)",
        "(py px c)",
        "nn/test_windows.py::test_four_neighbours_stand_side_by_side_column_by_column",
    ),
    "a larger window forgets the one it was trained in": Fault(
        "nn/windows.py",
        "/ max(t - 1, 1)",
        "/ max(w - 1, 1)",
        "nn/test_windows.py::test_the_continuous_bias_keeps_its_answers_in_a_larger_window",
    ),
    "chunks are put together in another order": Fault(
        "nn/chunking.py",
        "for chunk in x.split(size)]",
        "for chunk in x.split(size)][::-1]",
        "nn/test_chunking.py::test_in_chunks_the_answers_are_those_of_the_whole_batch",
    ),
    "hooks inside are not asked for": Fault(
        "nn/chunking.py",
        "if name and (module._forward_hooks",
        "if False and (module._forward_hooks",
        "nn/test_chunking.py::test_where_chunks_would_change_numbers_or_be_seen_they_are_refused",
    ),
    "weights stay column by column": Fault(
        "nn/layout.py",
        "weight.data = weight.data.contiguous()",
        "pass",
        "nn/test_layout.py::test_afterwards_every_weight_is_the_same_parameter_with_the_same_numbers_row_by_row",
    ),
    "running statistics move in the second run as well": Fault(
        "nn/checkpointing.py",
        "context_fn=lambda: (nullcontext(), _AsBefore(block))",
        "preserve_rng_state=True",
        "nn/test_checkpointing.py::test_steps_are_the_same_to_the_last_bit_random_numbers_and_running_statistics_too",
    ),
    "the head learns as slowly as the last block": Fault(
        "nn/vision.py",
        "layer + (layer == count and not inside)",
        "layer",
        "nn/test_vision.py::test_each_parameter_has_the_rate_of_its_layer_and_the_decay_of_its_kind_by_hand",
    ),
    "a perceptron works in chunks unasked": Fault(
        "nn/mlp.py",
        "return self.dropout(self.contract(self.dropout(self.activation(self.expand(x)))))",
        "return torch.cat([self.contract(self.activation(self.expand(y))) for y in x.split(500)])",
        "test_contract.py::test_every_module_is_called_as_often_whatever_the_batch_and_gets_all_of_it[vit]",
    ),
    "the checksum of a file is not compared": Fault(
        "weights/hub.py",
        "if wrong := expected - {found}:",
        "if wrong := set[str]():",
        "weights/test_hub.py::test_a_file_that_is_not_the_listed_one_is_refused",
    ),
    "queries and values change places when weights are written": Fault(
        "weights/layouts.py",
        "pieces = parts[0].chunk(len(match.theirs))",
        "pieces = parts[0].chunk(len(match.theirs))[::-1]",
        "weights/test_layouts.py::test_there_and_back_is_the_identity",
    ),
    "the centre is cut from a corner": Fault(
        "images/__init__.py",
        "(round((rows - y) / 2), round((columns - x) / 2))",
        "(0, 0)",
        "images/test_images.py::test_the_middle_is_cut_and_all_of_it_is_squashed",
    ),
}


FAULTS = CORE | {f"{key}: {name}": fault for key, name, fault in of_papers("faults", "FAULTS")}


@pytest.fixture(scope="module")
def on_the_right_code(request) -> dict[str, str]:
    """What becomes of the tests that must catch a fault, and of each of their parameters, without one."""
    given = [getattr(item, "callspec", None) for item in request.session.items if item.module is request.module]
    faults = [spec.params["fault"] for spec in given if spec]
    return outcomes(sorted({fault.caught_by for fault in faults}), ROOT / "src", stop=False)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_seeded_fault_is_caught_by_the_test_that_is_about_it(fault, on_the_right_code, tmp_path):
    before = {test: result for test, result in on_the_right_code.items() if fault.caught_by in test}
    assert "passed" in before.values(), f"{fault.caught_by} does not run"
    assert {*before.values()} <= {"passed", "skipped"}
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    file = tmp_path / "src/attention_notes" / fault.file
    text = file.read_text(encoding="utf-8")
    assert fault.right in text, "the fault no longer fits the code: plant it anew"
    file.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    found = outcomes([fault.caught_by], tmp_path / "src")
    assert "failed" in found.values(), f"{fault.caught_by} passes with {fault.wrong!r} for {fault.right!r}: {found}"


def test_a_test_that_cannot_be_collected_does_not_pass_for_a_catch(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tmp_path / "src/attention_notes/nn/drop_path.py").write_text("import nothing\n", encoding="utf-8")
    found = outcomes(["nn/test_drop_path.py::test_evaluation_drops_nothing"], tmp_path / "src")
    assert {*found.values()} == {"error"}
