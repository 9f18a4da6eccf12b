"""The ledger's fields leave what a reader asks for."""

import re

import pytest

from attention_notes.claims import claims
from tests.book.built import page_of
from tests.book.visiting import quiet, visit

EVERY = [claim for claim in claims().values() if not claim.own]


@pytest.fixture
def ledger(browser, address):
    page = quiet(browser.new_page())
    visit(page, f"{address}/{page_of('ledger')}.html")
    yield page
    assert page.problems == []
    page.close()


def shown(page) -> set[str]:
    ids = page.locator("p.verdict[id^=ledger-]:visible").evaluate_all("entries => entries.map(entry => entry.id)")
    return {name.removeprefix("ledger-") for name in ids}


def test_every_field_narrows_and_all_of_them_together(ledger):
    assert shown(ledger) == {claim.id for claim in EVERY}
    ledger.select_option("[name=verdict]", "does-not-hold")
    fallen = {claim.id for claim in EVERY if claim.verdict == "does not hold"}
    assert shown(ledger) == fallen
    assert ledger.locator(".ledger-filter output").inner_text() == f"{len(fallen)} of {len(EVERY)} statements"
    ledger.select_option("[name=kind]", "counted")
    counted = {claim.id for claim in EVERY if claim.id in fallen and claim.kind == "counted"}
    assert shown(ledger) == counted
    ledger.select_option("[name=chapter]", "swin")
    assert shown(ledger) == {name for name in counted if name.startswith("swin")}
    assert ledger.locator("section[id^=ledger-]:visible").count() == 1
    for field in ("verdict", "kind", "chapter"):
        ledger.select_option(f"[name={field}]", "")
    ledger.fill("[name=words]", "Shifted window")
    assert "swin-shifted-not-sliding" in shown(ledger)
    assert len(shown(ledger)) < len(EVERY) / 10
    ledger.fill("[name=words]", "xyzzy")
    assert shown(ledger) == set()
    ledger.fill("[name=words]", "")
    assert shown(ledger) == {claim.id for claim in EVERY}


def test_it_answers_at_once(ledger):
    """From a key to the new list in a twentieth of a second, with room for three times as many statements."""
    spent = ledger.evaluate("""() => {
        const words = document.querySelector(".ledger-filter [name=words]");
        const times = [..."attention"].map((_, i, letters) => {
            words.value = letters.slice(0, i + 1).join("");
            const start = performance.now();
            words.dispatchEvent(new Event("input", { bubbles: true }));
            return performance.now() - start;
        });
        return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    }""")
    assert spent < 50, spent


def test_without_the_script_everything_is_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{page_of('ledger')}.html")
    assert shown(page) == {claim.id for claim in EVERY}
    assert not page.locator(".ledger-filter").is_visible()
    context.close()


def test_files_named_in_statements_are_no_links(site):
    text = (site / f"{page_of('ledger')}.html").read_text(encoding="utf-8")
    assert re.findall(r'href="https?://[\w.-]+\.(?:md|py|yml)"', text) == []
