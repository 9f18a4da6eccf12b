"""What dresses the pages when the book is built, each piece by itself."""

import re

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from executed.card import SIZE, card
from executed.codes import PLAIN, lighten_code
from executed.dress import finished, moved
from executed.icons import draw_icons
from executed.seo import LONGEST, description, shortened, sitemap
from executed.styles import bundle, names_in
from PIL import Image
from sphinx.errors import ExtensionError


@pytest.fixture
def sheet(tmp_path):
    """A function that bundles one style sheet of a theme with one of the book's own."""

    def made(theme: str, names: set[str], own: str = "") -> str:
        (tmp_path / "styles").mkdir(exist_ok=True)
        (tmp_path / "styles/pydata-sphinx-theme.css").write_text(theme, encoding="utf-8")
        (tmp_path / "own.css").write_text(own, encoding="utf-8")
        made = bundle(tmp_path, ["own.css"], names)
        assert bundle(tmp_path, ["own.css"], names, made) == made
        return made.split("\n", 1)[1]

    return made


def test_a_rule_stays_if_a_page_can_meet_it(sheet):
    theme = ".here{top:0}.gone{top:1px}#main .here:hover,.gone p{top:2px}p{top:3px}#other{top:4px}"
    assert sheet(theme, {"here", "main"}).split() == [".here{top:0}", "#main", ".here:hover{top:2px}", "p{top:3px}"]


def test_a_sheet_is_taken_over_from_the_last_build_until_anything_behind_it_changes(tmp_path):
    (tmp_path / "own.css").write_text(".a{top:0}", encoding="utf-8")
    made = bundle(tmp_path, ["own.css"], {"a"})
    last = f"{made} and a word more"
    assert bundle(tmp_path, ["own.css"], {"a"}, last) == last
    assert bundle(tmp_path, ["own.css"], {"a", "b"}, last) != last, "a name of a page"
    (tmp_path / "own.css").write_text(".a{top:1px}", encoding="utf-8")
    assert "top:1px" in bundle(tmp_path, ["own.css"], {"a"}, last), "a sheet"


def test_what_a_selector_rules_out_is_not_asked_for(sheet):
    assert ":not(.gone)" in sheet(".here:not(.gone){top:0}", {"here"})
    assert ":is(.a,.b)" in sheet(".here:is(.a,.b){top:0}", {"here"})


def test_groups_of_rules_are_thinned_and_empty_ones_left_out(sheet):
    theme = "@media print{.here{top:0}.gone{top:1px}}@media (width>1px){.gone{top:2px}}"
    assert sheet(theme, {"here"}).split() == ["@media", "print{.here{top:0}", "}"]


def test_the_fonts_of_icons_are_left_out_and_others_stay(sheet):
    theme = '@font-face{font-family:"Font Awesome 6 Free";src:url(a)}@font-face{font-family:Other;src:url(b.woff2)}'
    made = sheet(theme, set())
    assert "Awesome" not in made
    assert 'url("styles/b.woff2")' in made, "an address is seen from where the sheet lies"


def test_the_book_s_own_rules_stay_all_and_come_last(sheet):
    made = sheet("p{top:0}", set(), own="/* why */ .only-by-script{top:1px}")
    assert made.split() == ["p{top:0}", ".only-by-script{top:1px}"]


def test_the_theme_s_notices_are_kept(sheet):
    assert sheet("/*! Somebody, MIT */.gone{top:0}/* a word */", set()).strip() == "/*! Somebody, MIT */"


def test_a_sheet_that_cannot_be_read_is_refused(sheet):
    with pytest.raises(ValueError, match="cannot be read"):
        sheet("}", set())


def test_names_are_taken_from_pages_and_from_every_word_of_a_script():
    page = '<p class="a b" id="c" data-class="d">e</p>'
    assert names_in([page], ['x.classList.add("f-g")']) >= {"a", "b", "c", "f-g"}
    assert not names_in([page], []) & {"d", "e"}


def test_icons_are_drawn_with_what_their_script_and_style_ask_for():
    drawn = draw_icons('<i class="theme-switch fa-solid fa-sun fa-lg" data-mode="light" title="Light"></i>')
    assert drawn.startswith('<svg class="svg-inline--fa theme-switch fa-sun fa-lg" data-mode="light" aria-hidden')
    assert "Light" not in drawn
    assert draw_icons('<i class="fab fa-github"></i>') != draw_icons('<i class="fas fa-code"></i>')


