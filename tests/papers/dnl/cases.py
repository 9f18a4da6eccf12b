"""Small models for the suite over all models."""

from collections.abc import Callable
from functools import partial

from torch import nn

from attention_notes.papers.dnl import DNL, Added, Coupled, Disentangled, DNLNet, Multiplied, Pairwise, Unary
from attention_notes.papers.resnet import ResNet, basic
from tests.contract import Case, images


def _disentangled(attention: Callable[..., nn.Module]) -> nn.Module:
    backbone = ResNet(basic, depths=(1, 1), width=8, dilations=(1, 1), num_classes=None)
    return DNLNet(backbone, num_classes=5, dim=10, block=partial(DNL, attention=attention))


def _case(attention: Callable[..., nn.Module]) -> Case:
    return Case(partial(_disentangled, attention), images, no_vision="it names every pixel, and no image")


MODELS = {
    "dnl": _case(Disentangled),
    "dnl coupled": _case(Coupled),
    "dnl multiplied": _case(Multiplied),
    "dnl added": _case(Added),
    "dnl pairwise": _case(Pairwise),
    "dnl unary": _case(Unary),
}
