"""Search and sampling: by hand, against exhaustive search, and against transformers' own."""

import itertools
import math

import pytest
import torch

from attention_notes.nn.decoding import greedy
from attention_notes.papers.decoding import (
    at_this_length,
    beam_search,
    gnmt,
    log_probabilities,
    no_better_possible,
    nucleus,
    power,
    sample,
    temperature,
    top_k,
    when_full,
)
from attention_notes.papers.transformer import LearnedPositions, transformer

END, LIMIT = 2, 5


class Chain:
    """A model whose next token depends on the last alone: logits are a row of a table. It counts what is asked."""

    def __init__(self, table, size):
        self.table, self.history, self.reordered = table, torch.zeros(size, 0, dtype=torch.int64), 0

    def step(self, tokens):
        assert len(tokens) == len(self.history)
        self.history = torch.cat([self.history, tokens[:, None]], 1)
        return self.table[tokens]

    def reorder(self, rows):
        self.history, self.reordered = self.history[rows], self.reordered + 1


class Longer(Chain):
    """The next token depends on all so far, through a fixed random number for each history."""

    def step(self, tokens):
        super().step(tokens)
        return torch.stack([self.table[hash(tuple(row)) % len(self.table)] for row in self.history.tolist()])


def random_table(seed, *, rows=5, vocabulary=5, dtype=torch.float64):
    return torch.randn(rows, vocabulary, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 1.5


def exhaustive(kind, table, *, penalty, limit=LIMIT, vocabulary=5):
    """Every text with an end, or of ``limit`` tokens, and its score; the best first."""
    others = [token for token in range(vocabulary) if token != END]
    texts = [(*t, END) for n in range(limit) for t in itertools.product(others, repeat=n)]
    texts += [*itertools.product(others, repeat=limit)]
    padded = torch.tensor([t + (END,) * (limit - len(t)) for t in texts])
    first = torch.ones(len(texts), dtype=torch.int64)
    found = log_probabilities(kind(table, len(texts)), first, padded, end=END).sum(1)
    scored = zip(
        (found / torch.tensor([penalty(len(t)) for t in texts], dtype=torch.float64)).tolist(), texts, strict=True
    )
    return sorted(scored, reverse=True)


def texts_of(tokens, padding=0):
    """The tokens of a text up to its end."""
    rows = [row.tolist() for row in tokens]
    return [tuple(row[: row.index(END) + 1]) if END in row else tuple(row) for row in rows]


@pytest.mark.parametrize("penalty", [power(0.0), power(1.0), power(2.0), power(-1.0), gnmt(0.6)])
@pytest.mark.parametrize("kind", [Chain, Longer])
def test_a_beam_that_is_wide_enough_finds_what_exhaustive_search_finds(kind, penalty):
    for seed in range(3):
        table = random_table(seed, rows=5 if kind is Chain else 1009)
        wide = beam_search(kind(table, 1), torch.tensor([1]), beams=1400, end=END, limit=LIMIT, length_penalty=penalty)
        wanted = exhaustive(kind, table, penalty=penalty)
        count = len(wanted)
        torch.testing.assert_close(
            wide.scores[0, :count].tolist(), [score for score, _ in wanted[:count]], atol=1e-10, rtol=0
        )
        scores = {text: score for score, text in wanted}  # in a chain two texts may have the same steps
        found = texts_of(wide.tokens[0, :count])
        torch.testing.assert_close(
            [scores[text] for text in found], wide.scores[0, :count].tolist(), atol=1e-10, rtol=0
        )
        assert len({*found}) == count


def test_a_beam_wider_than_all_texts_pads_with_scores_of_minus_infinity():
    found = beam_search(Chain(random_table(0), 1), torch.tensor([1]), beams=30, end=END, limit=2)
    exist = 1 + 4 + 16  # the end at once, or after one token, or two tokens and no end
    assert (found.scores[0, :exist] > -math.inf).all()
    assert (found.scores[0, exist:] == -math.inf).all()
    assert (found.tokens[0, exist:] == 0).all()


@pytest.mark.parametrize("kind", [Chain, Longer])
def test_one_beam_is_greedy_search(kind):
    for seed in range(20):
        table, first = random_table(seed, rows=5 if kind is Chain else 1009), torch.tensor([0, 1, 3, 4])
        one = beam_search(kind(table, 4), first, beams=1, end=END, limit=9, length_penalty=power(0.0))
        assert texts_of(one.tokens[:, 0]) == texts_of(greedy(kind(table, 4), first, end=END, limit=9))


def test_by_hand():
    # After 1: 3 with 0.6, 4 with 0.4. After 3: 3 or 4 evenly. After 4: 3 with 0.05, 4 with 0.95. Greedy takes 3.
    table = torch.full((5, 5), -math.inf)
    table[1, 3:], table[3, 3:], table[4, 3:] = (torch.tensor(p).log() for p in ((0.6, 0.4), (0.5, 0.5), (0.05, 0.95)))
    first, options = torch.tensor([1]), {"end": END, "limit": 2, "length_penalty": power(0.0)}
    assert greedy(Chain(table, 1), first, end=END, limit=2)[0, 0] == 3
    two = beam_search(Chain(table, 1), first, beams=2, **options)
    assert two.tokens[0, 0].tolist() == [4, 4]
    torch.testing.assert_close(two.scores[0].exp(), torch.tensor([0.38, 0.3]))


def test_without_a_penalty_the_score_is_the_mean_over_tokens():
    table, first = random_table(2, rows=1009), torch.tensor([0, 1, 3])
    plain, mean = (
        beam_search(Longer(table, 3), first, beams=3, end=END, limit=LIMIT, **given)
        for given in ({}, {"length_penalty": power(1.0)})
    )
    assert torch.equal(plain.scores, mean.scores)
    assert torch.equal(plain.tokens, mean.tokens)


def test_a_wider_beam_can_find_a_less_likely_text():
    worse = 0
    for seed in range(300):
        table, first = random_table(seed, rows=1009), torch.tensor([1])
        two, three = (
            beam_search(Longer(table, 1), first, beams=k, end=END, limit=LIMIT, length_penalty=power(0.0)).scores[0, 0]
            for k in (2, 3)
        )
        worse += bool(three < two - 1e-9)
    assert 0 < worse < 60


def test_a_batch_is_its_texts_one_by_one_and_rows_move_only_when_they_change():
    table, first = random_table(3, rows=1009), torch.tensor([0, 1, 3])
    for penalty in (power(0.0), power(1.0)):
        options = {"beams": 3, "end": END, "limit": 8, "length_penalty": penalty}
        together = beam_search(Longer(table, 3), first, **options)
        for row in range(3):
            alone = beam_search(Longer(table, 1), first[row : row + 1], **options)
            torch.testing.assert_close(together.scores[row], alone.scores[0])
            assert texts_of(together.tokens[row]) == texts_of(alone.tokens[0])
    certain = torch.full((5, 5), -30.0)
    certain[range(5), [1, 3, 2, 4, 0]] = 0.0
    state = Chain(certain, 1)
    beam_search(state, torch.tensor([1]), beams=1, end=END, limit=9)
    assert state.reordered == 0


@pytest.fixture(scope="module")
def pair():
    """A small translation model, its twin of transformers, and sources."""
    marian = pytest.importorskip("benchmarks.peers").marian
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    ours = transformer("base", vocabulary=29, layers=2, dim=24, hidden=48, heads=4, dropout=0.0, bias=True).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        ours.embedding.tokens.weight[ours.embedding.padding] = -ours.embedding.tokens.weight[1:].sum(0)
    source = torch.randint(3, 29, (6, 7))
    return ours, marian(ours, longest=64), source


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, -0.5])
@pytest.mark.parametrize(
    ("stopping", "theirs"), [(at_this_length, False), (when_full, True), (no_better_possible, "never")]
)
def test_beams_equal_those_of_transformers(pair, alpha, stopping, theirs):
    ours, peer, source = pair
    options = {"num_beams": 4, "num_return_sequences": 4, "do_sample": False, "output_scores": True}
    options |= {"length_penalty": alpha, "early_stopping": theirs, "max_new_tokens": 12}
    found = peer.generate(source, attention_mask=torch.ones_like(source), return_dict_in_generate=True, **options)
    mine = beam_search(
        ours.begin(source), torch.ones_like(source[:, 0]), beams=4, end=END, limit=12,
        length_penalty=power(alpha), stopping=stopping,
    )  # fmt: skip
    torch.testing.assert_close(mine.scores.flatten(), found.sequences_scores, atol=1e-5, rtol=1e-6)
    assert texts_of(mine.tokens.flatten(0, 1)) == texts_of(found.sequences[:, 1:])


