"""The Transformer against PyTorch's, against its own slow path, and against what the paper prints."""

from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.papers.transformer import (
    VARIANTS,
    Decoder,
    Encoder,
    LearnedPositions,
    PostNorm,
    PreNorm,
    Sinusoids,
    learning_rate,
    transformer,
)

# exact, for the 37,000 tokens of section 5.1; the paper prints 65M and 213M, and the chapter says why
PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("transformer")["variants"].items()}

B, N, M, DIM, HEADS, HIDDEN, LAYERS = 5, 7, 11, 39, 3, 17, 2
SOURCE_LENGTHS = torch.tensor([11, 1, 6, 10, 3])
TARGET_LENGTHS = torch.tensor([2, 7, 5, 1, 6])
SEEN, SEEN_TARGET = torch.arange(M) < SOURCE_LENGTHS[:, None], torch.arange(N) < TARGET_LENGTHS[:, None]
CAUSAL = torch.ones(N, N, dtype=torch.bool).tril()
START, END = 1, 2


def small(**overrides):
    sizes = {"layers": LAYERS, "dim": 26, "hidden": 19, "heads": 13, "dropout": 0.0, "vocabulary": 23} | overrides
    return randomised(transformer("base", **sizes)).eval()


def randomised(model):
    """Norms start at one and zero and biases at zero: a parity on such values shows nothing."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=0.7, std=0.3)
    return model


def sentences(lengths, *, vocabulary=23):
    """Random tokens above the special ones, padded on the right."""
    tokens = torch.randint(3, vocabulary, (len(lengths), int(max(lengths))))
    return tokens.masked_fill(torch.arange(tokens.shape[1]) >= torch.as_tensor(lengths)[:, None], 0)


def load_attention(reference: nn.MultiheadAttention, ours: MultiHeadAttention) -> dict[str, nn.Parameter]:
    """Copy ours into the reference; returns the reference's parameters under our names, for their gradients."""
    reference.in_proj_weight.data = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]).detach()
    reference.in_proj_bias.data = torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]).detach()
    reference.out_proj.load_state_dict(ours.output.state_dict())


def load_layer(reference, ours) -> None:
    load_attention(reference.self_attn, ours.attention)
    if hasattr(ours, "cross"):
        load_attention(reference.multihead_attn, ours.cross)
    reference.linear1.load_state_dict(ours.mlp.expand.state_dict())
    reference.linear2.load_state_dict(ours.mlp.contract.state_dict())
    for i, residual in enumerate(ours.residuals, 1):
        getattr(reference, f"norm{i}").load_state_dict(residual.norm.state_dict())


def gradients_as_theirs(ours) -> list[torch.Tensor]:
    """Our layer's gradients in the order and packing of ``theirs``."""

    def packed(attention):
        maps = attention.query, attention.key, attention.value
        return [
            torch.cat([m.weight.grad for m in maps]),
            torch.cat([m.bias.grad for m in maps]),
            attention.output.weight.grad,
            attention.output.bias.grad,
        ]

    attentions = [ours.attention, ours.cross] if hasattr(ours, "cross") else [ours.attention]
    rest = [ours.mlp, *(residual.norm for residual in ours.residuals)]
    return [g for a in attentions for g in packed(a)] + [p.grad for part in rest for p in part.parameters()]


def gradients(theirs) -> list[torch.Tensor]:
    names = ("self_attn", "multihead_attn", "linear1", "linear2", "norm1", "norm2", "norm3")
    return [p.grad for n in names if hasattr(theirs, n) for p in getattr(theirs, n).parameters()]


def pair(kind, residual):
    """Our stack and PyTorch's, with the same random weights; theirs gets a last norm only where pre-norm needs one."""
    sizes = {"heads": HEADS, "hidden": HIDDEN, "dropout": 0.0, "bias": True}
    ours = randomised(kind(DIM, layers=LAYERS, residual=residual, **sizes))
    layer, stack = (
        (nn.TransformerEncoderLayer, partial(nn.TransformerEncoder, enable_nested_tensor=False))
        if kind is Encoder
        else (nn.TransformerDecoderLayer, nn.TransformerDecoder)
    )
    prototype = layer(DIM, HEADS, HIDDEN, dropout=0.0, batch_first=True, norm_first=residual is PreNorm)
    theirs = stack(prototype, LAYERS, norm=nn.LayerNorm(DIM) if residual is PreNorm else None)
    for reference, mine in zip(theirs.layers, ours.layers, strict=True):
        load_layer(reference, mine)
    if residual is PreNorm:
        theirs.norm.load_state_dict(ours.last.state_dict())
    return ours, theirs


