"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

_TEST = "papers/bert/test_model.py::test_"
FAULTS = {
    "padding is looked at": Fault(
        "papers/bert/model.py",
        "tokens.ne(self.padding)[:, None, None]",
        "tokens.ne(-1)[:, None, None]",
        f"{_TEST}a_later_token_changes_an_earlier_output_and_padding_changes_nothing",
    ),
    "nine of ten selected tokens are masked": Fault(
        "papers/bert/model.py",
        "draw[1] < 0.8",
        "draw[1] < 0.9",
        f"{_TEST}of_the_selected_tokens_80_percent_are_masked_10_random_10_kept",
    ),
    "the pooler reads the last token": Fault(
        "papers/bert/model.py",
        "self.pooler(z[:, 0])",
        "self.pooler(z[:, -1])",
        f"{_TEST}pooled_and_all_tokens_equal_those_of_bert_model",
    ),
    "a control that Python takes for a space parts two words": Fault(
        "papers/bert/tokens.py",
        'if c in "\\t\\n\\r" or kind == "Zs":',
        "if c.isspace():",
        "papers/bert/test_tokens.py::test_pieces_are_those_of_transformers",
    ),
    "a vocabulary is cut at every end of line that Python knows": Fault(
        "papers/bert/tokens.py",
        'removesuffix("\\n").split("\\n")',
        "splitlines()",
        "papers/bert/test_tokens.py::test_a_piece_of_the_vocabulary_can_be_an_end_of_line_to_python",
    ),
    "gamma and beta are exchanged": Fault(
        "papers/bert/weights.py",
        '(f"{ours}.weight", f"{theirs}.gamma"), (f"{ours}.bias", f"{theirs}.beta")',
        '(f"{ours}.weight", f"{theirs}.beta"), (f"{ours}.bias", f"{theirs}.gamma")',
        "papers/bert/test_weights.py::test_the_encoder_is_taken_out_of_a_file_with_the_heads_of_pre_training",
    ),
}
