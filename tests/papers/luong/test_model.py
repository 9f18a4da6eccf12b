"""Scores, windows and input feeding of Luong et al.: the equations pair by pair, the counts, and how it decodes."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.claims import load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.nn.attention import attention
from attention_notes.nn.decoding import DecodingState, greedy
from attention_notes.papers.luong import (
    VARIANTS,
    Concat,
    Dot,
    General,
    Global,
    Location,
    Monotonic,
    Predictive,
    luong,
)

BATCH, N, M, DIM = 2, 5, 7, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SCORES = pytest.mark.parametrize("score", [Dot, General, Concat])
VARIANT_COUNTS = {v: (line["parameters"], line["gmacs"]) for v, line in load_facts("luong")["variants"].items()}


def close(a, b):
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def agree(ours, theirs, inputs, parameters=()):
    """Whether outputs and gradients are the same: with respect to the inputs and the parameters."""
    wanted = [*inputs, *parameters]
    probe = torch.randn_like(ours)
    grads = [torch.autograd.grad((out * probe).sum(), wanted, allow_unused=True) for out in (ours, theirs)]
    return close(ours, theirs) and all((p is None and q is None) or close(p, q) for p, q in zip(*grads, strict=True))


def states(dtype=torch.float32, n=N, m=M):
    draw = partial(torch.randn, dtype=dtype, requires_grad=True)
    return draw(BATCH, n, DIM), draw(BATCH, m, DIM)


def literal_score(score, t, s):
    """One pair of states, as the paper prints it."""
    if isinstance(score, Dot):
        return sum(a * b for a, b in zip(t, s, strict=True))
    if isinstance(score, General):
        w = score.source.weight
        return sum(t[i] * w[i, j] * s[j] for i in range(DIM) for j in range(DIM))
    both, w = torch.cat([t, s]), torch.cat([score.target.weight, score.source.weight], 1)
    return sum(score.v.weight[0, i] * torch.tanh(sum(w[i, j] * both[j] for j in range(2 * DIM))) for i in range(DIM))


def literal_contexts(made, h, memory, window):
    """Equations 7 and 10 by loops; ``window`` says for a target word which source words count, and how much."""
    rows = []
    for b in range(BATCH):
        for t in range(h.shape[1]):
            chosen = window(b, t)
            powers = {s: torch.exp(literal_score(made.score, h[b, t], memory[b, s])) for s in chosen}
            total = sum(powers.values())
            context = sum(chosen[s] * powers[s] / total * memory[b, s] for s in chosen)
            rows.append(context if chosen else torch.zeros_like(h[b, t]))
    return torch.stack(rows).unflatten(0, (BATCH, -1))


@DTYPES
@SCORES
def test_global_attention_equals_equation_7_written_as_loops(score, dtype):
    made, (h, memory) = Global(DIM, score=score).to(dtype), states(dtype)
    theirs = literal_contexts(made, h, memory, lambda b, t: dict.fromkeys(range(M), 1))
    assert agree(made(h, memory)[0], theirs, (h, memory), made.parameters())


@DTYPES
def test_the_dot_score_is_the_attention_of_the_house_at_scale_one(dtype):
    made, (h, memory) = Global(DIM, score=Dot), states(dtype)
    seen = torch.arange(M) < torch.tensor([[M], [4]])
    ours = made(h, memory, seen=seen)[0]
    assert agree(ours, attention(h, memory, memory, mask=seen[:, None], scale=1.0), (h, memory))


@DTYPES
def test_local_m_equals_a_window_around_t_written_as_loops(dtype):
    made, (h, memory) = Monotonic(DIM, score=General, reach=2).to(dtype), states(dtype)
    start = 4  # target words 4 to 8, of which the last looks at words 6 and 7 only

    def window(b, t):
        return {s: 1 for s in range(M) if abs((s + 1) - (start + t)) <= 2}

    ours = made(h, memory, start=start)[0]
    assert agree(ours, literal_contexts(made, h, memory, window), (h, memory), made.parameters())


@DTYPES
def test_local_p_equals_equations_9_and_10_written_as_loops(dtype):
    made, (h, memory) = Predictive(DIM, score=General, reach=2).to(dtype), states(dtype)

    def window(b, t):
        hidden = [torch.tanh(sum(w * x for w, x in zip(row, h[b, t], strict=True))) for row in made.hidden.weight]
        z = sum(v * x for v, x in zip(made.v.weight[0], hidden, strict=True))
        p = M / (1 + torch.exp(-z))
        return {s: torch.exp(-((s + 1 - p) ** 2) / (2 * 1.0**2)) for s in range(M) if abs(s + 1 - p) <= 2}

    ours = made(h, memory)[0]
    assert agree(ours, literal_contexts(made, h, memory, window), (h, memory), made.parameters())
    assert all(p.grad is None for p in made.parameters())


# What GlobalAttention of OpenNMT-py 3.5.1 (onmt/modules/global_attention.py) gives for the tensors of the test: the
# weights of two target words, and its output, which has a tanh except for the score that it calls mlp, our Concat.
ONMT = {
    Dot: (
        [0.387111306795, 0.06693888144, 0.545949811764, 0, 0.171534015902, 0.71115012737, 0.117315856728, 0],
        [0.737437451437, 0.672667504955, 0.552094870703, -0.725751670603, -0.569977976334, -0.312857440706],
    ),
    General: (
        [0.310423357738, 0.385778885866, 0.303797756396, 0, 0.34401792469, 0.302824666552, 0.353157408758, 0],
        [0.555522200678, 0.265044953297, -0.104526119852, -0.448041138798, 0.073451820334, 0.55359749816],
    ),
    Concat: (
        [0.32391280736, 0.352600706694, 0.323486485946, 0, 0.341020631792, 0.344118149826, 0.314861218381, 0],
        [0.661668423669, 0.329945189653, -0.028061289012, -0.52073801523, 0.00538976954, 0.531088208358],
    ),
}


@SCORES
def test_weights_and_attentional_states_are_those_of_opennmt(score):
    def wave(*shape, start):
        return torch.sin(start + torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)

    made = Global(DIM, score=score).double()
    with torch.no_grad():
        if score is General:  # theirs reads the target with this matrix, ours the source with the transposed one
            made.score.source.weight.copy_(wave(DIM, DIM, start=4).mT)
        if score is Concat:
            made.score.target.weight.copy_(wave(DIM, DIM, start=4))
            made.score.source.weight.copy_(wave(DIM, DIM, start=5))
            made.score.v.weight.copy_(wave(1, DIM, start=6))
    h, memory = wave(1, 2, DIM, start=1), wave(1, 4, DIM, start=2)
    context, weights = made(h, memory, seen=torch.arange(4)[None] < 3)
    combined = torch.cat([context, h], -1) @ wave(DIM, 2 * DIM, start=3).mT
    for ours, theirs in zip((weights, combined if score is Concat else combined.tanh()), ONMT[score], strict=True):
        assert close(ours.flatten(), torch.tensor(theirs, dtype=torch.float64))


def test_a_location_score_does_not_read_the_source():
    made, (h, memory) = Global(DIM, score=partial(Location, length=5)), states()
    weights = made(h, memory)[1]
    assert torch.equal(weights, made(h, torch.randn_like(memory))[1])
    assert not weights[..., 5:].any()  # words near the end of a long source are ignored
    assert close(weights[..., :5], made.score.places(h).softmax(-1))
    short = made(h, memory[:, :3])[1]
    assert close(short, made.score.places(h)[..., :3].softmax(-1))


def test_a_window_over_everything_is_global_attention():
    h, memory = states()
    far, near = Global(DIM, score=Dot), Monotonic(DIM, score=Dot, reach=M + N)
    assert close(far(h, memory)[0], near(h, memory)[0])


def test_weights_sum_to_one_except_those_of_local_p_which_lose_the_gaussian():
    h, memory = states()
    for kind, sums_to_one in (
        (Global, True),
        (partial(Monotonic, reach=2), True),
        (partial(Predictive, reach=2), False),
    ):
        total = kind(DIM, score=Dot)(h, memory)[1].sum(-1)
        assert close(total, torch.ones_like(total)) is sums_to_one
        assert (total <= 1 + 1e-6).all()


def test_a_window_beyond_the_source_gives_zeros_and_no_nan():
    made, (h, memory) = Monotonic(DIM, score=General, reach=1), states()
    context, weights = made(h, memory, start=M + 5)
    assert not context.any()
    assert not weights.any()
    context.sum().backward()
    assert memory.grad.isfinite().all()


def test_general_with_the_identity_is_dot():
    h, memory = states()
    made = General(DIM)
    made.source.weight.data = torch.eye(DIM)
    assert close(made(h, made.keys(memory)), Dot(DIM)(h, memory))


def made_small(name="global_general", **options):
    torch.manual_seed(0)
    sizes = {"vocabulary": 23, "layers": 2, "dim": 6, "dropout": 0.0, **options}
    return luong(name, **sizes).eval()


def small_texts():
    torch.manual_seed(1)
    return torch.randint(1, 23, (BATCH, M)), torch.randint(1, 23, (BATCH, N))


def as_lstm(stack):
    cells = [*stack.cells]
    made = nn.LSTM(cells[0].input_size, cells[0].hidden_size, len(cells), batch_first=True)
    made.load_state_dict({f"{kind}_l{i}": p for i, cell in enumerate(cells) for kind, p in cell.named_parameters()})
    return made.to(cells[0].weight_hh.dtype)


@DTYPES
@pytest.mark.parametrize("feeding", [True, False])
def test_the_whole_model_equals_an_lstm_and_equations_5_to_7_written_out(dtype, feeding):
    model, (source, target) = made_small(feeding=feeding).to(dtype), small_texts()
    encoder, decoder = model.encoder, model.decoder
    memory, state = as_lstm(encoder.stack)(encoder.embedding(source))
    reader, fed, logits = as_lstm(decoder.stack), torch.zeros(BATCH, 6, dtype=dtype), []
    for tokens in target.T:
        x = decoder.embedding(tokens)
        h, state = reader(torch.cat([x, fed], -1)[:, None] if feeding else x[:, None], state)
        scores = torch.einsum("bc,cd,bmd->bm", h[:, 0], decoder.attention.score.source.weight, memory)
        context = torch.einsum("bm,bmc->bc", scores.softmax(-1), memory)
        fed = torch.tanh(torch.cat([context, h[:, 0]], -1) @ decoder.combine.weight.T)
        logits.append(fed @ decoder.output.weight.T)
    shared = [*encoder.embedding.parameters(), *decoder.combine.parameters(), *decoder.attention.parameters()]
    assert agree(model(source, target), torch.stack(logits, 1), shared)


@pytest.mark.parametrize("name", ["global_general", "local_m_general", "local_p_general"])
def test_padding_of_the_source_changes_nothing(name):
    model, (source, target) = made_small(name), small_texts()
    longer = torch.cat([source, torch.zeros(BATCH, 4, dtype=source.dtype)], 1)
    assert close(model(longer, target), model(source, target))


def test_input_feeding_lets_a_step_know_where_the_step_before_looked():
    for feeding in (True, False):
        model, (source, target) = made_small(feeding=feeding), small_texts()
        first, second = model.begin(source), model.begin(source)
        first.step(target[:, 0])
        second.step(target[:, 0])
        second.fed = second.fed + 1
        assert torch.equal(first.step(target[:, 1]), second.step(target[:, 1])) is not feeding


def test_it_writes_with_the_decoding_of_the_house():
    model, (source, _) = made_small("local_p_general"), small_texts()
    assert isinstance(model.begin(source), DecodingState)
    first = torch.ones(BATCH, dtype=torch.int64)
    with torch.no_grad():
        written = greedy(model.begin(source), first, end=-1, limit=4)
        again = model(source, torch.cat([first[:, None], written[:, :-1]], 1)).argmax(-1)
    assert torch.equal(written, again)


def test_reordered_texts_go_on_as_if_they_had_been_in_that_order():
    model, (source, target) = made_small("local_p_general"), small_texts()
    rows = torch.tensor([1, 1, 0])
    state = model.begin(source)
    state.step(target[:, 0])
    state.reorder(rows)
    assert close(state.step(target[rows, 1]), model(source[rows], target[rows, :2])[:, 1])


def test_the_cost_of_each_score_is_its_formula():
    n, m, c = 11, 13, 16
    h, memory = torch.randn(1, n, c), torch.randn(1, m, c)
    formulas = {Dot: n * m * c, General: m * c * c + n * m * c, Concat: (n + m) * c * c + n * m * c}
    for score, formula in formulas.items():
        made = score(c)
        assert count_macs(lambda a, b, made=made: made(a, made.keys(b)), h, memory) == formula


def test_all_parameters_start_uniform_but_for_the_padding():
    model = luong("global_general", vocabulary=50, layers=2, dim=40)
    for name, parameter in model.named_parameters():
        table = parameter[1:] if "embedding" in name else parameter
        assert table.abs().max() <= 0.1, name
        assert table.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.15), name
    assert not model.encoder.embedding.weight[0].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_its_parameters_and_cost(variant):
    with torch.device("meta"):
        model = luong(variant, vocabulary=50_000).eval()
    text = torch.ones(1, 50, dtype=torch.int64, device="meta")
    parameters, gmacs = VARIANT_COUNTS[variant]
    assert count_parameters(model) == parameters
    assert round(count_macs(model, text, text) / 1e9, 2) == gmacs


def test_bad_inputs_are_named(unchecked):
    with pytest.raises(ValueError, match=r"reach=0: a window needs at least 1 word on each side; the paper has 10"):
        Monotonic(DIM, score=Dot, reach=0)
    with pytest.raises(ValueError, match="target states of width 3 but source states of width 4: they must agree"):
        Global(DIM, score=Dot)(torch.randn(1, 2, 3), torch.randn(1, 2, 4))
    with pytest.raises(ValueError, match=r"tokens of shape \(4,\), .* give it tokens\[None\]"):
        made_small().begin(torch.ones(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"unknown overrides \['heads'\]"):
        luong("global_dot", vocabulary=5, heads=2)
    with pytest.raises(ValueError, match=r"unknown variant 'dot'"):
        luong("dot", vocabulary=5)
