"""The LSTM against PyTorch's, packed padding too, and the encoder and decoder around it."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attention_notes.claims import close
from attention_notes.inspect import count_parameters
from attention_notes.nn.decoding import DecodingState, greedy
from attention_notes.papers.decoding import beam_search, power
from attention_notes.papers.seq2seq import LSTM, Decoder, Encoder, FusedLSTM, LSTMCell, Seq2Seq, reverse, seq2seq
from attention_notes.papers.seq2seq.data import ALPHABET, END, START, VOCABULARY, snippets

BATCH, TOKENS, DIM, HIDDEN, LAYERS = 3, 11, 5, 7, 2
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SMALL = {"layers": 2, "dim": 13, "hidden": 17, "source_vocabulary": 23, "target_vocabulary": 19}


def grads(out, inputs):
    draw = torch.Generator().manual_seed(0)
    upstream = [torch.randn(o.shape, generator=draw).to(o) for o in out]
    return torch.autograd.grad(sum((o * g).sum() for o, g in zip(out, upstream, strict=True)), inputs)


def pair(dtype):
    theirs = nn.LSTM(DIM, HIDDEN, LAYERS, batch_first=True).to(dtype)
    ours = LSTM(DIM, hidden=HIDDEN, layers=LAYERS).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def given(dtype):
    x = torch.randn(BATCH, TOKENS, DIM, dtype=dtype, requires_grad=True)
    h, c = (torch.randn(LAYERS, BATCH, HIDDEN, dtype=dtype, requires_grad=True) for _ in range(2))
    return x, h, c


def agree(ours, theirs, one, other, inputs):
    assert all(close(a, b) for a, b in zip(one, other, strict=True))
    found, wanted = grads(one, [*inputs, *ours.parameters()]), grads(other, [*inputs, *theirs.parameters()])
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))


@DTYPES
def test_our_lstm_equals_pytorchs_in_outputs_and_gradients(dtype):
    ours, theirs = pair(dtype)
    x, h, c = given(dtype)
    (one, state), (other, their_state) = ours(x, (h, c)), theirs(x, (h, c))
    agree(ours, theirs, [one, *state], [other, *their_state], [x, h, c])


@DTYPES
def test_one_cell_equals_pytorchs(dtype):
    theirs, ours = nn.LSTMCell(DIM, HIDDEN).to(dtype), LSTMCell(DIM, hidden=HIDDEN).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    x, h, c = given(dtype)
    agree(ours, theirs, ours(x[:, 0], (h[0], c[0])), theirs(x[:, 0], (h[0], c[0])), [x, h, c])


@DTYPES
def test_with_lengths_our_lstm_equals_pytorchs_packed_one(dtype):
    ours, theirs = pair(dtype)
    x, h, c = given(dtype)
    lengths = torch.tensor([4, 11, 1])
    one, state = ours(x, (h, c), lengths=lengths)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    other, their_state = theirs(packed, (h, c))
    other = pad_packed_sequence(other, batch_first=True, total_length=TOKENS)[0]
    agree(ours, theirs, [one, *state], [other, *their_state], [x, h, c])


@DTYPES
def test_the_fused_lstm_is_the_same_with_and_without_lengths(dtype):
    ours, fused = LSTM(DIM, hidden=HIDDEN, layers=LAYERS).to(dtype), FusedLSTM(DIM, hidden=HIDDEN, layers=LAYERS)
    fused.to(dtype).load_state_dict(ours.state_dict())
    x, h, c = given(dtype)
    for lengths in (None, torch.tensor([4, 9, 1])):
        (one, state), (other, their_state) = ours(x, (h, c), lengths=lengths), fused(x, (h, c), lengths=lengths)
        agree(ours, fused, [one, *state], [other, *their_state], [x, h, c])
    assert all(close(a, b) for a, b in zip(ours(x)[1], fused(x)[1], strict=True))


def test_one_step_by_hand():
    """All weights zero: the gates are one half, nothing is written, and half of the cell stays."""
    cell = LSTMCell(2, hidden=1)
    for parameter in cell.parameters():
        nn.init.zeros_(parameter)
    h, c = cell(torch.ones(1, 2), (torch.ones(1, 1), torch.full((1, 1), 4.0)))
    assert close(c, torch.full((1, 1), 2.0))
    assert close(h, 0.5 * torch.tensor([[2.0]]).tanh())


def test_with_an_open_forget_gate_and_a_closed_input_the_cell_stays_for_ever():
    lstm = LSTM(DIM, hidden=HIDDEN).double()
    for parameter in lstm.parameters():
        nn.init.zeros_(parameter)
    lstm.bias_ih_l0.data[:HIDDEN], lstm.bias_ih_l0.data[HIDDEN : 2 * HIDDEN] = -50, 50
    start = torch.randn(1, BATCH, HIDDEN).double()
    _, (_, c) = lstm(torch.randn(BATCH, 100, DIM).double(), (start, start))
    assert close(c, start)


def test_no_tokens_leave_the_state_as_it_was():
    lstm, (x, h, c) = LSTM(DIM, hidden=HIDDEN, layers=LAYERS), given(torch.float32)
    out, state = lstm(x[:, :0], (h, c))
    assert out.shape == (BATCH, 0, HIDDEN)
    assert torch.equal(state[0], h)
    assert torch.equal(state[1], c)


def model(dtype=torch.float64, **options):
    built = seq2seq("wmt14", **{**SMALL, **options}).to(dtype).eval()
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.5)
    return built


def texts():
    source, target = torch.randint(3, 23, (BATCH, TOKENS)), torch.randint(3, 19, (BATCH, 7))
    source[0, 4:] = 0
    target[:, 0] = START
    return source, target


def test_step_by_step_the_logits_are_those_of_teacher_forcing():
    built, (source, target) = model(), texts()
    state = built.begin(source)
    assert isinstance(state, DecodingState)
    steps = torch.stack([state.step(token) for token in target.unbind(1)], 1)
    assert close(steps, built(source, target))


def test_the_encoders_vector_has_one_size_and_is_all_that_the_decoder_knows():
    built, (source, target) = model(), texts()
    sizes = {tuple(part.shape) for n in (1, 4, TOKENS) for part in built.encoder(source[:, :n])[1]}
    assert sizes == {(2, BATCH, 17)}
    vector = built.encoder(source)[1]
    assert torch.equal(built.decoder(target, vector)[0], built(source, target))


def test_padding_and_neighbours_change_nothing():
    built, (source, target) = model(), texts()
    alone = built(source[:1, :4], target[:1])
    assert close(built(source, target)[:1], alone)


def test_later_target_tokens_change_nothing_before_them():
    built, (source, target) = model(), texts()
    other = target.clone()
    other[:, 4] = (other[:, 4] - 2) % 16 + 3
    before, after = built(source, target), built(source, other)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not close(before[:, 4], after[:, 4])


def test_reordered_texts_go_on_as_they_would_have():
    built, (source, target) = model(), texts()
    rows = torch.tensor([2, 0, 0])
    state = built.begin(source)
    state.step(target[:, 0])
    state.reorder(rows)
    assert close(state.step(target[rows, 1]), built(source, target[:, :2])[rows, 1])


def test_greedy_writes_the_likeliest_continuation():
    built, (source, _) = model(), texts()
    written = greedy(built.begin(source), torch.full((BATCH,), START), end=END, limit=5)
    read = torch.cat([torch.full((BATCH, 1), START), written[:, :-1]], 1)
    likeliest = built(source, read).argmax(-1)
    running = torch.cat([torch.ones(BATCH, 1).bool(), written[:, :-1].ne(END).cumprod(1).bool()], 1)
    assert torch.equal(written, likeliest * running)


def test_beam_search_scores_its_texts_as_teacher_forcing_does():
    built, (source, _) = model(), texts()
    first, sizes = torch.full((BATCH,), START), {"end": END, "limit": 5}
    found = beam_search(built.begin(source), first, beams=3, length_penalty=power(0.0), **sizes)
    for rank in range(3):
        text = found.tokens[:, rank]
        read = torch.cat([first[:, None], text[:, :-1]], 1)
        log = built(source, read).log_softmax(-1).gather(2, text[..., None])[..., 0]
        running = torch.cat([torch.ones(BATCH, 1).bool(), text[:, :-1].ne(END).cumprod(1).bool()], 1)
        assert close((log * running).sum(1), found.scores[:, rank])


def test_with_pytorchs_kernels_the_model_is_the_same():
    ours, fused = model(), model(recurrent=FusedLSTM)
    fused.load_state_dict(ours.state_dict())
    source, target = texts()
    assert close(fused(source, target), ours(source, target))


def test_reversing_leaves_the_padding_behind():
    tokens = torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    wanted = torch.tensor([[7, 6, 5, 0], [8, 0, 0, 0], [0, 0, 0, 0], [4, 3, 2, 1]])
    assert torch.equal(reverse(tokens), wanted)
    assert torch.equal(reverse(wanted), tokens)


def test_parameters_are_those_of_the_paper_and_start_as_there():
    with torch.device("meta"):
        large = seq2seq("wmt14")
    recurrent = sum(count_parameters(part.lstm) for part in (large.encoder, large.decoder))
    assert recurrent == 2 * 4 * (4 * 1000 * 2000 + 2 * 4 * 1000)
    assert count_parameters(large) == recurrent + 1000 * (160_000 + 80_000) + 1001 * 80_000
    small = seq2seq("wmt14", **SMALL | {"hidden": 97})
    weight = small.encoder.lstm.weight_hh_l0
    assert weight.abs().max() <= 0.08
    assert weight.std().item() == pytest.approx(0.08 / 3**0.5, rel=0.03)
    assert not small.decoder.embedding.weight[0].any()


def test_snippets_are_copied_between_a_start_and_an_end():
    source, target = snippets(50, lengths=(2, 7), seed=3)
    assert source.shape == (50, 7)
    assert target.shape == (50, 9)
    sizes = source.ne(0).sum(1)
    assert set(sizes.tolist()) == {2, 7}
    for text, copy, size in zip(source, target, sizes, strict=True):
        assert copy[: size + 2].tolist() == [START, *text[:size].tolist(), END]
        assert not copy[size + 2 :].any()
    assert int(source.max()) < VOCABULARY == 3 + len(ALPHABET)


def test_held_out_snippets_are_others_and_the_seed_decides():
    long = [snippets(200, lengths=[60], seed=seed, held_out=held)[0] for seed, held in ((0, False), (0, True))]
    assert torch.equal(snippets(200, lengths=[60], seed=0)[0], long[0])
    assert not torch.equal(snippets(200, lengths=[60], seed=1)[0], long[0])
    assert not {tuple(text) for text in long[0].tolist()} & {tuple(text) for text in long[1].tolist()}


def test_what_cannot_be_is_named(unchecked):
    with pytest.raises(ValueError, match="width 6, but the LSTM was built for dim=5"):
        LSTM(DIM, hidden=HIDDEN)(torch.randn(2, 3, 6))
    with pytest.raises(ValueError, match="layers=0: a stack has one layer or more"):
        LSTM(DIM, hidden=HIDDEN, layers=0)
    shapes = [{"dim": 5, "hidden": 7, "layers": layers} for layers in (1, 2)]
    with pytest.raises(ValueError, match="of 7 cells in 1 layers cannot start a decoder of 7 cells in 2"):
        Seq2Seq(Encoder(9, **shapes[0]), Decoder(9, **shapes[1]))
    with pytest.raises(ValueError, match=r"unknown overrides \['heads'\]; known: layers, dim"):
        seq2seq("wmt14", heads=3)
    with pytest.raises(ValueError, match=r"for one sequence, give it tokens\[None\]"):
        model().begin(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"lengths=\[0\]: choose some from 1 to "):
        snippets(1, lengths=[0], seed=0)
