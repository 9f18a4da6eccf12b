"""Live components as HTML: data that survive, words for those who do not see, and scripts that stay closed."""

import re
from html.parser import HTMLParser

import numpy
import pytest
import torch

from attention_notes.chapters.plots import lines
from attention_notes.chapters.widgets import LARGEST, Live, kinds, pack, parts, picture, source, unpack
from attention_notes.chapters.widgets.inspector import Look, of_transformer, over_text
from attention_notes.chapters.widgets.inspector_image import over_image
from attention_notes.chapters.widgets.softmax import WIDTHS, derivative_norm, products, softmax_and_scale
from attention_notes.inspect import record_attention
from attention_notes.inspect.attention_maps import see
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.transformer import transformer
from attention_notes.papers.vit import vit


class Tags(HTMLParser):
    """The tags of a piece of HTML with their attributes, and what stands in its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data


def shown(live: Live) -> Tags:
    return Tags(live._repr_mimebundle_()["text/html"])


def some(data=None, **options) -> Live:
    still = lines({"a": [1.0, 2.0]}, xlabel="x", ylabel="y")
    return Live("softmax", data or {}, alt="what it shows", still=still, **options)


def test_what_is_packed_comes_back_to_half_a_step():
    for values in (torch.randn(2, 3, 5), torch.rand(7) * 1e-6, torch.tensor([-3.0]), torch.full((2, 2), 0.25)):
        packed = pack(values)
        again = unpack(packed)
        assert again.shape == values.shape
        assert (again - values.double()).abs().max() <= packed["step"] / 2 * (1 + 1e-9)


def test_zero_stays_zero_when_it_is_the_least():
    assert unpack(pack(torch.tensor([0.0, 0.3, 1.0])))[0] == 0


@pytest.mark.parametrize("values", [torch.empty(0), torch.tensor([1.0, float("inf")]), torch.tensor([float("nan")])])
def test_what_cannot_be_packed_is_refused(values):
    with pytest.raises(ValueError, match="empty or holds inf or nan"):
        pack(values)


def test_the_words_are_there_for_a_text_and_for_the_picture():
    live = some()
    assert live._repr_mimebundle_()["text/plain"] == repr(live) == "what it shows"
    (image,) = [given for tag, given in shown(live).tags if tag == "img"]
    assert image["alt"] == "what it shows"
    assert image["src"].startswith("data:image/png;base64,iVBOR")


def test_words_with_quotes_and_tags_stay_words():
    still = lines({"a": [1.0, 2.0]}, xlabel="x", ylabel="y")
    tags = shown(Live("softmax", {}, alt='a "b" <i>c</i> & d', still=still)).tags
    assert [given["alt"] for tag, given in tags if tag == "img"] == ['a "b" <i>c</i> & d']
    assert "i" not in [tag for tag, _ in tags]


def test_a_component_without_words_is_refused():
    with pytest.raises(ValueError, match="no text alternative"):
        Live("softmax", {}, alt=" ", still=lines({"a": [1.0, 2.0]}, xlabel="x", ylabel="y"))


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ValueError, match=r"known are .*inspector.*softmax"):
        Live("nothing", {}, alt="a", still=lines({"a": [1.0, 2.0]}, xlabel="x", ylabel="y"))


def test_data_cannot_close_their_script_nor_open_a_comment():
    evil = "</script><script>alert(1)</script><!-- \u2028"
    tags = shown(some({"word": evil}))
    assert len(tags.scripts) == 2, "the data and the source"
    assert "alert" in tags.scripts[0]
    assert "<" not in tags.scripts[0]
    assert "\u2028" not in tags.scripts[0]


def test_no_source_closes_its_own_script():
    for kind in kinds():
        assert len(re.findall(r"</script", source(kind))) == 1, kind
        assert len(re.findall(r"</style", source(kind))) == 1, kind


def test_every_part_of_every_kind_is_there_and_what_is_shared_comes_first():
    assert {"inspector", "softmax"} <= set(kinds())
    for kind in kinds():
        names = parts(kind)
        assert names[0] == "live.css"
        scripts = [name for name in names if name.endswith(".js")]
        assert (scripts[0], scripts[-1]) == ("live.js", f"{kind}.js")
        assert source(kind).count("<script") == 1


def test_two_components_on_one_page_share_no_id():
    tags = Tags("".join(some({"n": n})._repr_mimebundle_()["text/html"] for n in range(2))).tags
    assert [tag for tag, given in tags if "id" in given] == []
    assert sum(tag == "figure" for tag, _ in tags) == 2


def test_more_data_than_a_page_should_carry_are_refused():
    with pytest.raises(ValueError, match="choose fewer"):
        some({"much": "x" * (LARGEST + 1)})


def test_a_file_is_carried_beside_the_data():
    tags = shown(some(files={"weights": b"\x00\xff</script>"}))
    assert ("script", {"type": "application/octet-stream", "data-file": "weights"}) in tags.tags
    assert tags.scripts[1] == "AP88L3NjcmlwdD4="


def test_no_script_asks_anyone_else():
    for kind in kinds():
        text = source(kind).replace("http://www.w3.org/", "")  # names of vocabularies, never fetched
        assert not re.search(r"https?://|@import|url\(", text), kind


def test_the_still_picture_is_closed():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    some()
    assert pyplot.get_fignums() == before


def test_an_image_is_kept_to_its_last_grey():
    import base64
    import io

    from PIL import Image

    grey = torch.arange(64).view(1, 8, 8) / 63
    opened = Image.open(io.BytesIO(base64.b64decode(picture(grey).split(",")[1])))
    assert opened.mode == "L"
    assert numpy.asarray(opened).tolist() == (255 * grey[0]).round().int().tolist()
    assert Image.open(io.BytesIO(base64.b64decode(picture(torch.rand(3, 4, 5)).split(",")[1]))).size == (5, 4)


def recorded(model, *inputs):
    with torch.no_grad(), record_attention(model.eval()) as maps:
        model(*inputs)
    return maps


def test_a_transformer_has_three_kinds_of_attention_and_padding_is_left_out():
    model = transformer("base", vocabulary=11, layers=1, dim=12, heads=3, hidden=20, dropout=0.0)
    source_ids, target_ids = torch.tensor([[3, 4, 5, 6, 7, 0, 0]]), torch.tensor([[1, 3, 5, 0, 0]])
    maps = recorded(model, source_ids, target_ids)
    looks = of_transformer(maps, list("abcde"), list("xyz"))
    assert {name: tuple(look.weights.shape) for name, look in looks.items()} == {
        "encoder, layer 1": (3, 5, 5),
        "decoder, causal, layer 1": (3, 3, 3),
        "decoder, cross-attention, layer 1": (3, 3, 5),
    }
    assert looks["decoder, cross-attention, layer 1"].keys == list("abcde")


def data_of(live: Live):
    import json

    return json.loads(live.json)


def test_the_weights_of_a_text_survive_with_their_mean():
    weights = torch.randn(3, 4, 5).softmax(-1)
    layer = data_of(over_text({"one": Look(weights, list("abcd"), list("vwxyz"))}))["layers"][0]
    again = unpack(layer["weights"]).square()[0, 0]
    expected = torch.cat([weights.mean(0, keepdim=True), weights]).double()
    assert layer["planes"] == ["mean of 3 heads", "head 1", "head 2", "head 3"]
    assert ((again - expected).abs() <= layer["weights"]["step"] * expected.sqrt() + 1e-5).all()


def test_words_that_do_not_match_the_weights_are_refused():
    with pytest.raises(ValueError, match="'one' has weights"):
        over_text({"one": Look(torch.ones(1, 2, 2) / 2, ["a"], ["b", "c"])})


def test_the_layers_of_models_are_told_apart_by_who_may_look_at_whom():
    images = torch.rand(1, 3, 32, 32)
    tiny = {"num_classes": None, "drop_path": 0.0}
    windows = swin("swin_t", image_size=32, window=4, dim=12, depths=(2,), heads=(3,), **tiny).eval()
    names = [layer["name"] for layer in data_of(over_image(see(windows, images), images))["layers"]]
    assert names == ["layer 1: plain windows", "layer 2: shifted windows"]
    fewer = pvt("pvt_v2_b0", dims=(8, 8, 8, 8), heads=(1, 1, 2, 2), depths=(1, 1, 1, 1), ratios=(4, 2, 1, 1)).eval()
    names = [layer["name"] for layer in data_of(over_image(see(fewer, images), images))["layers"]]
    assert names[0] == "layer 1: 8 x 8 queries, 2 x 2 keys"
    assert names[2] == "layer 3"


def test_the_class_token_asks_first_where_there_is_one():
    model = vit("Ti/16", image_size=32, dim=12, depth=1, heads=3, hidden=20).eval()
    images = torch.rand(2, 3, 32, 32)
    data = data_of(over_image(see(model, images), images, names=("a", "b")))
    assert data["first"] == {"layer": 0, "query": 1}
    assert data["layers"][0]["extra"] == ["class token"]
    assert data["layers"][0]["grid"] == [[0, 16, 32], [0, 16, 32]]
    assert data["names"] == ["a", "b"]


def test_other_pictures_than_the_model_saw_are_refused():
    model = vit("Ti/16", image_size=32, dim=12, depth=1, heads=3, hidden=20).eval()
    with pytest.raises(ValueError, match="saw 2 pictures; 1 are to be shown"):
        over_image(see(model, torch.rand(2, 3, 32, 32)), torch.rand(1, 3, 32, 32))


def test_a_layer_that_is_too_large_says_what_to_do():
    model = vit("Ti/16", depth=2).eval()
    images = torch.rand(1, 3, 224, 224)
    with pytest.raises(ValueError, match="choose fewer layers, heads or tokens"):
        over_image(see(model, images), images)


def test_products_of_independent_vectors_spread_like_the_root_of_the_width():
    found = products(draws=400)
    assert found.shape == (400, len(WIDTHS), 8)
    spread = found.std(dim=(0, 2)) / torch.tensor(WIDTHS).double().sqrt()
    assert ((spread > 0.9) & (spread < 1.1))[2:].all()


def test_the_derivative_is_that_of_autograd():
    scores = torch.randn(5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), scores)
    assert torch.allclose(derivative_norm(scores.softmax(-1)), jacobian.norm())


def test_a_width_that_the_slider_cannot_show_is_refused():
    with pytest.raises(ValueError, match="width=63 is none of"):
        softmax_and_scale(width=63)
