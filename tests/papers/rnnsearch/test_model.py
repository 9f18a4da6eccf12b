"""RNNsearch: PyTorch's packed GRU, the equations as loops, the degenerate cases, the sizes of the appendix."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attention_notes.claims import load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.nn.decoding import DecodingState
from attention_notes.papers.rnnsearch import (
    VARIANTS,
    AdditiveAttention,
    Encoder,
    FixedContext,
    GatedUnit,
    Readout,
    ResetAfter,
    RNNsearch,
    alignments,
    as_published,
    rnnsearch,
)

B, M, N, DIM, EMBEDDING, HIDDEN, MAXOUT, VOCABULARY = 3, 7, 5, 11, 13, 17, 19, 23
LENGTHS = torch.tensor([7, 2, 5])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
COUNTS = {v: (line["parameters"], line["gmacs"]) for v, line in load_facts("rnnsearch")["variants"].items()}
START, END = 1, 2


def close(a, b):
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def small(**options):
    sizes = {"dim": DIM, "embedding": EMBEDDING, "alignment": HIDDEN, "maxout": MAXOUT}
    return RNNsearch(VOCABULARY, **sizes, **options).eval()


def texts(lengths):
    """Random tokens above the special ones, padded on the right."""
    tokens = torch.randint(3, VOCABULARY, (len(lengths), int(max(lengths))))
    return tokens.masked_fill(torch.arange(tokens.shape[1]) >= torch.as_tensor(lengths)[:, None], 0)


def gru_of(encoder, dtype):
    """PyTorch's network with the weights of an encoder of ``ResetAfter``: PyTorch's z is the share of the old state."""
    reference = nn.GRU(EMBEDDING, DIM, bidirectional=True, batch_first=True).to(dtype)
    for end, ours in (("", encoder.forwards), ("_reverse", encoder.backwards)):
        for theirs, linear in (("ih", ours.word), ("hh", ours.unit.recurrent)):
            for kind in ("weight", "bias"):
                z, r, n = getattr(linear, kind).detach().chunk(3)
                getattr(reference, f"{kind}_{theirs}_l0{end}").data = torch.cat([r, -z, n])
    return reference


@DTYPES
def test_the_encoder_equals_pytorchs_on_packed_texts_in_outputs_and_gradients(dtype):
    ours = Encoder(VOCABULARY, embedding=EMBEDDING, dim=DIM, unit=ResetAfter).to(dtype)
    theirs, source = gru_of(ours, dtype), texts(LENGTHS)
    present = source.ne(0)
    table = ours.tokens.weight.detach().clone().requires_grad_()
    packed = pack_padded_sequence(table[source], LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found = ours(source, present) * present[..., None]  # PyTorch puts zeros on padding
    assert close(found, expected)
    probe = torch.randn_like(expected)
    (found * probe).sum().backward()
    (expected * probe).sum().backward()
    assert close(ours.tokens.weight.grad[3:], table.grad[3:])
    for end, part in (("", ours.forwards), ("_reverse", ours.backwards)):
        for name, linear in (("ih", part.word), ("hh", part.unit.recurrent)):
            for kind in ("weight", "bias"):
                r, z, n = getattr(theirs, f"{kind}_{name}_l0{end}").grad.chunk(3)
                assert close(getattr(linear, kind).grad, torch.cat([-z, r, n]))


def literal_unit(unit, inputs, state):
    """Appendix A.1.1, unit by unit."""
    u_z, u_r = unit.gates.weight.chunk(2)
    rows = []
    for x, s in zip(inputs, state, strict=True):
        x_z, x_r, x_s = x.chunk(3)
        r = [1 / (1 + torch.exp(-(x_r[k] + sum(u_r[k, j] * s[j] for j in range(DIM))))) for k in range(DIM)]
        new = []
        for k in range(DIM):
            z = 1 / (1 + torch.exp(-(x_z[k] + sum(u_z[k, j] * s[j] for j in range(DIM)))))
            proposed = torch.tanh(x_s[k] + sum(unit.candidate.weight[k, j] * r[j] * s[j] for j in range(DIM)))
            new.append((1 - z) * s[k] + z * proposed)
        rows.append(torch.stack(new))
    return torch.stack(rows)


def literal_attention(module, queries, keys_of, present):
    """Equations 5 and 6 and A.1.2, query by query and annotation by annotation."""
    w_a, u_a, v_a = module.query.weight, module.key.weight, module.score.weight[0]
    contexts = []
    for b in range(B):
        rows = []
        for query in queries[b]:
            seen = [h for h, there in zip(keys_of[b], present[b], strict=True) if there]
            e = [sum(v_a * torch.tanh(w_a @ query + u_a @ h)) for h in seen]
            total = sum(torch.exp(x) for x in e)
            rows.append(sum(torch.exp(x) / total * h for x, h in zip(e, seen, strict=True)))
        contexts.append(torch.stack(rows))
    return torch.stack(contexts)


def same(ours, theirs, given, parameters):
    """Outputs and gradients of two functions of the same tensors."""
    a, b = ([x.clone().requires_grad_() for x in given] for _ in range(2))
    found, expected = ours(*a), theirs(*b)
    assert close(found, expected)
    probe = torch.randn_like(found)
    grads = [torch.autograd.grad((y * probe).sum(), [*x, *parameters]) for y, x in ((found, a), (expected, b))]
    assert all(close(p, q) for p, q in zip(*grads, strict=True))


@DTYPES
def test_the_gated_unit_equals_its_equations_written_as_loops(dtype):
    unit = GatedUnit(DIM).to(dtype)
    given = torch.randn(2, 3 * DIM, dtype=dtype), torch.randn(2, DIM, dtype=dtype)
    same(unit, lambda x, s: literal_unit(unit, x, s), given, [*unit.parameters()])


@DTYPES
def test_the_attention_equals_its_equations_written_as_loops(dtype):
    module = AdditiveAttention(DIM, annotations=2 * DIM, hidden=HIDDEN).to(dtype)
    queries, annotations = torch.randn(B, N, DIM, dtype=dtype), torch.randn(B, M, 2 * DIM, dtype=dtype)
    present = torch.arange(M) < LENGTHS[:, None]
    same(
        lambda q, h: module(q, module.keys(h), h, present),
        lambda q, h: literal_attention(module, q, h, present),
        (queries, annotations),
        [*module.parameters()],
    )


def test_scores_by_hand():
    """v = (1, 2), W = U = identity: tanh(ln 2) = 3/5 and tanh(ln 3) = 4/5 make 11/5."""
    module = AdditiveAttention(2, annotations=2, hidden=2)
    for linear in (module.query, module.key):
        linear.weight.data = torch.eye(2)
    module.score.weight.data = torch.tensor([[1.0, 2.0]])
    state, annotation = torch.tensor([[[2.0, 1.0]]]).log(), torch.tensor([[[1.0, 3.0]]]).log()
    assert module.scores(state, module.keys(annotation)).item() == pytest.approx(11 / 5)


@DTYPES
def test_the_readout_takes_the_larger_of_neighbours(dtype):
    module = Readout(VOCABULARY, dim=DIM, embedding=EMBEDDING, annotations=2 * DIM, maxout=MAXOUT).to(dtype)
    given = [torch.randn(B, width, dtype=dtype) for width in (DIM, EMBEDDING, 2 * DIM)]

    def literal(s, y, c):
        t = module.state.weight @ s.T + module.state.bias[:, None] + module.word.weight @ y.T
        t = t + module.context.weight @ c.T
        units = torch.stack([torch.maximum(t[2 * j], t[2 * j + 1]) for j in range(MAXOUT)])
        return (module.output.weight @ units + module.output.bias[:, None]).T

    same(module, literal, given, [*module.parameters()])


def test_an_annotation_holds_what_stands_before_and_after_it():
    encoder, source = small().encoder, texts([M] * B)
    changed = source.clone()
    changed[:, 4] = (source[:, 4] - 3 + 1) % (VOCABULARY - 3) + 3
    present = source.ne(0)
    moved = (encoder(source, present) - encoder(changed, present)).abs().amax(0)
    forwards, backwards = moved.chunk(2, -1)
    assert [i for i in range(M) if forwards[i].any()] == [4, 5, 6]
    assert [i for i in range(M) if backwards[i].any()] == [0, 1, 2, 3, 4]


@DTYPES
def test_the_decoder_starts_from_the_backward_state_of_the_first_token(dtype):
    """A.2.2: s_0 = tanh(W_s ←h_1)."""
    decoder, annotations = small().to(dtype).decoder, torch.randn(B, M, 2 * DIM, dtype=dtype)
    expected = (annotations[:, 0, DIM:] @ decoder.first.weight.T + decoder.first.bias).tanh()
    assert close(decoder.begin(annotations), expected)


def test_the_score_of_a_token_does_not_depend_on_the_token_before_it():
    """In the equations s_{i-1} has read y_{i-2}; in the authors' code it would have read y_{i-1}."""
    model, source, target = small(), texts([M] * B), texts([N] * B)
    other = target.clone()
    other[:, 2] = (target[:, 2] - 3 + 1) % (VOCABULARY - 3) + 3
    rows = []
    for tokens in (target, other):
        with record_attention(model) as maps:
            model(source, tokens)
        rows.append(alignments(maps))
    assert torch.equal(rows[0][:, :3], rows[1][:, :3])
    assert not torch.equal(rows[0][:, 3], rows[1][:, 3])


