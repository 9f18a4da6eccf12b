"""Positions against transformers and timm, against literal loops, and against what each promises."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.claims import close
from attention_notes.nn.attention import attention, attention_weights
from attention_notes.papers.positional_encoding import (
    BucketBias,
    ConditionalPositions,
    Encoder,
    GridBias,
    GridSinusoids,
    LinearBias,
    Plain,
    RelativePositions,
    Rotary,
    SelfAttention,
    joined,
    offsets,
)
from attention_notes.papers.transformer import LearnedPositions, Sinusoids

# every dimension another prime; a head's width must be even for Rotary
BATCH, HEADS, N, M = 2, 3, 11, 7
WIDTH = 2 * 5
DIM = HEADS * WIDTH
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
CORES = {
    "plain": Plain,
    "shaw": partial(RelativePositions, reach=3),
    "t5": partial(BucketBias, buckets=8, furthest=5),
    "alibi": LinearBias,
    "rotary": Rotary,
}
every_core = pytest.mark.parametrize("core", CORES.values(), ids=CORES.keys())
RELATIVE = [core for name, core in CORES.items() if name != "plain"]


def randomised(module):
    """Tables that start near zero would hide themselves."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def qkv(n=N, m=N, dtype=torch.float32, width=WIDTH):
    return [torch.randn(BATCH, HEADS, length, width, dtype=dtype, requires_grad=True) for length in (n, m, m)]


def small(core=Plain, positions=None, **options):
    sizes = {"layers": 2, "heads": HEADS, "hidden": 17}
    return randomised(Encoder(DIM, core=core, positions=positions, **sizes, **options))


def assert_same(ours, theirs, leaves):
    """Equal outputs, and equal gradients of what is in ``leaves``, pairs of ours and theirs."""
    assert close(ours, theirs)
    toward = torch.randn_like(ours)
    a = torch.autograd.grad(ours, [pair[0] for pair in leaves], toward, retain_graph=True)
    b = torch.autograd.grad(theirs, [pair[1] for pair in leaves], toward, retain_graph=True)
    for one, other in zip(a, b, strict=True):
        assert one.abs().max() > 0
        assert close(one, other)


# --- Shaw et al. 2018


@DTYPES
def test_relative_positions_equal_the_double_loop_of_equations_3_and_4(dtype):
    core = randomised(RelativePositions(WIDTH, heads=HEADS, reach=3)).to(dtype)
    q, k, v = qkv(5, M, dtype)
    rows = []
    for i in range(5):
        at = [min(max(j - i, -3), 3) + 3 for j in range(M)]
        scores = [(q[..., i, :] * (k[..., j, :] + core.keys[at[j]])).sum(-1) / math.sqrt(WIDTH) for j in range(M)]
        weights = torch.stack(scores, -1).softmax(-1)
        rows.append(sum(weights[..., j, None] * (v[..., j, :] + core.values[at[j]]) for j in range(M)))
    leaves = [(t, t) for t in (q, k, v, core.keys, core.values)]
    assert_same(core(q, k, v), torch.stack(rows, -2), leaves)


@DTYPES
def test_relative_keys_equal_those_of_transformers(dtype):
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    config = Wav2Vec2BertConfig(
        hidden_size=DIM,
        num_attention_heads=HEADS,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=3,
        right_max_position_embeddings=3,
        attn_implementation="eager",
    )
    theirs = Wav2Vec2BertSelfAttention(config).to(dtype).eval()
    ours = randomised(SelfAttention(DIM, heads=HEADS, core=partial(RelativePositions, reach=3))).to(dtype)
    with torch.no_grad():
        ours.core.values.zero_()
        for name, part in zip("qkv", ours.qkv.weight.chunk(3), strict=True):
            getattr(theirs, f"linear_{name}").weight.copy_(part)
        for name, part in zip("qkv", ours.qkv.bias.chunk(3), strict=True):
            getattr(theirs, f"linear_{name}").bias.copy_(part)
        theirs.linear_out.load_state_dict(ours.output.state_dict())
        theirs.distance_embedding.weight.copy_(ours.core.keys)
    x = torch.randn(BATCH, N, DIM, dtype=dtype, requires_grad=True)
    assert_same(ours(x), theirs(x)[0], [(x, x), (ours.core.keys, theirs.distance_embedding.weight)])


