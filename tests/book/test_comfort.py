"""What makes reading easy: times, records, neighbours, large figures, the glossary, the search, slides and paper."""

import posixpath
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser
from docutils.utils import new_document
from executed import addresses, reading, record, search, slides, sources

from tests.book.built import KEYS, LEAST, NOTEBOOKS, PAGES, ROOT, form_of, jupyter_book, page_of
from tests.book.visiting import visit


def page(*children: nodes.Node) -> nodes.document:
    document = new_document("page", get_default_settings(Parser))
    document += children
    return document


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# The reading time


def test_words_and_the_symbols_of_formulas_are_counted_and_code_is_not():
    document = page(
        nodes.paragraph("", "Two well-known words, don't you think? ", nodes.math("", r"\frac{Q_i}{\sqrt{d}}")),
        nodes.literal_block("", "not = counted"),
        nodes.admonition("", nodes.paragraph("", "Nor this."), classes=["dropdown"]),
        nodes.math_block("", r"\begin{aligned} y = \mathrm{softmax}(QK^T) \end{aligned}"),
    )
    assert reading.count_words(document) == 6 + 4 + 4


def test_the_reading_time_says_what_it_was_reckoned_from():
    assert reading.sentence(4321).startswith("<b>About 22 minutes to read</b>: 4,321 words at 200 a minute")
    assert "About 1 minute to" in reading.sentence(3)


def test_every_chapter_says_how_long_it_takes_and_the_other_pages_do_not(site):
    said = {key: text(site / f"{page_of(key)}.html") for key in NOTEBOOKS}
    minutes = {key: re.findall(r"About (\d+) minutes? to read", page) for key, page in said.items()}
    assert [key for key, found in minutes.items() if len(found) != 1] == []
    assert all(4 < int(minutes[key][0]) < 60 for key in KEYS), minutes
    assert "to read</b>" not in text(site / "book/pages/notation.html")


# When it was executed


def test_the_record_says_what_is_known_and_no_more():
    told = {"date": "2026-11-21", "seconds": 61.5, "commit": "0123456789", "python": "3.11.7", "torch": "2.13.0"}
    line = record.sentence(told, "https://github.com/a/b")
    assert re.sub("<[^>]*>", "", line) == (
        "Executed on 21 November 2026 at commit 0123456, with Python 3.11.7 and torch 2.13.0, in 62 seconds."
    )
    assert 'href="https://github.com/a/b/commit/0123456789"' in line
    assert "with changes that were not committed" in record.sentence({**told, "changed": True}, "")
    assert re.sub("<[^>]*>", "", record.sentence({"date": "2026-11-01"}, "")) == "Executed on 1 November 2026."


def test_every_chapter_says_when_it_was_executed(site):
    for key in NOTEBOOKS:
        (line,) = re.findall(r'<p class="executed">(.*?)</p>', text(site / f"{page_of(key)}.html"))
        assert re.search(r'<time datetime="20\d\d-\d\d-\d\d">', line), key
        assert re.search(r"with Python 3\.\d+\.\d+.*, in \d+ seconds?\.$", line), key


CHAPTER = """---
jupytext: {{text_representation: {{extension: .md, format_name: myst}}}}
kernelspec: {{name: python3, display_name: Python 3}}
---
# {title}

## The idea in one sentence

Everything in *one* sentence, as {{doc}}`../pages/intro` has it.

$$y = Wx$$

$$y = Wx$$

```{{code-cell}}
from attention_notes.nn.heads import check_heads
print(check_heads.__name__, "{title}")
```
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A small book in a repository of its own, with two chapters, built."""
    root = tmp_path_factory.mktemp("house")
    leave = shutil.ignore_patterns("__pycache__", "*.ipynb", "*.egg-info")
    for folder in ("book/_ext", "book/_static", "src"):
        shutil.copytree(ROOT / folder, root / folder, ignore=leave)
    for file in ("requirements.txt", "_config.yml"):
        shutil.copy(ROOT / file, root)
    (root / "book/references.bib").touch()
    (root / ".gitignore").write_text("_build\n*.ipynb\n__pycache__\n", encoding="utf-8")
    (root / "book/chapters").mkdir()
    (root / "book/pages").mkdir()
    (root / "book/pages/intro.md").write_text("# A small book\n", encoding="utf-8")
    for name in ("one", "two"):
        (root / f"book/chapters/{name}.md").write_text(CHAPTER.format(title=name.title()), encoding="utf-8")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/pages/intro\nchapters: [{file: book/chapters/one}, {file: book/chapters/two}]\n",
        encoding="utf-8",
    )
    git(root, "init", "--quiet")
    commit(root)
    build(root)
    return root


