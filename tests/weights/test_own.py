"""Weights of one's own: what is given describes them, and what a training put around them is taken off."""

import argparse
import inspect
import threading
import time
from collections import OrderedDict
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from attention_notes.papers import families
from attention_notes.papers.cbam import cbam
from attention_notes.papers.deit import deit
from attention_notes.papers.dnl import dnl
from attention_notes.papers.non_local import non_local_resnet
from attention_notes.papers.pvt import pvt
from attention_notes.papers.resnet import resnet
from attention_notes.papers.swin import swin
from attention_notes.papers.transformer import transformer
from attention_notes.papers.vit import vit
from attention_notes.weights import foreign, layouts, to_layout, to_timm
from attention_notes.weights.checkpoints import lists
from attention_notes.weights.files import read_weights, unwrapped
from tests.discovery import of_papers
from tests.weights.parity import logits

VIT = {"dim": 26, "depth": 2, "heads": 2, "hidden": 19, "patch": 4}
SWIN = {"dim": 12, "depths": (1, 2), "heads": (2, 3), "patch": 2, "drop_path": 0.0}
DEEP = SWIN | {"depths": (1, 1, 1), "heads": (2, 3, 4)}  # the third map is the first that is smaller than a window
PVT = {"dims": (4, 6, 8, 10), "depths": (1, 1, 2, 1), "heads": (1, 2, 2, 2), "ratios": (2, 2, 1, 1)}
PVT |= {"expansions": (2, 2, 2, 2)}
# Of each family, models that differ from their variant in everything that a training may choose.
OWN = {
    "vit": partial(vit, "Ti/16", **VIT, image_size=24, num_classes=5),
    "vit, rectangular": partial(vit, "Ti/16", **VIT, image_size=(8, 20), channels=1, num_classes=7),
    "vit, as many patches as a square": partial(vit, "Ti/16", **VIT, image_size=(8, 32), num_classes=7),
    "vit, headless": partial(vit, "Ti/16", **VIT, image_size=(8, 32), num_classes=None),
    "vit, modern": partial(vit, "Ti/16", **VIT, image_size=(8, 32), registers=3, layer_scale=0.1, pre_norm=True),
    "deit distilled": partial(deit, "Ti/16 distilled", **VIT, image_size=(8, 32), num_classes=7, channels=2),
    "swin": partial(swin, "swin_t", **SWIN, image_size=(24, 40), window=(3, 4), num_classes=5),
    "swin, maps smaller than windows": partial(swin, "swin_t", **DEEP, image_size=48, window=8, num_classes=5),
    "swinv2": partial(swin, "swinv2_t", **SWIN, image_size=(24, 40), window=(3, 4), num_classes=5, channels=4),
    "pvt": partial(pvt, "pvt_tiny", **PVT, image_size=(32, 128), num_classes=3),
    "pvt_v2": partial(pvt, "pvt_v2_b0", **PVT, num_classes=3, channels=1),
    "pvt_v2_li": partial(pvt, "pvt_v2_b2_li", **PVT, num_classes=None),
    "resnet": partial(resnet, "resnet18", width=4, depths=(1, 1), dilations=(1, 1), num_classes=5, channels=1),
    "cbam": partial(cbam, "cbam_resnet18", width=16, depths=(1, 1), dilations=(1, 1), num_classes=5),
    "non_local": partial(non_local_resnet, "resnet50-1", num_classes=3, subsample=1),
    "dnl": partial(dnl, "resnet50", num_classes=3, dim=8),
    "transformer": partial(transformer, "base", vocabulary=11, layers=1, dim=8, heads=2, hidden=10),
}
every_model = pytest.mark.parametrize("build", OWN.values(), ids=OWN)
SIDES = {"vit": (24, 24), "pvt_v2": (32, 32), "swin": (24, 40)}
OURS_ALONE = ("resnet", "cbam", "non_local", "dnl", "transformer")
FACTORIES = {key: getattr(family.factory, "func", family.factory) for key, family in families().items()}


def stirred(build, **options):
    """A model in evaluation mode, no parameter or buffer of which is what it starts as."""
    model = build(**options)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
    return model.eval()


def assert_same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in theirs.items() if not torch.equal(ours[name], tensor)] == []
    derived = [dict(one.named_buffers()) for one in (model, other)]
    assert [name for name, tensor in derived[1].items() if not torch.equal(derived[0][name], tensor)] == []
    assert repr(model.eval()) == repr(other.eval())


