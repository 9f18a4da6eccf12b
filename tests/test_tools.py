"""What every model promises to other people's tools: devices, number formats, exporters, wrappers, wrong inputs."""

import copy
import warnings
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from attention_notes.nn.drop_path import DropPath
from tests.contract import BATCH, DEVICE, Case, agrees_elsewhere, clips, images, randomised, run, tiles
from tests.test_contract import MODELS, every_model

HALVES = pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])


def on_meta(case: Case) -> nn.Module:
    with torch.device("meta"):
        return case.build()


@every_model
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_model_without_values_is_right_once_it_has_its_state_dict(case, kind):
    """From ``meta`` with new memory, from ``meta`` by assigning, and a model with values that are thrown away."""
    model = randomised(case).to(kind)
    inputs = tuple(x.to(kind) if x.is_floating_point() else x for x in case.inputs())
    state = model.state_dict()
    empty = {
        "to_empty from meta": on_meta(case).to(kind).to_empty(device=DEVICE),
        "assigned to meta": on_meta(case),
        "to_empty of values": case.build().to(kind).to_empty(device=DEVICE),
    }
    for how, other in empty.items():
        other.load_state_dict(state, assign=how.startswith("assigned"))
        found = [*other.parameters(), *other.buffers()]
        assert {t.device.type for t in found} <= {DEVICE}, how
        assert {t.dtype for t in found if t.is_floating_point()} <= {kind}, how
        assert torch.equal(run(other.eval(), inputs), run(model, inputs)), how


def still(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | DropPath):
            module.p = 0.0
    return model


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])


@every_model
@HALVES
@pytest.mark.parametrize("cast", [True, False], ids=["cast", "autocast"])
def test_half_precision_is_finite_and_near_single_precision_forwards_and_backwards(case, kind, cast):
    if case.no_bfloat16:
        pytest.skip(case.no_bfloat16)
    apart = []
    for _ in range(3):  # one model may happen to answer with differences of large numbers
        exact, inputs = still(randomised(case)), case.inputs()
        rough = copy.deepcopy(exact).to(kind if cast else torch.float32)
        halved = tuple(x.to(kind) if cast and x.is_floating_point() else x for x in inputs)
        with nullcontext() if cast else torch.autocast(DEVICE, kind):
            found = run(rough, halved)
        wanted = run(exact, inputs)
        for answer in (found.float(), wanted):  # of about one: the squares of large numbers do not fit float16
            (answer / wanted.detach().norm()).square().sum().backward()
        assert found.isfinite().all()
        assert gradient(rough).isfinite().all()
        pairs = (found.float(), wanted), (gradient(rough), gradient(exact))
        apart.append([(a - b).norm() / b.norm() for a, b in pairs])
    output, slope = torch.tensor(apart).median(0).values
    assert output < 8 * torch.finfo(kind).eps
    assert slope < 0.25


@every_model
def test_traced_for_onnx_a_model_runs_at_any_batch_elsewhere(case, tmp_path, unchecked):
    """The older exporter, which machines that are not so new still need."""
    if reason := case.no_onnx or case.no_traced_onnx:
        pytest.skip(reason)
    pytest.importorskip("onnx")  # the lock has it; the lowest versions stand alone
    model, path = randomised(case), tmp_path / "model.onnx"
    axes = {f"x{i}": {0: "batch"} for i, _ in enumerate(case.inputs())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and the sizes by which a model decides become constants
        torch.onnx.export(model, case.inputs(), path, dynamo=False, input_names=[*axes], dynamic_axes=axes)
    agrees_elsewhere(path, case, model)


@pytest.mark.parametrize("name", ["resnet", "resnet bottleneck", "cbam"])
def test_networks_of_convolutions_are_recorded_by_torch_fx(name, unchecked):
    """The others decide by shapes, which it cannot record. ``torch.export`` can, and ``features`` gives the maps."""
    model, inputs = randomised(MODELS[name]), MODELS[name].inputs()
    assert torch.equal(run(torch.fx.symbolic_trace(model), inputs), run(model, inputs))


class Adapted(nn.Module):
    """What stands in the place of a linear map: no weight to read, and an output of its own."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer, self.calls = layer, 0
        self.narrow = nn.Parameter(torch.zeros(layer.in_features, 2, device=layer.weight.device))
        self.widen = nn.Parameter(torch.randn(2, layer.out_features, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + x @ self.narrow @ self.widen


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """Put adapters in the place of all linear maps."""
    found = {}
    for name, layer in [*model.named_modules()]:
        if isinstance(layer, nn.Linear):
            parent, _, child = name.rpartition(".")
            found[name] = Adapted(layer)
            setattr(model.get_submodule(parent), child, found[name])
    return found


@every_model
def test_adapters_may_stand_in_the_place_of_all_linear_maps(case):
    """As those of low rank do: each is called as often as the map was, and gets a gradient."""
    model, inputs = still(randomised(case)), case.inputs()
    wanted, calls = run(model, inputs), Counter[str]()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda *_, name=name: calls.update([name]))
    run(model, inputs)
    adapters = adapted(model)
    before = Counter(calls)
    found = run(model, inputs)
    assert torch.equal(found, wanted)
    assert {name: adapter.calls for name, adapter in adapters.items()} == before
    assert min(before.values(), default=1) > 0
    assert before.keys() == adapters.keys()
    found.square().mean().backward()
    assert [name for name, adapter in adapters.items() if adapter.narrow.grad is None] == []


@every_model
def test_linear_maps_of_eight_bits_change_little(case):
    model, inputs = randomised(case).cpu(), tuple(x.cpu() for x in case.inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao moves to another package
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not any(isinstance(layer, nn.Linear) for layer in small.modules())
    with torch.no_grad():
        found, wanted = run(small, inputs), run(model, inputs)
    assert (found - wanted).norm() < 0.3 * wanted.norm()
    assert torch.equal(found, wanted) != any(isinstance(layer, nn.Linear) for layer in model.modules())


IMAGES = {name: case for name, case in MODELS.items() if case.inputs in (images, tiles, clips)}


@pytest.mark.parametrize("case", IMAGES.values(), ids=IMAGES.keys())
def test_what_is_no_batch_of_images_is_refused_with_its_shape_and_the_way_out(case, unchecked):
    model, (x,) = randomised(case), case.inputs()
    name, size = "clip" if case.inputs is clips else "image", tuple(x.shape[1:])
    refused = {
        "one without a batch": (x[0], [str(size), f"{name}[None]"]),
        "a batch of batches": (x[None], [str((1, *x.shape)), "b ch"]),
        "another number of channels": (x[:, :1], [str((BATCH, 1, *size[1:])), "1 channels", "channels=3"]),
        "whole numbers": ((50 * x).byte(), ["torch.uint8", "255"]),
    }
    for what, (given, words) in refused.items():
        with pytest.raises(ValueError, match=name) as raised:
            model(given)
        assert [word for word in words if word not in str(raised.value)] == [], what


def test_one_sentence_without_a_batch_is_refused_with_its_shape(unchecked):
    case = MODELS["transformer"]
    model, (source, target) = randomised(case), case.inputs()
    for given in ((source[0], target), (source, target[0])):
        with pytest.raises(ValueError, match=r"tokens of shape \((5|3),\).*tokens\[None\]"):
            model(*given)