def git(root: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "a step")
    return git(root, "rev-parse", "--short=7", "HEAD")


def build(root: Path) -> None:
    done = jupyter_book(root)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def foot(root: Path, name: str) -> str:
    (line,) = re.findall(r'<p class="executed">(.*?)</p>', text(root / f"_build/html/book/chapters/{name}.html"))
    return re.sub("<[^>]*>", "", line)


def test_the_record_is_of_the_execution_and_not_of_the_build(small):
    first = git(small, "rev-parse", "--short=7", "HEAD")
    before = foot(small, "one")
    assert f"at commit {first}, with Python 3." in before
    assert re.search(r"torch \d+\.\d+", before)
    with (small / "book/chapters/one.md").open("a", encoding="utf-8") as chapter:
        chapter.write("\nA last word.\n")
    second = commit(small)
    assert second != first
    build(small)
    assert foot(small, "one") == before, "the page was made anew, and nothing was executed"
    assert "A last word." in text(small / "_build/html/book/chapters/one.html")
    chapter = small / "book/chapters/two.md"
    chapter.write_text(text(chapter).replace('"Two"', '"Another"'), encoding="utf-8")
    build(small)
    assert f"at commit {second}, with changes that were not committed" in foot(small, "two")
    assert foot(small, "one") == before


def test_a_formula_without_a_label_has_an_address_that_follows_from_it(small):
    built = text(small / "_build/html/book/chapters/one.html")
    first, second = re.findall(r'<div class="math" id="([^"]*)"', built)
    assert re.fullmatch(r"formula-[0-9a-f]{8}", first)
    assert second == f"{first}-2"
    assert f'href="#{first}"' in built
    assert f'href="#{second}"' in built


# Addresses


def test_an_unlabelled_formula_keeps_its_name_when_others_come_before_it():
    def names(*formulas: str) -> list[str]:
        document = page(*(nodes.math_block("", formula) for formula in formulas))
        addresses.name_equations(document)
        return [node["ids"][0] for node in document.findall(nodes.math_block)]

    assert names("a = b", "c")[0] == names("d", "a  =\nb")[1]
    assert len({*names("x", "x", "x")}) == 3


# Neighbours


def test_previous_and_next_follow_the_order_of_the_book_and_name_their_pages(site):
    for i, name in enumerate(PAGES):
        area = text(site / f"{name}.html").partition('class="prev-next-area"')[2].partition("</footer>")[0]
        linked = [link.removesuffix(".html") for link in re.findall(r'href="([^"]*)"', area)]
        around = [PAGES[j] for j in (i - 1, i + 1) if 0 <= j < len(PAGES)]
        assert [posixpath.normpath(posixpath.join(posixpath.dirname(name), link)) for link in linked] == around, name
        titles = [re.sub("<[^>]*>", "", t).strip() for t in re.findall(r'prev-next-title">(.*?)</p>', area, re.DOTALL)]
        assert len(titles) == len(around), name
        assert all(titles), name


# The glossary and the search


