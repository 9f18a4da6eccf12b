"""Formulas that stand side by side or in rows, and where they may come one below the other."""

import pytest
from docutils import nodes
from executed.formulas import keep_together, rows


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        (r"Q = X W^Q, \qquad K = X W^K,\quad z", [[r"Q = X W^Q,", r"K = X W^K,\quad z"]]),
        (r"\begin{gathered} a, \qquad b \\ c \end{gathered}", [["a,", "b"], ["c"]]),
        (r"\begin{aligned} a & \qquad b \\ c \end{aligned}", [[r"\begin{aligned} a & \qquad b \\ c \end{aligned}"]]),
        (r"\left( a \qquad b \right) \qquad \text{c \qquad d}", [[r"\left( a \qquad b \right)", r"\text{c \qquad d}"]]),
        (r"\{ a \}, \qquad b \leftarrow c", [[r"\{ a \},", r"b \leftarrow c"]]),
        (r"a^\qquadratic", [[r"a^\qquadratic"]]),
    ],
)
def test_formulas_part_where_they_stand_side_by_side_and_nowhere_else(formula, found):
    assert rows(formula) == found


@pytest.mark.parametrize(
    ("formula", "behind", "kept"),
    [
        ("W_k", ". Then", "W_k."),
        ("W_k", " is", None),
        ("d = 4", "), or", "d = 4),"),
        ("a + b + c = d + e", ".", None),
        (r"\mathrm{softmax}_{\mathrm{keys}}", ",", r"\mathrm{softmax}_{\mathrm{keys}},"),
    ],
)
def test_punctuation_stays_with_a_short_or_indivisible_formula(formula, behind, kept):
    paragraph = nodes.paragraph("", "", nodes.Text("Of "), nodes.math(formula, formula), nodes.Text(behind))
    said = paragraph.astext()
    keep_together(paragraph)
    assert [part.astext() for part in paragraph.findall(nodes.inline)] == ([] if kept is None else [kept])
    assert paragraph.astext() == said