def test_the_future_of_the_target_changes_nothing_before_it():
    model, source, target = small(), texts([M] * B), texts([N] * B)
    later = target.clone()
    later[:, 3:] = (target[:, 3:] - 3 + 1) % (VOCABULARY - 3) + 3
    before, after = model(source, target), model(source, later)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before - after)[:, 3:].abs().amax(-1).gt(1e-6).all()


def test_padding_and_neighbours_in_the_batch_change_nothing():
    model, source, target = small(), texts(LENGTHS), texts([N] * B)
    together = model(source, target)
    for i, length in enumerate(LENGTHS):
        alone = model(source[i : i + 1, :length], target[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_a_text_of_padding_alone_has_a_context_of_zeros():
    module = AdditiveAttention(DIM, annotations=2 * DIM, hidden=HIDDEN)
    encoder = Encoder(VOCABULARY, embedding=EMBEDDING, dim=DIM)
    nothing = torch.zeros(1, M, dtype=torch.int64)
    annotations = encoder(nothing, nothing.ne(0))
    assert not module(torch.randn(1, 1, DIM), module.keys(annotations), annotations, nothing.ne(0)).any()


def test_weights_are_recorded_a_row_for_each_token_and_none_lies_on_padding():
    model, source = small(), texts(LENGTHS)
    with record_attention(model) as maps:
        model(source, texts([N] * B))
    weights = alignments(maps)
    assert weights.shape == (B, N, M)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, N))
    assert (weights[source.ne(0)[:, None].expand_as(weights)] > 0).all()
    assert not weights[source.eq(0)[:, None].expand_as(weights)].any()