def test_the_glossary_has_each_term_in_both_languages_with_a_link_to_its_section(site):
    glossary = text(site / "book/pages/glossary.html")
    entries = re.findall(r"((?:<dt\b.*?</dt>\s*)+)<dd>(.*?)</dd>", glossary, re.DOTALL)
    assert len(entries) >= 50
    for terms, said in entries:
        assert 'lang="zh"' in terms, terms
        assert len(re.findall("<dt", terms)) >= 2
        assert re.search(r'class="introduced"><a class="reference internal" href="[a-z0-9_./]+\.html#[\w-]+"', said), (
            said
        )


def test_a_word_is_cut_where_the_script_changes_and_chinese_into_all_that_may_be_words():
    assert search.pieces("swin_t") == ["swin_t"]
    assert search.pieces("残差连接") == ["残差", "残差连", "残差连接", "差连", "差连接", "连接"]
    assert search.pieces("Swin窗口") == ["Swin", "窗口"]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("softmax", "book/pages/glossary.html#term-softmax"),
        ("swin_t", "book/chapters/swin.html"),
        ("B/16", "book/chapters/vit.html"),
        ("PVT", "book/chapters/pvt.html"),
        ("sqrt(d)", "book/chapters/self_attention.html"),
        ("d_k", "book/chapters/transformer.html"),
        ("自注意力", "book/pages/glossary.html#term-"),
        ("位置编码", "book/pages/glossary.html#term-"),
        ("残差", "book/pages/glossary.html"),
        ("窗口自注意力", "book/pages/glossary.html"),
    ],
)
def test_the_search_leads_to(query, wanted, address, browser):
    tab = browser.new_page()
    visit(tab, f"{address}/search.html")
    visit(tab, f"{address}/search.html?q={query.replace('/', '%2F')}")
    tab.wait_for_selector("#search-results li a")
    found = tab.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    plain = [re.sub(r"\?.*?(?=#|$)", "", link).removeprefix(f"{address}/") for link in found]
    assert [link for link in plain[:5] if link.startswith(wanted)], plain[:8]
    tab.close()


# Large figures


@pytest.mark.parametrize("width", [1280, 390])
def test_a_figure_opens_large_and_gives_the_focus_back(width, address, browser):
    tab = browser.new_page(viewport={"width": width, "height": 800})
    visit(tab, f"{address}/book/chapters/vit.html")
    figure = tab.locator("figure#fig-vit-cost")
    number = figure.locator(".caption-number").inner_text().strip()
    button = figure.get_by_role("button", name=f"{number}: open large")
    button.focus()
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog", name=number)
    assert dialog.is_visible()
    assert "The cost of ViT-B" in dialog.locator("figcaption").inner_text()
    shown = dialog.locator("img").bounding_box()
    assert shown["width"] * shown["height"] > figure.locator("img").bounding_box()["width"] ** 2
    assert tab.evaluate("document.querySelectorAll('[id=fig-vit-cost]').length") == 1
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("button => button === document.activeElement")
    figure.locator("img").click()
    assert dialog.is_visible()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    assert button.evaluate("button => button === document.activeElement")
    tab.close()


def test_the_script_for_large_figures_moves_nothing(address, browser):
    script = (ROOT / "_build/html/_static/dressed.js").read_text(encoding="utf-8")
    without = script.replace((ROOT / "book/_static/large.js").read_text(encoding="utf-8"), "")
    assert len(without) < len(script)
    places = []
    for scripts in (True, False):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = context.new_page()
        if not scripts:
            tab.route("**/dressed.js*", lambda route: route.fulfill(body=without))
        visit(tab, f"{address}/book/chapters/vit.html")
        places.append(tab.evaluate("[...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().top)"))
        assert (tab.locator(".open-large").count() > 2) == scripts
        context.close()
    assert places[0] == places[1]


