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
        "papers/transformer/model.py",
        "        self.written = new\n",
        "        self.written = None\n",
        "papers/transformer/test_model.py::test_decoding_with_a_cache_gives_the_logits_of_decoding_without",
    ),
}