@every_model
def test_weights_come_back_bit_for_bit_to_who_describes_their_model(build, tmp_path):
    model = stirred(build)
    assert_same(build(pretrained=model.state_dict()), model)
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    assert_same(build(pretrained=tmp_path / "mine.pt"), model)


@pytest.mark.parametrize("name", [name for name in OWN if name.split(",")[0].split()[0] not in OURS_ALONE])
def test_so_they_do_in_every_layout(name):
    model = stirred(OWN[name])
    for layout in layouts(model):
        assert_same(OWN[name](pretrained=to_layout(model, layout)), model)


@pytest.mark.parametrize(("key", "name", "case"), [*of_papers("cases", "MODELS")])
def test_models_of_foreign_parts_get_their_own_weights_back(key, name, case):
    if (factory := getattr(case.build, "func", None)) not in FACTORIES.values():
        pytest.skip("not built by its name")
    model = stirred(case.build)
    assert_same(factory(*case.build.args, **case.build.keywords, pretrained=model.state_dict()), model)


def without(build, *omitted):
    """A factory with fewer of its arguments."""
    return partial(build.func, *build.args, **{k: v for k, v in build.keywords.items() if k not in omitted})


@pytest.mark.parametrize(
    ("name", "omitted"),
    [
        ("vit", ("image_size", "num_classes")),
        ("vit, headless", ("num_classes",)),
        ("vit, as many patches as a square", ("num_classes",)),
        ("deit distilled", ("num_classes",)),
        ("swin", ("num_classes", "window")),
        ("swin, maps smaller than windows", ("num_classes", "window", "image_size")),
        ("swinv2", ("num_classes",)),
        ("pvt", ("num_classes", "image_size")),
        ("pvt_v2", ("num_classes",)),
        ("pvt_v2_li", ("num_classes",)),
        ("resnet", ("num_classes",)),
        ("non_local", ("num_classes",)),
    ],
)
def test_what_the_tensors_tell_need_not_be_said(name, omitted):
    model = stirred(OWN[name])
    assert_same(without(OWN[name], *omitted)(pretrained=model.state_dict()), model)


@pytest.mark.parametrize("layout", ["timm", "transformers", "the authors"])
def test_the_square_window_of_tables_is_told_by_any_layout(layout):
    build = partial(swin, "swin_t", **SWIN)
    model = stirred(build, image_size=48, window=6, num_classes=5)
    assert_same(build(pretrained=to_layout(model, layout), image_size=48), model)
    small = stirred(build, image_size=24, window=8, num_classes=5)  # the second map has 6 x 6 tokens
    assert_same(build(pretrained=to_layout(small, layout)), small)


@pytest.mark.parametrize(
    ("build", "trained", "wanted"),
    [
        (partial(vit, "Ti/16", **VIT), {"image_size": 24}, {"image_size": (8, 32)}),
        (partial(deit, "Ti/16 distilled", **VIT), {"image_size": 24}, {"image_size": (8, 20)}),
        (partial(swin, "swin_t", **SWIN), {"image_size": (24, 40), "window": 3}, {"image_size": 40, "window": 5}),
        (partial(swin, "swin_t", **SWIN), {"image_size": 24, "window": 8}, {"image_size": 40, "window": 8}),
    ],
    ids=["vit", "deit", "swin", "swin of small maps"],
)
def test_weights_of_another_size_are_moved_to_the_one_that_is_given(build, trained, wanted):
    model = stirred(build, num_classes=5, **trained)
    moved = build(pretrained=model.state_dict(), **wanted).eval()
    image_size, *others = wanted.values()
    assert_same(moved, model.resize(image_size, **({"window": others[0]} if others else {})))


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("dnl", "transformer")])
@pytest.mark.parametrize("classes", [None, 4])
def test_other_heads_than_in_training_may_be_asked_for(name, classes):
    if (name, classes) == ("non_local", None):
        pytest.skip("it always has a head")
    model = stirred(OWN[name])
    layout = [] if name in OURS_ALONE else [to_layout(model, next(iter(layouts(model))))]
    for state in (model.state_dict(), *layout):
        other = OWN[name](pretrained=state, num_classes=classes)
        heads = {key: tensor for key, tensor in other.state_dict().items() if "head" in key.split(".")[0]}
        assert {len(tensor) for tensor in heads.values()} == ({4} if classes else set())
        rest = {key: tensor for key, tensor in other.state_dict().items() if key not in heads}
        assert rest
        assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in rest.items())


