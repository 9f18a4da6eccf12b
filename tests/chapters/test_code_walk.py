"""A walk shows the shapes that there were, on the lines that ran, and refuses what has drifted from the code."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor, nn

from attention_notes.chapters.code_walk import Row, Walk, walk
from attention_notes.chapters.code_walk.axes import fit
from attention_notes.nn.attention import MultiHeadAttention, attention, attention_weights
from attention_notes.nn.mlp import MLP
from attention_notes.nn.windows import four_neighbours
from attention_notes.papers.deit import deit
from attention_notes.papers.transformer import Encoder, EncoderLayer, PostNorm
from attention_notes.papers.vit import Block, SelfAttention


def row(found: Walk, code: str) -> Row:
    (only,) = [row for row in found.rows if code in row.code]
    return only


def shapes(found: Walk, code: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (shape.axes, shape.sizes) for shape in row(found, code).shapes for name in shape.names}


class Odd(nn.Module):
    """Statements of every kind."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, x: Tensor, *, other: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Not a statement to be shown."""
        total = x.sum()
        for part in x.unbind():
            grown = torch.cat([part, part])
        widths = [part.shape for part in x]
        while x.shape[1] > 2:
            x = x[:, 1:]
        stacked = torch.stack(
            [
                grown,  # the last
                grown,
            ]
        )
        pair = (x, stacked)
        stacked[0] = 0
        if self.fails:
            stacked = stacked @ x
        if other is not None:
            other = (doubled := other + other) * doubled
        if len(widths) > 100:
            never = x
            return never, []

        def inner(x: Tensor) -> Tensor:
            hidden = x[0]
            return hidden + hidden

        return inner(total[None]), [x, pair[1]]


@pytest.fixture
def odd() -> Walk:
    return walk(Odd(), torch.randn(3, 5), other=torch.randn(7))


def test_the_shapes_are_those_that_forward_hooks_see():
    module, hooked = MultiHeadAttention(12, heads=3), {}
    for name, part in module.named_modules():
        part.register_forward_hook(lambda _, given, out, name=name: hooked.update({name: tuple(out.shape)}))
    into = [MultiHeadAttention.keys_values, MultiHeadAttention.attend, attention]
    found = walk(module, torch.randn(2, 5, 12), torch.randn(2, 7, 12), into=into)
    assert shapes(found, "k, v = self.key(context)") == dict.fromkeys("kv", ("", hooked["key"]))
    assert shapes(found, "return self.output") == {"returns": ("b n c", hooked["output"])}
    assert shapes(found, "return self.attend") == {"returns": ("b n c", hooked[""])}
    assert shapes(found, "q = rearrange")["q"][1] == (2, 3, 5, 4)
    assert shapes(found, "return mixed") == {"returns": ("*b n dv", (2, 3, 5, 4))}


def test_rows_stand_in_the_order_in_which_they_ran():
    found = walk(SelfAttention(6, heads=2), torch.randn(1, 5, 6), into=[attention])
    names = [row.code.partition("(")[0] for row in found.rows]
    inside = ["attention", "mixed = F.scaled_dot_product_attention", "return mixed"]
    assert names == ["SelfAttention.forward", "q, k, v = rearrange", *inside, "return self.output"]
    assert [row.entered for row in found.rows] == [True, False, True, False, False, False]


def test_axes_come_from_annotations_and_from_the_chapter():
    found = walk(SelfAttention(6, heads=2), torch.randn(1, 5, 6), axes={"q k v": "b h n d"})
    assert shapes(found, "SelfAttention.forward") == {"z": ("b n c", (1, 5, 6))}
    assert shapes(found, "q, k, v =") == dict.fromkeys("qkv", ("b h n d", (1, 2, 5, 3)))


def test_an_axis_has_one_size():
    module, x = SelfAttention(6, heads=2), torch.randn(1, 5, 6)
    with pytest.raises(
        ValueError, match=r"SelfAttention.forward: q is 1 x 2 x 5 x 3, but n of 'b n h d' is 2 .* and 5"
    ):
        walk(module, x, axes={"q": "b n h d"})
    with pytest.raises(ValueError, match="'b h n' has 3 axes"):
        walk(module, x, axes={"q": "b h n"})
    with pytest.raises(ValueError, match="axes are said of w, but no tensor has that name"):
        walk(module, x, axes={"q w": "b h n d"})


