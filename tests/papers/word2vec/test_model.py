"""Skip-gram, CBOW and negative sampling against loops, against the authors' update, and against counts."""

import math

import pytest
import torch
import torch.nn.functional as F

from attention_notes.claims import close
from attention_notes.papers.word2vec import (
    CBOW,
    NOTHING,
    SkipGram,
    co_occurrences,
    expected_loss,
    kept,
    negative_sampling,
    noise,
    pairs,
    place,
    shifted_pmi,
    windows,
)
from attention_notes.papers.word2vec.data import vocabulary

WORDS, WIDTH, BATCH, NOISE = 13, 7, 5, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def randomised(kind, dtype=torch.float64):
    model = kind(WORDS, dim=WIDTH).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def drawn(*shape):
    return torch.randint(WORDS, shape)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_one_step_by_hand():
    """All scores are zero, so that every σ is a half: v gains half of each difference."""
    model = SkipGram(3, dim=2)
    with torch.no_grad():
        model.input.weight.copy_(torch.tensor([[1.0, 0.0], [5.0, 5.0], [5.0, 5.0]]))
        model.output.weight.copy_(torch.tensor([[3.0, 3.0], [0.0, 1.0], [0.0, -1.0]]))
    loss = negative_sampling(model(torch.tensor([0]), torch.tensor([[1, 2]])))
    assert loss.item() == pytest.approx(2 * math.log(2))
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert close(model.input.weight, torch.tensor([[1.0, 1.0], [5.0, 5.0], [5.0, 5.0]]))
    assert close(model.output.weight, torch.tensor([[3.0, 3.0], [0.5, 1.0], [-0.5, -1.0]]))


def tabulated(x):
    """gensim's and word2vec.c's σ: one of 1,000 values between -6 and 6, found by 83 steps a unit."""
    return sigmoid((int((x + 6) * 83) / 1000 * 2 - 1) * 6)


def update(tables, given, candidates, rate, *, sigma=sigmoid):
    """The authors' loops for one example: both tables after a step; the candidates are different.

    With several words given, CBOW, each has its share of the hidden vector's error.
    """
    v, u = (table.tolist() for table in tables)
    h = [sum(v[w][c] for w in given) / len(given) for c in range(len(v[0]))]
    error = [0.0] * len(h)
    for d, o in enumerate(candidates):
        g = ((d == 0) - sigma(sum(a * b for a, b in zip(h, u[o], strict=True)))) * rate
        error = [e + g * b for e, b in zip(error, u[o], strict=True)]
        u[o] = [b + g * a for a, b in zip(h, u[o], strict=True)]
    for w in given:
        v[w] = [a + e / len(given) for a, e in zip(v[w], error, strict=True)]
    return [torch.tensor(after, dtype=before.dtype) for after, before in zip((v, u), tables, strict=True)]


@DTYPES
@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_a_step_is_the_authors_update(kind, dtype):
    """Outputs and gradients at once: a step of descent on one example against word2vec.c's loops."""
    model = randomised(kind, dtype)
    given, candidates = ([4] if kind is SkipGram else [4, 9, 4, 1]), [6, 4, 11, 2]
    wanted = update([model.input.weight, model.output.weight], given, candidates, rate=0.3)
    inputs = torch.tensor([4]) if kind is SkipGram else torch.tensor([[*given, NOTHING]])
    negative_sampling(model(inputs, torch.tensor([candidates]))).backward()
    torch.optim.SGD(model.parameters(), lr=0.3).step()
    assert close(model.input.weight, wanted[0])
    assert close(model.output.weight, wanted[1])


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_two_steps_give_the_numbers_of_gensim(kind):
    """Recorded from gensim 4.4.0: the text is "a b", the noise c. With its table of σ they are the same numbers."""
    v, u = [[0.5, -0.3], [0.2, 0.7], [-0.4, 0.6]], [[0.1, 0.9], [-0.6, 0.2], [0.8, -0.5]]
    recorded = (
        torch.tensor([[0.24701735, -0.15227488], [0.10345794, 0.86186421], [-0.4, 0.6]]),
        torch.tensor([[0.12109619, 0.97383666], [-0.51077437, 0.14646462], [0.67887497, -0.53709239]]),
    )
    model, tables = kind(3, dim=2), [torch.tensor(v), torch.tensor(u)]
    model.input.weight.data, model.output.weight.data = (table.clone() for table in tables)
    descent = torch.optim.SGD(model.parameters(), lr=0.3)
    for word, neighbour in ((1, 0), (0, 1)):
        tables = update(tables, [word], [neighbour, 2], rate=0.3, sigma=tabulated)
        given = torch.tensor([word] if kind is SkipGram else [[word]])
        descent.zero_grad()
        negative_sampling(model(given, torch.tensor([[neighbour, 2]]))).backward()
        descent.step()
    for table, ours, theirs in zip(tables, (model.input.weight, model.output.weight), recorded, strict=True):
        assert close(table, theirs)
        assert (ours - theirs).abs().max().item() < 0.3 * 0.02  # of a rate of 0.3, what the table leaves


