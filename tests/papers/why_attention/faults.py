"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "input channels of opposite sign cancel in a receptive field": Fault(
        "papers/why_attention/model.py",
        "gradient.square().sum(channel)",
        "gradient.sum(channel).square()",
        "papers/why_attention/test_model.py::test_the_field_of_an_image_is_the_norm_of_the_jacobian",
    ),
    "a layer's own stride widens its receptive field": Fault(
        "papers/why_attention/model.py",
        "        width += (kernel - 1) * dilation * step\n        step *= stride\n",
        "        step *= stride\n        width += (kernel - 1) * dilation * step\n",
        "papers/why_attention/test_model.py::test_what_the_formula_says_is_what_derivatives_find",
    ),
    "padding forgets the dilation": Fault(
        "papers/why_attention/model.py",
        "padding=kernel // 2 * dilation",
        "padding=kernel // 2",
        "papers/why_attention/test_model.py::test_a_convolution_is_a_sum_over_its_taps",
    ),
    "one dependence is taken for all": Fault(
        "papers/why_attention/model.py",
        "(dependence(stack, x) > 0).all()",
        "(dependence(stack, x) > 0).any()",
        "papers/why_attention/test_model.py::test_a_path_that_does_not_exist_is_not_found",
    ),
}
