"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "the mask is dropped where a bias is added": Fault(
        "papers/positional_encoding/model.py",
        "attention(q, k, v, mask=joined(self.bias(q, k), mask))",
        "attention(q, k, v, mask=self.bias(q, k))",
        "papers/positional_encoding/test_model.py::test_a_mask_is_obeyed_whatever_the_core",
    ),
    "offsets count from the key to the query": Fault(
        "papers/positional_encoding/model.py",
        "torch.arange(m, device=device) - torch.arange(n, device=device)[:, None]",
        "torch.arange(n, device=device)[:, None] - torch.arange(m, device=device)",
        "papers/positional_encoding/test_model.py::test_offsets_count_from_the_query_to_the_key",
    ),
    "rotary cuts its pairs in one layout and joins them in the other": Fault(
        "papers/positional_encoding/model.py",
        "even, odd = x[..., ::2], x[..., 1::2]",
        "even, odd = x.chunk(2, -1)",
        "papers/positional_encoding/test_model.py::test_rotary_equals_transformers_in_both_layouts",
    ),
    "conditional positions have no border": Fault(
        "papers/positional_encoding/model.py",
        '"circular"] = "zeros"',
        '"circular"] = "circular"',
        "papers/positional_encoding/test_model.py::test_one_row_is_a_convolution_along_the_sequence",
    ),
}
