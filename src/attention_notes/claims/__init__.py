"""Run a statement and give its verdict.

A chapter runs a statement with ``check``, which is handed what was measured and where it should lie, prints both, and
says so where they disagree with the recorded verdict. Nothing is raised for that: the build goes on, lists every
contradiction at its end, and fails then.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, NamedTuple

from attention_notes.claims.facts import (
    KINDS,
    MARKS,
    VERDICTS,
    Claim,
    audit,
    calls,
    claims,
    counted,
    find,
    keys,
    load_facts,
    papers,
    parse_facts,
)
from attention_notes.claims.measures import (
    ClaimError,
    Measure,
    above,
    below,
    close,
    equal,
    found,
    rounds,
    rounds_to,
    true,
    within,
)
from attention_notes.claims.records import Spread, load_record, shortcomings, spread

__all__ = [
    "CONTRADICTED",
    "FAILED",
    "KINDS",
    "MARKS",
    "OUTSIDE",
    "VERDICTS",
    "Claim",
    "ClaimError",
    "Measure",
    "Outcome",
    "Spread",
    "above",
    "audit",
    "below",
    "calls",
    "check",
    "check_counts",
    "claims",
    "close",
    "collected",
    "counted",
    "equal",
    "find",
    "found",
    "keys",
    "load_facts",
    "load_record",
    "papers",
    "parse_facts",
    "rounds",
    "rounds_to",
    "shortcomings",
    "spread",
    "true",
    "verdict_line",
    "within",
]

FAILED = "⚠"  # the mark of a verdict that what was measured does not bear out
CONTRADICTED, OUTSIDE = "contradicted", "outside its record"
_runs: set[tuple[str, int]] = set()
_collectors: list[dict[str, "Outcome"]] = []


class Outcome(NamedTuple):
    """What a check was given, and if that is not what was recorded, how: ``CONTRADICTED`` or ``OUTSIDE``."""

    measures: list[Measure]
    failed: str


def check(
    claim_id: str,
    *measures: Measure,
    ours: int | float | None = None,
    instead: Measure | Sequence[Measure] = (),
) -> None:
    """Hold measurements against a claim, and show the verdict in one line.

    ``check("swin-shift", above("gain", shifted - plain, 0.2))``: the statement, *as it was said*, is true if every
    measurement holds. A trained statement is judged by its record, and each of its measurements is a number.

    Args:
        claim_id: the id in ``papers/<key>/facts.yml``.
        measures: what ``above``, ``below``, ``within``, ``equal``, ``rounds``, ``close``, ``true`` or, for what settles
            nothing, ``found`` return.
        ours: for a published number, the number measured here; it must round to what was printed.
        instead: needed for *holds if* and *does not hold*: what was measured under the condition, or of the
            correction; all of it must hold.

    Raises:
        ClaimError: if the id is unknown or was already run in this cell, or if what is passed is no measurement.
    """
    claim = find(claim_id)
    said, corrected = [*measures], [instead] if isinstance(instead, Measure) else [*instead]
    if ours is not None:
        if not claim.value:
            raise ClaimError(f"{claim_id}: ours={ours} was given, but papers/{claim.key}/facts.yml has no value")
        said.insert(0, Measure("", rounds_to(ours, claim.value), f"{ours:,}"))
    _expect(claim, said, corrected)
    _run_once(claim_id)
    as_said, corrections = all(said), all(corrected) if corrected else None
    expected = {"holds if": (False, True), "does not hold": (False, True)}.get(claim.verdict, (True, None))
    failed = ""
    if claim.verdict != "not settled here" and (as_said, corrections) != expected:
        failed = OUTSIDE if claim.kind == "trained" else CONTRADICTED
    for collector in _collectors:
        collector[claim_id] = Outcome([*said, *corrected], failed)
    _show(claim, [*said, *corrected], failed)


def check_counts(key: str, measured: Mapping[str, Mapping[str, int | float]]) -> None:
    """Hold every number of a chapter's facts that counts something of a variant, and show them as one table.

    ``check_counts("swin", {"parameters": {"swin_t": 28288354, ...}, "MACs": {...}})``: a statement whose ``counts`` is
    *swin_t parameters* holds if that number rounds to its ``value``. One that does not hold rounds to ``corrected``.

    Args:
        key: the chapter.
        measured: by what is counted and by variant.

    Raises:
        ClaimError: if a statement counts what is not measured here.
    """
    found: dict[str, dict[str, tuple[Claim, str]]] = {}
    for claim in counted(key):
        variant, what = claim.counts.rsplit(" ", 1)
        values = measured.get(what, {})
        if variant not in values:
            raise ClaimError(f"{claim.id} counts {claim.counts!r}; measured are {what}: {', '.join(values) or 'none'}")
        _run_once(claim.id)
        value = values[variant]
        holds = rounds_to(value, claim.corrected or claim.value) and bool(claim.corrected) != rounds_to(
            value, claim.value
        )
        failed = "" if holds else CONTRADICTED
        for collector in _collectors:
            collector[claim.id] = Outcome([Measure(claim.counts, holds, f"{value:,}")], failed)
        found.setdefault(variant, {})[what] = claim, failed
    _show_counts(key, measured, found)


def verdict_line(claim: Claim, measured: str = "", failed: str = "") -> str:
    """A claim in one line of Markdown: mark, verdict, statement, what goes with it, and what was measured."""
    verdict = f"holds if {claim.condition}" if claim.verdict == "holds if" else claim.verdict
    if failed:
        verdict = f"{failed}, though recorded as: {verdict}"
    parts = [f"{FAILED if failed else MARKS[claim.verdict]} **{verdict}** — {claim.says}"]
    parts += [f"**Instead:** {claim.instead}"] if claim.instead else []
    parts += [f"**Here:** {claim.here}"] if claim.here else []
    parts += [f"Published: {claim.value}."] if claim.value else []
    parts += [f"*Measured: {measured}.*"] if measured else []
    return " ".join(parts)


@contextmanager
def collected() -> Iterator[dict[str, Outcome]]:
    """Collect what every ``check`` inside is given and comes to, by claim."""
    given: dict[str, Outcome] = {}
    _collectors.append(given)
    try:
        yield given
    finally:
        _collectors.remove(given)


def _expect(claim: Claim, said: Sequence[Any], corrected: Sequence[Any]) -> None:
    """Refuse what cannot be a measurement of this claim."""
    if claim.verdict == "cited":
        raise ClaimError(f"{claim.id} is recorded as cited, with a reference; give it a verdict now that it is run")
    if not said:
        raise ClaimError(f"{claim.id}: pass what was measured, such as above('gain', 0.3, 0.2), or ours=, a number")
    for one in (*said, *corrected):
        if not isinstance(one, Measure):
            raise ClaimError(
                f"{claim.id}: {type(one).__name__} {one!r} is no measurement; pass what above(), below(), within(), "
                "equal(), rounds(), close() or true() return"
            )
    if claim.kind == "trained":
        names = [one.name for one in said]
        if corrected or None in [one.value for one in said] or "" in names or len(set(names)) < len(names):
            raise ClaimError(
                f"{claim.id} is trained: each measurement is a number with a name of its own, and no instead"
            )
    elif [one.name for one in said if one.bound == "" and one.value is not None and one.low == -one.high]:
        raise ClaimError(f"{claim.id}: found() has no bound and so decides nothing; it is for trained statements")


def _run_once(claim_id: str) -> None:
    """Refuse a second run of a claim in one cell or script; running a cell again is what a notebook is for."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    run = (claim_id, shell.execution_count if shell else 0)
    if run in _runs:
        raise ClaimError(
            f"{claim_id} was already checked here; a claim is answered in one place: delete one of the two"
        )
    _runs.add(run)


