"""The registry: every variant is recorded, counted and held against its reference, and a model that is off is seen."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes import registry
from attention_notes.chapters.model_table import COLUMNS, Table
from attention_notes.inspect import count_activations
from attention_notes.registry import parity

# Activations in millions from the model cards of timm, which count attention as it is fused ...
FUSED = {"vit:Ti/16": 4.1, "vit:B/16": 16.5, "resnet:resnet50": 11.1}
# ... and from older ones, which count what attention wrote before it was: its scores and its answers
UNFUSED = {"deit:S/16": 11.9, "swin:swin_t": 17.1}


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_variant_of_every_family_has_a_record_with_a_source_for_what_is_quoted(name):
    record = registry.model(name).record
    assert record.parameters > 0
    assert record.gmacs >= 0
    assert all(50 < accuracy < 100 for accuracy in [record.top1 or 70, *record.pretrained.values()])
    assert record.source or not (record.published or record.top1 or record.pretrained)


@pytest.mark.parametrize(
    "name", ["vit:Ti/16", "deit:S/16 distilled", "pvt:pvt_v2_b0", "resnet:resnet18", "transformer:base"]
)
def test_a_model_measures_what_is_recorded(name):
    row = registry.measure(name)
    record = registry.model(name).record
    assert row.parameters == record.parameters
    assert round(row.macs / 1e9, 2) == record.gmacs


@pytest.mark.parametrize(("name", "millions"), FUSED.items())
def test_activations_are_those_of_timms_table(name, millions):
    assert registry.measure(name).activations / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("name", "millions"), UNFUSED.items())
def test_with_scores_and_answers_they_are_those_of_timms_older_table(name, millions):
    """A window of ``n`` tokens writes ``h n^2`` scores and ``n c`` answers."""
    if name == "deit:S/16":
        written = 12 * (6 * 197**2 + 197 * 384)
    else:
        stages = zip((2, 2, 6, 2), (3, 6, 12, 24), (64, 16, 4, 1), (96, 192, 384, 768), strict=True)
        written = sum(depth * windows * (heads * 49**2 + 49 * c) for depth, heads, windows, c in stages)
    assert (registry.measure(name).activations + written) / 1e6 == pytest.approx(millions, rel=0.01)


def test_activations_are_what_linear_maps_and_convolutions_write_and_nothing_else():
    matrix = torch.randn(11, 13)

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.linear, self.norm = nn.Conv2d(3, 5, 2, stride=2), nn.Linear(5, 11), nn.LayerNorm(11)

        def forward(self, x):
            tokens = self.norm(self.linear(self.convolution(x).flatten(2).mT)).relu()
            return (tokens @ tokens.mT).softmax(-1) @ tokens @ matrix

    convolved, mapped, last = 5 * 7 * 9, 63 * 11, 63 * 13
    assert count_activations(Small(), torch.randn(2, 3, 14, 18)) == 2 * (convolved + mapped + last)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_every_kind_of_convolution_is_counted(kind, dims):
    convolve = getattr(F, f"{kind}{dims}d")
    x, kernel = torch.randn(2, 3, *(7,) * dims), torch.randn(*((5, 3) if kind == "conv" else (3, 5)), *(2,) * dims)
    assert count_activations(convolve, x, kernel) == 2 * 5 * (6 if kind == "conv" else 8) ** dims


def test_a_product_with_one_matrix_is_counted_however_it_is_written_and_with_a_batch_it_is_not():
    x, matrix, batch = torch.randn(2, 7, 5), torch.randn(5, 3), torch.randn(2, 5, 3)
    for written in (torch.matmul, torch.Tensor.matmul, lambda a, b: a @ b):
        assert count_activations(written, x, matrix) == 2 * 7 * 3
        assert count_activations(written, x, batch) == 0
    assert count_activations(F.linear, x, matrix.mT) == 2 * 7 * 3


def test_a_larger_image_costs_more_and_the_largest_model_needs_no_memory():
    assert registry.measure("vit:B/32", size=384).macs > 2.5 * registry.measure("vit:B/32").macs
    assert registry.measure("swin:swinv2_g").parameters == 3_001_940_680


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(ValueError, match=r"unknown model 'vit:B16'; did you mean vit:B/16"):
        registry.model("vit:B16")
    with pytest.raises(ValueError, match=r"unknown model 'vit:b/16'; did you mean vit:B/16\?"):
        registry.model("vit:b/16")
    every = "augreg:B/16, deit:B/16, patchification:B/16, scaling_vit:B/16, vit:B/16"
    with pytest.raises(ValueError, match=rf"unknown model 'b/16'; did you mean {every}\?"):
        registry.model("b/16")
    with pytest.raises(
        ValueError, match=r"unknown model .\?.; the families are augreg, bert, cait, cbam, cpvt, deepvit"
    ):
        registry.model("?")


def test_the_family_may_be_left_out_where_no_other_has_such_a_variant():
    variants = [one.variant for one in registry.MODELS.values()]
    for one in registry.MODELS.values():
        if variants.count(one.variant) == 1:
            assert registry.model(one.variant) is one
        else:
            with pytest.raises(ValueError, match=rf"'{one.variant}' may be .*{one.name}.*: say which"):
                registry.model(one.variant)
    assert registry.model("swin_t").name == "swin:swin_t"
    assert registry.measure("swin_t") == registry.measure("swin:swin_t")


LINE = {"parameters": 5, "gmacs": 1.0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({}, "variants: S is missing"),
        ({"S": {"gmacs": 1.0}}, "lacks parameters"),
        ({"S": {**LINE, "top2": 3}}, "unknown entries top2"),
        ({"S": {**LINE, "top1": 80.0}}, "has no source"),
    ],
)
def test_an_ill_formed_line_is_refused(lines, message):
    with pytest.raises(ValueError, match=message):
        registry.parse_record("swin", "S", lines)


def test_a_published_number_is_taken_from_its_claim():
    line = {**LINE, "published": "swin-gmacs-t", "source": "a table"}
    assert registry.parse_record("swin", "S", {"S": line}).published == "4.5G"
    assert registry.parse_record("swin", "S", {"S": {**line, "published": "7.7G"}}).published == "7.7G"


def recorded(monkeypatch, name, **changes):
    """The model's row when its record says something else."""
    record = replace(registry.model(name).record, **changes)
    monkeypatch.setattr(registry.Model, "record", property(lambda self: record))
    return registry.examine(name)


