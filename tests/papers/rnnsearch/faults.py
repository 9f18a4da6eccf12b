"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the reset gate acts after the matrix": Fault(
        "papers/rnnsearch/model.py",
        "self.candidate(reset * state)",
        "reset * self.candidate(state)",
        "papers/rnnsearch/test_model.py::test_the_gated_unit_equals_its_equations_written_as_loops",
    ),
    "the update gate is the share of the old state": Fault(
        "papers/rnnsearch/model.py",
        "return (1 - update) * state + update * (x + reset * s).tanh()",
        "return update * state + (1 - update) * (x + reset * s).tanh()",
        "papers/rnnsearch/test_model.py::test_the_encoder_equals_pytorchs_on_packed_texts_in_outputs_and_gradients",
    ),
    "padding is read": Fault(
        "papers/rnnsearch/model.py",
        "return tokens.ne(self.padding)",
        "return tokens.ne(-1)",
        "papers/rnnsearch/test_model.py::test_padding_and_neighbours_in_the_batch_change_nothing",
    ),
    "the score has no bend": Fault(
        "papers/rnnsearch/model.py",
        "keys[:, None]).tanh())",
        "keys[:, None]))",
        "papers/rnnsearch/test_model.py::test_the_attention_equals_its_equations_written_as_loops",
    ),
    "the state before the token is not kept": Fault(
        "papers/rnnsearch/model.py",
        "return self.readout(torch.stack(states[:-1], 1)",
        "return self.readout(torch.stack(states[1:], 1)",
        "papers/rnnsearch/test_model.py::test_writing_step_by_step_gives_the_logits_of_teacher_forcing",
    ),
    "beams keep their old states": Fault(
        "papers/rnnsearch/model.py",
        "for x in (self.present, self.annotations, self.keys, self.state)",
        "for rows, x in [(slice(None), y) for y in (self.present, self.annotations, self.keys, self.state)]",
        "papers/rnnsearch/test_model.py::test_texts_can_be_reordered_and_repeated_while_they_are_written",
    ),
    "the decoder starts from the forward state": Fault(
        "papers/rnnsearch/model.py",
        "annotations[:, 0].chunk(2, -1)[1]",
        "annotations[:, 0].chunk(2, -1)[0]",
        "papers/rnnsearch/test_model.py::test_the_decoder_starts_from_the_backward_state_of_the_first_token",
    ),
    "the score is of the state after the token": Fault(
        "papers/rnnsearch/model.py",
        "contexts.append(self.attention(states[-1][:, None], keys, annotations, present)[:, 0])",
        "contexts.append(self.attention((states[-1] + word[:, :1])[:, None], keys, annotations, present)[:, 0])",
        "papers/rnnsearch/test_model.py::test_the_score_of_a_token_does_not_depend_on_the_token_before_it",
    ),
    "one direction": Fault(
        "papers/rnnsearch/model.py",
        "self.backwards = Recurrent(embedding, dim=dim, unit=unit, backwards=True)",
        "self.backwards = Recurrent(embedding, dim=dim, unit=unit)",
        "papers/rnnsearch/test_model.py::test_an_annotation_holds_what_stands_before_and_after_it",
    ),
}
