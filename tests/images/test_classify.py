"""What a model says of a picture gets the right name, and a model that cannot say anything tells why."""

from dataclasses import dataclass
from importlib import resources

import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from attention_notes.chapters.data import photograph
from attention_notes.images import Preprocessing
from attention_notes.images.classify import Prediction, input_size, predict
from attention_notes.images.imagenet_names import names, synsets
from attention_notes.nn.sizes import Size
from attention_notes.papers.deit import deit
from attention_notes.papers.pvt import pvt
from attention_notes.papers.resnet import resnet
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit

INPUT = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.9)
TINY = {"dim": 10, "depth": 1, "heads": 2, "hidden": 14, "patch": (7, 11), "image_size": (28, 33)}
CLASSES = ("tench", "crane", "maillot", "teddy", "clog")


@dataclass(frozen=True)
class Weights:
    """What the loader leaves with a model."""

    input: Preprocessing = INPUT
    labels: str | None = "imagenet"
    size: Size | None = None


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray((photograph("china") * 255).round().to(torch.uint8).movedim(0, -1).numpy())


def tiny(num_classes: int | None = 1000, *, loaded: bool = True, **options) -> nn.Module:
    model = vit("Ti/16", num_classes=num_classes, **TINY, **options)
    if loaded:
        model.checkpoint = Weights()
    return model


def test_the_class_that_the_head_favours_is_called_by_its_name(picture):
    model = tiny()
    with torch.no_grad():
        model.head.bias[207], model.head.bias[517] = 20, 17
    first, second, *_ = predict(model, picture)
    assert (first.name, first.index) == ("golden retriever", 207)
    assert (second.name, second.index) == ("crane (machine)", 517)


def test_it_is_the_softmax_of_what_the_model_makes_of_the_image(picture):
    model = tiny().eval()
    seen = INPUT(picture, size=(28, 33))
    with torch.no_grad():
        belief = model(seen)[0].exp() / model(seen)[0].exp().sum()
    order = sorted(range(1000), key=lambda i: -belief[i])
    for top in (1, 5, 1000):
        found = predict(model, picture, top=top)
        assert [p.index for p in found] == order[:top]
        assert [p.name for p in found] == [names()[i] for i in order[:top]]
        assert [p.probability for p in found] == pytest.approx([belief[i].item() for i in order[:top]], rel=1e-5)
    assert sum(p.probability for p in found) == pytest.approx(1)


def test_the_picture_matters_and_where_it_comes_from_does_not(picture, tmp_path):
    model, path = tiny(), tmp_path / "temple.png"
    picture.save(path)
    assert predict(model, path) == predict(model, picture)
    assert predict(model, Image.new("RGB", (40, 30), "red")) != predict(model, picture)


def test_a_model_of_ones_own_is_told_what_it_was_trained_with(picture):
    own = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=None)
    model = tiny(5, loaded=False)
    found = predict(model, picture, preprocessing=own, names=CLASSES, top=9)
    assert [p.name for p in found] == [CLASSES[p.index] for p in found]
    assert {p.index for p in found} == {0, 1, 2, 3, 4}  # of fewer classes than were asked for, all
    model.checkpoint = Weights()
    assert predict(model, picture, preprocessing=own, names=CLASSES, top=9) == found
    assert predict(model, picture, names=CLASSES, top=9) != found  # the weights' own preprocessing is another
    model.checkpoint = Weights(input=own)
    assert predict(model, picture, names=CLASSES, top=9) == found


def test_what_is_missing_is_named_with_the_way_out(picture):
    model = tiny(5, loaded=False)
    with pytest.raises(ValueError, match="VisionTransformer has no official weights: give preprocessing= and names=, "):
        predict(model, picture)
    with pytest.raises(
        ValueError, match=r"no official weights: give names=, what it was trained with, or .* pretrained"
    ):
        predict(model, picture, preprocessing=INPUT)
    with pytest.raises(ValueError, match="no official weights: give preprocessing=, what"):
        predict(model, picture, names=CLASSES)
    model.checkpoint = Weights(labels=None)
    with pytest.raises(ValueError, match="weights whose classes have no names: give names=, what"):
        predict(model, picture)


@pytest.mark.parametrize(
    "build",
    [
        lambda: tiny(None),
        lambda: deit("Ti/16 distilled", num_classes=None, **TINY),
        lambda: swin("swin_t", num_classes=None, dim=6, depths=(1,), heads=(2,), image_size=28),
        lambda: pvt("pvt_v2_b0", num_classes=None),
    ],
)
def test_a_model_without_a_head_says_so(build, picture):
    model = build()
    model.checkpoint = Weights(labels=None)
    with pytest.raises(ValueError, match=f"{type(model).__name__} has no head, it answers with features"):
        predict(model, picture)


