"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "zeros stand on both sides": Fault(
        "papers/wavenet/model.py",
        "F.pad(x.transpose(1, 2), (self.reach, 0))",
        "F.pad(x.transpose(1, 2), (self.reach - self.reach // 2, self.reach // 2))",
        "papers/wavenet/test_model.py::test_what_comes_later_changes_nothing_before",
    ),
    "the queue is read without its dilation": Fault(
        "papers/wavenet/model.py",
        "islice(queue, 0, None, self.dilation[0])",
        "islice(queue, 0, self.kernel_size[0] - 1)",
        "papers/wavenet/test_model.py::test_a_convolution_step_by_step_is_the_whole",
    ),
    "filter and gate change places": Fault(
        "papers/wavenet/model.py",
        "f, g = mixed.chunk(2, -1)",
        "g, f = mixed.chunk(2, -1)",
        "papers/wavenet/test_model.py::test_outputs_and_gradients_equal_the_equations_written_as_loops",
    ),
    "the first convolution has no queue": Fault(
        "papers/wavenet/model.py",
        "self.first.step(self._one_hot(tokens), queues[0])",
        "self.first(self._one_hot(tokens))",
        "papers/wavenet/test_model.py::test_token_by_token_with_a_cache_the_network_gives_what_it_gives_at_once",
    ),
}