def _show_counts(
    key: str, measured: Mapping[str, Mapping[str, int | float]], found: Mapping[str, Mapping[str, tuple[Claim, str]]]
) -> None:
    heads = ["", *(head for what in measured for head in (what, "as printed"))]
    rows, told = list[list[str]](), list[dict[str, Any]]()
    for variant, by_what in found.items():
        row = [variant]
        for what, values in measured.items():
            if what not in by_what:
                row += ["", ""]
                continue
            claim, failed = by_what[what]
            value = values[variant]
            shown = f"{value / 1e9:.2f}G" if claim.value.endswith("G") else f"{value:,}"
            mark = FAILED if failed else MARKS[claim.verdict]
            row += [shown, f"{mark} {claim.value}" + (f", rightly {claim.corrected}" if claim.corrected else "")]
            told.append(
                {"id": claim.id, "kind": claim.kind, "verdict": claim.verdict, "measured": shown, "failed": failed}
            )
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    plain = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in (heads, *rows))
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        head = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in heads)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
            for row in rows
        )
        table = (
            f'<div class="counts" tabindex="0" role="region" aria-label="Counts of {key}, in a table that scrolls">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
        display({"text/plain": plain, "text/html": table}, raw=True, metadata={"claims": told})
    else:
        print(plain)


def _show(claim: Claim, measures: Sequence[Measure], failed: str) -> None:
    trained = claim.kind == "trained"
    words = []
    for measure in measures:
        recorded = spread(claim.key, claim.id, measure) if trained else None
        record = (recorded.words() if recorded else "not recorded yet") if trained else ""
        words.append(measure.words(about=trained, record=record))
    measured = "; ".join(dict.fromkeys(words))
    markdown = verdict_line(claim, measured, failed)
    plain = re.sub(r"[*$`]", "", markdown)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        told = {"id": claim.id, "kind": claim.kind, "verdict": claim.verdict, "measured": measured, "failed": failed}
        values = {measure.name: measure.value for measure in measures if measure.value is not None}
        display(
            {"text/plain": plain, "text/markdown": markdown},
            raw=True,
            metadata={"claims": [{**told, "values": values}]},
        )
    else:
        print(plain)