def test_as_many_names_as_logits_are_wanted(picture):
    with pytest.raises(ValueError, match="answers with 7 logits, but there are 1000 names"):
        predict(tiny(7), picture)
    with pytest.raises(ValueError, match="answers with 1000 logits, but there are 5 names"):
        predict(tiny(), picture, names=CLASSES)


def test_answers_that_are_no_logits_are_refused(picture):
    class Maps(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    given = {"preprocessing": INPUT, "names": CLASSES}
    with pytest.raises(ValueError, match=r"Maps answers with a tensor of shape \(1, 3, 7, 9\), not one row of logits"):
        predict(Maps(), picture, size=(7, 9), **given)
    model = tiny(5)
    with torch.no_grad():
        model.head.bias[3] = float("nan")
    with pytest.raises(ValueError, match=r"logits that are not finite in torch.float32"):
        predict(model, picture, **given)


def test_one_class_at_least_is_asked_for(picture):
    with pytest.raises(ValueError, match="top=0: ask for one class or more"):
        predict(tiny(), picture, top=0)


def test_every_module_is_left_in_the_mode_it_was_in(picture):
    model = tiny(dropout=0.5, drop_path=0.5).train()
    model.blocks[0].attention.eval()  # frozen while the rest trains
    modes = [module.training for module in model.modules()]
    assert predict(model, picture) == predict(model, picture) == predict(tiny_like(model).eval(), picture)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match="images of 7 x 7"):
        predict(model, picture, size=7)
    assert [module.training for module in model.modules()] == modes


def tiny_like(model: nn.Module) -> nn.Module:
    other = tiny()
    other.load_state_dict(model.state_dict())
    return other


def test_no_gradient_is_kept_and_what_the_model_has_cached_can_be_trained_with(picture):
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.scale, self.graph = nn.Linear(3, 5), None, None

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.scale = images.new_tensor(2.0).sqrt() if self.scale is None else self.scale
            logits = self.head(images.mean((-2, -1)) * self.scale) * self.scale
            self.graph = logits.grad_fn
            return logits

    model = Caching()
    predict(model, picture, preprocessing=INPUT, names=CLASSES, size=7)
    assert model.graph is None
    model(torch.randn(2, 3, 7, 7)).sum().backward()
    assert model.head.weight.grad.any()


def test_the_model_keeps_its_dtype_and_belief_is_counted_in_float32(picture):
    model = tiny().bfloat16().eval()
    found = predict(model, picture, top=1000)
    with torch.no_grad():
        logits = model(INPUT(picture, size=(28, 33)).bfloat16())
    assert logits.dtype == torch.bfloat16
    assert [p.probability for p in found] == logits[0].float().softmax(-1).sort(descending=True).values.tolist()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    double = predict(tiny().double(), picture, top=1)
    assert double[0].probability == torch.tensor(double[0].probability, dtype=torch.float32).item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_model_on_the_gpu_says_the_same(picture):
    model = tiny()
    here = predict(model, picture)
    there = predict(model.cuda(), picture)
    assert [p.index for p in there] == [p.index for p in here]
    assert [p.probability for p in there] == pytest.approx([p.probability for p in here], rel=1e-4)


def test_the_size_is_the_one_that_the_model_takes():
    assert input_size(tiny()) == (28, 33)
    assert input_size(tiny().resize((14, 44))) == (14, 44)
    assert input_size(deit("Ti/16 distilled", **TINY)) == (28, 33)
    assert input_size(deit("Ti/16 distilled", **TINY).resize((14, 44))) == (14, 44)
    assert input_size(swin("swin_t", dim=6, depths=(1,), heads=(2,), image_size=(28, 56))) == (28, 56)