def test_an_address_shows_to_who_points_at_its_place_or_comes_by_the_keyboard(address, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    visit(tab, f"{address}/book/chapters/vit.html")
    for place in ("p.verdict#claim-vit-patchify-is-conv", "div.math#equation-eq-vit-msa"):
        link = tab.locator(f"{place} a.headerlink")
        seen = lambda link=link: link.evaluate("link => getComputedStyle(link).opacity")  # noqa: E731
        assert seen() == "0"
        tab.locator(place).hover()
        assert seen() == "1"
        tab.mouse.move(0, 0)
        assert seen() == "0"
        link.evaluate("link => { link.closest('p, div').tabIndex = -1; link.closest('p, div').focus() }")
        for _ in range(3):
            tab.keyboard.press("Tab")
            if link.evaluate("link => link === document.activeElement"):
                break
        assert seen() == "1"
    tab.close()


# Slides


def test_slides_show_what_a_section_shows_and_nothing_that_is_folded():
    figure = nodes.figure("", nodes.image(uri="a.png"))
    inner = nodes.section("", nodes.title("", "Inner"), figure, ids=["inner"])
    folded = nodes.admonition("", nodes.math_block("", "z"), classes=["dropdown"])
    equations = [nodes.math_block("", name) for name in "abcde"]
    outer = nodes.section("", nodes.title("", "Outer"), *equations, folded, inner, ids=["outer"])
    made = slides.outline(page(outer))
    assert [(slide.section, len(slide.shown)) for slide in made] == [("outer", 4), ("outer", 1), ("inner", 1)]


def test_a_slide_points_where_the_page_did():
    fragment = (
        '<p id="x"><a href="#here">a</a><a href="b.html#c">b</a><img src="../../_images/i.png"><a href="https://e.org">'
    )
    moved = slides.relink(fragment + '<a class="headerlink" href="#x">#</a>', "book/chapters/vit")
    assert moved == (
        '<p><a href="../book/chapters/vit.html#here">a</a><a href="../book/chapters/b.html#c">b</a>'
        '<img src="../_images/i.png"><a href="https://e.org">'
    )


def test_every_chapter_with_figures_has_its_slides_and_a_link_to_them(site):
    for key in KEYS:
        made, chapter = text(site / f"slides/{key}.html"), text(site / f"{page_of(key)}.html")
        assert f'href="../../slides/{key}.html"' in chapter, key
        assert made.count('class="slide"') >= LEAST[form_of(key)]["slides"], key
        assert made.count("<figure") == len(re.findall(r'<figure class="[^"]*" id="(?:fig|flow)-', chapter)), key


def test_slides_turn_by_the_keyboard(address, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    visit(tab, f"{address}/slides/vit.html")
    top = lambda number: tab.evaluate(f"document.getElementById('slide-{number}').getBoundingClientRect().top")  # noqa: E731
    count = tab.locator(".slide").count()
    for keys, number in ((["ArrowRight", "ArrowRight"], 3), (["PageUp"], 2), (["End"], count), (["Home", " "], 2)):
        for key in keys:
            tab.keyboard.press(key)
        assert abs(top(number)) < 3, keys
        assert tab.url.endswith(f"#slide-{number}")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.keyboard.press("Escape")
    tab.wait_for_url("**/book/chapters/vit.html")
    tab.close()


# Paper


def test_what_a_page_cites_is_listed_once_for_paper():
    def citation(words: str) -> nodes.inline:
        return nodes.inline("", "", nodes.reference("", "", refuri="#", reftitle=words), classes=["bibtex-citation"])

    assert sources.cited(page(citation("b"), citation("A"), citation("b"))) == ["A", "b"]


def test_on_paper_a_dark_page_is_light_its_sidebars_are_gone_and_its_solutions_are_open(address, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    tab = context.new_page()
    visit(tab, f"{address}/book/chapters/vit.html")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not tab.locator(".sources").is_visible()
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    assert tab.evaluate("document.getAnimations().map((moving) => moving.animationName)") == [], "paper does not wait"
    for gone in (".bd-sidebar-primary", ".prev-next-footer", ".copybtn", ".open-large"):
        assert not tab.locator(gone).first.is_visible(), gone
    assert tab.locator(".bd-article h1").is_visible()
    assert tab.get_by_text("577", exact=False).last.is_visible()
    assert "https://arxiv.org/abs/2010.11929" in tab.locator(".sources").inner_text()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    context.close()
