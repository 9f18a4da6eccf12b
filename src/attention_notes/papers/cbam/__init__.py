"""CBAM: Convolutional Block Attention Module."""

from attention_notes.papers.cbam.model import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    Gate,
    Pool,
    SpatialAttention,
    SqueezeExcitation,
    average,
    cbam,
    channel_first,
    initialise,
    maximum,
    parallel,
    spatial_first,
)

__all__ = [
    "CBAM",
    "VARIANTS",
    "ChannelAttention",
    "Gate",
    "Pool",
    "SpatialAttention",
    "SqueezeExcitation",
    "average",
    "cbam",
    "channel_first",
    "initialise",
    "maximum",
    "parallel",
    "spatial_first",
]
