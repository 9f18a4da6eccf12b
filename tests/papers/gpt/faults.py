"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "a token sees the one that it predicts": Fault(
        "papers/gpt/model.py",
        "device=tokens.device).tril(before)",
        "device=tokens.device).tril(before + 1)",
        "papers/gpt/test_model.py::test_later_tokens_change_nothing_before_them",
    ),
    "with a cache the positions begin anew": Fault(
        "papers/gpt/model.py",
        "self.positions.weight[before:total]",
        "self.positions.weight[: total - before]",
        "papers/gpt/test_model.py::test_with_a_cache_the_logits_are_those_without",
    ),
    "the newest token attends to itself alone": Fault(
        "papers/gpt/model.py",
        "*(new if cache is None else cache.extend(*new))",
        "*(new if cache is None or x.shape[1] == 1 else cache.extend(*new))",
        "papers/gpt/test_model.py::test_with_a_cache_the_logits_are_those_without",
    ),
    "reordering leaves the cache alone": Fault(
        "papers/gpt/model.py",
        "            cache.reorder(rows)\n",
        "            cache.reorder(rows.sort().values)\n",
        "papers/gpt/test_model.py::test_texts_can_be_reordered_and_repeated",
    ),
    "exact GELU": Fault(
        "papers/gpt/model.py",
        'activation=partial(nn.GELU, approximate="tanh")',
        "activation=nn.GELU",
        "papers/gpt/test_model.py::test_both_equal_transformers_in_outputs_and_gradients",
    ),
    "branches start as large as everything": Fault(
        "papers/gpt/model.py",
        "std=0.02 * factor",
        "std=0.02",
        "papers/gpt/test_model.py::test_first_weights_have_the_spreads_of_transformers",
    ),
    "maps are not transposed": Fault(
        "papers/gpt/weights.py",
        'MAP = "i o -> o i"',
        'MAP = "o i -> o i"',
        "papers/gpt/test_weights.py::test_weights_of_transformers_load_and_travel_back_bit_for_bit",
    ),
}
