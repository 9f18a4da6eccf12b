"""Where a role points to, in words and links that need no MyST."""

import posixpath
from functools import cache
from pathlib import Path

from pybtex.database import BibliographyData, parse_string
from sphinx.application import Sphinx

from .rooms import page_of
from .twin import Resolve


def resolver(app: Sphinx, docname: str) -> Resolve:
    """A function that turns the roles of one chapter into plain Markdown; the errors name what has no target."""
    bibliography = _bibliography(app)
    env = app.env
    labels = env.get_domain("std").labels | {  # type: ignore[attr-defined]
        name: (*place, "")
        for name, place in env.get_domain("std").anonlabels.items()  # type: ignore[attr-defined]
    }

    def resolve(role: str, target: str, words: str) -> str:
        if role in ("cite", "cite:t", "cite:p"):
            cited = [_cited(bibliography, key.strip()) for key in target.split(",")]
            return "; ".join(cited) if role == "cite:t" else f"({'; '.join(cited)})"
        if role == "cited":
            return f"[cited]({page(page_of('ledger', Path(app.srcdir)))}#ledger-{target})"
        if role == "number":
            return str(env.get_domain("math").equations[target][1])  # type: ignore[attr-defined]
        if role == "eq":
            place, number = env.get_domain("math").equations[target]  # type: ignore[attr-defined]
            return f"[({number})]({page(place)}#equation-{target})"
        if role == "doc":
            other = posixpath.normpath(posixpath.join(posixpath.dirname(docname), target))
            return f"[{words or env.titles[other].astext()}]({page(other)})"
        if role in ("ref", "numref", "figure"):
            place, anchor, title = labels[target][0], labels[target][1], labels[target][-1]
            if role == "ref":
                return f"[{words or title}]({page(place)}#{anchor})"
            # A notebook stands alone: its figures are numbered without the chapter's number, which moves with the book.
            number = env.toc_fignumbers[place]["figure"][anchor][-1]
            name = f"Figure {number}" if place == docname else f"Figure {number} of {env.titles[place].astext()}"
            return f"**{name}.**" if role == "figure" else f"[{name}]({page(place)}#{anchor})"
        raise ValueError(f"the role {{{role}}} has no plain form for Colab")

    def page(name: str) -> str:
        return f"{app.config.html_baseurl}{app.builder.get_target_uri(name)}"

    def checked(role: str, target: str, words: str) -> str:
        try:
            return resolve(role, target, words)
        except KeyError as error:
            raise ValueError(f"{docname}: {{{role}}}`{target}` points to nothing") from error

    return checked


def _bibliography(app: Sphinx) -> BibliographyData:
    (file,) = app.config.bibtex_bibfiles
    return _parsed((Path(app.srcdir) / file).read_text(encoding="utf-8"))


@cache  # the same for every chapter
def _parsed(text: str) -> BibliographyData:
    return parse_string(text, "bibtex")


def _cited(bibliography: BibliographyData, key: str) -> str:
    entry = bibliography.entries[key]
    names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"[{who}, {entry.fields['year']}]({entry.fields['url']})"
