"""The ledger: every statement of the notes with its verdict, made from the facts and from what ran."""

import re
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.nodes import make_refnode

from attention_notes.claims import (
    FAILED,
    KINDS,
    MARKS,
    VERDICTS,
    Claim,
    ClaimError,
    find,
    keys,
    load_facts,
    verdict_line,
)

from .rooms import page_of
from .run import executed_notebook

PAGES = ("intro", "ledger")  # made from what ran, and so made last


class Cited(SphinxRole):
    """``{cited}`claim-id```: marks the place that cites a statement which nothing can run, and links to its entry."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            claim = find(self.text)
        except ClaimError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        link = make_refnode(
            self.env.app.builder,
            self.env.docname,
            page_of("ledger", Path(self.env.srcdir)),
            f"ledger-{claim.id}",
            nodes.superscript("", "cited"),
            "Cited, not run: this statement in the ledger",
        )
        link["classes"] += ["cited"]
        link["ids"] += [f"claim-{claim.id}"]
        return [link], []


class Answer(SphinxRole):
    """``{answer}`claim-id```: a link to the cell or the sentence that answers a claim, worded as the claim's source."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        claim = find(self.text)
        page = page_of(claim.key, Path(self.env.srcdir))
        words = nodes.inline("", claim.source)
        return [make_refnode(self.env.app.builder, self.env.docname, page, f"claim-{claim.id}", words)], []


class Entries(SphinxDirective):
    """What the pages made from claims share."""

    def entry(self, claim: Claim) -> nodes.paragraph:
        """The claim, its verdict, and what it measured when it ran."""
        ran = _ran(self.env.app, self.page(claim.key)).get(claim.id, {})
        line = worded(claim, ran.get("measured", ""), ran.get("failed", ""))
        (paragraph,) = self.parsed(f"{line} {{answer}}`{claim.id}`")
        return paragraph

    def parsed(self, line: str) -> list[Any]:
        """A line of MyST as nodes."""
        holder = nodes.Element()
        self.state.nested_parse(StringList([line], source="ledger"), self.content_offset, holder)
        return holder.children

    def page(self, key: str) -> str:
        """The chapter of a key."""
        return page_of(key, Path(self.env.srcdir))

    def chapters(self) -> list[str]:
        """The keys of the book, in the order in which it is read."""
        toc = (Path(self.env.srcdir) / "_toc.yml").read_text(encoding="utf-8")
        order = re.findall(r"file: (?:\S+/)?(\w+)", toc)
        found = [key for key in keys() if self.page(key) in self.env.found_docs]
        return sorted(found, key=lambda key: order.index(key) if key in order else len(order))


class Ledger(Entries):
    """``{ledger}``: one section for each chapter, one entry for each of its statements."""

    def run(self) -> list[nodes.Node]:
        titles = {key: self.env.titles[self.page(key)].astext() for key in self.chapters()}
        parts: list[nodes.Node] = [
            *self.parsed(_whole_tally([*titles])),
            nodes.raw("", _filter(titles), format="html"),
        ]
        for key in titles:
            entries = [claim for claim in load_facts(key)["claims"] if not claim.own]
            section = nodes.section(ids=[f"ledger-{key}"])
            section += nodes.title("", titles[key])
            section += self.parsed(f"{_tally(entries)} {{doc}}`To the chapter </{self.page(key)}>`")
            for claim in entries:
                paragraph = self.entry(claim)
                paragraph["ids"] += [f"ledger-{claim.id}"]
                paragraph["classes"] += [f"kind-{claim.kind}"]
                section += paragraph
            dress(section)
            parts.append(section)
        return parts


class Verdicts(Entries):
    """``{verdicts}``: the entries whose ids stand in its lines, or without lines how many there are of each."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        if not self.content:
            return self.parsed(_whole_tally(self.chapters()))
        try:
            holder = nodes.container("", *(self.entry(find(line.strip())) for line in self.content if line.strip()))
        except ClaimError as error:
            raise self.error(str(error)) from error
        dress(holder)
        return [holder]


def dress(parent: nodes.Element) -> list[nodes.paragraph]:
    """Mark the paragraphs that give a verdict with their class, so that they can be coloured; returns them."""
    names = {mark: verdict.replace(" ", "-") for verdict, mark in MARKS.items()} | {FAILED: "failed"}
    found = [p for p in parent.findall(nodes.paragraph) if p.astext()[:2].strip() in names]
    for paragraph in found:
        paragraph["classes"] += ["verdict", f"verdict-{names[paragraph.astext()[0]]}"]
    return found


def setup(app: Sphinx) -> None:
    """Register the roles and the directives."""
    app.add_role("cited", Cited())
    app.add_role("answer", Answer())
    app.add_directive("ledger", Ledger)
    app.add_directive("verdicts", Verdicts)


def _whole_tally(found: list[str]) -> str:
    every = [claim for key in found for claim in load_facts(key)["claims"] if not claim.own]
    return f"**{len(every)} statements** in {len(found)} chapters: {_tally(every)}"


def _tally(claims: list[Claim]) -> str:
    count = Counter(claim.verdict for claim in claims)
    return (
        ", ".join(f"{count[v]} {MARKS[v]} {v}{' ...' if v == 'holds if' else ''}" for v in VERDICTS if count[v]) + "."
    )


def worded(claim: Claim, measured: str = "", failed: str = "") -> str:
    """A statement in one line of Markdown: its verdict, what was measured, and the words of its source."""
    parts = [verdict_line(claim, measured, failed)]
    parts += [f"“{claim.quote}”"] if claim.quote else []
    parts += [claim.source_says] if claim.source_says else []
    parts += [f"{{cite}}`{claim.reference}`"] if claim.reference else []
    return " ".join(parts)


def _filter(titles: Mapping[str, str]) -> str:
    """The fields by which ``ledger.js`` leaves of the ledger what a reader asks for; without it they do not show."""
    fields = {
        "chapter": titles,
        "verdict": {verdict.replace(" ", "-"): f"{mark} {verdict}" for verdict, mark in MARKS.items()},
        "kind": {kind: kind for kind in KINDS},
    }
    selects = [
        f'<label>{name} <select name="{name}"><option value="">all</option>'
        + "".join(f'<option value="{escape(value)}">{escape(words)}</option>' for value, words in options.items())
        + "</select></label>"
        for name, options in fields.items()
    ]
    words = '<label>words <input type="search" name="words" autocomplete="off"></label>'
    return f'<form class="ledger-filter" hidden>{"".join(selects)}{words}<output aria-live="polite"></output></form>'


def _ran(app: Sphinx, docname: str) -> dict[str, dict[str, str]]:
    """What each check of a chapter came to when it ran, by claim."""
    notebook = executed_notebook(app, docname)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])] if notebook else []
    return {claim["id"]: claim for output in outputs for claim in output.get("metadata", {}).get("claims", [])}
