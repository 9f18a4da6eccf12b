"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "heads are mixed by the transposed matrix": Fault(
        "nn/mixing.py",
        '"bxgh,bhnm->bgnm"',
        '"bxhg,bhnm->bgnm"',
        "papers/cait/test_model.py::test_heads_are_mixed_as_the_sums_say",
    ),
    "the class-attention layers let the class token see itself alone": Fault(
        "papers/cait/model.py",
        "return super().forward(z[:, :1], z)",
        "return super().forward(z[:, :1], z[:, :1])",
        "papers/cait/test_model.py::test_class_attention_is_its_equations_written_out",
    ),
    "LayerScale starts at one": Fault(
        "papers/cait/model.py",
        '"layer_scale": start,',
        '"layer_scale": 1.0,',
        "papers/cait/test_model.py::test_the_weights_start_as_the_authors_code_starts_them",
    ),
    "stochastic depth grows with depth": Fault(
        "papers/cait/model.py",
        'return block(dim, **(told | {"drop_path": drop_path}))',
        "return block(dim, **told)",
        "papers/cait/test_model.py::test_stochastic_depth_is_the_same_in_every_patch_layer_and_in_no_other",
    ),
}
