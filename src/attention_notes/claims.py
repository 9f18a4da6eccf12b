"""Run a statement and give its verdict.

A statement of the notes, or a number that a paper published, is written once, in ``facts/<key>.yml``, with its source
and the verdict that was found. A chapter runs it with ``check``, which measures again and refuses to agree with a
verdict that the measurement does not bear out.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import torch
import yaml
from torch import Tensor

VERDICTS = ("holds", "holds if", "does not hold", "told")
MARKS = {"holds": "✓", "holds if": "◐", "does not hold": "✗", "told": "·"}
_UNITS = {"": 1, "%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
# float32 and float64 as the book promises; half precisions at a few units in the last place
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


class ClaimError(ValueError):
    """A claim is unknown, ill-formed, run twice, or was measured to be other than its recorded verdict."""


@dataclass(frozen=True)
class Claim:
    """One statement: what it ``says``, where from, the verdict, and what is true when it does not simply hold.

    ``condition`` completes *holds if ...*; ``instead`` corrects what *does not hold*; ``value`` is a published number,
    as printed there, so that its digits say how far it is to be trusted; ``reference`` is the bibliography key behind
    a statement that is *told* because nothing can be run.
    """

    id: str
    key: str
    says: str
    source: str
    verdict: str
    condition: str = ""
    instead: str = ""
    value: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Close:
    """The outcome of comparing two tensors: truth value, and words for the reader."""

    agrees: bool
    words: str

    def __bool__(self) -> bool:
        return self.agrees


def close(a: Tensor, b: Tensor) -> Close:
    """Whether two tensors agree to the promise of the coarser dtype (1e-5 in float32, 1e-10 in float64).

    The difference is taken relative to the largest entry of ``b`` where that is above one.

    Raises:
        ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot compare shapes {tuple(a.shape)} and {tuple(b.shape)}")
    tolerance = max(_TOLERANCE.get(t.dtype, 0.0) for t in (a, b))
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    agrees = bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1))
    bound = f"{tolerance:g}".replace("e-0", "e-")
    return Close(agrees, f"difference {'below' if agrees else 'above'} {bound}")


def check(
    claim_id: str, statement: Any = None, *, ours: int | float | None = None, instead: Any = None, measured: str = ""
) -> None:
    """Hold a measurement against a claim, and show the verdict in one line.

    Args:
        claim_id: the id in ``facts/<key>.yml``.
        statement: whether the statement, *as it was said*, came out true: a bool, or the result of ``close``.
        ours: for a published number, the number measured here; it must round to what was printed.
        instead: needed when the verdict is not *holds*: whether the statement came out true under its condition, or
            whether the corrected statement did.
        measured: what was measured, in words with rounded numbers.

    Raises:
        ClaimError: if the id is unknown, if it was already run in this cell, or if what was measured contradicts the
            recorded verdict; then either the code or the verdict is wrong.
    """
    claim = find(claim_id)
    if (statement is None) == (ours is None):
        raise ClaimError(f"{claim_id}: pass either the truth of the statement or ours=, a number")
    if ours is not None:
        if not claim.value:
            raise ClaimError(f"{claim_id}: ours={ours} was given, but its entry in facts/{claim.key}.yml has no value")
        statement = rounds_to(ours, claim.value)
        measured = measured or f"{ours:,}"
    _run_once(claim_id)
    measured = measured or getattr(instead if instead is not None else statement, "words", "")
    as_said, corrected = _truth(claim_id, statement), None if instead is None else _truth(claim_id, instead)
    if claim.verdict == "told":
        raise ClaimError(f"{claim_id} is recorded as told, with a reference; give it a verdict now that it is run")
    expected = (True, None) if claim.verdict == "holds" else (False, True)
    if (as_said, corrected) != expected:
        raise ClaimError(
            f"{claim_id} is recorded as {claim.verdict!r}, but as stated it came out {as_said} and "
            f"its correction {'was not measured' if corrected is None else f'came out {corrected}'}"
            f"{f' ({measured})' if measured else ''}: {claim.says}"
        )
    _show(claim, measured)


def find(claim_id: str) -> Claim:
    """The claim of that id, from the facts that ship with the package.

    Raises:
        ClaimError: if no facts file has it; names the nearest ids.
    """
    every = claims()
    if claim_id not in every:
        from difflib import get_close_matches

        near = get_close_matches(claim_id, every, n=3, cutoff=0.5)
        raise ClaimError(f"unknown claim {claim_id!r}; {'did you mean ' + ', '.join(near) if near else 'see facts/'}")
    return every[claim_id]


def claims(key: str | None = None) -> Mapping[str, Claim]:
    """All claims by id, or those of one chapter, in the order of its facts file."""
    return {c.id: c for k in ([key] if key else keys()) for c in load_facts(k)["claims"]}


def keys() -> list[str]:
    """The keys that have facts, sorted."""
    folder = resources.files("attention_notes") / "facts"
    return sorted(f.name.removesuffix(".yml") for f in folder.iterdir() if f.name.endswith(".yml"))