def test_beyond_its_reach_a_relative_position_knows_the_side_only():
    core = randomised(RelativePositions(WIDTH, heads=HEADS, reach=2))
    q, k, v = qkv()
    swapped = list(range(N))
    swapped[8], swapped[10] = 10, 8  # for queries 0 to 6 both are more than two to the right
    a, b = core(q, k, v), core(q, k[:, :, swapped], v[:, :, swapped])
    assert close(a[:, :, :6], b[:, :, :6])
    assert not close(a[:, :, 7:], b[:, :, 7:])


def test_with_reach_zero_there_is_no_order_left():
    core, order = randomised(RelativePositions(WIDTH, heads=HEADS, reach=0)), torch.randperm(N)
    q, k, v = qkv()
    assert close(core(q, k[:, :, order], v[:, :, order]), core(q, k, v))


# --- T5


@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 5), (16, 100), (4, 2)])
def test_buckets_equal_those_of_t5(buckets, furthest):
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-300, 301)[None]
    theirs = T5Attention._relative_position_bucket(distance, num_buckets=buckets, max_distance=furthest)
    ours = BucketBias(WIDTH, heads=HEADS, buckets=buckets, furthest=furthest).bucket(distance)
    assert torch.equal(ours, theirs)


@DTYPES
def test_the_bucket_bias_equals_the_attention_of_t5(dtype):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        d_model=DIM,
        d_kv=WIDTH,
        num_heads=HEADS,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=5,
        attn_implementation="eager",
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).to(dtype).eval()
    ours = randomised(SelfAttention(DIM, heads=HEADS, core=partial(BucketBias, buckets=8, furthest=5))).to(dtype)
    with torch.no_grad():
        ours.qkv.bias.zero_()
        ours.output.bias.zero_()
        q, theirs.k.weight[:], theirs.v.weight[:] = ours.qkv.weight.chunk(3)
        theirs.q.weight.copy_(q * WIDTH**-0.5)  # T5 does not scale its scores
        theirs.o.weight.copy_(ours.output.weight)
        theirs.relative_attention_bias.weight.copy_(ours.core.table)
    x = torch.randn(BATCH, N, DIM, dtype=dtype, requires_grad=True)
    assert_same(ours(x), theirs(x)[0], [(x, x), (ours.core.table, theirs.relative_attention_bias.weight)])


def test_the_bucket_bias_is_constant_along_each_diagonal_and_its_own_in_each_head():
    bias = randomised(BucketBias(WIDTH, heads=HEADS, buckets=8, furthest=5)).bias(torch.zeros(N, 1), torch.zeros(M, 1))
    assert bias.shape == (HEADS, N, M)
    assert torch.equal(bias[:, 1:, 1:], bias[:, :-1, :-1])
    assert not close(bias[0], bias[1])
    assert not close(bias[:, :M], bias[:, :M].mT)  # left is not right


# --- Swin's bias, ALiBi


def test_the_grid_bias_equals_timms():
    from timm.layers import RelPosBias

    theirs = RelPosBias((3, 5), HEADS)
    ours = randomised(GridBias(WIDTH, heads=HEADS, grid=(3, 5)))
    theirs.relative_position_bias_table.data = ours.table.data.flatten(0, 1)
    tokens = torch.zeros(15, 1)
    assert torch.equal(ours.bias(tokens, tokens), theirs.get_bias()[0])


def test_the_grid_bias_reaches_the_scores():
    core = randomised(GridBias(WIDTH, heads=HEADS, grid=(3, 5)))
    q, k, v = qkv(15, 15)
    assert close(core(q, k, v), attention_weights(q, k, mask=core.bias(q, k)) @ v)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 16])
