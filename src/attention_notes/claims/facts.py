"""Statements: what a facts file holds, and what is wrong between it and a chapter.

A statement of the notes, or a number that a paper published, is written once, in ``papers/<key>/facts.yml``, with its
source, its kind, and the verdict that was found.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import yaml

from attention_notes.claims.measures import ClaimError

# Of which kind a statement is, and which verdicts that kind can have.
_DECIDED = ("holds", "holds if", "does not hold")
KINDS: Mapping[str, tuple[str, ...]] = {
    "exact": _DECIDED,  # an identity, a shape, a symmetry, a gradient: the same on every machine
    "counted": _DECIDED,  # parameters, MACs, sizes: to the last digit that was printed
    "library": _DECIDED,  # what the code of a named version does
    "trained": ("holds here", "not settled here"),  # the outcome of a training, over the runs of its record
    "published": ("reproduced", "cited"),  # a number of a paper
    "opinion": ("cited",),  # history, titles, guesses, names
}
MARKS = {
    "holds": "✓",
    "holds if": "◐",
    "does not hold": "✗",
    "holds here": "◆",
    "not settled here": "◇",
    "reproduced": "◎",
    "cited": "·",
}
VERDICTS = tuple(MARKS)
_NEEDED = {
    "holds if": "if",
    "does not hold": "instead",
    "holds here": "here",
    "not settled here": "here",
    "cited": "reference",
}


@dataclass(frozen=True)
class Claim:
    """One statement: what it ``says``, where from, of which ``kind``, the verdict, and what goes with it.

    ``condition`` completes *holds if ...*; ``instead`` corrects what *does not hold*; ``here`` says what a training of
    ours was and what it cannot show; ``value`` is a published number, as printed there, so that its digits say how far
    it is to be trusted; ``counts`` names the variant and what is counted of it, for ``check_counts``, and ``corrected``
    is what the count rounds to where it is not ``value``; ``reference`` is the bibliography key behind a statement that
    is *cited* because nothing can be run. ``quote`` is verbatim from the source; ``source_says`` is what a note's own
    source says where the note shortens it.
    """

    id: str
    key: str
    says: str
    source: str
    kind: str
    verdict: str
    condition: str = ""
    instead: str = ""
    here: str = ""
    value: str = ""
    counts: str = ""
    corrected: str = ""
    reference: str = ""
    quote: str = ""
    source_says: str = ""

    @property
    def own(self) -> bool:
        """Whether the book says so itself, as of a training of its own; the ledger is of what others say."""
        return self.source.startswith("this chapter")


def find(claim_id: str) -> Claim:
    """The claim of that id, from the facts that ship with the package.

    Raises:
        ClaimError: if no facts file has it; names the nearest ids.
    """
    every = claims()
    if claim_id not in every:
        from difflib import get_close_matches

        near = get_close_matches(claim_id, every, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see the facts.yml of its paper"
        raise ClaimError(f"unknown claim {claim_id!r}; {hint}")
    return every[claim_id]


def claims(key: str | None = None) -> Mapping[str, Claim]:
    """All claims by id, or those of one chapter, in the order of its facts file."""
    return {c.id: c for k in ([key] if key else keys()) for c in load_facts(k)["claims"]}


def keys() -> list[str]:
    """The keys that have facts, sorted."""
    folders = (resources.files("attention_notes") / "papers").iterdir()
    return sorted(folder.name for folder in folders if (folder / "facts.yml").is_file())


def papers() -> list[str]:
    """The keys that have a chapter about a paper, sorted.

    The comparison of all models is about no paper; a paper of which nothing is stated, as that of residual networks on
    which others build, has no chapter.
    """
    return [key for key in keys() if load_facts(key)["paper"] and load_facts(key)["claims"]]


@cache
def load_facts(key: str) -> dict[str, Any]:
    """The paper and the claims of ``papers/<key>/facts.yml``, checked, and its variants, which ``registry`` checks.

    ``paper`` is None where a chapter tells of no paper, as the comparison of all models.

    Raises:
        ClaimError: if the file is missing or no YAML, or an entry lacks what its verdict requires.
    """
    file = resources.files("attention_notes") / "papers" / key / "facts.yml"
    if not file.is_file():
        raise ClaimError(f"no facts for {key!r}; known keys: {', '.join(keys())}")
    return parse_facts(key, file.read_text(encoding="utf-8"))


def parse_facts(key: str, text: str) -> dict[str, Any]:
    """Read the text of a facts file; the errors are those of ``load_facts``."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ClaimError(f"papers/{key}/facts.yml is not valid YAML: {error}") from error
    entries = [_claim(key, claim_id, entry) for claim_id, entry in raw["claims"].items()]
    return {"paper": raw.get("paper"), "claims": entries, "variants": raw.get("variants", {})}


