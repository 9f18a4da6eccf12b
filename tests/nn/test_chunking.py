"""Chunks give what the whole batch gives, and are refused where they would not, or where somebody would see them."""

import threading

import pytest
import torch
from torch import nn

from attention_notes.inspect import record_attention
from attention_notes.nn.chunking import chunked
from attention_notes.papers.deit import deit
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit

STAGES = {"dim": 6, "heads": (1, 2), "window": 5, "image_size": (64, 96), "num_classes": 3}
PYRAMID = {"dims": (4, 6, 8, 10), "depths": (2, 1, 2, 1), "heads": (1, 2, 2, 2), "num_classes": 3}
PLAIN = {"dim": 12, "depth": 2, "heads": 2, "hidden": 30, "image_size": (64, 96), "num_classes": 3}
SMALL = {
    "vit": lambda: vit("Ti/16", **PLAIN),
    "deit": lambda: deit("Ti/16 distilled", **PLAIN),
    "swin": lambda: swin("swin_t", depths=(2, 2), **STAGES),
    "swin v2": lambda: swin("swinv2_t", depths=(2, 1), **STAGES),
    "pvt": lambda: pvt("pvt_tiny", image_size=(64, 96), **PYRAMID),
    "pvt v2": lambda: pvt("pvt_v2_b0", **PYRAMID),
}
every_model = pytest.mark.parametrize("build", SMALL.values(), ids=SMALL.keys())


def blocks(model: nn.Module) -> nn.Sequential:
    """A sequence of blocks that is called with seven images."""
    return next(part for part in model.modules() if isinstance(part, nn.Sequential) and hasattr(part[0], "mlp"))


@every_model
def test_in_chunks_the_answers_are_those_of_the_whole_batch(build):
    model, images, sizes = build().eval(), torch.randn(7, 3, 64, 96), []
    inside = type(blocks(model)[0])
    forward = inside.forward
    with torch.inference_mode():
        whole = model(images)
        with pytest.MonkeyPatch.context() as watched:
            watched.setattr(inside, "forward", lambda self, x: [sizes.append(len(x)), forward(self, x)][1])
            with chunked(model, numbers=1):
                found = model(images)
    assert set(sizes) == {1}, "one image at a time"
    assert torch.allclose(found, whole, atol=1e-6)


@every_model
def test_before_and_after_every_part_is_called_once_with_the_whole_batch(build):
    model, images, sizes = build().eval(), torch.randn(7, 3, 64, 96), []
    with torch.inference_mode(), chunked(model, numbers=1):
        model(images)
    for block in blocks(model):
        block.register_forward_hook(lambda _, given, out: sizes.append((len(given[0]), len(out))))
    with torch.inference_mode():
        model(images)
    assert sizes == [(7, 7)] * len(blocks(model))
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_hook_on_the_chunked_part_itself_sees_the_whole_batch():
    model, images, sizes = SMALL["pvt v2"]().eval(), torch.randn(7, 3, 64, 96), []
    blocks(model).register_forward_hook(lambda _, given, out: sizes.append((len(given[0]), len(out))))
    with torch.inference_mode(), chunked(model, numbers=1):
        model(images)
    assert sizes == [(7, 7)]


def hooked(model: nn.Module) -> None:
    blocks(model)[1].register_forward_hook(lambda *_: None)


def normed(model: nn.Module) -> None:
    blocks(model)[0].norm = nn.BatchNorm1d(3, track_running_stats=False).eval()


REFUSED = {
    "in training": lambda model: model.train(),
    "in training of a part": lambda model: blocks(model)[0].mlp.train(),
    "a hook on 1": hooked,
    "norm, a norm over the batch": normed,
}


@pytest.mark.parametrize("reason", REFUSED)
@every_model
def test_where_chunks_would_change_numbers_or_be_seen_they_are_refused(build, reason):
    model, images = build(), torch.randn(7, 3, 64, 96)
    REFUSED[reason](model.eval())
    with torch.inference_mode(), chunked(model), pytest.raises(RuntimeError, match=reason.partition(" of a part")[0]):
        model(images)
    assert not any("forward" in vars(module) for module in model.modules())


def test_gradients_traces_compilers_and_hooks_on_everything_are_refused():
    model, images = SMALL["swin"]().eval(), torch.randn(7, 3, 64, 96)
    with chunked(model):
        with pytest.raises(RuntimeError, match="with gradients"):
            model(images)
        with torch.no_grad():
            with pytest.raises(RuntimeError, match="in a trace"):
                torch.jit.trace(model, images)
            everything = nn.modules.module.register_module_forward_hook(lambda *_: None)
            try:
                with pytest.raises(RuntimeError, match="hooks on every module"):
                    model(images)
            finally:
                everything.remove()
            with pytest.raises(RuntimeError, match="with a hook on"), record_attention(model):
                model(images)


def test_a_model_that_is_elsewhere_or_in_chunks_already_is_refused():
    with (
        pytest.raises(ValueError, match="the model is on meta: call it without them"),
        chunked(SMALL["vit"]().to("meta")),
    ):
        pass
    model = SMALL["vit"]().eval()
    with chunked(model), pytest.raises(ValueError, match="replaced already"), chunked(model):
        pass


def test_another_model_works_as_before():
    inside, beside, images = SMALL["vit"]().eval(), SMALL["vit"]().eval(), torch.randn(7, 3, 64, 96)
    sizes = []
    blocks(beside)[0].register_forward_hook(lambda _, given, out: sizes.append(len(given[0])))
    with torch.inference_mode(), chunked(inside, numbers=1):
        inside(images)
        thread = threading.Thread(target=lambda: beside(images))
        thread.start()
        thread.join()
    assert sizes == [7]
