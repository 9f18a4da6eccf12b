"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "windows are drawn from the far side of the map": Fault(
        "papers/twins/model.py",
        "F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x",
        "F.pad(x, (0, 0, right, 0, down, 0)) if down or right else x",
        "papers/twins/test_model.py::test_twins_equal_timm_in_outputs_and_gradients",
    ),
    "global attention comes before local": Fault(
        "papers/twins/model.py",
        '"attentions": ((lsa, gsa),) * 4',
        '"attentions": ((gsa, lsa),) * 4',
        "papers/twins/test_model.py::test_blocks_attend_locally_and_globally_in_turn",
    ),
    "positions come before the first block": Fault(
        "papers/twins/model.py",
        "return self.positions(super().forward(z))",
        "return super().forward(self.positions(z))",
        "papers/twins/test_model.py::test_the_code_of_positions_comes_after_the_first_block_of_each_stage_and_nowhere_else",
    ),
    "the mean is normalised, not its tokens": Fault(
        "papers/twins/model.py",
        "return super().forward(self.norm(z))",
        "return self.norm(super().forward(z))",
        "papers/twins/test_model.py::test_twins_equal_timm_in_outputs_and_gradients",
    ),
}
