"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the perceptron of a parallel block reads what the attention has changed": Fault(
        "papers/scaling_vit/model.py",
        "self.mlp(normal)))",
        "self.mlp(self.attention_norm(z + mixed))))",
        "papers/scaling_vit/test_model.py::test_a_parallel_block_is_its_equation_written_out",
    ),
    "the keys are not normalised": Fault(
        "papers/scaling_vit/model.py",
        "q, k = self.query_norm(q), self.key_norm(k)",
        "q, k = self.query_norm(q), k",
        "papers/scaling_vit/test_model.py::test_no_score_is_beyond_the_bound_whatever_the_tokens_and_the_maps",
    ),
    "the perceptron of the pooling has no norm before it": Fault(
        "papers/scaling_vit/model.py",
        "return (u + self.mlp(self.mlp_norm(u)))[:, 0]",
        "return (u + self.mlp(u))[:, 0]",
        "papers/scaling_vit/test_model.py::test_the_pooling_is_its_equations_written_out",
    ),
    "positions start as those of a ViT": Fault(
        "papers/scaling_vit/model.py",
        "nn.init.normal_(self.positions, std=patches.dim**-0.5)",
        "nn.init.normal_(self.positions, std=0.02)",
        "papers/scaling_vit/test_model.py::test_the_weights_start_as_in_the_authors_code",
    ),
}
