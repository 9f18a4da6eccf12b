"""The directive ``{statements} key``: what the notes and the paper say, statement by statement, at a chapter's end."""

from collections import Counter

from docutils import nodes
from sphinx.application import Sphinx

from attention_notes.claims import MARKS, VERDICTS, Claim, load_facts

from .ledger import Entries, dress, worded


class Statements(Entries):
    """Every statement with its source's words, its verdict and a link to what answers it, folded."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        key = self.arguments[0]
        box = nodes.admonition(classes=["dropdown", "statements"])
        box += nodes.title("", heading(key))
        for claim in listed(key):
            (paragraph,) = self.parsed(f"{worded(claim)} {{answer}}`{claim.id}`")
            box += paragraph
        dress(box)
        return [box]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("statements", Statements)


def listed(key: str) -> list[Claim]:
    """The statements of a chapter that are not its own."""
    return [claim for claim in load_facts(key)["claims"] if not claim.own]


def heading(key: str) -> str:
    """How many there are, of each verdict."""
    count = Counter(claim.verdict for claim in listed(key))
    tally = ", ".join(f"{count[verdict]} {MARKS[verdict]} {verdict}" for verdict in VERDICTS if count[verdict])
    return f"{sum(count.values())} statements: {tally}"


def plain(key: str) -> str:
    """The box as Markdown with roles, for a notebook."""
    lines = "\n\n".join(f"{worded(claim)} *{claim.source}*" for claim in listed(key))
    return f"<details><summary><b>{heading(key)}</b></summary>\n\n{lines}\n\n</details>"
