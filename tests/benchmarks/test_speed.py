"""What the page on performance is made from: the recorded measurement, and how it is read."""

import pytest

from attention_notes.chapters import speed

ROW = {
    "case": "a model",
    "key": "vit",
    "work": "inference",
    "batch": 8,
    "threads": 2,
    "seconds": 0.25,
    "ratios": {"slow": [3.0, 2.5, 3.5], "quick": [1.25, 1.11, 1.5]},
    "control": [1.0, 0.99, 1.02],
    "memory": {"ours": 10, "slow": 10, "quick": 40},
    "share": 0.875,
    "kept": False,
    "chunked": False,
    "compiled": False,
}


def test_the_best_peer_is_the_quickest_and_a_goal_is_reached_by_the_lower_end():
    assert speed.best(ROW) == "quick"
    assert speed.reached(ROW, 1.11)
    assert not speed.reached(ROW, 1.12)
    assert speed.reached(ROW, None) is None


def test_the_table_says_what_the_row_says():
    text = repr(speed.table([ROW], {"a model": {"inference": 1.2}}))
    for part in ("a model", "250.0", "quick", "1.25", "1.11 to 1.50", "1.20 ✗", "1.00, 0.99 to 1.02", "0.25", "88%"):
        assert part in text, part
    page = speed.table([ROW], {"a model": {}})._repr_html_()
    assert '<tr data-chapter="vit">' in page
    assert '<td data-value="1.25">1.25</td>' in page


def test_the_table_leaves_out_the_columns_that_it_is_told():
    whole, short = (speed.table([ROW], {"a model": {}}, without=names) for names in ((), ("inputs", "threads")))
    assert [*short.columns] == [name for name in whole.columns if name not in ("inputs", "threads")]
    gone = [whole.columns.index(name) for name in ("inputs", "threads")]
    assert short.rows[0] == [cell for i, cell in enumerate(whole.rows[0]) if i not in gone]


def test_the_headline_is_the_largest_of_every_case_on_all_threads():
    one, big, other = {**ROW, "batch": 1}, {**ROW, "batch": 16}, {**ROW, "threads": 1}
    kept, training, chunks = {**ROW, "kept": True}, {**ROW, "work": "training"}, {**ROW, "chunked": True}
    rows = [one, ROW, big, other, kept, training, chunks, {**ROW, "compiled": True}]
    assert speed.headline(rows, "inference") == {"a model": ROW}
    assert speed.headline(rows, "inference, in chunks") == {"a model": chunks}


def test_memory_kept_stands_beside_memory_given_back():
    kept = {**ROW, "kept": True, "seconds": 0.2, "ratios": {"quick": [1.1, 1.0, 1.2]}}
    (line,) = speed.heaps([ROW, kept]).rows
    assert [cell.text for cell in line] == ["a model", "1.25", "1.10", "–", "–", "250.0", "200.0", "312.5", "220.0"]
    chunks = [{**row, "chunked": True, "ratios": {"quick": [1.5, 1.4, 1.6]}} for row in (ROW, kept)]
    (line,) = speed.heaps([ROW, kept, *chunks]).rows
    assert [cell.text for cell in line][:5] == ["a model", "1.25", "1.10", "1.50", "1.50"]


def test_what_was_not_measured_is_said():
    with pytest.raises(ValueError, match=r"nothing was measured on 'abacus'; in .*records there is: cpu"):
        speed.results("abacus")


def test_what_a_gpu_gave_is_shown_with_its_kernels_and_what_failed():
    row = {"name": "Swin-T", "dtype": "bfloat16", "compiled": True}
    found = {
        "machine": {"device": "a GPU", "versions": {"torch": "2.13.0"}, "date": "2026-11-28"},
        "contract": {"passed": 400, "skipped": 2, "failures": 1},
        "notebooks": {"vit": {"outside": ["a: b 1"], "error": ""}, "swin": {"error": "cell 3 raised"}},
        "kernels": [{**row, "kernels": ["efficient_attention"]}, {**row, "compiled": False, "error": "no"}],
        "ratios": [{**row, "ratio": [1.25, 1.2, 1.3], "seconds": 0.01}, {**row, "compiled": False, "error": "no"}],
        "left out": ["ratio ViT-B/16"],
    }
    said = speed.summary(found)
    assert "a GPU, torch 2.13.0, 2026-11-28" in said
    assert "400 tests passed, 1 failed, 2 skipped" in said
    assert "2 chapters, 1 failed; 1 trained values outside" in said
    assert "left out for want of time: ratio ViT-B/16" in said
    (line,) = speed.gpu_table(found).rows
    expected = ["Swin-T", "bfloat16", "compiled", "efficient_attention", "1.25", "1.20 to 1.30", "10.0"]
    assert [cell.text for cell in line] == expected


def test_without_a_gpu_the_page_says_so():
    assert "no GPU has been at hand" in speed.summary({})
    assert "timm takes" in repr(speed.gpu_table({}))


def test_the_recorded_measurement_is_whole():
    found = speed.results()
    assert {row["case"] for row in found["rows"]} == found["goals"].keys()
    assert all(row["apart"] < 1e-5 and row["pairs"] >= 8 for row in found["rows"])
    assert all(low <= median <= high for row in found["rows"] for median, low, high in row["ratios"].values())
    assert {"inference", "training"} == {row["work"] for row in found["rows"]}
    assert len(found["growth"]) == 10
    off = {form["form"]: form["memory"] - form["claimed"]["memory"] for form in found["growth"]}
    assert all(abs(difference) < 0.1 for difference in off.values()), off
    assert max(form["tokens"][-1] for form in found["growth"]) == 224 * 224


def test_writing_shows_each_setting_with_what_a_peer_takes_and_holds():
    ratios = {"transformers": [1.25, 1.1, 1.4]}
    row = {"model": "language", "beams": 4, "batch": 8, "tokens a second": 61.4, "ratios": ratios}
    row |= {"memory": {"ours": 30, "transformers": 40}, "control": [1.0, 0.9, 1.1], "column-major": None}
    plain = row | {"model": "translation", "beams": 1, "ratios": ratios | {speed.PLAIN: [3.0, 2.5, 3.5]}}
    plain["column-major"] = [1.3, 1.2, 1.5]
    first, second = ([cell.text for cell in line] for line in speed.writing([row, plain]).rows)
    assert first == ["GPT-2", "4", "8", "1.25", "1.10 to 1.40", "–", "–", "61", "0.75", "1.00, 0.90 to 1.10"]
    assert [*second[:2], *second[5:7]] == ["Transformer, base", "1", "1.30, 1.20 to 1.50", "3.00, 2.50 to 3.50"]
