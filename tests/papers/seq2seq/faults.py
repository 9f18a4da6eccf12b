"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "input and forget gate are exchanged": Fault(
        "papers/seq2seq/model.py",
        "i, f, g, o = (F.linear",
        "f, i, g, o = (F.linear",
        "papers/seq2seq/test_model.py::test_our_lstm_equals_pytorchs_in_outputs_and_gradients",
    ),
    "padding moves the state": Fault(
        "papers/seq2seq/model.py",
        "going = (t < lengths)[:, None]",
        "going = (t <= lengths)[:, None]",
        "papers/seq2seq/test_model.py::test_with_lengths_our_lstm_equals_pytorchs_packed_one",
    ),
    "padding is reversed with the text": Fault(
        "papers/seq2seq/model.py",
        "tokens.ne(padding).sum(1, keepdim=True) - 1 - places",
        "tokens.shape[1] - 1 - places",
        "papers/seq2seq/test_model.py::test_reversing_leaves_the_padding_behind",
    ),
    "the decoder forgets its state": Fault(
        "papers/seq2seq/model.py",
        "logits, self.state = self.decoder(tokens[:, None], self.state)",
        "logits, _ = self.decoder(tokens[:, None], self.state)",
        "papers/seq2seq/test_model.py::test_step_by_step_the_logits_are_those_of_teacher_forcing",
    ),
    "the cells stay where they were when texts are reordered": Fault(
        "papers/seq2seq/model.py",
        "self.state = self.state[0][:, rows], self.state[1][:, rows]",
        "self.state = self.state[0][:, rows], self.state[1]",
        "papers/seq2seq/test_model.py::test_reordered_texts_go_on_as_they_would_have",
    ),
    "the start is PyTorch's": Fault(
        "papers/seq2seq/model.py",
        "nn.init.uniform_(parameter, -0.08, 0.08)",
        "pass",
        "papers/seq2seq/test_model.py::test_parameters_are_those_of_the_paper_and_start_as_there",
    ),
}
