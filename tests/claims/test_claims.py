"""A check prints what it measured, says where that contradicts the record, and refuses what is no measurement."""

import json
import math
from importlib import resources

import numpy as np
import pytest
import torch

from attention_notes import claims
from attention_notes.claims import (
    KINDS,
    MARKS,
    ClaimError,
    above,
    audit,
    below,
    calls,
    check,
    check_counts,
    close,
    collected,
    equal,
    facts,
    found,
    parse_facts,
    records,
    rounds,
    rounds_to,
    shortcomings,
    true,
    within,
)

FACTS = """
paper: {title: A title, authors: Someone, year: 2017, builds_on: {}}
claims:
  some-sum: {says: It is a sum of $x$., source: "note 1, line 2", kind: exact, verdict: holds}
  some-diagonal: {says: It is largest., source: "note 1, line 3", kind: exact, verdict: holds if, if: norms are equal}
  some-cosine: {says: A cosine., source: "note 1, line 4", kind: exact, verdict: does not hold, instead: A dot product.}
  some-size: {says: It has 86M parameters., source: Table 1, kind: counted, value: 86M, verdict: holds}
  some-small-size: {says: S has 22M., source: Table 1, kind: counted, value: 22M, counts: s parameters, verdict: holds}
  some-small-cost: {says: S costs 4.6G., source: Table 1, kind: counted, value: 4.6G, counts: s MACs, verdict: holds}
  some-tiny-size: {says: T has 6M., source: Table 1, kind: counted, value: 6M, counts: t parameters,
    verdict: does not hold, corrected: 5M, instead: It has 5M.}
  some-story: {says: It was first., source: "note 1, line 5", kind: opinion, verdict: cited, reference: someone}
  some-gain: {says: It is better., source: Table 2, kind: trained, verdict: holds here, here: A hundred steps.}
  some-order: {says: It is best., source: Table 3, kind: trained, verdict: not settled here, here: A toy.}
"""


@pytest.fixture(autouse=True)
def written(monkeypatch):
    parsed = parse_facts("some", FACTS)
    monkeypatch.setattr(facts, "keys", lambda: ["some"])
    monkeypatch.setattr(facts, "load_facts", lambda key: parsed)
    monkeypatch.setattr(records, "load_record", lambda key: [])
    claims._runs.clear()


def a_run(shift: int, instructions: str, **values: float) -> dict:
    return {"shift": shift, "instructions": instructions, "values": {"some-gain": values}}


def runs(*values: float, name: str = "gain") -> list[dict]:
    instructions = ("native", "AVX2", "SSE4")
    return [a_run(i % 8, instructions[i % 3], **{name: value}) for i, value in enumerate(values)]


def test_a_verdict_is_one_line_that_says_statement_and_measurement(capsys):
    check("some-sum", equal("rows", 5, 5), close(torch.ones(2), torch.ones(2)))
    assert capsys.readouterr().out == "✓ holds — It is a sum of x. Measured: rows 5; difference below 1e-5.\n"


def test_a_correction_is_shown_beside_the_statement_that_failed(capsys):
    check("some-cosine", below("largest", 3.1234, 1), instead=equal("shape", torch.Size([2, 3]), (2, 3)))
    assert capsys.readouterr().out == (
        "✗ does not hold — A cosine. Instead: A dot product. Measured: largest 3.12 (not below 1); shape (2, 3).\n"
    )


@pytest.mark.parametrize(
    ("claim", "measures", "instead"),
    [
        ("some-sum", [equal("a", 1, 2)], ()),
        ("some-sum", [equal("a", 1, 1), equal("b", 1, 2)], ()),
        ("some-sum", [equal("a", 1, 1)], equal("b", 1, 1)),
        ("some-diagonal", [equal("a", 1, 1)], ()),
        ("some-diagonal", [equal("a", 1, 2)], ()),
        ("some-diagonal", [equal("a", 1, 2)], [equal("b", 1, 1), equal("c", 1, 2)]),
        ("some-diagonal", [equal("a", 1, 1)], equal("b", 1, 1)),
        ("some-cosine", [equal("a", 1, 1)], equal("b", 1, 1)),
        ("some-cosine", [equal("a", 1, 2)], equal("b", 1, 2)),
        ("some-size", [rounds("a", 86_567_656, "86M")], ()),
    ],
)
def test_a_measurement_that_contradicts_the_verdict_is_marked_and_does_not_raise(claim, measures, instead, capsys):
    check(claim, *measures, instead=instead)
    said = capsys.readouterr().out
    assert said.startswith("⚠ contradicted, though recorded as: ")
    assert "Measured: " in said