def assert_same(ours, theirs, got, wanted, inputs, twins, *, tolerance):
    """Compare outputs, the gradients of inputs, and the gradients of every parameter of every layer."""
    close = partial(torch.testing.assert_close, atol=tolerance, rtol=tolerance)
    close(got, wanted)
    toward = torch.randn_like(got) / got.numel() ** 0.5
    got.backward(toward)
    wanted.backward(toward)
    for x, y in zip(inputs, twins, strict=True):
        close(x.grad, y.grad)
    for mine, reference in zip(ours.layers, theirs.layers, strict=True):
        mine_grads, reference_grads = gradients_as_theirs(mine), gradients(reference)
        assert len(mine_grads) == len(list(mine.parameters())) - 4 * (2 if hasattr(mine, "cross") else 1)
        for a, b in zip(mine_grads, reference_grads, strict=True):
            close(a, b)


PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


@pytest.mark.parametrize("residual", [PostNorm, PreNorm])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_the_encoder_equals_pytorchs_in_outputs_and_gradients(residual, dtype, tolerance):
    ours, theirs = (stack.to(dtype) for stack in pair(Encoder, residual))
    x, y = (torch.randn(B, M, DIM, dtype=dtype, generator=torch.manual_seed(3), requires_grad=True) for _ in range(2))
    got, wanted = ours(x, mask=SEEN[:, None, None]), theirs(y, src_key_padding_mask=~SEEN)
    assert_same(ours, theirs, got, wanted, [x], [y], tolerance=tolerance)


@pytest.mark.parametrize("residual", [PostNorm, PreNorm])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_the_decoder_equals_pytorchs_in_outputs_and_gradients(residual, dtype, tolerance):
    ours, theirs = (stack.to(dtype) for stack in pair(Decoder, residual))
    draw = partial(torch.randn, dtype=dtype, requires_grad=True)
    x, memory = draw(B, N, DIM), draw(B, M, DIM)
    y, twin = x.detach().clone().requires_grad_(), memory.detach().clone().requires_grad_()
    got = ours(x, memory, mask=CAUSAL & SEEN_TARGET[:, None, None], memory_mask=SEEN[:, None, None])
    wanted = theirs(y, twin, tgt_mask=~CAUSAL, tgt_key_padding_mask=~SEEN_TARGET, memory_key_padding_mask=~SEEN)
    assert_same(ours, theirs, got, wanted, [x, memory], [y, twin], tolerance=tolerance)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_its_exact_number_of_parameters(name):
    with torch.device("meta"):
        assert count_parameters(transformer(name, vocabulary=37000)) == PARAMETERS[name]


def test_every_variant_is_counted():
    assert PARAMETERS.keys() == VARIANTS.keys()


def test_the_parameters_are_those_of_the_formula():
    layers, dim, hidden, vocabulary = 3, 26, 19, 23
    mlp, norm = 2 * dim * hidden + hidden + dim, 2 * dim
    by_hand = layers * (4 * dim**2 + mlp + 2 * norm + 8 * dim**2 + mlp + 3 * norm) + vocabulary * dim
    assert count_parameters(small(layers=layers)) == by_hand
    assert count_parameters(small(layers=layers, bias=True)) == by_hand + layers * 3 * 4 * dim


def test_the_first_positions_are_those_of_a_hand():
    x = torch.zeros(1, 2, 4, dtype=torch.float64)
    one, hundredth = torch.tensor([1.0, 0.01], dtype=torch.float64)
    by_hand = torch.stack([one.sin(), one.cos(), hundredth.sin(), hundredth.cos()])
    table = Sinusoids(4)(x)
    torch.testing.assert_close(table[0], torch.tensor([0.0, 1, 0, 1], dtype=torch.float64))
    torch.testing.assert_close(table[1], by_hand)


def test_positions_far_away_stay_distinct_in_half_precision():
    half = Sinusoids(62)(torch.zeros(1, 400, 62, dtype=torch.bfloat16))
    exact = Sinusoids(62)(torch.zeros(1, 400, 62))
    torch.testing.assert_close(half.float(), exact, atol=4e-3, rtol=0)