def test_writing_step_by_step_gives_the_logits_of_teacher_forcing():
    model, source, target = small().double(), texts(LENGTHS), texts([N] * B)
    state = model.begin(source)
    assert isinstance(state, DecodingState)
    steps = torch.stack([state.step(token) for token in target.unbind(1)], 1)
    assert close(steps, model(source, target))


def test_texts_can_be_reordered_and_repeated_while_they_are_written():
    model, source, target = small().double(), texts(LENGTHS), texts([N] * B)
    rows = torch.tensor([2, 0, 2, 1])
    state = model.begin(source)
    state.step(target[:, 0])
    state.reorder(rows)
    assert close(state.step(target[rows, 1]), model(source, target)[rows, 1])


def test_greedy_ends_with_the_end():
    model, source = small(), texts(LENGTHS)
    model.decoder.readout.output.bias.data[END] = 100.0
    assert model.greedy(source, start=START, end=END, limit=4).tolist() == [[END]] * B


def test_with_a_fixed_context_the_rest_of_the_source_is_not_read_again():
    """RNN Encoder-Decoder, the degenerate case of A.2.2: the context is that of the ends, at every step."""
    model, source = small(attention=FixedContext), texts(LENGTHS)
    annotations = model.encoder(source, source.ne(0))
    context = model.decoder.attention(torch.randn(B, N, DIM), annotations, annotations, source.ne(0))
    for i, length in enumerate(LENGTHS):
        ends = torch.cat([annotations[i, length - 1, :DIM], annotations[i, 0, DIM:]])
        assert close(context[i], ends.expand(N, -1))