def test_a_published_number_that_does_not_round_to_what_was_printed_is_marked(capsys):
    check("some-size", ours=86_567_656)
    assert "⚠ contradicted" in capsys.readouterr().out
    claims._runs.clear()
    check("some-size", ours=85_798_656)
    assert capsys.readouterr().out == "✓ holds — It has 86M parameters. Published: 86M. Measured: 85,798,656.\n"


def test_a_trained_value_is_printed_as_approximate_with_its_record(capsys, monkeypatch):
    monkeypatch.setattr(records, "load_record", lambda key: runs(*[0.30, 0.32] * 6))
    check("some-gain", above("gain", 0.3123, 0.2))
    assert capsys.readouterr().out == (
        "◆ holds here — It is better. Here: A hundred steps. "
        "Measured: gain ≈0.312 (above 0.2; 12 of 12 runs, 0.310 ± 0.010).\n"
    )


def test_a_trained_value_on_the_wrong_side_is_outside_its_record(capsys):
    check("some-gain", above("gain", 0.1, 0.2))
    said = capsys.readouterr().out
    assert said.startswith("⚠ outside its record, though recorded as: holds here")
    assert "gain ≈0.1 (not above 0.2; not recorded yet)" in said


def test_what_is_not_settled_cannot_fail(capsys):
    check("some-order", above("lead", -0.1, 0.0), found("steps", 100))
    assert capsys.readouterr().out.startswith("◇ not settled here — It is best.")


COUNTED = {"parameters": {"s": 22_050_664, "t": 5_400_000, "b": 1}, "MACs": {"s": 4.62e9}}


def test_counts_are_one_table_with_a_mark_for_each_printed_number(capsys):
    with collected() as given:
        check_counts("some", COUNTED)
    assert capsys.readouterr().out.splitlines() == [
        "   parameters  as printed        MACs   as printed",
        "s  22,050,664  ✓ 22M             4.62G  ✓ 4.6G",
        "t  5,400,000   ✗ 6M, rightly 5M",
    ]
    assert {claim_id: outcome.failed for claim_id, outcome in given.items()} == dict.fromkeys(
        ["some-small-size", "some-small-cost", "some-tiny-size"], ""
    )


@pytest.mark.parametrize(
    ("what", "variant", "value", "failed"),
    [
        ("parameters", "s", 22_600_000, "some-small-size"),
        ("MACs", "s", 4.7e9, "some-small-cost"),
        ("parameters", "t", 5_700_000, "some-tiny-size"),  # rounds to what was said not to hold
        ("parameters", "t", 4_000_000, "some-tiny-size"),  # and to nothing that was said
    ],
)
def test_a_count_that_contradicts_its_verdict_is_marked(what, variant, value, failed, capsys):
    with collected() as given:
        check_counts("some", COUNTED | {what: COUNTED[what] | {variant: value}})
    assert [claim_id for claim_id, outcome in given.items() if outcome.failed] == [failed]
    assert claims.FAILED in capsys.readouterr().out


def test_a_count_that_was_not_measured_is_an_error():
    with pytest.raises(ClaimError, match="some-small-cost counts 's MACs'; measured are MACs: none"):
        check_counts("some", {"parameters": COUNTED["parameters"]})


def test_what_the_book_says_itself_is_its_own():
    own = parse_facts("some", FACTS.replace("source: Table 2", "source: this chapter"))["claims"]
    assert [claim.id for claim in own if claim.own] == ["some-gain"]


def test_nan_lies_within_no_bounds():
    nan = math.nan
    for measure in (above("a", nan, 0), below("a", nan, 0), within("a", nan, 0, 1), above("a", [1.0, nan], 0)):
        assert not measure
    assert not found("a", nan)
    assert not close(torch.tensor([nan]), torch.tensor([1.0]))
    assert not close(torch.tensor([1.0]), torch.tensor([nan]))
    assert not equal("a", nan, nan)


@pytest.mark.parametrize(
    "no_truth", [math.nan, "yes", torch.ones(0), torch.ones(3) > 0, torch.tensor(1.0), 1, None, []]
)
def test_what_is_no_truth_is_refused(no_truth, unchecked):
    with pytest.raises(ClaimError, match="a truth value was expected"):
        true("it is so", no_truth)
    with pytest.raises(ClaimError, match="is no measurement"):
        check("some-sum", no_truth)