def test_a_model_that_takes_any_size_is_given_that_of_its_weights(picture):
    sizes = {"dims": (4, 4, 4, 4), "depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1)}
    model = pvt("pvt_tiny", num_classes=1000, image_size=64, **sizes)
    with pytest.raises(
        ValueError, match="PyramidVisionTransformer does not say which size its images have: give size="
    ):
        input_size(model)
    assert predict(model, picture, preprocessing=INPUT, names=names(), size=(32, 96))
    for size, expected in ((None, (224, 224)), (96, (96, 96)), ((32, 64), (32, 64))):
        model.checkpoint = Weights(size=size)
        assert input_size(model) == expected
        assert predict(model, picture) == predict(model, picture, size=expected)
    assert predict(model, picture, size=(64, 32)) != predict(model, picture)


@pytest.mark.parametrize("many", [list, tuple, iter])
def test_many_images_are_named_as_each_of_them(many, picture, tmp_path):
    model, path = tiny(), tmp_path / "temple.png"
    picture.save(path)
    images = [picture, path, Image.new("RGB", (40, 30), "red"), Image.new("L", (9, 50), 77), picture]
    for batch in (1, 2, 16):
        found = predict(model, many(images), top=3, batch=batch)
        assert len(found) == 5
        for several, image in zip(found, images, strict=True):
            alone = predict(model, image, top=3)
            assert [p.index for p in several] == [p.index for p in alone]
            assert [p.probability for p in several] == pytest.approx([p.probability for p in alone], rel=1e-4)
    assert predict(model, many([])) == []
    with pytest.raises(ValueError, match="batch=0: the model is given one image or more at once"):
        predict(model, many(images), batch=0)


def test_many_images_are_not_held_in_memory_at_once(picture):
    seen = []
    model = tiny()
    model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))

    def one_by_one():
        for _ in range(5):
            assert sum(seen) >= asked[0] - 2
            asked[0] += 1
            yield picture

    asked = [0]
    predict(model, one_by_one(), batch=2)
    assert seen == [2, 2, 1]


def test_an_open_file_is_one_image(picture, tmp_path):
    """Though it can be iterated over."""
    picture.save(tmp_path / "temple.png")
    with (tmp_path / "temple.png").open("rb") as file:
        assert predict(tiny(), file)[0].probability > 0


def test_models_of_other_kinds_are_asked_alike(picture):
    model = resnet("resnet18", width=4, num_classes=5)
    (found,) = predict(model, picture, top=1, preprocessing=INPUT, names=CLASSES, size=64)
    assert found == Prediction(name=CLASSES[found.index], probability=found.probability, index=found.index)


LISTS = {"imagenet": "imagenet-1k", "imagenet21k": "imagenet-21k-goog", "imagenet22k": "imagenet-22k"}


@pytest.mark.parametrize("which", LISTS)
def test_classes_are_those_of_timm_in_the_same_order(which):
    theirs = ImageNetInfo(LISTS[which])
    assert synsets(which) == tuple(theirs.label_names())
    for name, lemmas, told in zip(
        names(which), theirs.label_descriptions(), theirs.label_descriptions(detailed=True), strict=True
    ):
        known = lemmas.split(", ")
        if name not in known:  # the word, and what is meant by it
            word, gloss = name.removesuffix(")").split(" (", 1)
            assert word == known[0]
            assert gloss in told or gloss in ("bird", "machine"), told


@pytest.mark.parametrize(("which", "count"), [("imagenet", 1000), ("imagenet21k", 21_843), ("imagenet22k", 21_841)])
def test_no_two_classes_have_the_same_name(which, count):
    assert len(names(which)) == len(set(names(which))) == count


def test_names_are_those_that_people_use():
    assert names()[:5] == ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")
    assert [names()[i] for i in (207, 246, 388, 850, 999)] == [
        "golden retriever",
        "Great Dane",
        "giant panda",
        "teddy",
        "toilet tissue",
    ]
    assert names()[124] == "crayfish"  # though a spiny lobster is one as well, among other names
    assert [i for i, name in enumerate(names()) if "(" in name] == [134, 517]
    assert [names()[i] for i in (134, 517, 638, 639)] == ["crane (bird)", "crane (machine)", "maillot", "tank suit"]


def test_the_list_of_2011_lacks_two_classes_of_google_and_both_lack_one_of_the_thousand():
    thousand, google, release = ({*synsets(which)} for which in LISTS)
    assert google - release == {"n03931044", "n09859684"}
    assert release < google
    assert thousand - google == thousand - release == {"n04399382"}


def test_a_list_that_is_not_known_is_refused():
    for ask in (names, synsets):
        with pytest.raises(ValueError, match="unknown classes 'coco'; known: imagenet, imagenet21k, imagenet22k"):
            ask("coco")


def test_the_names_travel_with_the_licence_of_wordnet():
    folder = resources.files("attention_notes") / "images/imagenet"
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in (folder / "LICENSE-WORDNET.txt").read_text("utf-8")
    assert len((folder / "classes.tsv.gz").read_bytes()) < 400_000
