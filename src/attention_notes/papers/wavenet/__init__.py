"""WaveNet: A Generative Model for Raw Audio, van den Oord et al. 2016, arXiv 1609.03499."""

from attention_notes.papers.wavenet.model import (
    CausalConvolution,
    Layer,
    Queue,
    Stack,
    WaveNet,
    decode,
    doubling,
    draw,
    encode,
)

__all__ = ["CausalConvolution", "Layer", "Queue", "Stack", "WaveNet", "decode", "doubling", "draw", "encode"]
