"""Transformers from Scratch, Peter Bloem, 2019, http://peterbloem.nl/blog/transformers (a lecture, no arXiv id).

The idea: each output is an average of all inputs, and the inputs themselves decide how much each one counts.

Beside the bare operation stand two things from other papers. *Compatibility functions* score a query against a key:
Bahdanau et al. 2015 (arXiv 1409.0473), Luong et al. 2015 (arXiv 1508.04025). *A convolution made of heads* shows that
attention contains convolution: Cordonnier et al. 2020 (arXiv 1911.03584).

**Departures.** Cordonnier et al. state their theorem for stride 1 and leave strides to a pooling that follows; here a
stride has fewer queries. Their heads' centres and widths are parameters; here they are fixed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import Mask, attention, attention_weights

Compatibility = Callable[[Tensor, Tensor], Tensor]


def self_attention(
    x: Float[Tensor, "*b n c"], *, mask: Mask | None = None, scale: float = 1.0
) -> Float[Tensor, "*b n c"]:
    """Self-attention with no parameters, Y = softmax(X Xᵀ) X.

    Each token is its own query, its own key and its own value. ``mask`` as in ``attention``; ``scale`` is a factor on
    the scores, one in the lecture's basic form.
    """
    return attention(x, x, x, mask=mask, scale=scale)


def dot(q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """The compatibility qᵀ k (Luong et al. 2015, equation 8, *dot*).

    Raises:
        ValueError: if queries and keys differ in width.
    """
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(
            f"queries have width {q.shape[-1]} but keys have width {k.shape[-1]}: a dot product needs one width"
        )
    return q @ k.mT


class General(nn.Module):
    """The compatibility qᵀ W k (Luong et al. 2015, equation 8, *general*).

    Queries and keys may differ in width, and so in kind: one learned matrix says which feature of a query goes with
    which feature of a key.
    """

    def __init__(self, queries: int, *, keys: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(queries, keys))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, q: Float[Tensor, "*b n dq"], k: Float[Tensor, "*b m dk"]) -> Float[Tensor, "*b n m"]:
        """Score every query against every key."""
        return q @ self.weight @ k.mT


class Additive(nn.Module):
    """The compatibility vᵀ tanh(W q + U k), a small MLP (Bahdanau et al. 2015, appendix A.1.2).

    Luong et al. write the same score over the joined vector [q; k] and call it *concat*. It holds
    n m hidden vectors at once, which is why the dot product displaced it.
    """

    def __init__(self, queries: int, *, keys: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(queries, hidden)
        self.key = nn.Linear(keys, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, q: Float[Tensor, "*b n dq"], k: Float[Tensor, "*b m dk"]) -> Float[Tensor, "*b n m"]:
        """Score every query against every key."""
        pairs = torch.tanh(self.query(q)[..., :, None, :] + self.key(k)[..., None, :, :])
        return self.score(pairs).squeeze(-1)


def matching(
    q: Float[Tensor, "*b n dq"], k: Float[Tensor, "*b m dk"], *, compatibility: Compatibility = dot
) -> Float[Tensor, "*b n m"]:
    """Weights from any compatibility: w_ij = softmax_j a(q_i, k_j), rows summing to one.

    Args:
        q: ``n`` queries.
        k: ``m`` keys, of whatever width ``compatibility`` takes.
        compatibility: maps queries and keys to scores ``*b n m``: ``dot``, a ``General``, an ``Additive``, or yours.

    Raises:
        ValueError: if the compatibility gives anything but one score for each query and key.
    """
    scores = compatibility(q, k)
    if scores.shape[-2:] != (q.shape[-2], k.shape[-2]):
        raise ValueError(
            f"{q.shape[-2]} queries and {k.shape[-2]} keys, but the scores have shape {tuple(scores.shape)}"
        )
    # The one softmax of the book takes dot products and a bias; between zero vectors, only the bias is left.
    return attention_weights(torch.zeros_like(q[..., :1]), torch.zeros_like(k[..., :1]), mask=scores)


class ConvolutionByHeads(nn.Module):
    """A convolution, computed by attention heads: one head for each tap of the kernel.

    Head h looks from each pixel p to the pixel at t = p + Δ_h, the offset of its tap. Its
    scores are dot products of position vectors three wide,

        q_p = α (-1, 2 t_y, 2 t_x),   k_r = (|r|², r_y, r_x),

    so that ``q_p · k_r = -α |r - t|²`` up to a constant, which the softmax cancels: the
    quadratic encoding of Cordonnier et al. 2020, section 3. Values are the pixels themselves, and the output map
    W^O holds the kernel, tap by tap. With α = 64 what leaks to a neighbouring pixel is below
    10^-27: nothing, in float32 as in float64.

    A head whose target lies outside the picture takes the nearest pixel inside, which is *replicate* padding; for
    *zeros* the picture gets a ring of zero tokens. Weights are ``h n m``: mind the size of the picture.

    Args:
        conv: the convolution to rebuild; its weights are copied.
        sharpness: α. A power of two keeps the scores exact in float32; a small one blurs; 0 averages all.

    Raises:
        ValueError: if ``conv`` has groups, or pads with anything but zeros or replicate.
    """

    offsets: Tensor

    def __init__(self, conv: nn.Conv2d, *, sharpness: float = 64.0) -> None:
        super().__init__()
        if conv.groups != 1:
            raise ValueError(
                f"groups={conv.groups}: every head here reads all channels; pass a convolution with groups=1"
            )
        if conv.padding_mode not in ("zeros", "replicate"):
            raise ValueError(f"padding_mode={conv.padding_mode!r}: heads can pad with 'zeros' or 'replicate'")
        self.sharpness, self.stride, self.ring = sharpness, conv.stride, conv.padding_mode == "zeros"
        self.span = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        self.padding = _padding(conv.padding, self.span)
        taps = zip(conv.kernel_size, conv.dilation, self.padding, strict=True)
        self.register_buffer("offsets", torch.cartesian_prod(*[torch.arange(k) * d - p[0] for k, d, p in taps]))
        self.output = nn.Linear(len(self.offsets) * conv.in_channels, conv.out_channels, bias=conv.bias is not None)
        self.output.weight = nn.Parameter(rearrange(conv.weight.detach().clone(), "o c i j -> o (i j c)"))
        if conv.bias is not None:
            self.output.bias = nn.Parameter(conv.bias.detach().clone())

    def forward(self, x: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b out yo xo"]:
        """Let every head fetch its pixel, and mix what they bring by the kernel."""
        (top, bottom), (left, right) = self.padding
        tokens = rearrange(F.pad(x, (left, right, top, bottom)) if self.ring else x, "b c y x -> b (y x) c")
        # The weights depend on positions alone: one set serves the whole batch, so the literal face is the cheap one.
        fetched = einsum(self.weights(x), tokens, "h n m, b m c -> b n h c")
        return rearrange(self.output(fetched.flatten(2)), "b (y x) o -> b o y x", y=len(self._asking(x)[0]))

    def weights(self, x: Float[Tensor, "b ch y x"]) -> Float[Tensor, "h n m"]:
        """The heads' attention over pictures of the size of ``x``; what they show does not matter.

        Raises:
            ValueError: if the padded picture is smaller than the kernel.
        """
        exact = torch.promote_types(x.dtype, torch.float32)  # coordinates beyond 256 do not fit bfloat16
        target = (self.offsets[:, None] + torch.cartesian_prod(*self._asking(x))).to(exact)
        key = torch.cartesian_prod(*self._answering(x)).to(exact)
        q = self.sharpness * torch.cat([-torch.ones_like(target[..., :1]), 2 * target], dim=-1)
        k = torch.cat([key.square().sum(-1, keepdim=True), key], dim=-1)
        return attention_weights(q, k.expand(len(q), -1, -1), scale=1.0).to(x.dtype)

    def _asking(self, x: Tensor) -> list[Tensor]:
        """Where the first tap would stand without an offset, along each axis: the queries' coordinates."""
        room = [n + sum(p) - s for n, p, s in zip(x.shape[-2:], self.padding, self.span, strict=True)]
        if min(room) < 1:
            padded = tuple(n + sum(p) for n, p in zip(x.shape[-2:], self.padding, strict=True))
            raise ValueError(
                f"a padded picture of {padded} is smaller than a kernel of {tuple(s + 1 for s in self.span)}"
            )
        return [torch.arange(0, r, step, device=x.device) for r, step in zip(room, self.stride, strict=True)]

    def _answering(self, x: Tensor) -> list[Tensor]:
        """The keys' coordinates along each axis, with those of the ring of zeros where there is one."""
        rings = self.padding if self.ring else [(0, 0), (0, 0)]
        return [torch.arange(-p[0], n + p[1], device=x.device) for n, p in zip(x.shape[-2:], rings, strict=True)]


def _padding(padding: str | tuple[int, ...], span: list[int]) -> list[tuple[int, int]]:
    """Padding before and after, along each axis; *same* puts the odd one after, as PyTorch does."""
    if padding == "same":
        return [(s // 2, s - s // 2) for s in span]
    if padding == "valid":
        return [(0, 0) for _ in span]
    return [(int(p), int(p)) for p in padding]