def test_the_schedule_is_equation_3():
    rates = [learning_rate(step, dim=64, warmup=10) for step in range(1, 100)]
    assert rates[0] == pytest.approx(1 / 8 / 10**1.5)
    assert rates[9] == max(rates) == pytest.approx(1 / 8 / 10**0.5)
    assert rates[39] == pytest.approx(rates[9] / 2)
    rise = [b - a for a, b in pairwise(rates[:10])]
    assert rise == pytest.approx([rise[0]] * 9)


@pytest.mark.parametrize("zero", ["step", "dim", "warmup"])
def test_the_schedule_begins_at_step_1(zero, unchecked):
    """Those of PyTorch begin at 0."""
    with pytest.raises(ValueError, match=rf"{zero}=0.*lambda s: learning_rate\(s \+ 1"):
        learning_rate(**{"step": 3, "dim": 64, "warmup": 10, zero: 0})
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate(s + 1, dim=64))
    assert scheduler.get_last_lr() == [learning_rate(1, dim=64)]


def test_label_smoothing_of_pytorch_is_the_one_of_szegedy():
    logits = torch.randn(B, 13, dtype=torch.float64, requires_grad=True)
    labels, epsilon = torch.tensor([0, 12, 5, 5, 3]), 0.1
    wanted = (1 - epsilon) * F.one_hot(labels, 13).double() + epsilon / 13
    literal = -(wanted * logits.log_softmax(-1)).sum(-1).mean()
    short = F.cross_entropy(logits, labels, label_smoothing=epsilon)
    torch.testing.assert_close(literal, short, atol=1e-10, rtol=0)
    for a, b in zip(torch.autograd.grad(literal, logits), torch.autograd.grad(short, logits), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_the_future_of_the_target_changes_nothing_before_it():
    model, source, target = small(), sentences([11, 4]), sentences([7, 7])
    changed = target.clone()
    changed[:, 4:] = 3 + (changed[:, 4:] - 2) % 20
    before, after = model(source, target), model(source, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all(-1).any()


def test_every_word_of_the_source_reaches_every_logit():
    model, target = small(), sentences([7])
    source = sentences([11])
    for place in range(11):
        changed = source.clone()
        changed[0, place] = 3 + (changed[0, place] - 2) % 20
        assert not torch.isclose(model(source, target), model(changed, target)).all(-1).any()


def test_padding_and_neighbours_in_the_batch_change_nothing():
    model = small().double()
    source, target = sentences([11, 3, 6]), sentences([2, 7, 5])
    together = model(source, target)
    for row, (m, n) in enumerate(zip([11, 3, 6], [2, 7, 5], strict=True)):
        alone = model(source[row : row + 1, :m], target[row : row + 1, :n])
        torch.testing.assert_close(together[row : row + 1, :n], alone, atol=1e-10, rtol=0)


def test_the_order_of_the_source_matters_only_through_its_positions():
    class Nowhere(nn.Module):
        def forward(self, x, *, start=0):
            return x.new_zeros(x.shape[1:])

    source, target, shuffle = sentences([11]), sentences([7]), torch.randperm(11)
    model = small().double()
    assert not torch.isclose(model(source, target), model(source[:, shuffle], target)).all(-1).any()
    model.embedding.positions = Nowhere()
    torch.testing.assert_close(model(source, target), model(source[:, shuffle], target), atol=1e-10, rtol=0)


@pytest.mark.parametrize("residual", [PostNorm, PreNorm])
@pytest.mark.parametrize("positions", [Sinusoids, partial(LearnedPositions, length=11)])
def test_decoding_with_a_cache_gives_the_logits_of_decoding_without(residual, positions):
    model = small(residual=residual, positions=positions).double()
    source, target = sentences([11, 1, 6]), sentences([7, 7, 7])
    seen = model.present(source)
    caches = model.decoder.caches(model.encoder(model.embedding(source), mask=seen))
    steps = [model.decoder.step(model.embedding(target[:, [i]], start=i), caches, memory_mask=seen) for i in range(7)]
    with_cache = model.embedding.logits(torch.cat(steps, 1))
    torch.testing.assert_close(with_cache, model(source, target), atol=1e-10, rtol=0)


def slow_greedy(model, source, *, end, limit):
    """Run the whole model again for every token, and stop each row by itself."""
    rows = []
    for row in source:
        written = torch.tensor([[START]])
        while written.shape[1] <= limit and written[0, -1] != end:
            written = torch.cat([written, model(row[None], written)[:, -1:].argmax(-1)], 1)
        rows.append(written[0, 1:])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def test_greedy_decoding_writes_what_decoding_without_a_cache_writes():
    model = transformer("base", vocabulary=23, layers=1, dim=26, hidden=19, heads=13, dropout=0.0).double()
    for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
        linear.weight.data *= 4  # at its birth a model repeats itself; one with strong opinions does not
    source = sentences([11, 2, 5, 8, 3, 7, 9])
    lengths = set()
    for end in range(2, 23, 2):  # any token may play the end, so rows end here and there
        fast = model.greedy(source, start=START, end=end, limit=13)
        assert torch.equal(fast, slow_greedy(model, source, end=end, limit=13))
        lengths |= set((fast != 0).sum(1).tolist())
    assert len(lengths) > 3, "rows must end at different steps, or stopping was not tested"


def test_a_reordered_state_goes_on_as_if_it_had_begun_with_those_rows():
    model, rows = small().double(), torch.tensor([2, 0, 2])
    source, target = sentences([11, 1, 6]), sentences([7, 7, 7])
    moved, straight = model.begin(source), model.begin(source[rows])
    for i in range(7):
        if i == 3:
            moved.reorder(rows)
        first, second = target[:, i] if i < 3 else target[rows, i], target[rows, i]
        logits, expected = moved.step(first), straight.step(second)
        torch.testing.assert_close(logits if i >= 3 else logits[rows], expected, atol=1e-10, rtol=0)


def test_nothing_is_decoded_without_a_token_to_write():
    with pytest.raises(ValueError, match="limit=0"):
        small().greedy(sentences([5, 3]), start=START, end=END, limit=0)


def test_decoding_stops_when_the_last_row_has_ended():
    model = small()

    def end(x):
        assert not x.requires_grad, "decoding keeps no graph"
        return F.one_hot(torch.full(x.shape[:-1], END), 23).float()

    model.embedding.logits = end
    assert torch.equal(model.greedy(sentences([5, 3]), start=START, end=END, limit=9), torch.tensor([[END], [END]]))


def test_the_cache_saves_most_of_the_work():
    model, source = small(), sentences([11])

    def cached(n):
        seen = model.present(source)
        caches = model.decoder.caches(model.encoder(model.embedding(source), mask=seen))
        for i in range(n):
            model.embedding.logits(model.decoder.step(model.embedding(source[:, :1], start=i), caches))

    def uncached(n):
        for i in range(n):
            model(source, source[:, :1].expand(1, i + 1))

    one = count_macs(lambda: cached(1))
    assert one == count_macs(lambda: uncached(1))
    assert count_macs(lambda: uncached(16)) > 8 * count_macs(lambda: cached(16))


def test_the_whole_forward_costs_what_a_hand_counts():
    layers, dim, hidden, v, n, m = 2, 26, 19, 23, 7, 11
    encoder = 4 * m * dim**2 + 2 * m * m * dim + 2 * m * dim * hidden
    decoder = (6 * n + 2 * m) * dim**2 + 2 * n * (n + m) * dim + 2 * n * dim * hidden
    ours = count_macs(small(), sentences([m]), sentences([n]))
    assert ours == layers * (encoder + decoder) + n * v * dim


def test_attention_can_be_recorded_in_all_three_places():
    model = small()
    with record_attention(model) as maps:
        model(sentences([11, 4]), sentences([7, 2]))
    assert maps.keys() == {
        f"{side}.layers.{i}.{kind}"
        for i in range(LAYERS)
        for side, kind in (("encoder", "attention"), ("decoder", "attention"), ("decoder", "cross"))
    }
    assert maps["decoder.layers.1.cross"].shape == (2, 13, 7, 11)
    assert not maps["decoder.layers.1.cross"][1, :, :, 4:].any()
    assert not maps["decoder.layers.0.attention"].triu(1).any()
    assert not maps["decoder.layers.0.attention"][1, :, :, 2:].any(), "padding of the target is not looked at"


def test_scaled_embeddings_and_logits_share_one_matrix_of_unit_scale():
    model = transformer("base", vocabulary=997, layers=1, dim=254, heads=2, hidden=19, dropout=0.0)
    matrix = model.embedding.tokens.weight
    words = torch.arange(1, 997)[None]
    assert not matrix[0].any()
    x = (model.embedding(words) - model.embedding(torch.zeros_like(words))).detach()
    torch.testing.assert_close(x[0], matrix[1:] * 254**0.5, atol=1e-5, rtol=0)
    assert x.std().item() == pytest.approx(1, abs=0.02)
    assert model.embedding.logits(torch.randn(1, 7, 254)).std().item() == pytest.approx(1, abs=0.05)


def test_every_parameter_gets_a_gradient():
    model = small(positions=partial(LearnedPositions, length=11), residual=PreNorm, bias=True).train()
    model(sentences([11, 4]), sentences([7, 2])).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("key.bias"):  # it adds the same to all scores of a query: softmax does not see it
            assert parameter.grad.any(), name


def test_dropout_is_on_every_sublayer_and_on_the_sum_of_embedding_and_position():
    x = torch.randn(B, N, 26)
    for kind, wanted in ((PostNorm, nn.LayerNorm(26)(x)), (PreNorm, x)):
        torch.testing.assert_close(kind(26, dropout=1.0)(x, nn.Linear(26, 26)), wanted)
    assert not small(dropout=1.0).train().embedding(sentences([7])).any()
    places = [m.p for m in small(dropout=0.3).modules() if isinstance(m, nn.Dropout)]
    assert places.count(0.3) == 1 + LAYERS * (2 + 3)


def test_dropout_works_in_training_only():
    model, source, target = small(dropout=0.5), sentences([11]), sentences([7])
    assert torch.equal(model(source, target), model(source, target))
    model.train()
    assert not torch.equal(model(source, target), model(source, target))


def test_bfloat16_agrees_with_float32():
    model, source, target = small(), sentences([11, 4]), sentences([7, 2])
    exact = model(source, target)
    rounded = model.bfloat16()(source, target)
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("residual", [PostNorm, PreNorm])
def test_forward_exports_with_lengths_left_open(unchecked, residual):
    model = small(residual=residual)
    auto = torch.export.Dim.AUTO
    example = sentences([11, 4]), sentences([7, 2])
    exported = torch.export.export(model, example, dynamic_shapes=[{0: auto, 1: auto}] * 2).module()
    other = sentences([5, 13, 1]), sentences([3, 9, 2])
    torch.testing.assert_close(exported(*other), model(*other))


def test_forward_traces_whole_for_the_compiler(unchecked):
    model, inputs = small(), (sentences([11, 4]), sentences([7, 2]))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), model(*inputs))
    compiled(*inputs).sum().backward()


