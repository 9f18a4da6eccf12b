"""A check refuses what is not so: unknown, twice, without source, or measured to be otherwise."""

import pytest
import torch

from attention_notes import claims
from attention_notes.claims import ClaimError, audit, calls, check, close, parse_facts, rounds_to

FACTS = """
paper: {title: A title, authors: Someone, year: 2017, builds_on: {}}
claims:
  some-sum: {says: It is a sum of $x$., source: "note 1, line 2", verdict: holds}
  some-diagonal: {says: It is largest., source: "note 1, line 3", verdict: holds if, if: all norms are equal}
  some-cosine: {says: It is a cosine., source: "note 1, line 4", verdict: does not hold, instead: It is a dot product.}
  some-size: {says: It has 86M parameters., source: Table 1, value: 86M, verdict: holds}
  some-story: {says: It was first., source: "note 1, line 5", verdict: told, reference: someone}
"""


@pytest.fixture(autouse=True)
def facts(monkeypatch):
    parsed = parse_facts("some", FACTS)
    monkeypatch.setattr(claims, "keys", lambda: ["some"])
    monkeypatch.setattr(claims, "load_facts", lambda key: parsed)
    claims._runs.clear()


def test_a_verdict_is_one_line_that_says_statement_and_measurement(capsys):
    check("some-sum", True, measured="5 of 5")
    assert capsys.readouterr().out == "✓ holds — It is a sum of x. Measured: 5 of 5.\n"


def test_a_correction_is_shown_with_the_statement_that_failed(capsys):
    check("some-cosine", False, instead=True)
    assert capsys.readouterr().out == "✗ does not hold — It is a cosine. Instead: It is a dot product.\n"


@pytest.mark.parametrize(
    ("claim", "arguments"),
    [
        ("some-sum", {"statement": False}),
        ("some-sum", {"statement": True, "instead": True}),
        ("some-diagonal", {"statement": True}),
        ("some-diagonal", {"statement": False}),
        ("some-diagonal", {"statement": False, "instead": False}),
        ("some-diagonal", {"statement": True, "instead": True}),
        ("some-cosine", {"statement": True, "instead": True}),
        ("some-cosine", {"statement": False, "instead": False}),
        ("some-size", {"ours": 86_567_656}),
        ("some-story", {"statement": True}),
    ],
)
def test_a_measurement_that_contradicts_the_verdict_is_an_error(claim, arguments):
    with pytest.raises(ClaimError, match=f"{claim} is recorded as"):
        check(claim, **arguments)


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ClaimError, match=r"unknown claim 'some-sun'; did you mean .*some-sum"):
        check("some-sun", True)


def test_a_claim_run_twice_is_an_error():
    check("some-sum", True)
    with pytest.raises(ClaimError, match=r"some-sum was already checked here.*delete one"):
        check("some-sum", True)


def test_a_number_is_held_against_a_value_only():
    with pytest.raises(ClaimError, match=r"ours=3 was given, but its entry in facts/some.yml has no value"):
        check("some-sum", ours=3)
    with pytest.raises(ClaimError, match="pass either"):
        check("some-sum")


def test_a_whole_tensor_has_no_truth():
    with pytest.raises(ClaimError, match=r"not a tensor of shape \(3,\)"):
        check("some-sum", torch.ones(3) > 0)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{says: S, source: '', verdict: holds}", "some-new has no source: name the note and line"),
        ("{says: S, source: T, verdict: maybe}", "has verdict 'maybe'; known: holds, holds if"),
        ("{says: S, source: T, verdict: holds if}", "needs an entry 'if'"),
        ("{says: S, source: T, verdict: does not hold}", "needs an entry 'instead'"),
        ("{says: S, source: T, verdict: told}", "needs an entry 'reference'"),
        ("{says: S, verdict: holds}", "some-new has no source: name the note and line"),
        ("{says: S, source: T, verdict: holds, sauce: T}", "some-new has the unknown entry 'sauce'"),
    ],
)
def test_a_fact_that_lacks_what_it_needs_is_named(entry, message):
    with pytest.raises(ClaimError, match=message):
        parse_facts("some", f"paper: {{title: A}}\nclaims: {{some-new: {entry}}}")


@pytest.mark.parametrize(
    ("ours", "printed", "fits"),
    [
        (85_798_656, "86M", True),
        (86_567_656, "86M", False),
        (17.56e9, "17.6G", True),
        (17.66e9, "17.6G", False),
        (0.9849, "98%", True),
        (0.9851, "98%", False),
        (196, "196", True),
        (196.4, "196", False),
        (28.4, "28.4", True),
        (5_717_416, "5,717,416", True),
    ],
)
def test_a_number_rounds_to_what_was_printed_or_does_not(ours, printed, fits):
    assert rounds_to(ours, printed) is fits


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ClaimError, match="cannot read the published value 'about 86'"):
        rounds_to(86, "about 86")


def test_close_keeps_the_promise_of_each_precision():
    one = torch.ones(3)
    assert close(one, one + 9e-6)
    assert not close(one, one + 3e-5)
    assert close(one.double(), one.double() + 5e-11)
    assert not close(one.double(), one.double() + 5e-10)
    assert close(1000 * one, 1000 * one + 5e-3)
    assert not close(one, torch.tensor([1, 1, float("nan")]))
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        close(one, one[:2])


def test_ids_are_read_from_the_cells_without_running_them():
    assert list(calls("check('a', f(check('b', 1)))\nother('c')")) == ["a", "b"]
    with pytest.raises(ClaimError, match="line 1: check\\(\\) needs its claim's id as a literal string"):
        list(calls("check(name, True)"))


def test_the_audit_names_unknown_double_missing_and_mistaken_claims():
    run = ["some-sum", "some-sum", "some-else", "some-diagonal", "some-story"]
    assert audit("some", run, ["some-cosine"]) == [
        "some.md has 'some-sum' 2 times; a claim is answered in one place",
        "some.md has 'some-else', which facts/some.yml does not know",
        "some.md runs 'some-story', facts say otherwise",
        "some.md tells 'some-cosine', facts say otherwise",
        "some.md does not answer 'some-size'",
    ]
    assert audit("some", ["some-sum", "some-diagonal", "some-cosine", "some-size"], ["some-story"]) == []