@pytest.mark.parametrize("truth", [True, np.bool_(True), torch.tensor(True), (torch.ones(1) > 0).all()])
def test_truth_values_of_python_numpy_and_pytorch_are_taken(truth, unchecked):
    assert true("it is so", truth)
    with pytest.raises(ClaimError, match="bool True is no measurement"):
        check("some-sum", True)


@pytest.mark.parametrize("empty", [[], {}, torch.ones(0), (), np.ones(0), [[], []]])
def test_nothing_is_no_number(empty):
    with pytest.raises(ClaimError, match="nothing was measured"):
        above("gain", empty, 0)


@pytest.mark.parametrize("value", ["0.9", None, True, torch.tensor(True), object()])
def test_a_text_or_a_truth_is_no_number(value):
    with pytest.raises(ClaimError, match="gain: a number was expected"):
        above("gain", value, 0)


def test_of_several_numbers_each_must_satisfy_the_bound_and_the_worst_is_kept():
    assert above("gain", {"a": 0.5, "b": torch.tensor([0.3, 0.9])}, 0.2).value == pytest.approx(0.3)
    assert not above("gain", [0.5, 0.1], 0.2)
    assert below("gain", np.array([[0.5, 0.7]]), 0.8).value == 0.7
    assert within("gain", (0.5, 0.75), 0, 1).words() == "gain 0.5 to 0.75 (above 0 and below 1)"
    with pytest.raises(ClaimError, match="2 values without a bound"):
        found("gain", [0.5, 0.1])


def test_bounds_are_excluded_on_both_sides():
    assert not above("a", 0.2, 0.2)
    assert not below("a", 0.2, 0.2)
    assert not within("a", 0.2, 0.2, 1)
    assert not within("a", 1, 0.2, 1)


def test_equal_compares_entry_by_entry_and_leaves_floats_in_tensors_to_close():
    assert equal("a", torch.tensor([1, 2]), [1, 2])
    assert equal("a", {"x": torch.Size([1])}, {"x": (1,)})
    assert equal("a", {"x", "y"}, {"y", "x"})
    assert not equal("a", torch.tensor([1, 2]), [1, 3])
    assert not equal("a", (1, 2), (1, 2, 3))
    with pytest.raises(ClaimError, match=r"compare tensors of floating point with close\(\)"):
        equal("a", torch.ones(2), [1, 1])


def test_rounding_noise_shows_its_bound_only():
    assert below("residue", 3.123e-8, 1e-6).words() == "residue below 1e-6"
    assert below("residue", 3.123e-8, 1e-2).words() == "residue 3.12e-8 (below 0.01)"
    assert below("gain", -0.02, 0).words() == "gain -0.02 (below 0)"
    assert below("residue", 2e-6, 1e-6).words() == "residue 2e-6 (not below 1e-6)"


def test_numbers_are_printed_to_three_digits_and_integers_in_full():
    assert found("n", 86_567_656).shown == "86,567,656"
    assert found("n", 12345.678).shown == "12,346"
    assert found("n", 0.123456).shown == "0.123"
    assert found("n", 2.5e-7).shown == "2.5e-7"
    assert found("gain", -0.0123).words(about=True) == "gain ≈-0.0123"
    assert found("rise", 9.15e-5).words(about=True) == "rise ≈9.15e-5"
    assert above("range of 2", [0.5, 2], 0).words(about=True) == "range of 2 ≈0.5 to ≈2 (above 0)"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("some-sun", true("it", True)), {}, r"unknown claim 'some-sun'; did you mean .*some-sum"),
        (("some-sum",), {}, "some-sum: pass what was measured"),
        (("some-sum", True), {}, "bool True is no measurement"),
        (("some-sum", found("gain", 1)), {}, r"found\(\) has no bound"),
        (("some-sum", true("it", True)), {"instead": [True]}, "bool True is no measurement"),
        (("some-sum",), {"ours": 3}, r"ours=3 was given, but papers/some/facts.yml has no value"),
        (("some-story", true("it", True)), {}, "some-story is recorded as cited"),
        (("some-gain", true("it", True)), {}, "some-gain is trained: each measurement is a number"),
        (("some-gain", above("a", 1, 0), above("a", 2, 0)), {}, "a name of its own"),
        (("some-gain", above("a", 1, 0)), {"instead": above("b", 1, 0)}, "and no instead"),
    ],
)
def test_a_mistaken_call_is_an_error(arguments, options, message, unchecked):
    with pytest.raises(ClaimError, match=message):
        check(*arguments, **options)