def test_functions_on_logits_equal_those_of_transformers():
    warpers = pytest.importorskip("transformers.generation.logits_process")
    logits = torch.randn(50, 97) * 3
    pairs = [(temperature(t), warpers.TemperatureLogitsWarper(t)) for t in (0.3, 1.0, 2.5)]
    pairs += [(top_k(k), warpers.TopKLogitsWarper(k)) for k in (1, 7, 97, 500)]
    pairs += [(nucleus(p), warpers.TopPLogitsWarper(p)) for p in (1e-9, 0.1, 0.5, 0.95, 1.0)]
    for ours, theirs in pairs:
        assert torch.equal(ours(logits), theirs(None, logits))
    both = warpers.TopPLogitsWarper(0.8)(None, warpers.TemperatureLogitsWarper(0.7)(None, logits))
    assert torch.equal(nucleus(0.8)(temperature(0.7)(logits)), both)


def test_the_nucleus_is_the_smallest_set_that_holds_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()[:, [2, 0, 3, 1]]
    for p, kept in ((0.4, 1), (0.6, 2), (0.79, 2), (0.81, 3), (0.94, 3), (1.0, 4)):
        assert (nucleus(p)(logits) > -math.inf).sum() == kept
    held = nucleus(0.6)(logits).softmax(-1)
    torch.testing.assert_close(held, torch.tensor([[0.0, 0.625, 0.0, 0.375]]))