def test_other_classes_and_another_size_than_in_training_may_be_asked_for_at_once():
    model = stirred(partial(swin, "swin_t", **SWIN, image_size=48, window=6, num_classes=5))
    tuned = swin("swin_t", **SWIN, pretrained=model.state_dict(), image_size=64, window=8, num_classes=9).eval()
    assert tuned.head.weight.shape == (9, 24)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(tuned.features(x)[-1], model.resize(64, window=8).features(x)[-1])


def test_the_windows_of_a_swin_v2_are_those_that_are_given_or_those_of_the_file():
    """Its parameters do not depend on them; the authors' files tell by what follows from them."""
    build = partial(swin, "swinv2_t", **SWIN)
    model = stirred(build, image_size=48, window=6)
    x = torch.randn(2, 3, 48, 48)
    for state in (model.state_dict(), to_timm(model), to_layout(model, "the authors")):
        assert torch.equal(logits(build(pretrained=state, image_size=48, window=6).eval(), x), logits(model, x))
    usual = stirred(partial(build, image_size=64))
    state, x = to_layout(usual, "the authors"), torch.randn(2, 3, 48, 48)
    moved = build(pretrained=to_layout(stirred(build), "the authors"), image_size=48, window=6)
    assert moved.window == (6, 6)
    with pytest.raises(ValueError, match=r"relative_position_index of shape .* the model's sizes: build it for"):
        build(pretrained=state, image_size=48, window=6)
    usual.resize(48, window=6)
    assert torch.equal(logits(build(pretrained=state, image_size=64).resize(48, window=6).eval(), x), logits(usual, x))


@pytest.mark.parametrize("name", ["vit", "pvt_v2", "swin"])
def test_channels_are_summed_repeated_or_refused(name):
    build = without(OWN[name], "channels")
    grey, colour = torch.randn(2, 1, *SIDES[name]), torch.randn(2, 3, *SIDES[name])
    three, one, five = (stirred(build, channels=channels) for channels in (3, 1, 5))
    summed = build(pretrained=three.state_dict(), channels=1).eval()
    assert torch.allclose(summed(grey), three(grey.expand_as(colour)), atol=1e-5)
    repeated = build(pretrained=one.state_dict(), channels=3).eval()
    assert torch.allclose(repeated(grey.expand_as(colour)), one(grey), atol=1e-5)
    again = build(pretrained=one.state_dict(), channels=1, num_classes=11).eval()
    assert again.head.out_features == 11
    assert torch.equal(again.state_dict()[foreign(again).stem], one.state_dict()[foreign(one).stem])
    with pytest.raises(ValueError, match="channels=1; this one has channels=3: build it with theirs"):
        build(pretrained=one.state_dict())
    with pytest.raises(ValueError, match=r"\(\d+, \d+.* for "):
        build(pretrained=five.state_dict(), channels=3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vit", {"depth": 3}, "the weights of a model with depth=2; this one has depth=3: build it with theirs"),
        ("vit", {"dim": 28, "hidden": 20}, "with dim=26, hidden=19; this one has dim=28, hidden=20"),
        ("vit", {"patch": 2}, r"patches.projection.weight \(26, 48\) for patches.projection.weight \(26, 12\)"),
        ("vit", {"registers": 2}, "with registers=0; this one has registers=2"),
        ("vit, rectangular", {"image_size": 24}, r"of 10 patches, but 24 x 24 .* give .* such as \(8, 20\)"),
        ("deit distilled", {"depth": 1}, "with depth=2; this one has depth=1"),
        ("swin", {"depths": (2, 2)}, r"with depths=\(1, 2\); this one has depths=\(2, 2\)"),
        ("swin", {"heads": (2, 4)}, r"with heads=\(2, 3\); this one has heads=\(2, 4\)"),
        ("swinv2", {"heads": (2, 4)}, r"with heads=\(2, 3\); this one has heads=\(2, 4\)"),
        ("pvt", {"dims": (4, 6, 8, 12)}, r"with dims=\(4, 6, 8, 10\); this one has dims=\(4, 6, 8, 12\)"),
        ("pvt_v2", {"depths": (1, 1, 1, 1)}, r"with depths=\(1, 1, 2, 1\); this"),
        ("resnet", {"depths": (1, 2)}, r"no stages\.1\.1\.branch"),
        ("dnl", {"num_classes": 5}, r"classify\.weight \(3, 8, 1, 1\) for classify\.weight \(5, 8, 1, 1\)"),
        ("transformer", {"layers": 2}, r"no decoder\.layers\.1"),
    ],
)
def test_what_contradicts_the_weights_is_named_with_what_would_fit(name, options, words, unchecked):
    state = stirred(OWN[name]).state_dict()
    with pytest.raises(ValueError, match=rf"^the state dict does not fit \S+ '.*': .*{words}"):
        OWN[name](pretrained=state, **options)


