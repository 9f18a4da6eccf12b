"""At the head of a chapter: how long it takes to read."""

import html
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

WORDS_A_MINUTE = 200  # slow for a novel, usual for a text that one thinks along with
_COMMAND = re.compile(r"\\(?:begin|end)\{[^}]*\}|\\[A-Za-z]+|[A-Za-z]+|\d+(?:[.,]\d+)*")
# Commands that set type rather than stand for anything.
_TYPE = re.compile(
    r"\\(?:begin|end)\{|\\(?:left|right|big|Big|bigl|bigr|text|q?quad|limits|nolimits|displaystyle|label|tag|frac|tfrac|dfrac|"
    r"hat|bar|tilde|vec|mathrm|mathbf|mathbb|mathcal|mathit|operatorname|boldsymbol|bm|underbrace|overbrace|substack)\b"
)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("html-page-context", _tell)


def _tell(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put the reading time under the title of a chapter; pages without cells have none."""
    if doctree is None or "fingerprint" not in app.env.metadata.get(pagename, {}):
        return
    line = f'<p class="reading-time">{sentence(count_words(doctree))}{link(context.get("slides"))}</p>'
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{line}", 1)


def sentence(words: int) -> str:
    """The reading time in words, with what it was reckoned from."""
    minutes = max(1, round(words / WORDS_A_MINUTE))
    time = f"About {minutes} minute{'s' if minutes > 1 else ''} to read"
    return (
        f"<b>{time}</b>: {words:,} words at {WORDS_A_MINUTE} a minute, "
        "each symbol of a formula counted as a word; code and folded solutions left out."
    )


def link(slides: str | None) -> str:
    """The way to the chapter's slides, where it has some."""
    return f' <a href="{html.escape(slides)}">Its figures and equations as slides</a>' if slides else ""


def count_words(node: nodes.Node) -> int:
    """Words of prose, and symbols of formulas; nothing of code, of what it printed, and of what is folded away."""
    if isinstance(node, nodes.math | nodes.math_block):
        return count_symbols(node.astext())
    if isinstance(node, nodes.literal_block | nodes.comment | nodes.raw | nodes.system_message):
        return 0
    if isinstance(node, nodes.Element) and "dropdown" in node["classes"]:
        return 0
    if isinstance(node, nodes.Text):
        return len(re.findall(r"\w+(?:['’.,-]\w+)*", node.astext()))
    return sum(map(count_words, node.children))


def count_symbols(formula: str) -> int:
    """Names and numbers of a formula in TeX; letters that touch are one name: three in ``\\mathrm{softmax}(QK^T)``."""
    return sum(not _TYPE.match(token) for token in _COMMAND.findall(formula))