def test_more_tokens_than_learned_positions_are_refused_with_the_way_out(unchecked):
    model = small(positions=partial(LearnedPositions, length=10))
    with pytest.raises(ValueError, match=r"11 tokens, but there are 10 learned positions.*length=11\).*Sinusoids"):
        model(sentences([11]), sentences([7]))
    with pytest.raises(ValueError, match="11 tokens, but there are 10"):
        model.embedding(sentences([1]), start=10)
    model(sentences([10]), sentences([10]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "small"}, "unknown variant 'small'; known: base, big"),
        ({"heads": 3, "dim": 40}, "dim=40 is not divisible by heads=3"),
        ({"dim": 39, "heads": 3}, "dim=39 is odd"),
        ({"depth": 3}, r"unknown overrides \['depth'\]; known: layers, dim, hidden, heads, dropout, bias"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_numbers(unchecked, arguments, message):
    with pytest.raises(ValueError, match=message):
        transformer(**{"name": "base", "vocabulary": 23, "layers": 1, **arguments})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_agrees_with_the_cpu():
    model, source, target = small(), sentences([11, 4]), sentences([7, 2])
    expected, written = model(source, target), model.greedy(source, start=START, end=END, limit=9)
    model.cuda()
    torch.testing.assert_close(model(source.cuda(), target.cuda()).cpu(), expected, atol=1e-4, rtol=0)
    assert torch.equal(model.greedy(source.cuda(), start=START, end=END, limit=9).cpu(), written)