def test_an_argument_that_is_bound_again_keeps_its_axes_only_where_the_sizes_say_so():
    block = Block(6, heads=2, hidden=8)
    assert shapes(walk(block, torch.randn(1, 5, 6)), "z = self.drop_path")["z"] == ("b n c", (1, 5, 6))
    assert shapes(walk(block, torch.randn(1, 6, 6)), "z = self.drop_path")["z"] == ("", (1, 6, 6))
    padded = walk(four_neighbours, torch.randn(1, 5, 3, 2))
    assert shapes(padded, "x = F.pad")["x"] == ("", (1, 6, 4, 2))
    assert shapes(padded, "return")["returns"] == ("b (gy+1)//2 (gx+1)//2 4*c", (1, 3, 2, 8))


def test_of_several_annotations_the_one_that_fits_is_taken():
    model = deit("Ti/16 distilled", depth=1, image_size=32, num_classes=5)
    model.separate = True
    for training, axes, sizes in ((True, "b 2 k", (3, 2, 5)), (False, "b k", (3, 5))):
        found = walk(model.train(training), torch.randn(3, 3, 32, 32))
        assert shapes(found, "return logits")["returns"] == (axes, sizes)


def test_stars_numbers_and_sums_are_axes():
    assert fit("*b n 2*n", (2, 3, 5, 10), {}) == {"*b": (2, 3), "n": 5}
    assert fit("... n", (5,), {"n": 5}) == {"n": 5}
    assert fit("", (), {}) == {}
    for axes, shape in (("2 n", (3, 5)), ("n n+1", (5, 5)), ("*b n m", (5,)), ("n n", (5, 3))):
        with pytest.raises(ValueError, match=r"axes|elsewhere"):
            fit(axes, shape, {})


def test_an_equation_stands_by_the_line_that_has_its_piece_of_code():
    found = walk(attention_weights, torch.randn(3, 4), torch.randn(5, 4), equations={"scores = q": "S = Q K^T"})
    assert {row.code[:8]: row.equations for row in found.rows if row.equations} == {"scores =": ("S = Q K^T",)}


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        ("scores = k", "belongs to the line with 'scores = k', but attention_weights has that in no line"),
        ("softmax", r"has that in 2 lines: return scores\.softmax.*; return \(scores"),
        ("bias = mask", "belongs to .*, which these inputs do not reach"),
    ],
)
def test_an_equation_that_has_drifted_from_the_code_is_refused(piece, says):
    q = torch.randn(3, 4)
    with pytest.raises(ValueError, match="S = Q K.*" + says):
        walk(attention_weights, q, q, equations={piece: "S = Q K"})


def test_a_function_that_is_not_called_is_refused():
    with pytest.raises(ValueError, match="attention_weights was not called"):
        walk(SelfAttention(6, heads=2), torch.randn(1, 5, 6), into=[attention_weights])


def test_what_is_not_written_in_python_is_refused():
    with pytest.raises(ValueError, match="relu is not written in Python"):
        walk(torch.relu, torch.randn(3))
    with pytest.raises(ValueError, match="no source of <lambda>"):
        walk(lambda x: x, torch.randn(3))


def test_a_line_of_a_loop_is_one_row_with_every_shape_that_it_had(odd):
    grown, shrunk = row(odd, "grown ="), row(odd, "x = x[:, 1:]")
    assert (grown.times, [s.sizes for s in grown.shapes]) == (3, [(10,)])
    assert (shrunk.times, [s.sizes for s in shrunk.shapes]) == (3, [(3, 4), (3, 3), (3, 2)])
    assert "(3 times)" in repr(odd)


def test_a_statement_of_several_lines_is_one_row_without_its_comments(odd):
    assert row(odd, "stacked = torch").code == "stacked = torch.stack([grown, grown,])"
    assert shapes(odd, "stacked = torch") == {"stacked": ("", (2, 10))}


def test_tuples_elements_and_walruses_are_seen_and_what_is_no_tensor_is_not(odd):
    assert shapes(odd, "pair =") == {"pair[0]": ("", (3, 2)), "pair[1]": ("", (2, 10))}
    assert shapes(odd, "stacked[0] = 0") == {"stacked": ("", (2, 10))}
    assert shapes(odd, "doubled := other") == dict.fromkeys(("other", "doubled"), ("", (7,)))
    assert shapes(odd, "total = x.sum()") == {"total": ("", ())}
    assert shapes(odd, "return inner") == {
        "returns[0]": ("", ()),
        "returns[1][0]": ("", (3, 2)),
        "returns[1][1]": ("", (2, 10)),
    }
    code = " ".join(row.code for row in odd.rows)
    assert "widths" not in code
    assert "hidden" not in code
    assert "never" not in code
    assert "Not a statement" not in code


