"""Softmax attention, written once, with two faces that are equal.

``attention_weights`` is the literal equation: the book shows it, and it can hand out the weights. ``attention`` is the
one that runs: the same numbers from PyTorch's fused kernel, which never holds the ``n x m`` matrix.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attention_notes.nn.heads import check_heads
from attention_notes.nn.initialise import OwnLayers

Mask = Bool[Tensor, "..."] | Float[Tensor, "..."]


def attention_weights(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b m d"],
    *,
    mask: Mask | None = None,
    scale: float | None = None,
) -> Float[Tensor, "*b n m"]:
    """How much each query takes from each key: softmax(Q Kᵀ / √d), every row summing to one.

    Args:
        q: ``n`` queries of width ``d``.
        k: ``m`` keys of the same width.
        mask: boolean, True where a query *may* look, or a float bias added to the scores; broadcasts to ``*b n m``.
        scale: factor on the scores; ``d ** -0.5`` when not given (Vaswani et al. 2017, equation 1).

    Returns:
        The weights. A row whose keys are all forbidden is zero.

    Raises:
        ValueError: if widths differ, or if the mask's shape or kind does not fit.
    """
    _check_widths(q, k)
    _check_mask(mask, q, k)
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        return scores.softmax(-1)
    bias = mask if mask.is_floating_point() else scores.new_zeros(()).masked_fill(~mask, float("-inf"))
    blind = (bias == float("-inf")).expand_as(scores).all(-1, keepdim=True)
    return (scores + bias).masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)


def attention(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b m d"],
    v: Float[Tensor, "*b m dv"],
    *,
    mask: Mask | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*b n dv"]:
    """Scaled dot-product attention, softmax(Q Kᵀ / √d) V, by the fused kernel.

    Equal to ``attention_weights(q, k, mask=mask, scale=scale) @ v``. Arguments and errors as there; in addition ``v``
    must have one row for each key, and ``dropout`` is the probability with which a weight is dropped.

    The fused kernel has first derivatives, backwards. For second ones, as of a penalty on gradients, and for forward
    mode, as in ``torch.func.jvp``, call the model under PyTorch's math kernel, which holds the matrix:
    ``with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH): ...``.

    A compiler on a CPU is given the equation itself where keys are few, as in a window: its own kernels are faster.
    """
    _check_widths(q, k)
    _check_mask(mask, q, k)
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"{k.shape[-2]} keys but {v.shape[-2]} values: each key needs exactly one value")
    if mask is not None and mask.ndim < 2:  # the fused kernel needs two axes
        mask = mask.expand(1, k.shape[-2])
    if mask is None and _compiled_for_few(k):
        return written_out(q, k, v, scale=scale, dropout=dropout)
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, attn_mask=mask, scale=scale)
    if mask is not None and mask.requires_grad and torch.compiler.is_exporting():
        # kernels lay their output out differently, and which one runs depends on gradients: exporters mix them up
        mixed = mixed.clone(memory_format=torch.contiguous_format)
    return mixed


def written_out(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b m d"],
    v: Float[Tensor, "*b m dv"],
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*b n dv"]:
    """As ``attention``, by the equation itself: faster on a CPU where keys are few and gradients are recorded."""
    weights = (q * (q.shape[-1] ** -0.5 if scale is None else scale) @ k.transpose(-2, -1)).softmax(-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ v


class AttentionDropout(nn.Dropout):
    """Dropout of the weights of an attention, which ``attention`` does itself: it is told the ``rate``.

    Args:
        p: probability of dropping a weight in training.
    """

    @property
    def rate(self) -> float:
        """The probability in training, 0 in evaluation."""
        return self.p if self.training else 0.0


class MultiHeadAttention(OwnLayers):
    """Several attentions side by side, each on its own narrow projection (Vaswani et al. 2017, section 3.2.2).

        head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)
        MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O

    The ``h`` matrices W_i^Q of width ``d = c / h`` stand side by side in one ``query`` map, likewise ``key``
    and ``value``; ``output`` is W^O. ``forward`` is ``attend`` after ``keys_values``: whoever decodes token by
    token calls the two apart and keeps the keys and values.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        bias: whether the four maps have biases.
        attention_dropout: probability of dropping a weight of the attention.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, bias: bool = True, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim, dim, bias=bias)
        self.value = nn.Linear(dim, dim, bias=bias)
        self.output = nn.Linear(dim, dim, bias=bias)
        self.attention_dropout = AttentionDropout(attention_dropout)

    def forward(
        self, x: Float[Tensor, "b n c"], context: Float[Tensor, "b m c"] | None = None, *, mask: Mask | None = None
    ) -> Float[Tensor, "b n c"]:
        """Let each token of ``x`` look at ``context``, or at ``x`` itself; ``mask`` broadcasts to ``b h n m``."""
        return self.attend(x, *self.keys_values(x if context is None else context), mask=mask)

    def keys_values(self, context: Float[Tensor, "b m c"]) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Keys and values of all heads, the part of the work that does not depend on the query."""
        k, v = self.key(context), self.value(context)
        return rearrange(k, "b m (h d) -> b h m d", h=self.heads), rearrange(v, "b m (h d) -> b h m d", h=self.heads)

    def attend(
        self,
        x: Float[Tensor, "b n c"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        *,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Ask with the queries of ``x`` for what the given keys and values hold."""
        q = rearrange(self.query(x), "b n (h d) -> b h n d", h=self.heads)
        mixed = attention(q, k, v, mask=mask, dropout=self.attention_dropout.rate)
        return self.output(rearrange(mixed, "b h n d -> b n (h d)"))


def _compiled_for_few(k: Tensor) -> bool:
    """Whether a compiler is at work for a CPU, in single precision, and there are at most 64 keys; not an exporter."""
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return k.device.type == "cpu" and k.dtype == torch.float32 and k.shape[-2] <= 64


def _check_widths(q: Tensor, k: Tensor) -> None:
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"queries have width {q.shape[-1]} but keys have width {k.shape[-1]}: they must agree")


def _check_mask(mask: Tensor | None, q: Tensor, k: Tensor) -> None:
    if mask is None:
        return
    if not (mask.dtype.is_floating_point or mask.dtype == torch.bool):
        raise ValueError(
            f"mask has dtype {mask.dtype}: pass a boolean mask, True where a query may look "
            "(for 0/1 integers: mask.bool()), or a float bias that is added to the scores"
        )
    scores = (*q.shape[:-1], k.shape[-2])
    fits = mask.ndim <= len(scores) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(scores), strict=False)
    )
    if not fits:
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not broadcast to the scores' shape {scores}")