@cache
def load_facts(key: str) -> dict[str, Any]:
    """The paper and the claims of ``facts/<key>.yml``, checked, and its variants, which ``zoo`` checks.

    Raises:
        ClaimError: if the file is missing, or an entry lacks what its verdict requires.
    """
    file = resources.files("attention_notes") / "facts" / f"{key}.yml"
    if not file.is_file():
        raise ClaimError(f"no facts for {key!r}; known keys: {', '.join(keys())}")
    return parse_facts(key, file.read_text(encoding="utf-8"))


def parse_facts(key: str, text: str) -> dict[str, Any]:
    """Read the text of a facts file; the errors are those of ``load_facts``."""
    raw = yaml.safe_load(text)
    entries = [_claim(key, claim_id, entry) for claim_id, entry in raw["claims"].items()]
    return {"paper": raw["paper"], "claims": entries, "variants": raw.get("variants", {})}


def rounds_to(ours: int | float, printed: str) -> bool:
    """Whether a measured number rounds to one as printed: ``86_567_656`` to ``"86M"``, ``17.56e9`` to ``"17.6G"``.

    Raises:
        ClaimError: if what was printed is not a number with an optional unit of k, M, G, B or %.
    """
    match = re.fullmatch(r"(-?[\d,]+(?:\.(\d+))?)\s*([kMGB%]?)", printed)
    if not match:
        raise ClaimError(f"cannot read the published value {printed!r}: expected a number and one of k, M, G, B, %")
    number, unit = float(match[1].replace(",", "")), _UNITS[match[3]]
    half = 0.5 * 10 ** -len(match[2] or "")
    return abs(ours / unit - number) <= half * (1 + 1e-9) if unit != 1 or match[2] else ours == number


def calls(source: str) -> Iterator[str]:
    """The ids that a cell's source passes to ``check``, in order.

    Raises:
        ClaimError: if an id is not a literal string: the ledger could not find it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                raise ClaimError(f"line {node.lineno}: check() needs its claim's id as a literal string")
            yield first.value


def audit(key: str, run: Iterable[str], told: Iterable[str]) -> list[str]:
    """What is wrong between a chapter's facts and the ids that it runs and tells: unknown, twice, or not at all."""
    known, found, problems = claims(key), [*run], []
    for claim_id in dict.fromkeys([*found, *(told := [*told])]):
        if claim_id not in known:
            problems.append(f"{key}.md has {claim_id!r}, which facts/{key}.yml does not know")
        elif (count := found.count(claim_id) + told.count(claim_id)) > 1:
            problems.append(f"{key}.md has {claim_id!r} {count} times; a claim is answered in one place")
        elif (claim_id in told) != (known[claim_id].verdict == "told"):
            problems.append(f"{key}.md {'tells' if claim_id in told else 'runs'} {claim_id!r}, facts say otherwise")
    return problems + [f"{key}.md does not answer {i!r}" for i in known if i not in found and i not in told]


def _claim(key: str, claim_id: str, entry: dict[str, Any]) -> Claim:
    where = f"facts/{key}.yml: {claim_id}"
    given = {{"if": "condition"}.get(name, name): str(value).strip() for name, value in entry.items()}
    for name in given.keys() - {field.name for field in fields(Claim)}:
        raise ClaimError(f"{where} has the unknown entry {name!r}")
    if not given.get("source"):
        raise ClaimError(f"{where} has no source: name the note and line, or the paper's table, equation or page")
    if not given.get("says"):
        raise ClaimError(f"{where} says nothing: it needs an entry 'says', the statement in your own words")
    if given.get("verdict") not in VERDICTS:
        raise ClaimError(f"{where} has verdict {given.get('verdict')!r}; known: {', '.join(VERDICTS)}")
    needed = {"holds if": "condition", "does not hold": "instead", "told": "reference"}.get(given["verdict"])
    if needed and not given.get(needed):
        name = "if" if needed == "condition" else needed
        raise ClaimError(f"{where} is recorded as {given['verdict']!r} and so needs an entry {name!r}")
    return Claim(id=claim_id, key=key, **given)


_runs: set[tuple[str, int]] = set()


def _run_once(claim_id: str) -> None:
    """Refuse a second run of a claim in one cell or script; running a cell again is what a notebook is for."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    run = (claim_id, shell.execution_count if shell else 0)
    if run in _runs:
        raise ClaimError(
            f"{claim_id} was already checked here; a claim is answered in one place: delete one of the two"
        )
    _runs.add(run)


def _truth(claim_id: str, outcome: Any) -> bool:
    if isinstance(outcome, Tensor) and outcome.numel() != 1:
        raise ClaimError(f"{claim_id}: a truth value was expected, not a tensor of shape {tuple(outcome.shape)}")
    return bool(outcome)


def _show(claim: Claim, measured: str) -> None:
    verdict = f"holds if {claim.condition}" if claim.verdict == "holds if" else claim.verdict
    parts = [f"{MARKS[claim.verdict]} **{verdict}** — {claim.says}"]
    parts += [f"**Instead:** {claim.instead}"] if claim.instead else []
    parts += [f"Published: {claim.value}."] if claim.value else []
    parts += [f"*Measured: {measured}.*"] if measured else []
    markdown = " ".join(parts)
    plain = re.sub(r"[*$`]", "", markdown)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display(
            {"text/plain": plain, "text/markdown": markdown},
            raw=True,
            metadata={"claim": {"id": claim.id, "verdict": claim.verdict, "measured": measured}},
        )
    else:
        print(plain)