def test_windows_that_are_not_square_are_to_be_given_where_others_keep_them_in_a_row(unchecked):
    build = without(OWN["swin"], "window")
    with pytest.raises(ValueError, match="its windows are of 35 offsets, and so not square: give as window and image_"):
        build(pretrained=to_timm(stirred(OWN["swin"])))
    build = without(OWN["pvt"], "image_size")
    with pytest.raises(
        ValueError, match="its positions are of 192 places, and so of no square image: give as image_size"
    ):
        build(pretrained=to_layout(stirred(partial(OWN["pvt"], image_size=(32, 96))), "transformers"))


OTHERS = [(one, other) for one in ("vit", "deit distilled", "swin", "pvt", "transformer") for other in OWN]


@pytest.mark.parametrize(("one", "other"), [p for p in OTHERS if p[0].split(",")[0] not in p[1].split("_")[0]])
def test_weights_of_another_family_are_refused_in_one_sentence(one, other, unchecked):
    model = stirred(OWN[one])
    states = [model.state_dict()] + ([] if one in OURS_ALONE else [to_layout(model, name) for name in layouts(model)])
    for state in states:
        with pytest.raises(ValueError, match=r"^the state dict does not fit ") as error:
            OWN[other](pretrained=state)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 500


# What trainings put around a state dict, by what it is.
AROUND = {
    "DataParallel or DDP": {"module.": ""},
    "torch.compile": {"_orig_mod.": ""},
    "DDP of a compiled model": {"module._orig_mod.": ""},
    "compiled DDP": {"_orig_mod.module.": ""},
    "Lightning": {"model.": "", "criterion.weight": None},
    "Lightning of a compiled model": {"model._orig_mod.": ""},
    "net, by hand": {"net.": ""},
    "an average of PyTorch": {"module.": "", "n_averaged": None},
    "Lightning's average": {"model.module.": "", "model.n_averaged": None},
}


def wrapped(state, around):
    found = {}
    for prefix, rest in around.items():
        found |= {prefix: torch.tensor(3)} if rest is None else {f"{prefix}{name}": t for name, t in state.items()}
    return found


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("name", ["vit", "swinv2", "pvt", "deit distilled", "cbam", "transformer"])
def test_prefixes_of_wrappers_are_taken_off_mappings_and_files(name, around, tmp_path):
    model = stirred(OWN[name])
    state = wrapped(model.state_dict(), around)
    assert unwrapped(state).keys() == model.state_dict().keys()
    assert_same(OWN[name](pretrained=state), model)
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    for file in ("a.pt", "a.safetensors"):
        assert read_weights(tmp_path / file).keys() == model.state_dict().keys()


def test_wrappers_themselves_leave_what_is_taken_off():
    """Their names are PyTorch's, not ours."""
    model = stirred(OWN["vit"])
    averaged = AveragedModel(nn.DataParallel(torch.compile(model)))
    names = {name.split("blocks")[0] for name in averaged.state_dict() if "blocks" in name}
    assert names == {"module.module._orig_mod."}
    part = stirred(OWN["vit"])
    part.blocks[0] = torch.compile(part.blocks[0])  # some compile each block by itself
    assert "blocks.0._orig_mod.attention.qkv.weight" in part.state_dict()
    assert_same(OWN["vit"](pretrained=averaged.state_dict()), model)
    assert unwrapped(part.state_dict()).keys() == model.state_dict().keys()


KEPT = {
    "PyTorch's tutorials": lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"lr": 0.1}},
    "timm's train.py": lambda state: {
        "epoch": 3,
        "arch": "vit",
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(lr=0.1, output=Path("runs")),
        "state_dict_ema": other(state),
        "metric": 71.0,
    },
    "DeiT's main.py": lambda state: {"model": state, "model_ema": other(state), "args": argparse.Namespace(lr=0.1)},
    "Lightning": lambda state: {
        "pytorch-lightning_version": "2.5",
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()} | {"loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1, "folder": Path("data")},
    },
    "an average alone": lambda state: {"epoch": 3, "model_ema": OrderedDict(state)},
    "one in another": lambda state: {"model": {"state_dict": {f"module.{n}": t for n, t in state.items()}}, "epoch": 3},
    "a name for something else": lambda state: {"model": "vit", "net": {"depth": 2}, "state_dict": state},
}


