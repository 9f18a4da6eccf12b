"""Sequence to Sequence Learning with Neural Networks, Sutskever et al. 2014, arXiv 1409.3215."""

from attention_notes.papers.seq2seq.model import (
    LSTM,
    VARIANTS,
    Decoder,
    Decoding,
    Encoder,
    FusedLSTM,
    LSTMCell,
    Recurrent,
    Seq2Seq,
    lstm_step,
    reverse,
    seq2seq,
)

__all__ = [
    "LSTM",
    "VARIANTS",
    "Decoder",
    "Decoding",
    "Encoder",
    "FusedLSTM",
    "LSTMCell",
    "Recurrent",
    "Seq2Seq",
    "lstm_step",
    "reverse",
    "seq2seq",
]