def test_alibis_slopes_and_bias_equal_those_of_bloom(heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    bloom = build_alibi_tensor(torch.ones(1, N), heads, torch.float32).view(heads, 1, N)
    causal = torch.ones(N, N, dtype=torch.bool).tril()
    q, k, v = (torch.randn(1, heads, N, WIDTH) for _ in range(3))
    theirs = attention(q, k, v, mask=joined(bloom.expand(heads, N, N), causal))
    assert close(LinearBias(WIDTH, heads=heads)(q, k, v, mask=causal), theirs)


def test_alibi_by_hand():
    core = LinearBias(2, heads=8)
    assert core.slopes == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert core.bias(torch.zeros(2, 1), torch.zeros(3, 1))[0].tolist() == [[0, -0.5, -1], [-0.5, 0, -0.5]]


# --- rotary


@DTYPES
def test_rotary_equals_transformers_in_both_layouts(dtype):
    from transformers import LlamaConfig
    from transformers.models.gptj import modeling_gptj
    from transformers.models.llama import modeling_llama
    from transformers.models.roformer.modeling_roformer import RoFormerSelfAttention

    core = Rotary(WIDTH, heads=HEADS)
    q, k, _ = qkv(dtype=dtype)
    ours = core.turned(q)
    place = torch.arange(N, dtype=dtype)[:, None] * 10000 ** -(torch.arange(0, WIDTH, 2, dtype=dtype) / WIDTH)
    sin, cos = place.sin(), place.cos()

    neighbours = modeling_gptj.apply_rotary_pos_emb(q.transpose(1, 2), sin[None], cos[None]).transpose(1, 2)
    assert_same(ours, neighbours, [(q, q)])
    roformer = RoFormerSelfAttention.apply_rotary_position_embeddings(torch.cat([sin, cos], -1)[None, None], q, k)
    assert_same(ours, roformer[0], [(q, q)])
    assert close(core.turned(k), roformer[1])

    halves = torch.arange(WIDTH).unflatten(0, (-1, 2)).T.flatten()  # 0, 2, 4, ..., 1, 3, 5, ...
    twice = torch.cat([cos, cos], -1)[None], torch.cat([sin, sin], -1)[None]
    llama = modeling_llama.apply_rotary_pos_emb(q[..., halves], k[..., halves], *twice)
    assert_same(ours[..., halves], llama[0], [(q, q)])

    if dtype == torch.float32:  # their own angles too
        config = LlamaConfig(hidden_size=DIM, num_attention_heads=HEADS)
        their_cos, their_sin = modeling_llama.LlamaRotaryEmbedding(config)(q, torch.arange(N)[None])
        assert close(their_cos, twice[0])
        assert close(their_sin, twice[1])


def test_a_quarter_turn_by_hand():
    core = Rotary(2, heads=1)
    turned = core.turned(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(turned, torch.tensor([[1.0, 0.0], [math.cos(1), math.sin(1)]]))


def test_turning_keeps_every_length_and_shows_the_difference_of_places_only():
    core = Rotary(WIDTH, heads=HEADS)
    q, k, _ = qkv(dtype=torch.float64)
    torch.testing.assert_close(core.turned(q).norm(dim=-1), q.norm(dim=-1))
    here, there = (core.turned(q, start=s) @ core.turned(k, start=s).mT for s in (0, 1009))
    assert close(here, there)
    assert not close(here, core.turned(q) @ core.turned(k, start=1).mT)


def test_half_the_pace_is_every_other_place():
    x = torch.randn(N, WIDTH)
    slow, apart = Rotary(WIDTH, heads=1, pace=0.5).turned(x, start=4), Rotary(WIDTH, heads=1).turned(x[::2], start=2)
    assert close(slow[::2], apart)
    assert not close(slow, Rotary(WIDTH, heads=1).turned(x, start=4))


def test_rotary_leaves_the_values_alone():
    core = Rotary(WIDTH, heads=HEADS)
    q, k, v = qkv()
    weights = attention_weights(core.turned(q), core.turned(k))
    assert close(core(q, k, v), weights @ v)


def test_far_positions_keep_their_angle_in_half_precision():
    core = Rotary(WIDTH, heads=HEADS)
    x = torch.randn(3, WIDTH)
    rough = core.turned(x.bfloat16(), start=3001).float()
    assert (rough - core.turned(x, start=3001)).abs().max() < 0.03


# --- at the input


@pytest.mark.parametrize("grid", [(3, 5), (7, 2)])
def test_grid_sinusoids_equal_timms(grid):
    from timm.layers import build_sincos2d_pos_embed

    dim = 4 * 11
    ours = GridSinusoids(dim, columns=grid[1])(torch.zeros(1, grid[0] * grid[1], dim))
    theirs = build_sincos2d_pos_embed(list(grid), dim=dim, interleave_sin_cos=True)  # all sines, then all cosines
    assert close(ours, theirs.unflatten(1, (2, 2, 11)).transpose(2, 3).flatten(1))


@DTYPES
def test_conditional_positions_equal_those_of_timms_twins(dtype):
    from timm.models.twins import PosConv

    ours, theirs = ConditionalPositions(13, columns=5).to(dtype), PosConv(13, 13).to(dtype)
    theirs.proj[0].load_state_dict(ours.convolution.state_dict())
    x = torch.randn(BATCH, 15, 13, dtype=dtype, requires_grad=True)
    assert_same(x + ours(x), theirs(x, (3, 5)), [(x, x), (ours.convolution.weight, theirs.proj[0].weight)])


def test_alike_tokens_learn_from_zeros_at_the_border_how_near_it_is():
    x = torch.ones(1, 35, 3)
    zeros, circle = (ConditionalPositions(3, columns=7, padding=p)(x) for p in ("zeros", "circular"))
    assert close(circle, circle[:, :1].expand_as(circle))
    inner = zeros.unflatten(1, (5, 7))[:, 1:-1, 1:-1]
    assert close(inner, inner[:, :1, :1].expand_as(inner))
    assert len(zeros[0].detach().mul(1e4).round().unique(dim=0)) == 9  # corners, sides and the middle


def test_on_a_circle_conditional_positions_move_along():
    positions = ConditionalPositions(3, columns=7, padding="circular")
    x = torch.randn(1, 5, 7, 3)
    rolled = x.roll((2, 3), (1, 2)).flatten(1, 2)
    moved = positions(x.flatten(1, 2)).unflatten(1, (5, 7)).roll((2, 3), (1, 2)).flatten(1, 2)
    assert close(positions(rolled), moved)


def test_one_row_is_a_convolution_along_the_sequence():
    positions = randomised(ConditionalPositions(DIM))
    x = torch.randn(BATCH, N, DIM)
    weight, bias = positions.convolution.weight[:, :, 1], positions.convolution.bias
    along = nn.functional.conv1d(x.mT, weight, bias, padding=1, groups=DIM).mT
    assert close(positions(x), along)


# --- the encoder


@every_core
def test_a_window_may_start_anywhere(core):
    """Tokens in front that nobody looks at change nothing where only differences count."""
    model, x = small(core), torch.randn(BATCH, N, DIM)
    longer = torch.cat([torch.randn(BATCH, 5, DIM), x], 1)
    seen = (torch.arange(5 + N) >= 5)[None, None, None]
    assert close(model(longer, mask=seen)[:, 5:], model(x))


@pytest.mark.parametrize("positions", [Sinusoids(DIM), LearnedPositions(DIM, length=29)], ids=["sinusoids", "learned"])
def test_absolute_positions_notice_where_a_window_starts(positions):
    model, x = small(positions=positions), torch.randn(BATCH, N, DIM)
    longer = torch.cat([torch.randn(BATCH, 5, DIM), x], 1)
    seen = (torch.arange(5 + N) >= 5)[None, None, None]
    assert not close(model(longer, mask=seen)[:, 5:], model(x))


@pytest.mark.parametrize("core", RELATIVE)
def test_order_matters_to_every_core_but_the_plain(core):
    x, order = torch.randn(BATCH, N, DIM), torch.randperm(N)
    assert not close(small(core)(x[:, order]), small(core)(x)[:, order])
    plain = small()
    assert close(plain(x[:, order]), plain(x)[:, order])


def test_only_the_unsigned_distance_reads_backwards_alike():
    x = torch.randn(BATCH, N, DIM)
    alike = [bool(close(m(x.flip(1)), m(x).flip(1))) for m in map(small, CORES.values())]
    assert dict(zip(CORES, alike, strict=True)) == {
        "plain": True,
        "shaw": False,
        "t5": False,
        "alibi": True,
        "rotary": False,
    }


@every_core
@pytest.mark.parametrize("floating", [False, True])
def test_a_mask_is_obeyed_whatever_the_core(core, floating):
    model, x = small(core), torch.randn(BATCH, N, DIM, requires_grad=True)
    causal = torch.ones(N, N, dtype=torch.bool).tril()
    mask = torch.zeros(N, N).masked_fill(~causal, float("-inf")) if floating else causal
    seen = torch.autograd.grad(model(x, mask=mask)[:, 3].sum(), x)[0].abs().sum((0, 2)) > 0
    assert seen.tolist() == [True] * 4 + [False] * (N - 4)


def test_a_plain_core_is_attention_head_by_head():
    module = randomised(SelfAttention(DIM, heads=HEADS, core=Plain))
    x = torch.randn(BATCH, N, DIM)
    q, k, v = module.qkv(x).chunk(3, -1)
    heads = [
        attention_weights(q[..., s], k[..., s]) @ v[..., s]
        for s in (slice(i * WIDTH, (i + 1) * WIDTH) for i in range(HEADS))
    ]
    assert close(module(x), module.output(torch.cat(heads, -1)))


def test_positions_enter_before_the_layer_that_was_named():
    positions = randomised(ConditionalPositions(DIM))
    x = torch.randn(BATCH, N, DIM)
    for after in (0, 1):
        model = small(positions=positions, after=after)
        y = x
        for i, layer in enumerate(model.layers):
            y = layer(y + positions(y) if i == after else y)
        assert close(model(x), model.norm(y))


def test_offsets_count_from_the_query_to_the_key():
    assert offsets(2, 3).tolist() == [[0, 1, 2], [-1, 0, 1]]


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="dim=10 is not divisible by heads=3"):
        SelfAttention(10, heads=3, core=Plain)
    with pytest.raises(ValueError, match="width=5 is odd"):
        Rotary(5, heads=1)
    with pytest.raises(ValueError, match="dim=6 is not divisible by 4"):
        GridSinusoids(6, columns=2)
    for positions in (GridSinusoids(8, columns=4), ConditionalPositions(8, columns=4)):
        with pytest.raises(ValueError, match="11 tokens do not fill rows of 4"):
            positions(torch.zeros(1, 11, 8))
    with pytest.raises(ValueError, match="15 tokens, but a grid of 2 x 7"):
        GridBias(WIDTH, heads=HEADS, grid=(2, 7))(*qkv(15, 15))
    with pytest.raises(ValueError, match="buckets=6 must be a multiple of 4, and furthest=9"):
        BucketBias(WIDTH, heads=1, buckets=6, furthest=9)
    with pytest.raises(ValueError, match=r"buckets=32 must be .* furthest=8 above a quarter"):
        BucketBias(WIDTH, heads=1, buckets=32, furthest=8)
    with pytest.raises(ValueError, match="after=2, but there are layers=2"):
        small(positions=Sinusoids(DIM), after=2)
