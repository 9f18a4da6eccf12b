"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the decoder sees what it is to predict": Fault(
        "papers/transformer/model.py",
        "device=target.device).tril()",
        "device=target.device).tril(1)",
        "papers/transformer/test_model.py::test_the_future_of_the_target_changes_nothing_before_it",
    ),
    "padding is looked at": Fault(
        "papers/transformer/model.py",
        "return tokens.ne(self.embedding.padding)[:, None, None]",
        "return tokens.ne(-1)[:, None, None]",
        "papers/transformer/test_model.py::test_padding_and_neighbours_in_the_batch_change_nothing",
    ),
    "pre-norm normalises the stream": Fault(
        "papers/transformer/model.py",
        "return x + self.dropout(sublayer(self.norm(x)))",
        "return self.norm(x) + self.dropout(sublayer(self.norm(x)))",
        "papers/transformer/test_model.py::test_the_encoder_equals_pytorchs_in_outputs_and_gradients",
    ),
    "embeddings are not scaled": Fault(
        "papers/transformer/model.py",
        "x = self.tokens(tokens) * math.sqrt(self.tokens.embedding_dim)",
        "x = self.tokens(tokens)",
        "papers/transformer/test_model.py::test_scaled_embeddings_and_logits_share_one_matrix_of_unit_scale",
    ),
    "the cache forgets what was written": Fault(
        "nn/keys_values.py",
        "    held[..., length:end, :] = new\n",
        "    held[..., : new.shape[-2], :] = new\n",
        "nn/test_keys_values.py::test_tokens_that_come_in_parts_are_those_that_come_at_once",
    ),
    "texts change places and their sources do not": Fault(
        "papers/transformer/model.py",
        "        if torch.equal(texts, self.texts):",
        "        if len(texts) == len(self.texts):",
        "papers/transformer/test_model.py::test_a_reordered_state_goes_on_as_if_it_had_begun_with_those_rows",
    ),
}