def test_samples_have_the_frequencies_of_the_distribution():
    logits = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4]).log().expand(5, 5)
    first = torch.ones(20_000, dtype=torch.int64)
    for choose in ((), (temperature(0.5),), (top_k(2),), (temperature(2.0), nucleus(0.7))):
        seeded = torch.Generator().manual_seed(0)
        drawn = sample(Chain(logits, len(first)), first, choose=choose, end=END, limit=1, generator=seeded)
        wanted = logits[:1]
        for adjust in choose:
            wanted = adjust(wanted)
        found = torch.bincount(drawn[:, 0], minlength=5) / len(first)
        torch.testing.assert_close(found, wanted.softmax(-1)[0], atol=0.015, rtol=0)


def test_a_seed_repeats_a_sample_and_the_limits_of_sampling_are_greedy():
    table, first = random_table(1, dtype=torch.float32), torch.tensor([0, 1, 3, 4])

    def drawn(seed, *choose):
        generator = torch.Generator().manual_seed(seed)
        return sample(Chain(table, 4), first, choose=choose, end=END, limit=20, generator=generator)

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    wanted = greedy(Chain(table, 4), first, end=END, limit=20)
    for limits in (temperature(1e-4), top_k(1), nucleus(1e-9)):
        assert torch.equal(drawn(0, limits), wanted)


def test_the_log_probability_of_a_text_is_the_sum_over_its_tokens_and_equals_teacher_forcing(pair):
    ours, _, source = pair
    first = torch.ones_like(source[:, 0])
    found = beam_search(ours.begin(source), first, beams=3, end=END, limit=9, length_penalty=power(0.0))
    text = found.tokens[:, 0]
    steps = log_probabilities(ours.begin(source), first, text, end=END)
    torch.testing.assert_close(steps.sum(1), found.scores[:, 0], atol=1e-5, rtol=0)
    forced = ours(source, torch.cat([first[:, None], text[:, :-1]], 1)).log_softmax(-1)
    forced = forced.gather(-1, text[..., None])[..., 0]
    for row, words in enumerate(texts_of(text)):
        torch.testing.assert_close(forced[row, : len(words)], steps[row, : len(words)], atol=1e-5, rtol=0)


def test_a_beam_wider_than_the_vocabulary_is_no_mistake(pair):
    ours, _, source = pair
    first = torch.ones_like(source[:, 0])
    wide = beam_search(ours.begin(source), first, beams=40, end=END, limit=3, length_penalty=power(0.0))
    assert (wide.scores > -math.inf).all()
    assert (wide.scores[:, 1:] <= wide.scores[:, :-1]).all()
    assert all(len(set(texts_of(row))) == 40 for row in wide.tokens)


def test_no_texts_give_no_texts():
    none = torch.zeros(0, dtype=torch.int64)
    table = random_table(0)
    assert beam_search(Chain(table, 0), none, beams=3, end=END, limit=4).scores.shape == (0, 3)
    assert sample(Chain(table, 0), none, end=END, limit=4).shape[0] == 0
    empty = torch.zeros(2, 0, dtype=torch.int64)
    assert log_probabilities(Chain(table, 2), torch.ones(2, dtype=torch.int64), empty, end=END).shape == (2, 0)


def test_bad_values_are_named(unchecked):
    first, table = torch.tensor([1]), random_table(0)
    for t in (0, -0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"temperature {t} is not a number above 0"):
            temperature(t)
    for p in (0, -0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"nucleus\({p}\): p is a share"):
            nucleus(p)
    for k in (0, -3):
        with pytest.raises(ValueError, match=rf"top_k\({k}\) leaves no token"):
            top_k(k)
    with pytest.raises(ValueError, match="beams=0: at least one text"):
        beam_search(Chain(table, 1), first, beams=0, end=END, limit=3)
    with pytest.raises(ValueError, match="end=5 is not among the 5 tokens"):
        beam_search(Chain(table, 1), first, beams=2, end=5, limit=3)
    for write in (sample, lambda *given, **options: beam_search(*given, beams=2, **options)):
        with pytest.raises(ValueError, match="limit=0: at least one token"):
            write(Chain(table, 1), first, end=END, limit=0)
        with pytest.raises(ValueError, match=r"logits of rows \[0\] after the first token are not numbers"):
            write(Chain(table * math.nan, 1), first, end=END, limit=3)


def test_a_text_beyond_the_learned_positions_says_how_many_there_are():
    positions = lambda dim: LearnedPositions(dim, length=4)  # noqa: E731
    short = transformer("base", vocabulary=9, layers=1, dim=8, hidden=8, heads=2, dropout=0.0, positions=positions)
    with torch.no_grad():
        short.embedding.tokens.weight[END] = 0
        state = short.eval().begin(torch.tensor([[3, 4]]))
    with pytest.raises(ValueError, match="a sequence of 5 tokens, but there are 4 learned positions"):
        beam_search(state, torch.tensor([1]), beams=9, end=END, limit=9, stopping=no_better_possible)