def test_a_claim_run_twice_is_an_error():
    check("some-sum", true("it", True))
    with pytest.raises(ClaimError, match=r"some-sum was already checked here.*delete one"):
        check("some-sum", true("it", True))


def test_what_checks_are_given_can_be_collected():
    with collected() as given:
        check("some-gain", above("gain", 0.3, 0.2))
    check("some-sum", true("it", True))
    assert [*given] == ["some-gain"]
    (measure,), failed = given["some-gain"]
    assert (measure.name, measure.value, failed) == ("gain", 0.3, "")
    claims._runs.clear()
    with collected() as given:
        check("some-gain", above("gain", 0.1, 0.2))
        check("some-sum", true("it", False))
    assert {claim: outcome.failed for claim, outcome in given.items()} == {
        "some-gain": claims.OUTSIDE,
        "some-sum": claims.CONTRADICTED,
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.85, 0.89], "2 runs, 0.870 ± 0.028"),
        ([-0.0001, 0.00005], "2 runs, -0.00003 ± 0.00011"),
        ([-1e-9, 1e-9], "2 runs, 0.000000 ± 0.000000"),
        ([1000, 1400], "2 runs, 1,200 ± 283"),
        ([1.0, 1.0], "2 runs, 1.00 ± 0.00"),
        ([math.nan, 1.0], "2 runs, some of them not a number"),
    ],
)
def test_a_spread_is_printed_to_two_digits_of_its_deviation(values, words):
    assert records.Spread(tuple(values)).words() == words


BOUND = {"gain": (0.2, math.inf)}
FREE = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("recorded", "verdict", "bounds", "message"),
    [
        (runs(*[0.3] * 12), "holds here", BOUND, None),
        (runs(*[0.3] * 11), "holds here", BOUND, "11 runs are recorded, 12 are needed"),
        (runs(*[0.3] * 11, 0.19), "holds here", BOUND, "on its side in 11 of 12 runs"),
        (runs(*[0.21, 0.29] * 6), "holds here", BOUND, "standard deviations from the bound"),
        (runs(*[0.21, 0.29] * 6), "not settled here", BOUND, None),
        (runs(*[0.3] * 11), "not settled here", BOUND, "11 runs are recorded, 12 are needed"),
        ([], "not settled here", BOUND, "0 runs are recorded"),
        (runs(*[0.3] * 12), "holds here", {"gain": (-math.inf, 0.2)}, "on its side in 0 of 12 runs"),
        (runs(*[0.3] * 12), "holds here", {"loss": (0.2, math.inf)}, "'loss' is missing from 12 runs"),
        (runs(*[0.3] * 12), "not settled here", {"loss": (0.2, math.inf)}, "'loss' is missing from 12 runs"),
        (runs(*[math.nan] * 12), "holds here", BOUND, "on its side in 0 of 12 runs"),
        (runs(*[0.3] * 12), "holds here", {"gain": FREE}, "without a bound"),
        (
            [a_run(i % 8, ["native", "SSE4", "AVX2"][i % 3], gain=0.3, loss=i) for i in range(12)],
            "holds here",
            {**BOUND, "loss": FREE},
            None,
        ),
        ([a_run(1, "native", gain=0.3)] * 12, "holds here", BOUND, "1 seeds and 1 instruction sets are too few"),
    ],
)
def test_a_record_must_bear_its_verdict(recorded, verdict, bounds, message):
    problems = shortcomings("some-gain", verdict, recorded, bounds)
    assert not problems if message is None else message in " ".join(problems), problems