def test_a_step_touches_one_word_and_its_candidates():
    model = randomised(SkipGram)
    negative_sampling(model(torch.tensor([4]), torch.tensor([[6, 1, 11]]))).backward()
    assert model.input.weight.grad.any(1).nonzero().flatten().tolist() == [4]
    assert model.output.weight.grad.any(1).nonzero().flatten().tolist() == [1, 6, 11]


@DTYPES
def test_the_loss_is_equation_4(dtype):
    model, given, candidates = randomised(SkipGram, dtype), drawn(BATCH), drawn(BATCH, 1 + NOISE)
    v, u = model.input.weight.detach(), model.output.weight.detach()
    total = 0.0
    for w, (o, *others) in zip(given.tolist(), candidates.tolist(), strict=True):
        total -= math.log(sigmoid(float(u[o] @ v[w])))
        total -= sum(math.log(sigmoid(-float(u[i] @ v[w]))) for i in others)
    found = negative_sampling(model(given, candidates))
    assert close(found, torch.tensor(total / BATCH, dtype=dtype))


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_all_scores_contain_those_of_the_candidates(kind):
    model, candidates = randomised(kind), drawn(BATCH, 4)
    given = drawn(BATCH) if kind is SkipGram else drawn(BATCH, 6)
    every = model(given)
    assert every.shape == (BATCH, WORDS)
    assert close(model(given, candidates), every.gather(1, candidates))


def test_a_one_hot_vector_times_the_table_is_a_row():
    model = randomised(SkipGram)
    one_hot = F.one_hot(torch.arange(WORDS), WORDS).double()
    assert close(one_hot @ model.input.weight, model.input.weight)
    assert close(model.hidden(torch.arange(WORDS)), model.input.weight)
    assert close(model(torch.arange(WORDS)), one_hot @ model.input.weight @ model.output.weight.mT)


def test_the_scores_have_no_higher_rank_than_the_bottleneck():
    scores = randomised(SkipGram)(torch.arange(WORDS))
    assert torch.linalg.matrix_rank(scores).item() == WIDTH


def test_with_one_neighbour_cbow_is_skip_gram():
    bag, gram = randomised(CBOW), randomised(SkipGram)
    gram.load_state_dict(bag.state_dict())
    given, candidates = drawn(BATCH), drawn(BATCH, 4)
    assert close(bag(given[:, None], candidates), gram(given, candidates))
    assert close(bag(F.pad(given[:, None], (2, 1), value=NOTHING), candidates), gram(given, candidates))


def test_the_bag_is_the_mean_of_those_that_are_there():
    model = randomised(CBOW)
    rows = model.input.weight
    given = torch.tensor([[2, 5, NOTHING], [NOTHING, 2, NOTHING], [NOTHING] * 3])
    assert close(model.hidden(given), torch.stack([(rows[2] + rows[5]) / 2, rows[2], 0 * rows[0]]))


def test_the_bag_has_no_order():
    model, given = randomised(CBOW), drawn(BATCH, 6)
    assert close(model.hidden(given.flip(1)), model.hidden(given))


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_parameters_are_two_tables_that_start_as_the_authors_do(kind):
    model = kind(400, dim=25)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "input.weight": (400, 25),
        "output.weight": (400, 25),
    }
    assert not model.output.weight.any()
    first = model.input.weight
    assert first.abs().max().item() <= 0.5 / 25
    assert first.std().item() == pytest.approx(1 / 25 / 12**0.5, rel=0.05)


def test_windows_by_hand():
    words, around = windows([[7, 3, 5], [2]], reach=2)
    assert words.tolist() == [7, 3, 5, 2]
    n = NOTHING
    assert around.tolist() == [[n, n, 3, 5], [n, 7, 5, n], [7, 3, n, n], [n, n, n, n]]
    assert pairs(words, around).tolist() == [[7, 3], [7, 5], [3, 7], [3, 5], [5, 7], [5, 3]]


