"""Residual networks, the convolutional parents of the blocks that are made to sit in one."""

from attention_notes.papers.resnet.model import (
    VARIANTS,
    Branch,
    Residual,
    ResNet,
    basic,
    bottleneck,
    convolution,
    resnet,
)

__all__ = ["VARIANTS", "Branch", "ResNet", "Residual", "basic", "bottleneck", "convolution", "resnet"]