def other(state):
    return {name: tensor + 1 for name, tensor in state.items()}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_checkpoints_of_trainings_are_read_mappings_and_files(kept, tmp_path):
    model = stirred(OWN["vit"])
    checkpoint = kept(model.state_dict())
    torch.save(checkpoint, tmp_path / "last.pt")
    for source in (checkpoint, tmp_path / "last.pt"):
        assert_same(OWN["vit"](pretrained=source), model)
    averaged = checkpoint.get("state_dict_ema")
    if averaged:
        found = OWN["vit"](pretrained=averaged).state_dict()
        assert all(torch.equal(found[name], tensor + 1) for name, tensor in model.state_dict().items())


@pytest.fixture
def options_of_a_training(tmp_path):
    options = argparse.Namespace(lr=0.1, output=Path("runs"))
    torch.save({"state_dict": {"a": torch.ones(3)}, "args": options}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_what_a_process_allows_to_be_read_stays_as_it_was(options_of_a_training):
    """PyTorch keeps that for the whole process."""
    before = {*torch.serialization.get_safe_globals()}
    read_weights(options_of_a_training)
    assert {*torch.serialization.get_safe_globals()} == before
    with torch.serialization.safe_globals([argparse.Namespace]):
        read_weights(options_of_a_training)
        assert argparse.Namespace in torch.serialization.get_safe_globals()


def test_two_threads_read_options_at_once_and_neither_takes_away_what_the_other_needs(
    options_of_a_training, monkeypatch
):
    both_refused, failed, load, calls = threading.Barrier(2), [], torch.load, threading.local()
    waits = iter([0.02, 0.2])  # the one that comes first is done while the other has not begun

    def slow(*given, **options):
        if not hasattr(calls, "first"):
            calls.first = True
            try:
                return load(*given, **options)
            finally:
                both_refused.wait(timeout=30)
        time.sleep(next(waits))
        return load(*given, **options)

    def read():
        try:
            read_weights(options_of_a_training)
        except ValueError as error:
            failed.append(error)

    monkeypatch.setattr(torch, "load", slow)
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


class Config:
    """What only code can make."""


def test_what_only_code_can_make_is_refused_and_the_way_out_is_said(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(3)}, "config": Config()}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"more than tensors \(tests\.weights\.test_own\.Config\).* save its state dict"
    ):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["vit", "deit distilled", "swin", "pvt", *OURS_ALONE])
def test_none_is_no_weights_and_what_are_none_is_said(name, unchecked):
    build = OWN[name]
    torch.manual_seed(3)
    plain = build()
    torch.manual_seed(3)
    assert_same(build(pretrained=None), plain)
    for source, words in [
        (plain, r"pretrained is a \w+, .*: give its state_dict\(\)"),
        (3.5, "pretrained is a float, .*: without weights, False or None"),
        ({}, "what is given as pretrained holds nothing: no state dict"),
        ({"epoch": 3}, "what is given as pretrained holds epoch: no state dict"),
    ]:
        with pytest.raises(ValueError, match=words):
            build(pretrained=source)


# the weights of augreg are in the list of vit, and it finds them there
@pytest.mark.parametrize("key", [key for key in FACTORIES if key not in lists() and key != "augreg"])
def test_a_family_without_published_weights_says_so(key):
    variant = next(iter(families()[key].variants))
    with pytest.raises(ValueError, match=r"nobody has published weights of .* a file of your own is given as a Path"):
        families()[key].factory(variant, pretrained=True)
    with pytest.raises(ValueError, match=r"unknown weights 'best'; for .*: none; a file is given as a Path"):
        families()[key].factory(variant, pretrained="best")


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_help_shows_that_a_factory_takes_weights(factory):
    parameters = inspect.signature(factory).parameters
    assert parameters["pretrained"].default is False
    assert parameters["pretrained"].kind is inspect.Parameter.KEYWORD_ONLY
    assert [*parameters][:1] == [*inspect.signature(factory.__wrapped__).parameters][:1]
    before, _, after = inspect.getdoc(factory).partition("\n    pretrained: True for official weights")
    assert "\nArgs:" in before
    assert "\nRaises:\n" in after
    assert "\nRaises:" not in before


def test_the_variant_may_be_given_by_its_name():
    model = stirred(OWN["vit"])
    assert_same(vit(variant="Ti/16", pretrained=model.state_dict(), **VIT, image_size=24), model)