def test_co_occurrences_are_counts_and_symmetric():
    text = [drawn(9).tolist() for _ in range(20)]
    found = pairs(*windows(text, reach=2))
    table = co_occurrences(found, words=WORDS)
    by_hand = [[0] * WORDS for _ in range(WORDS)]
    for a, b in found.tolist():
        by_hand[a][b] += 1
    assert table.tolist() == by_hand
    assert torch.equal(table, table.T)


def test_noise_evens_frequencies_out():
    """16 to 1 becomes 8 to 1."""
    assert close(noise(torch.tensor([16, 1])), torch.tensor([8, 1]) / torch.tensor(9.0).double())
    assert close(noise(torch.tensor([16, 1]), power=1), torch.tensor([16, 1]) / torch.tensor(17.0).double())
    assert close(noise(torch.tensor([16, 1]), power=0), torch.tensor([0.5, 0.5]).double())


def test_frequent_words_are_left_out_and_rare_ones_kept():
    """Of a word with a frequency of 0.8, √(0.2 / 0.8) = ½ stays."""
    assert close(kept(torch.tensor([80, 20]), threshold=0.2), torch.tensor([0.5, 1.0]).double())


def counts():
    return torch.randint(1, 30, (WORDS, WORDS))


@pytest.mark.parametrize("power", [0.75, 1.0])
def test_at_the_optimum_no_score_has_a_gradient(power):
    together = counts()
    x = shifted_pmi(together, negatives=NOISE, power=power).requires_grad_()
    expected_loss(x, together, negatives=NOISE, power=power).backward()
    assert x.grad.abs().max().item() < 1e-12
    aside = expected_loss(x + 0.1 * torch.randn_like(x), together, negatives=NOISE, power=power)
    assert aside.item() > expected_loss(x, together, negatives=NOISE, power=power).item()


def test_by_frequency_the_optimum_is_the_mutual_information_less_log_k():
    together = counts()
    p = together / together.sum().double()
    pmi = (p / p.sum(1, keepdim=True) / p.sum(0)).log()
    assert close(shifted_pmi(together, negatives=NOISE), pmi - math.log(NOISE))
    assert close(shifted_pmi(together, negatives=1), pmi)


def test_a_pair_that_never_occurs_has_no_finite_optimum():
    together = counts()
    together[2, 5] = 0
    found = shifted_pmi(together, negatives=NOISE)
    assert found[2, 5] == -math.inf
    assert found.isfinite().sum() == WORDS**2 - 1


def test_the_expected_loss_is_the_mean_over_pairs_and_draws():
    """All pairs, and for each of them all noise words in proportion to how likely they are."""
    model, together = randomised(SkipGram), counts()
    likely = noise(together.sum(0))
    scores, total = model(torch.arange(WORDS)).detach(), 0.0
    for w in range(WORDS):
        for o in range(WORDS):
            false = sum(float(likely[i] * F.logsigmoid(-scores[w, i])) for i in range(WORDS))
            total -= int(together[w, o]) * (float(F.logsigmoid(scores[w, o])) + NOISE * false)
    found = expected_loss(scores, together, negatives=NOISE)
    assert close(found, torch.tensor(total / int(together.sum()), dtype=torch.float64))


def test_places_are_sorted_by_cosine():
    vectors = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.0, 1.0], [-5.0, 0.0]])
    assert [place(vectors, vectors[0], word=w) for w in range(4)] == [1, 2, 3, 4]
    assert [place(vectors, vectors[0], word=w, without=[0]) for w in (1, 2, 3)] == [1, 2, 3]


def test_a_vocabulary_is_sorted_by_frequency():
    words, text, how_often = vocabulary(["Salt, pepper; salt a", "SALT or pepper", "thyme"], at_least=2)
    assert words == ["salt", "pepper"]
    assert text == [[0, 1, 0], [0, 1], []]
    assert how_often.tolist() == [3, 2]


def test_what_cannot_be_is_refused_with_the_value(unchecked):
    with pytest.raises(ValueError, match="dim=0"):
        SkipGram(3, dim=0)
    with pytest.raises(ValueError, match="1 candidates"):
        negative_sampling(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="reach=0"):
        windows([[1, 2]], reach=0)
    with pytest.raises(ValueError, match="word=2"):
        place(torch.eye(3), torch.ones(3), word=2, without=[2])
