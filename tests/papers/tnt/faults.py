"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "words of all patches attend to each other": Fault(
        "papers/tnt/model.py",
        'rearrange(words, "b n m c -> (b n) m c"))\n        return rearrange(changed, "(b n) m c',
        'rearrange(words, "b n m c -> b (n m) c"))\n        return rearrange(changed, "b (n m) c',
        "papers/tnt/test_model.py::test_words_never_depend_on_another_patch_however_many_layers",
    ),
    "words of the last layer are added, not those of this one": Fault(
        "papers/tnt/model.py",
        "        words = self.inner(words)\n        added = self.aggregation(words)\n",
        "        added = self.aggregation(words)\n        words = self.inner(words)\n",
        "papers/tnt/test_model.py::test_a_block_is_its_equations_written_out",
    ),
    "words have no positions": Fault(
        "papers/tnt/model.py",
        "n=math.prod(self.grid)) + self.positions",
        "n=math.prod(self.grid))",
        "papers/tnt/test_model.py::test_permuting_words_changes_the_output_by_their_positions_alone",
    ),
    "the class token gets the words of the first patch": Fault(
        "papers/tnt/model.py",
        "F.pad(added, (0, 0, before, 0))",
        "F.pad(added, (0, 0, 0, before))",
        "papers/tnt/test_model.py::test_a_block_is_its_equations_written_out",
    ),
}