def test_at_birth_every_weight_is_one_over_the_length_as_v_a_is_zero():
    model, source = small(start=as_published), texts(LENGTHS)
    with record_attention(model) as maps:
        model(source, texts([N] * B))
    for weights, length in zip(alignments(maps), LENGTHS, strict=True):
        assert close(weights[:, :length], torch.full((N, int(length)), 1 / length))


def test_the_start_is_that_of_appendix_b():
    model = rnnsearch("rnnsearch", vocabulary=1001, dim=64, embedding=62, alignment=60, maxout=58)
    attention = model.decoder.attention
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    assert not attention.score.weight.any()
    for linear in (attention.query, attention.key):
        assert linear.weight.std().item() == pytest.approx(0.001, rel=0.05)
    for unit in (model.encoder.forwards.unit, model.encoder.backwards.unit, model.decoder.unit):
        for matrix in (*unit.gates.weight.chunk(2), unit.candidate.weight):
            assert torch.allclose(matrix @ matrix.T, torch.eye(64), atol=1e-5)
    others = model.encoder.tokens, model.decoder.tokens, model.encoder.forwards.word, model.decoder.context
    for linear in (*others, model.decoder.first, model.decoder.readout.output, model.decoder.readout.word):
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.encoder.tokens.weight[0].any()
    other = as_published(small(unit=ResetAfter)).decoder.unit
    assert all(torch.allclose(u @ u.T, torch.eye(DIM), atol=1e-5) for u in other.recurrent.weight.chunk(3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_its_parameters_and_cost(variant):
    with torch.device("meta"):
        model = rnnsearch(variant, vocabulary=30_000, start=None)
    parameters, gmacs = COUNTS[variant]
    assert count_parameters(model) == parameters
    sentence = torch.ones(1, 50, dtype=torch.int64, device="meta")
    assert round(count_macs(model, sentence, sentence) / 1e9, 2) == gmacs


def test_the_parameters_follow_from_the_equations():
    n, m, a, o, v = 1000, 620, 1000, 500, 30_000
    unit, words = 3 * n * n, 3 * (n * m + n)
    encoder = v * m + 2 * (unit + words)
    decoder = v * m + unit + words + 3 * n * 2 * n + n * n + n
    attention = a * n + a * 2 * n + a
    output = 2 * o * (n + 1 + m + 2 * n) + v * (o + 1)
    assert encoder + decoder + attention + output == COUNTS["rnnsearch"][0]


def test_wrong_tokens_and_names_are_refused_with_the_way_out(unchecked):
    model = small()
    with pytest.raises(ValueError, match=r"tokens of shape \(7,\).*give it tokens\[None\]"):
        model(texts([M])[0], texts([N]))
    with pytest.raises(ValueError, match="3 sources but 2 targets: each source needs one target"):
        model(texts(LENGTHS), texts([N, N]))
    with pytest.raises(ValueError, match="unknown variant 'rnnsearch-50'; known: rnnsearch; did you mean"):
        rnnsearch("rnnsearch-50", vocabulary=5)
    with pytest.raises(ValueError, match=r"unknown overrides \['heads'\]; known: dim, embedding"):
        rnnsearch("rnnsearch", vocabulary=5, heads=2)
