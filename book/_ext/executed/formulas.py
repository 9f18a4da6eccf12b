"""Render the formulas when the book is built, with KaTeX, so that a page needs no script to show them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number

KATEX = Path(__file__).with_name("katex.min.js")  # release 0.16.22, as are its style and fonts in _static/katex


@cache
def render(formula: str, display: bool) -> str:
    """The formula as HTML, with MathML for those who listen.

    Raises:
        ExtensionError: if KaTeX cannot read the formula.
    """
    try:
        return str(_engine().call("katex.renderToString", formula, {"displayMode": display, "strict": "ignore"}))
    except JSEvalException as error:
        raise ExtensionError(f"KaTeX cannot read the formula {formula!r}: {error}") from error


def rows(formula: str) -> list[list[str]]:
    """The rows of a ``gathered`` formula, and in each what stands side by side with a ``\\qquad`` between.

    On a narrow screen one comes below the other. What is inside of braces, of another environment or of delimiters that
    grow divides nothing.
    """
    gathered = re.fullmatch(r"\\begin\{gathered\}(.*)\\end\{gathered\}", formula, re.DOTALL)
    lines = _divided(gathered[1], "\\\\") if gathered else [formula]
    return [_divided(line, "\\qquad") for line in lines]


def _divided(formula: str, mark: str) -> list[str]:
    """The parts between the marks that are at the formula's own level."""
    found, depth, start = [], 0, 0
    for token in re.finditer(r"\\(?:begin|left|end|right|qquad)(?![A-Za-z])|\\.|[{}]", formula, re.DOTALL):
        if token[0] in ("{", "\\begin", "\\left"):
            depth += 1
        elif token[0] in ("}", "\\end", "\\right"):
            depth -= 1
        elif token[0] == mark and depth == 0:
            found.append(formula[start : token.start()])
            start = token.end()
    return [part for part in map(str.strip, [*found, formula[start:]]) if part]


def keep_together(document: nodes.Element) -> None:
    """Let no line end between a short formula, or one that cannot be divided, and the punctuation behind it."""
    for math in [*document.findall(nodes.math)]:
        behind = math.next_node(descend=False, siblings=True)
        mark = re.match(r"[.,;:!?)]+", behind.astext()) if isinstance(behind, nodes.Text) else None
        short = len(math.astext()) <= 12 or render(math.astext(), display=False).count('class="base"') == 1
        if mark and short:
            behind.parent.replace(behind, nodes.Text(behind.astext()[mark.end() :]))
            math.replace_self(nodes.inline("", "", math.deepcopy(), nodes.Text(mark[0]), classes=["kept"]))


def setup(app: Sphinx) -> None:
    """Make this the way to write math in HTML."""
    app.add_html_math_renderer("katex", (_visit_inline, None), (_visit_block, None))
    app.connect("doctree-resolved", lambda _, document, __: keep_together(document))
    app.add_css_file("katex/katex.min.css")


@cache
def _engine() -> MiniRacer:
    engine = MiniRacer()
    engine.eval(KATEX.read_text(encoding="utf-8"))
    return engine


def _visit_inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(writer.starttag(node, "span", "", CLASS="math"))
    writer.body.append(f"{render(node.astext(), display=False)}</span>")
    raise nodes.SkipNode


def _visit_block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    formula = node.astext().strip()
    if "\\\\" in formula and "\\begin{" not in formula:
        formula = f"\\begin{{aligned}}{formula}\\end{{aligned}}"
    writer.body.append('<div class="rows">')
    for row in rows(formula):
        shown = "".join(render(part, display=True) for part in row)
        writer.body.append(f'<div class="parts">{shown}</div>')
    writer.body.append("</div>")
    number = f"({get_node_equation_number(writer, node)})" if node["number"] else ""
    writer.body.append(f'<span class="eqno{"" if number else " unnumbered"}">{number}')
    writer.add_permalink_ref(node, "Link to this equation")
    writer.body.append("</span>")
    writer.body.append("</div>\n")
    raise nodes.SkipNode
