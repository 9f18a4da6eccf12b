"""Transformer in Transformer.

Han et al. 2021, arXiv 2103.00112. The idea: a patch is a sentence of words, small pieces with tokens of their own. In
each layer the words of a patch attend to each other, and all of them are added to the token of the patch.

Departures, all as in the authors' code at commit f90e129:
    - Words are made by a convolution of 7 x 7 pixels that moves in steps of a word and ends at the border of the patch.
      The pieces of equation 5 do not overlap.
    - The sentences start as what the words make of them, not at zero (section 2.2).
    - Before and after the map from words to sentences (equation 8) stands a norm. The map has a bias before the first
      block only. The maps to queries, keys and values have none.

From that code itself:
    - It holds a parameter for the zeros of section 2.2, which is not trained and which nothing reads. It is not here.
      Without it TNT-S has 75,264 parameters fewer.
    - Blocks without words (table 5) and squeeze-and-excitation (appendix A.2) are not here.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.initialise import Start, initialise, truncated_normal
from attention_notes.nn.protocols import Make, Pair
from attention_notes.nn.sizes import Size, check_images, pair
from attention_notes.nn.variants import lookup
from attention_notes.nn.vision import Indices, maps_after
from attention_notes.papers.vit import Block, ClassToken, PatchEmbedding, VisionTransformer
from attention_notes.papers.vit.model import _check_size
from attention_notes.papers.vit.short import ShortAttention
from attention_notes.weights.pretrained import pretrainable

Words = Float[Tensor, "b n m c"]
Sentences = Float[Tensor, "b n d"]  # one for each patch
Tokens = Float[Tensor, "b t d"]  # with the class token in front


class WordProjection(nn.Conv2d):
    """The convolution that makes words: it reads patches one by one, and makes no map of the image."""


class WordEmbedding(PatchEmbedding):
    """Cut patches into words and map each to a vector, with its place in the patch (equations 4, 5 and 13).

        Y_0^i = [FC(Vec(x^{i,1})), ..., FC(Vec(x^{i,m}))] + E_word

    FC(Vec(...)) is a convolution of 7 x 7 pixels within the patch, as in the authors' code. The ``m`` words of a patch
    come row by row, and E_word is the same for all of the ``n`` patches.

    Args:
        dim: width ``c`` of a word.
        image_size: height and width in pixels, or one number for both.
        patch: height and width of a patch in pixels, or one number for both.
        word: height and width of a word in pixels, or one number for both.
        channels: channels of the image.

    Raises:
        ValueError: if patches do not tile the image, or if it has no channels.
    """

    no_weight_decay = ("positions",)

    def __init__(self, dim: int, *, image_size: Size, patch: Size, word: Size, channels: int = 3) -> None:
        super().__init__(dim, image_size=image_size, patch=patch, channels=channels)
        self.word = pair(word)
        self.projection = WordProjection(channels, dim, 7, stride=self.word, padding=3)  # type: ignore[assignment]
        self.positions = nn.Parameter(torch.empty(1, math.prod(self.words), dim))
        nn.init.trunc_normal_(self.positions, std=0.02)

    @property
    def words(self) -> Pair:
        """Rows and columns of words in a patch."""
        (py, px), (sy, sx) = self.patch, self.word
        return -(-py // sy), -(-px // sx)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Words:
        """Cut, project, add positions. Raises ``ValueError`` for images of other channels or another size."""
        check_images(images, self.channels)
        _check_size(images, self.image_size)
        py, px = self.patch
        patches = rearrange(images, "b ch (gy py) (gx px) -> (b gy gx) ch py px", py=py, px=px)
        words = self.projection(patches)
        return rearrange(words, "(b n) c my mx -> b n (my mx) c", n=math.prod(self.grid)) + self.positions


class Aggregation(nn.Module):
    """From the words of a patch to a vector as wide as its sentence (equation 8), between two norms.

        LN(FC(LN(Vec(Y^i))))

    Args:
        dim: width ``d`` of a sentence.
        word_dim: width ``c`` of a word.
        words: number ``m`` of words in a patch.
        norm: makes both norms from their width.
        bias: whether the map has a bias.
    """

    def __init__(self, dim: int, *, word_dim: int, words: int, norm: Make, bias: bool = False) -> None:
        super().__init__()
        self.before = norm(words * word_dim)
        self.projection = nn.Linear(words * word_dim, dim, bias=bias)
        self.after = norm(dim)

    def initialise(self, start: Start) -> None:
        """Draw the map."""
        start(self.projection)

    def forward(self, words: Words) -> Sentences:
        """All words of a patch at once, one after the other."""
        return self.after(self.projection(self.before(words.flatten(2))))


class SentenceEmbedding(nn.Module):
    """The words of an image, and the sentences that they make: the stem.

    Args:
        dim: width ``d`` of a sentence.
        words: makes the words.
        norm: makes norms from their width.
    """

    def __init__(self, dim: int, *, words: WordEmbedding, norm: Make) -> None:
        super().__init__()
        self.dim = dim
        self.words = words
        self.aggregation = Aggregation(dim, word_dim=words.dim, words=math.prod(words.words), norm=norm, bias=True)
        self.aggregation.initialise(truncated_normal)

    @property
    def grid(self) -> Pair:
        """Rows and columns of patches."""
        return self.words.grid

    @property
    def patch(self) -> Pair:
        """Height and width of a patch in pixels."""
        return self.words.patch

    @property
    def image_size(self) -> Pair:
        """Height and width of the images in pixels."""
        return self.words.image_size

    def resize(self, image_size: Size) -> None:
        """Expect images of another size: more patches or fewer, each of as many words."""
        self.words.resize(image_size)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> tuple[Words, Sentences]:
        """Words and sentences."""
        words = self.words(images)
        return words, self.aggregation(words)


class InnerBlock(Block):
    """A layer over the words of each patch by itself, T_in (equations 6 and 7).

        Y'_l^i = Y_{l-1}^i + MSA(LN(Y_{l-1}^i))
        Y_l^i  = Y'_l^i + MLP(LN(Y'_l^i))

    The arguments are those of ``Block``; ``words`` are rows and columns of words in a patch.
    """

    def __init__(self, dim: int, *, words: Pair, attention: Make = ShortAttention, **options: Any) -> None:
        super().__init__(dim, attention=attention, **options)
        self.words = words

    def forward(self, words: Words) -> Words:
        """Every patch is a sequence of its own; stochastic depth, too, skips one and not the other."""
        changed = super().forward(rearrange(words, "b n m c -> (b n) m c"))
        return rearrange(changed, "(b n) m c -> b n m c", n=words.shape[1])


class TNTBlock(nn.Module):
    """A layer of words and sentences (equations 6 to 11).

        Y_l = T_in(Y_{l-1})
        Z^i <- Z_{l-1}^i + FC(Vec(Y_l^i))
        Z_l = T_out(Z)

    The class token and what else stands before the patches gets no words. Nothing goes from sentences to words.

    Args:
        dim: width ``d`` of a sentence.
        heads: heads of the outer attention.
        hidden: hidden width of the outer MLP.
        words: rows and columns of words in a patch.
        word_dim: width ``c`` of a word.
        word_heads: heads of the inner attention.
        word_hidden: hidden width of the inner MLP.
        norm: makes norms from their width.
        inner: makes T_in from ``word_dim`` and what ``outer`` is told, with ``words``.
        outer: makes T_out from ``dim``, ``heads``, ``hidden``, ``norm`` and the options.
        options: of both, as ``drop_path``.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        hidden: int,
        words: Pair,
        word_dim: int,
        word_heads: int,
        word_hidden: int,
        norm: Make = nn.LayerNorm,
        inner: Make = InnerBlock,
        outer: Make = Block,
        **options: Any,
    ) -> None:
        super().__init__()
        options["norm"] = norm
        self.inner = inner(word_dim, words=words, heads=word_heads, hidden=word_hidden, **options)
        self.aggregation = Aggregation(dim, word_dim=word_dim, words=math.prod(words), norm=norm)
        self.outer = outer(dim, heads=heads, hidden=hidden, **options)

    def initialise(self, start: Start) -> None:
        """Draw the maps of all three parts."""
        initialise(self.inner, self.aggregation, self.outer, start=start)

    def forward(self, words: Words, sentences: Tokens) -> tuple[Words, Tokens]:
        """One layer of both; words that go on to the next layer are those that were added."""
        words = self.inner(words)
        added = self.aggregation(words)
        before = sentences.shape[1] - added.shape[1]
        return words, self.outer(sentences + F.pad(added, (0, 0, before, 0)))