def test_a_module_is_called_as_it_would_be(odd):
    """With its keyword arguments, and with its hooks."""
    module, heard = Odd(), []
    module.register_forward_hook(lambda *_: heard.append("heard"))
    assert shapes(odd, "Odd.forward") == {"x": ("", (3, 5)), "other": ("", (7,))}
    found = walk(module, x=torch.randn(3, 5))
    assert row(found, "Odd.forward").code == "Odd.forward(x)"
    assert heard == ["heard"]


def test_only_the_first_call_of_the_function_itself_is_followed():
    nested = nn.Sequential(nn.Sequential(nn.Linear(4, 5)))
    found = walk(nested, torch.randn(2, 4))
    assert [row.times for row in found.rows] == [1] * len(found.rows)
    found = walk(nested, torch.randn(2, 4), into=[nn.Linear])
    assert shapes(found, "return F.linear") == {"returns": ("", (2, 5))}


def test_what_runs_in_every_layer_is_counted():
    encoder = Encoder(6, layers=4, heads=2, hidden=8, dropout=0.0, residual=PostNorm)
    found = walk(encoder, torch.randn(1, 5, 6), into=[EncoderLayer, PostNorm, MLP])
    assert row(found, "EncoderLayer.forward(x)").times == 4
    assert row(found, "return self.norm(x + self.dropout").times == 8
    assert row(found, "MLP.forward(x)").times == 4


def tracer(*_: object) -> None:
    return None


@pytest.mark.parametrize("fails", [False, True])
def test_the_previous_trace_is_put_back_also_when_the_module_raises(fails):
    before = sys.gettrace()
    expected = pytest.raises(RuntimeError, match="shapes") if fails else nullcontext()
    sys.settrace(tracer)
    try:
        with expected:
            walk(Odd(fails), torch.randn(3, 5))
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is tracer


def test_a_statement_that_raised_is_not_shown():
    def recovers(x: Tensor) -> Tensor:
        y = x
        try:
            y = x @ x
        except RuntimeError:
            y = x.T
        return y

    found = walk(recovers, torch.randn(3, 5))
    assert [row.code for row in found.rows] == ["recovers(x)", "y = x", "y = x.T", "return y"]


def test_coverage_measures_on_after_a_walk(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import torch\nfrom attention_notes.nn.attention import attention_weights\n"
        "from attention_notes.chapters.code_walk import walk\n"
        "def after():\n    return 'measured'\n"
        "found = walk(attention_weights, torch.randn(3, 4), torch.randn(5, 4))\n"
        "print(len(found.rows), after())\n",
        encoding="utf-8",
    )
    coverage = [sys.executable, "-m", "coverage"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    run = subprocess.run([*coverage, "run", "--include=program.py", "program.py"], **options)
    report = subprocess.run([*coverage, "report", "--show-missing"], **options).stdout
    assert run.stdout.split() == ["3", "measured"]
    assert "100%" in report, report


def test_a_function_of_a_notebooks_cell_can_be_walked():
    shell = InteractiveShell()
    cell = "def double(x):\n    y = x + x\n    return y\n\nfound = walk(double, torch.randn(3, 5))\nfound"
    shell.push({"walk": walk, "torch": torch})
    assert shell.run_cell(cell).success
    assert [row.code for row in shell.user_ns["found"].rows] == ["double(x)", "y = x + x", "return y"]


def test_the_table_is_markdown_with_formulas_and_escaped_bars():
    def either(a: Tensor, b: Tensor) -> Tensor:
        return a | b

    one = torch.ones(2, dtype=torch.bool)
    found = walk(either, one, one, equations={"a | b": r"\|a\| |b|"})
    shown = found._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/markdown"}
    head, _, entered, line = [text for text in shown["text/markdown"].splitlines() if text.startswith("|")]
    assert head == "| equation | code | shape |"
    assert entered == "|  | **`either(a, b)`** | `a`, `b`: 2 |"
    assert line == r"| $\Vert{}a\Vert{} \vert{}b\vert{}$ | `return a \| b` | returns: 2 |"
    assert shown["text/markdown"].startswith('<div class="walk">\n\n|')
    assert "0x" not in shown["text/plain"]
