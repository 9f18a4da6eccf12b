"""Residual networks, the convolutional parents of the blocks that are made to sit in one."""

from attention_notes.papers.resnet.model import (
    VARIANTS,
    Branch,
    Convolution,
    Residual,
    ResNet,
    basic,
    bottleneck,
    convolution,
    kaiming,
    resnet,
)

__all__ = [
    "VARIANTS",
    "Branch",
    "Convolution",
    "ResNet",
    "Residual",
    "basic",
    "bottleneck",
    "convolution",
    "kaiming",
    "resnet",
]