def test_an_icon_that_the_theme_does_not_have_stops_the_build():
    with pytest.raises(ExtensionError, match="no-such-icon"):
        draw_icons('<i class="fas fa-no-such-icon"></i>')


def test_pictures_get_their_size_once_and_wait_below_the_first_section(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.svg").write_text('<svg xmlns="x" viewBox="0 0 7 5"></svg>', encoding="utf-8")
    page = '<img src="a.png" alt="A"><h2>One</h2><img alt="B" src="b.svg"/>'
    made = finished(page, tmp_path)
    assert '<img width="30" height="20" src="a.png" alt="A">' in made
    assert '<img width="7" height="5" loading="lazy" decoding="async" alt="B" src="b.svg"/>' in made
    assert finished(made, tmp_path) == made


def test_words_of_code_without_a_colour_of_their_own_are_plain_text():
    code = '<div class="highlight"><pre><span></span><span class="k">def</span><span class="w"> </span>{}</pre></div>'
    page = code.format(
        '<span class="nf">f</span><span class="p">(</span><span class="n">x</span><span class="p">)</span>'
    )
    assert lighten_code(page) == (
        '<div class="highlight"><pre><span></span><span class="k">def</span> <span class="nf">f</span>(x)</pre></div>'
    )
    assert lighten_code(lighten_code(page)) == lighten_code(page)
    assert lighten_code('<p><span class="n">x</span></p>') == '<p><span class="n">x</span></p>'


def test_what_is_taken_for_plain_code_has_its_colour_in_light_and_in_dark(site):
    sheet = (site / "_static/pygments.css").read_text(encoding="utf-8")
    for theme in ("light", "dark"):
        colours = dict(re.findall(rf'"{theme}"\] \.highlight( \.\w+)? {{[^}}]*?\bcolor: (#\w+)', sheet))
        assert len(colours) > 40
        assert {colours.get(f" .{name}", colours[""]) for name in PLAIN} == {colours[""]}, theme


def test_addresses_move_with_the_page_and_anchors_stay():
    page = '<html data-content_root="../../"><a href="../../_static/x.css?v=1"><a href="vit.html#a"><a href="#b">'
    there = '<html data-content_root="./"><a href="_static/x.css?v=1"><a href="book/chapters/vit.html#a"><a href="#b">'
    assert moved(page, "book/chapters") == there
    assert moved('<a href="https://c">', "book") == '<a href="https://c">'
    assert moved('<a href="_static/x.css"><a href="/a/b">', "/a/") == '<a href="/a/_static/x.css"><a href="/a/b">'


def test_a_description_is_the_idea_if_there_is_one_without_citations_and_marks():
    text = "Title\n=====\n\nHow it begins, in a paragraph that is long enough to be taken.\n\n"
    plainly = publish_doctree(text)
    assert description(plainly) == "How it begins, in a paragraph that is long enough to be taken."
    idea = nodes.section("", nodes.paragraph("", "The idea, in one sentence that is long enough (cited)."), ids=["x"])
    idea["ids"] = ["the-idea-in-one-sentence"]
    cited = nodes.inline("", "[Somebody, 2020]", classes=["bibtex-citation"])
    idea[0].insert(1, cited)
    plainly += idea
    assert description(plainly) == "The idea, in one sentence that is long enough."


def test_a_description_is_cut_at_the_end_of_a_sentence_or_else_of_a_word():
    assert shortened("Short.") == "Short."
    sentence = "This sentence has some forty characters. "
    assert shortened(sentence * 6) == (sentence * 3).strip()
    cut = shortened("word " * 80)
    assert len(cut) <= LONGEST
    assert cut.endswith("word …")


def test_a_card_is_drawn_once_and_anew_when_its_words_change(tmp_path):
    first = card(tmp_path, "Book", "vit", "Title", "Said")
    assert Image.open(tmp_path / first).size == SIZE
    before = (tmp_path / first).stat().st_mtime_ns
    assert card(tmp_path, "Book", "vit", "Title", "Said") == first
    assert (tmp_path / first).stat().st_mtime_ns == before
    second = card(tmp_path, "Book", "vit", "Title", "Said otherwise")
    assert [file.name for file in tmp_path.iterdir()] == [second]


def test_the_sitemap_is_what_search_engines_read():
    assert "<url><loc>https://a/b.html?x&amp;y</loc></url>" in sitemap(["https://a/b.html?x&y"])