@pytest.mark.parametrize("name", ["vit:Ti/16", "deit:Ti/16 distilled", "pvt:pvt_tiny", "pvt:pvt_v2_b0", "swin:swin_t"])
def test_a_full_size_model_equals_its_reference(name):
    row = registry.examine(name)
    assert row.ok, row
    assert row.parity.startswith(("timm, ", "transformers, "))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"parameters": 11_689_513}, "parameters"),
        ({"gmacs": 1.82}, "GMACs"),
        ({"published": "1.84G"}, "published GMACs"),
    ],
)
def test_a_number_that_is_off_is_marked(monkeypatch, changes, wrong):
    row = recorded(monkeypatch, "resnet:resnet18", **changes)
    assert row.wrong == (wrong,)
    assert not row.ok
    lines = registry.report([row, replace(row, wrong=())]).splitlines()
    assert lines[1].startswith("✗")
    assert f"OFF: {wrong}" in lines[1]
    assert lines[2].startswith("✓")
    assert lines[-1] == "2 models, 1 off: resnet:resnet18"


def test_a_published_number_may_differ_where_the_record_says_why(monkeypatch):
    assert recorded(monkeypatch, "resnet:resnet18", published="1.84G", because="it counts the norms").ok


@pytest.mark.parametrize("damage", ["blocks.7.attention.qkv.weight", "positions", "blocks.0.mlp_norm.weight"])
def test_a_weight_that_is_off_is_marked(monkeypatch, damage):
    """One row of a tensor is off by a hundredth of its size, after the weights were shared."""

    def spoilt(model, layout):
        theirs = to_layout(model, layout)
        with torch.no_grad():
            model.get_parameter(damage).flatten(1 if "positions" in damage else 0)[0].mul_(1.1)
        return theirs

    to_layout = parity.to_layout
    monkeypatch.setattr(parity, "to_layout", spoilt)
    row = registry.examine("vit:Ti/16")
    assert row.wrong == ("logits",)


def test_logits_that_are_not_numbers_are_off(monkeypatch):
    monkeypatch.setattr(registry, "difference", lambda *_: float("nan"))
    assert registry.examine("vit:Ti/16").wrong == ("logits",)


def test_a_reference_that_is_not_installed_is_said_to_be_so(monkeypatch):
    monkeypatch.setattr(parity.importlib.util, "find_spec", lambda name: None)
    row = registry.examine("vit:Ti/16")
    assert row.parity == "timm is not installed"
    assert row.ok


def test_weights_are_random_and_no_two_matrices_are_alike():
    model = registry.model("vit:Ti/16").build(depth=2)
    parity.fill(model)
    first, second = model.blocks
    assert not torch.equal(first.mlp.expand.weight, second.mlp.expand.weight)
    assert all(parameter.std() > 0.01 for parameter in model.parameters())
    assert first.mlp_norm.weight.mean().item() == pytest.approx(1, abs=0.1)
    q, k, v = first.attention.qkv.weight.chunk(3)
    assert not torch.allclose(q, k)
    assert not torch.allclose(k, v)


def test_the_table_has_a_line_for_each_model_and_sorts_by_numbers():
    measured = {name: registry.measure(name) for name in ("vit:Ti/16", "resnet:resnet18")}
    text, html = repr(Table(measured)), Table(measured)._repr_html_()
    assert [line.split()[0] for line in text.splitlines()] == ["model", "vit:Ti/16", "resnet:resnet18"]
    assert html.count("<tr") == 3
    assert html.count('scope="col"') == len(COLUMNS)
    assert (
        '<tr data-chapter="resnet"><th scope="row">resnet:resnet18</th><td data-value="11689512">11,689,512</td>'
        in html
    )