class TwoStreams(Blocks):
    """Blocks that hand on words and sentences, as a pair."""

    def forward(self, x: Any) -> Any:
        """Run all blocks."""
        for block in self:
            x = self.run(block, *x)
        return x


class TNT(VisionTransformer):
    """A Vision Transformer whose patches have words (equations 4 to 13).

        Y_0  = words + E_word
        Z_0  = [Z_class; LN(FC(LN(Vec(Y_0^i))))] + E_sentence
        Y_l, Z_l = TNT(Y_{l-1}, Z_{l-1}),  l = 1 ... L
        y    = LN(Z_L)^0

    Args:
        patches: makes words and sentences.
        norm: makes every norm from its width.
        options: of ``VisionTransformer`` and of ``TNTBlock``.

    Raises:
        ValueError: as ``VisionTransformer``.
    """

    patches: SentenceEmbedding
    blocks: TwoStreams

    def __init__(
        self, patches: SentenceEmbedding, *, norm: Make = nn.LayerNorm, block: Make = TNTBlock, **options: Any
    ) -> None:
        told = {"words": patches.words.words, "word_dim": patches.words.dim}
        super().__init__(patches, norm=norm, block=partial(block, **told), **options)
        self.blocks = TwoStreams(*self.blocks)
        nn.init.trunc_normal_(self.positions, std=0.02)
        if isinstance(self.pooling, ClassToken):
            nn.init.trunc_normal_(self.pooling.token, std=0.02)
        self.initialise(truncated_normal)

    def streams(self, images: Float[Tensor, "b ch y x"]) -> tuple[Words, Tokens]:
        """What enters the blocks: the words, and the sentences behind the class token."""
        words, sentences = self.patches(images)
        sentences = self.dropout(self.pooling.prepend(sentences) + self._places())
        return words, self.pre_norm(self._registered(sentences))

    def embed(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """The sentences that enter the blocks."""
        return self.streams(images)[1]

    def tokens(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """All sentences after the last norm, in the order of ``embed``."""
        return self.norm(self.blocks(self.streams(images))[1])

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b c gy gx"]]:
        """The sentences of the patches after each block, on their grid, as in ``VisionModel``."""
        words, sentences = self.streams(images)

        def run(block: nn.Module, sentences: Tensor) -> Tensor:
            nonlocal words
            words, sentences = self.blocks.run(block, words, sentences)
            return sentences

        return maps_after(self.blocks, sentences, out_indices, run=run, as_map=self._on_grid)


VARIANTS: dict[str, dict[str, Any]] = {
    # table 1: the inner MLP is four times as wide as a word, the outer one four times as wide as a sentence
    "tnt_ti": {"dim": 192, "heads": 3, "word_dim": 12, "word_heads": 2},
    "tnt_s": {"dim": 384, "heads": 6, "word_dim": 24, "word_heads": 4},
    "tnt_b": {"dim": 640, "heads": 10, "word_dim": 40, "word_heads": 4},
}


@pretrainable
def tnt(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size = 224,
    channels: int = 3,
    **overrides: Any,
) -> TNT:
    """A TNT by its name: ``"tnt_s"`` has patches of 16 pixels and in each 16 words of 4.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: any of ``dim``, ``heads``, ``word_dim``, ``word_heads``, ``depth`` (12), ``hidden`` and
            ``word_hidden`` (four times the width), ``patch`` (16), ``word`` (4), and any other argument of ``TNT``;
            stochastic depth, ``drop_path``, is 0.1 (table 3).

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    options = {**lookup(VARIANTS, variant), "depth": 12, "patch": 16, "word": 4, **overrides}
    options = {"norm": nn.LayerNorm, "qkv_bias": False, "drop_path": 0.1, **options}
    dim, word_dim = options.pop("dim"), options.pop("word_dim")
    options = {"hidden": 4 * dim, "word_hidden": 4 * word_dim, **options}
    cut = {"patch": options.pop("patch"), "word": options.pop("word"), "image_size": image_size}
    words = WordEmbedding(word_dim, channels=channels, **cut)
    patches = SentenceEmbedding(dim, words=words, norm=options["norm"])
    return TNT(patches, num_classes=num_classes, **options)
