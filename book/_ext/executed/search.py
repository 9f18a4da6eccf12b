"""The search of the site, taught words in Chinese, names of models, terms of the glossary, and the order of the book.

Sphinx splits text where there is no letter. Chinese writes its words without a gap, so a whole clause becomes one word
that nobody looks for; and a word of two characters is too short for Sphinx to look for it within another.
"""

import re
from typing import Any

import sphinx.search
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.search.en import SearchEnglish
from sphinx.util.index_entries import split_index_msg

from attention_notes.claims import keys, load_facts

LONGEST = 8  # characters of a Chinese term
HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")


class SearchEnglishAndChinese(SearchEnglish):
    """English as Sphinx has it; of Chinese, every piece that may be a word."""

    # The same on the reader's side: a run of Chinese is cut, from left to right, into the longest pieces that the index
    # has. What it has nowhere stays whole, and so is told to be nowhere.
    js_splitter_code = r"""
function splitQuery(query) {
  const words = query.split(/[^\p{Letter}\p{Number}_\p{Emoji_Presentation}]+/u).filter(Boolean);
  const known = (word) => Search._index !== null && Object.hasOwn(Search._index.terms, word);
  const cut = (run) => {
    const found = [];
    for (let at = 0; at < run.length; at++) {
      let length = Math.min(run.length - at, LONGEST);
      while (length > 1 && !known(run.slice(at, at + length))) length--;
      if (length > 1) found.push(run.slice(at, at + length)), (at += length - 1);
    }
    return found.length ? found : [run];
  };
  const runs = words.flatMap((word) => word.match(/\p{Script=Han}+|\P{Script=Han}+/gu));
  return runs.flatMap((run) => (/\p{Script=Han}/u.test(run) ? cut(run) : run));
}

// Pages with the same score stand in the order of the book, and before those that have no number. Scores are whole, and
// all but the first are those that Sphinx has unless it finds a Scorer.
var Scorer = {
  score: ([, title, , , score]) => score - Math.min(title.match(/section-number">(\d+)/)?.[1] ?? 999, 999) / 1000,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
""".replace("LONGEST", str(LONGEST))

    def split(self, input: str) -> list[str]:
        """The words of a text: runs of letters, and the pieces of two characters and more of each run of Chinese."""
        return [piece for word in super().split(input) for piece in pieces(word)]


def pieces(word: str) -> list[str]:
    """A word cut where the script changes; of Chinese all substrings of two to ``LONGEST`` characters."""
    found = [part for part in HAN.sub(" ", word).split() if part]
    for run in HAN.findall(word):
        ends = ((i, j) for i in range(len(run)) for j in range(i + 2, min(i + LONGEST, len(run)) + 1))
        found += [run[i:j] for i, j in ends] or [run]
    return found


def setup(app: Sphinx) -> None:
    """Take the place of Sphinx's English, and connect."""
    sphinx.search.languages["en"] = SearchEnglishAndChinese
    app.connect("doctree-read", _name_models, priority=600)
    app.connect("env-updated", _remember)


def model_names(key: str) -> list[str]:
    """What a reader may call a chapter by: the key of its paper, and the names of the models in it."""
    return [key, key.replace("_", "-"), *load_facts(key)["variants"]] if key in keys() else []


def _name_models(app: Sphinx, doctree: nodes.document) -> None:
    """Enter a chapter's names in the index, so that looking for one leads to it before all pages that mention it."""
    if entries := _entries(app.env.docname):
        doctree += addnodes.index(entries=entries)


def _entries(page: str) -> list[Any]:
    names = dict.fromkeys(model_names(page.rsplit("/", 1)[-1]))
    return [("single", name, "", "main", None) for name in names]


def _remember(app: Sphinx, env: BuildEnvironment) -> None:
    """Give the search the index entries of all pages; Sphinx has those of the pages that this build writes.

    It also still has those of pages that are gone, and fails on them.
    """
    for page in env._search_index_index_entries.keys() - env.found_docs:
        del env._search_index_index_entries[page]
    for page in env.found_docs:
        entries = [*env.get_domain("index").data["entries"].get(page, ()), *_entries(page)]
        words = [(split_index_msg(kind, value), target or "", main) for kind, value, target, main, _ in entries]
        found = {(word, target, main) for several, target, main in words for word in several}
        env._search_index_index_entries[page] = sorted(found)