def test_every_record_that_ships_can_be_read():
    wanted = {"instructions", "shift", "code", "seconds", "processor", "torch", "python", "commit", "date"}
    files = (folder / "evidence.json" for folder in (resources.files("attention_notes") / "papers").iterdir())
    records = [run for file in files if file.is_file() for run in json.loads(file.read_text("utf-8"))["runs"]]
    assert records
    assert [run for run in records if not wanted <= {*run}] == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{says: S, source: '', kind: exact, verdict: holds}", "some-new has no source: name the note and line"),
        ("{says: S, source: T, verdict: holds}", "has kind 'None'|has kind None"),
        ("{says: S, source: T, kind: vague, verdict: holds}", "has kind 'vague'; known: exact, counted"),
        ("{says: S, source: T, kind: exact, verdict: maybe}", "'exact' has one of: holds, holds if, does not hold"),
        ("{says: S, source: T, kind: trained, verdict: does not hold, instead: I}", "one of: holds here, not settled"),
        ("{says: S, source: T, kind: opinion, verdict: holds}", "'opinion' has one of: cited"),
        ("{says: S, source: T, kind: exact, verdict: holds if}", "needs an entry 'if'"),
        ("{says: S, source: T, kind: exact, verdict: does not hold}", "needs an entry 'instead'"),
        ("{says: S, source: T, kind: opinion, verdict: cited}", "needs an entry 'reference'"),
        ("{says: S, source: T, kind: trained, verdict: holds here}", "needs an entry 'here'"),
        ("{says: S, kind: exact, verdict: holds}", "some-new has no source: name the note and line"),
        ("{says: S, source: T, kind: exact, verdict: holds, sauce: T}", "some-new has the unknown entry 'sauce'"),
        (
            f"{{says: S, source: T, kind: exact, verdict: holds, quote: {'w ' * 26}}}",
            "quotes 26 words; 25 are the most",
        ),
    ],
)
def test_a_fact_that_lacks_what_it_needs_is_named(entry, message):
    with pytest.raises(ClaimError, match=message):
        parse_facts("some", f"paper: {{title: A}}\nclaims: {{some-new: {entry}}}")


def test_every_verdict_belongs_to_a_kind_and_has_a_mark_of_its_own():
    assert {verdict for possible in KINDS.values() for verdict in possible} == {*MARKS}
    assert len({*MARKS.values()}) == len(MARKS)


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
    assert bool(rounds("n", ours, printed)) is fits


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ClaimError, match="cannot read the published value 'about 86'"):
        rounds_to(86, "about 86")


def test_close_keeps_the_promise_of_each_precision():
    one = torch.ones(3)
    assert close(one, one + 9.9e-6)
    assert not close(one, one + 1.02e-5)
    assert close(one.double(), one.double() + 9.9e-11)
    assert not close(one.double(), one.double() + 1.01e-10)
    assert close(one.bfloat16(), one + 0.029)
    assert not close(one.bfloat16(), one + 0.031)
    assert close(one, (one + 0.0039).half())
    assert not close(one, (one + 0.005).half())
    assert close(1000 * one, 1000 * one + 9.5e-3)
    assert not close(1000 * one, 1000 * one + 1.1e-2)
    assert not close(1e-3 * one, 1e-3 * one + 1.1e-5), "small values are compared as they are"
    assert not close(one, torch.tensor([1, 1, float("nan")]))
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        close(one, one[:2])
    with pytest.raises(ClaimError, match="two empty tensors"):
        close(one[:0], one[:0])


def test_ids_are_read_from_the_cells_without_running_them():
    assert list(calls("check('a', f(check('b', 1)))\nother('c')")) == ["a", "b"]
    assert list(calls("check_counts('some', {})")) == ["some-small-size", "some-small-cost", "some-tiny-size"]
    with pytest.raises(ClaimError, match="check_counts\\(\\) needs its chapter's key as a literal string"):
        list(calls("check_counts(key, {})"))
    with pytest.raises(ClaimError, match="line 1: check\\(\\) needs its claim's id as a literal string"):
        list(calls("check(name, True)"))


def test_the_audit_names_unknown_double_missing_and_mistaken_claims():
    counts = ["some-small-size", "some-small-cost", "some-tiny-size"]
    run = [*counts, "some-sum", "some-sum", "some-else", "some-diagonal", "some-story", "some-gain", "some-order"]
    assert audit("some", run, ["some-cosine"]) == [
        "some.md has 'some-sum' 2 times; a claim is answered in one place",
        "some.md has 'some-else', which papers/some/facts.yml does not know",
        "some.md runs 'some-story', facts say otherwise",
        "some.md cites 'some-cosine', facts say otherwise",
        "some.md does not answer 'some-size'",
    ]
    run = [*counts, "some-sum", "some-diagonal", "some-cosine", "some-size", "some-gain", "some-order"]
    assert audit("some", run, ["some-story"]) == []
