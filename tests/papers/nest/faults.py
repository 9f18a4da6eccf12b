"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

_CONVOLVED = (
    '        y = rearrange(self.convolution(rearrange(x, "b gy gx c -> b c gy gx")), "b w gy gx -> b gy gx w")\n'
    '        pooled = self.pool(rearrange(self.norm(y), "b gy gx w -> b w gy gx"))\n'
)
_POOLED = '        return rearrange(pooled, "b w gy gx -> b gy gx w")\n'

FAULTS = {
    "blocks stay apart while they are aggregated": Fault(
        "papers/nest/model.py",
        f"{_CONVOLVED}{_POOLED}",
        f'        x = rearrange(x, "b (p gy) gx c -> (b p) gy gx c", p=2)\n{_CONVOLVED}'
        '        return rearrange(pooled, "(b p) w gy gx -> b (p gy) gx w", p=2)\n',
        "papers/nest/test_model.py::test_before_aggregation_nothing_crosses_a_border_and_after_it_does",
    ),
    "the pooling pads on both sides": Fault(
        "papers/nest/model.py",
        "max_pool = partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True)",
        "max_pool = partial(nn.MaxPool2d, 3, stride=2, padding=1)",
        "papers/nest/test_model.py::test_pooling_by_hand",
    ),
    "the largest is kept before the norm": Fault(
        "papers/nest/model.py",
        'pooled = self.pool(rearrange(self.norm(y), "b gy gx w -> b w gy gx"))\n'
        '        return rearrange(pooled, "b w gy gx -> b gy gx w")',
        'pooled = self.pool(rearrange(y, "b gy gx w -> b w gy gx"))\n'
        '        return self.norm(rearrange(pooled, "b w gy gx -> b gy gx w"))',
        "papers/nest/test_model.py::test_aggregation_is_its_literal_equation",
    ),
    "tokens of all blocks attend to each other": Fault(
        "papers/nest/model.py",
        'mixed = self.attend(rearrange(z, "b t n c -> (b t) n c"))\n'
        '        return rearrange(mixed, "(b t) n c -> b t n c", t=z.shape[1])',
        'mixed = self.attend(rearrange(z, "b t n c -> b (t n) c"))\n'
        '        return rearrange(mixed, "b (t n) c -> b t n c", t=z.shape[1])',
        "papers/nest/test_model.py::test_local_attention_is_its_literal_equations_in_each_block",
    ),
    "positions come after the layers": Fault(
        "papers/nest/model.py",
        "return self.join(self.blocks(self.cut(self.aggregation(x)) + self.positions))",
        "return self.join(self.blocks(self.cut(self.aggregation(x))) + self.positions)",
        "papers/nest/test_model.py::test_one_level_is_a_vit_with_the_mean_of_its_tokens",
    ),
}