def calls(source: str) -> Iterator[str]:
    """The ids that a cell's source passes to ``check``, in order, and those whose counts ``check_counts`` holds.

    Raises:
        ClaimError: if an id or a key is not a literal string: the ledger could not find it.
    """
    for node in ast.walk(ast.parse(source)):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if isinstance(node, ast.Call) and called in ("check", "check_counts"):
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                what = "claim's id" if called == "check" else "chapter's key"
                raise ClaimError(f"line {node.lineno}: {called}() needs its {what} as a literal string")
            yield from [first.value] if called == "check" else [c.id for c in counted(first.value)]


def counted(key: str) -> list[Claim]:
    """The statements of a chapter that count something of a variant."""
    return [claim for claim in claims(key).values() if claim.counts]


def audit(key: str, run: Iterable[str], cited: Iterable[str]) -> list[str]:
    """What is wrong between a chapter's facts and the ids that it runs and cites: unknown, twice, or not at all."""
    known, found, problems = claims(key), [*run], []
    for claim_id in dict.fromkeys([*found, *(cited := [*cited])]):
        if claim_id not in known:
            problems.append(f"{key}.md has {claim_id!r}, which papers/{key}/facts.yml does not know")
        elif (count := found.count(claim_id) + cited.count(claim_id)) > 1:
            problems.append(f"{key}.md has {claim_id!r} {count} times; a claim is answered in one place")
        elif (claim_id in cited) != (known[claim_id].verdict == "cited"):
            problems.append(f"{key}.md {'cites' if claim_id in cited else 'runs'} {claim_id!r}, facts say otherwise")
    return problems + [f"{key}.md does not answer {i!r}" for i in known if i not in found and i not in cited]


def _claim(key: str, claim_id: str, entry: dict[str, Any]) -> Claim:
    where = f"papers/{key}/facts.yml: {claim_id}"
    given = {{"if": "condition"}.get(name, name): str(value).strip() for name, value in entry.items()}
    for name in given.keys() - {field.name for field in fields(Claim)}:
        raise ClaimError(f"{where} has the unknown entry {name!r}")
    if not given.get("source"):
        raise ClaimError(f"{where} has no source: name the note and line, or the paper's table, equation or page")
    if not given.get("says"):
        raise ClaimError(f"{where} says nothing: it needs an entry 'says', the statement in your own words")
    if given.get("kind") not in KINDS:
        raise ClaimError(f"{where} has kind {given.get('kind')!r}; known: {', '.join(KINDS)}")
    possible = KINDS[given["kind"]]
    if given.get("verdict") not in possible:
        raise ClaimError(
            f"{where} has verdict {given.get('verdict')!r}; a statement of kind {given['kind']!r} has one of: "
            f"{', '.join(possible)}"
        )
    needed = _NEEDED.get(given["verdict"], "")
    if needed and not given.get({"if": "condition"}.get(needed, needed)):
        raise ClaimError(f"{where} is recorded as {given['verdict']!r} and so needs an entry {needed!r}")
    if given.get("counts"):
        if len(given["counts"].rsplit(" ", 1)) < 2 or not given.get("value") or given["kind"] != "counted":
            raise ClaimError(
                f"{where} counts {given['counts']!r}: name a variant and what is counted, and give a value"
            )
        if (given["verdict"] == "does not hold") != bool(given.get("corrected")) or given["verdict"] == "holds if":
            raise ClaimError(f"{where} counts, so it holds, or does not hold and has 'corrected', what rounds rightly")
    if len(given.get("quote", "").split()) > 25:
        raise ClaimError(f"{where} quotes {len(given['quote'].split())} words; 25 are the most")
    return Claim(id=claim_id, key=key, **given)
