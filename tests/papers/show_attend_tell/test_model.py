"""Show, Attend and Tell: the equations as loops, the estimator against an enumeration, the parameters."""

from itertools import product

import pytest
import torch
from torch import nn

from attention_notes.claims import load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.nn.decoding import DecodingState, greedy
from attention_notes.papers.show_attend_tell import (
    Baseline,
    ShowAttendTell,
    Written,
    doubly_stochastic,
    evenly,
    half_hard,
    hard,
    likeliest,
    log_likelihood,
    log_probability,
    reinforce,
    show_attend_tell,
    soft,
)
from attention_notes.papers.show_attend_tell.family import FAMILY, VOCABULARY

BATCH, D, Y, X, DIM, WORDS, HIDDEN, V, N = 2, 5, 2, 3, 7, 11, 13, 17, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def small(**options):
    torch.manual_seed(0)
    sizes = {"annotation": D, "vocabulary": V, "dim": DIM, "words": WORDS, "hidden": HIDDEN, **options}
    return ShowAttendTell(nn.Identity(), **sizes).double()


def data(*, y=Y, x=X, n=N, batch=BATCH):
    maps, words = torch.randn(batch, D, y, x).double(), torch.randint(0, V, (batch, n + 1))
    return maps, words[:, :-1], words[:, 1:], torch.ones(batch, n, dtype=torch.bool)


def close(a, b):
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def literal(m, maps, words):
    """Equations 1 to 7 and 13 for one image after the other, place by place and word by word."""
    out, f_att = [], m.attention
    for grid, caption in zip(maps, words, strict=True):
        a = [grid[:, i, j] for i in range(grid.shape[1]) for j in range(grid.shape[2])]
        mean = sum(a) / len(a)
        c = torch.tanh(m.first_memory.weight @ mean + m.first_memory.bias)
        h = torch.tanh(m.first_state.weight @ mean + m.first_state.bias)
        rows = []
        for y in caption:
            e = []
            for a_i in a:
                inner = f_att.annotations.weight @ a_i + f_att.annotations.bias + f_att.state.weight @ h
                e.append(sum(w * torch.tanh(u) for w, u in zip(f_att.score.weight[0], inner, strict=True)))
            total = sum(torch.exp(score) for score in e)
            beta = 1 / (1 + torch.exp(-(m.gate.weight[0] @ h + m.gate.bias[0])))
            z = beta * sum(torch.exp(score) / total * a_i for score, a_i in zip(e, a, strict=True))
            ey = m.embedding.weight[y]
            inner = m.cell.weight_ih @ torch.cat([ey, z]) + m.cell.bias_ih + m.cell.weight_hh @ h + m.cell.bias_hh
            i, f, g, o = (inner[k * DIM : (k + 1) * DIM] for k in range(4))
            i, f, o = (1 / (1 + torch.exp(-gate)) for gate in (i, f, o))
            c = f * c + i * torch.tanh(g)
            h = o * torch.tanh(c)
            rows.append(m.output.weight @ (ey + m.from_state.weight @ h + m.from_context.weight @ z) + m.output.bias)
        out.append(torch.stack(rows))
    return torch.stack(out)


@DTYPES
def test_outputs_and_gradients_equal_the_equations_written_as_loops(dtype):
    made = small().to(dtype)
    maps, words, _, _ = data()
    a, b = (maps.to(dtype, copy=True).requires_grad_() for _ in range(2))
    ours, theirs = made(a, words), literal(made, b, words)
    assert close(ours, theirs)
    probe = torch.randn_like(ours)
    left = torch.autograd.grad((ours * probe).sum(), [a, *made.parameters()])
    right = torch.autograd.grad((theirs * probe).sum(), [b, *made.parameters()])
    assert all(close(p, q) for p, q in zip(left, right, strict=True))


def test_weights_are_not_negative_and_sum_to_one_for_every_word():
    maps, words, _, _ = data()
    weights = small().write(maps, words).weights
    assert weights.shape == (BATCH, N, Y * X)
    assert (weights >= 0).all()
    assert close(weights.sum(-1), torch.ones(BATCH, N).double())


def test_one_place_leaves_nothing_to_choose():
    maps, words, _, _ = data(y=1, x=1)
    outs = []
    for look in (soft, hard, likeliest, evenly):
        outs.append(small(look=look)(maps, words))
    assert all(close(out, outs[0]) for out in outs)


def test_where_the_places_stand_does_not_matter_only_what_they_hold():
    maps, words, _, _ = data()
    order = torch.randperm(Y * X)
    shuffled = maps.flatten(2)[..., order].unflatten(2, (Y, X))
    a, b = (small().write(given, words) for given in (maps, shuffled))
    assert close(a.logits, b.logits)
    assert close(a.weights[..., order], b.weights)


def test_a_word_does_not_depend_on_later_words():
    maps, words, _, _ = data()
    other = words.clone()
    other[:, -1] = (other[:, -1] + 1) % V
    a, b = (small()(maps, given) for given in (words, other))
    assert torch.equal(a[:, :-1], b[:, :-1])
    assert not close(a[:, -1], b[:, -1])


def test_looks_are_shares_and_a_hard_one_is_a_single_place_drawn_as_often_as_it_weighs():
    weights = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64).expand(4000, 3)
    torch.manual_seed(0)
    for look in (soft, hard, half_hard, likeliest, evenly):
        assert close(look(weights).sum(-1), torch.ones(4000).double())
    drawn = hard(weights)
    assert ((drawn == 0) | (drawn == 1)).all()
    assert (drawn.mean(0) - weights[0]).abs().max() < 0.04
    assert 0.4 < (half_hard(weights).amax(-1) == 1).double().mean() < 0.6
    assert likeliest(weights)[0].tolist() == [0, 1, 0]


def test_backpropagation_alone_teaches_a_hard_look_nothing_about_where_to_look():
    maps, words, targets, present = data()
    for look, learns in ((soft, True), (hard, False), (likeliest, False), (evenly, False)):
        made = small(look=look)
        log_likelihood(made(maps, words), targets, present).sum().backward()
        assert any(p.grad is not None and p.grad.any() for p in made.attention.parameters()) is learns


def test_the_penalty_is_least_where_every_place_gets_as_much_as_any_other():
    words, places = 3, 5
    present = torch.ones(2, words, dtype=torch.bool)
    other = torch.eye(places).double()[:words].expand(2, -1, -1)
    least = places * (1 - words / places) ** 2
    flat = torch.full_like(other, 1 / places)
    assert close(doubly_stochastic(flat, present), torch.full((2,), least, dtype=torch.float64))
    for share in (0.1, 0.5, 1.0):
        assert (doubly_stochastic(share * other + (1 - share) * flat, present) > least + 0.01).all()


def chosen(choice):
    """A look that takes given places, one for each word."""
    places = iter(choice)
    return lambda weights: torch.eye(weights.shape[-1])[next(places)].to(weights.dtype).expand_as(weights)


def enumerated(made, maps, words, targets, present, loss):
    """Each choice of places: its probability, the likelihood of the caption, and the gradient of a loss."""
    for choice in product(range(maps.shape[2] * maps.shape[3]), repeat=words.shape[1]):
        made.attention.look = chosen(choice)
        written = made.write(maps, words)
        probability = log_probability(written, present).exp()[0]
        likelihood = log_likelihood(written.logits, targets, present)[0]
        yield probability, likelihood, torch.autograd.grad(loss(written), [*made.parameters()], retain_graph=True)


@pytest.mark.parametrize("baseline", [0.0, -3.0])
def test_the_mean_of_the_estimator_over_all_choices_is_the_exact_gradient_of_the_bound(baseline):
    made, (maps, words, targets, present) = small(), data(y=1, x=3, n=2, batch=1)
    rows = [*enumerated(made, maps, words, targets, present,
                        lambda w: reinforce(w, targets, present, baseline=baseline)[0])]  # fmt: skip
    assert close(sum(p for p, _, _ in rows), torch.ones(()).double())
    exact = torch.autograd.grad(sum(p * likelihood for p, likelihood, _ in rows), [*made.parameters()])
    mean = [-sum(p.detach() * g[k] for p, _, g in rows) for k in range(len(exact))]
    assert all(close(a, b) for a, b in zip(mean, exact, strict=True))
    assert exact[0].any()  # that of the scores, too


def test_a_baseline_near_the_mean_reduces_the_variance_of_the_estimator():
    made, (maps, words, targets, present) = small(), data(y=1, x=3, n=2, batch=1)

    def variance(baseline):
        rows = [*enumerated(made, maps, words, targets, present,
                            lambda w: reinforce(w, targets, present, baseline=baseline)[0])]  # fmt: skip
        flat = [(p.detach(), torch.cat([g.flatten() for g in grads])) for p, _, grads in rows]
        mean = sum(p * g for p, g in flat)
        return sum(p * (g - mean).square().sum() for p, g in flat), sum(p * q for p, q, _ in rows).item()

    without, bound = variance(0.0)
    assert variance(bound)[0] < 0.5 * without


def test_the_bound_lies_below_the_likelihood_that_it_bounds():
    made, (maps, words, targets, present) = small(), data(y=1, x=3, n=2, batch=1)
    rows = [(p, q) for p, q, _ in enumerated(made, maps, words, targets, present,
                                                lambda w: reinforce(w, targets, present)[0])]  # fmt: skip
    assert sum(p * q for p, q in rows) < sum(p * q.exp() for p, q in rows).log()


def test_the_entropy_is_largest_where_all_places_weigh_the_same():
    targets, present = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)

    def loss(weights):
        weights = torch.tensor(weights).double()[None, None]
        written = Written(torch.zeros(1, 1, V).double(), weights, torch.eye(4).double()[None, :1])
        return reinforce(written, targets, present, reward=0.0, entropy=1.0).item()

    flat = loss([0.25] * 4)
    assert flat == pytest.approx(torch.tensor(V / 4).log().item())
    assert flat < loss([0.5, 0.5, 0.0, 0.0]) < loss([1.0, 0.0, 0.0, 0.0])


def test_the_doubly_stochastic_term_is_zero_where_every_place_gets_one_in_all():
    weights = torch.eye(4).double()[None]
    present = torch.ones(1, 4, dtype=torch.bool)
    assert doubly_stochastic(weights, present).item() == 0
    stuck = torch.zeros(1, 4, 4).double()
    stuck[..., 0] = 1  # all four words look at the first place: 9 + 1 + 1 + 1
    assert doubly_stochastic(stuck, present).item() == 12
    present[0, 2:] = False
    assert doubly_stochastic(stuck, present).item() == 4
    wide = torch.full((1, 4, 2), 0.5).double()
    assert doubly_stochastic(wide, torch.ones(1, 4, dtype=torch.bool)).item() == 2  # 4 words, 2 places


def test_likelihoods_count_the_words_that_are_present():
    logits, targets = torch.zeros(1, 3, V).double(), torch.zeros(1, 3, dtype=torch.long)
    present = torch.tensor([[True, True, False]])
    assert log_likelihood(logits, targets, present).item() == pytest.approx(-2 * torch.tensor(float(V)).log().item())


def test_the_baseline_is_a_moving_average():
    baseline = Baseline()
    for _ in range(2):
        baseline.update(torch.tensor([-3.0, -1.0]))
    assert baseline.value == pytest.approx(0.9 * 0.1 * -2 + 0.1 * -2)


def test_words_written_one_by_one_are_those_of_all_at_once():
    made, (maps, words, _, _) = small(), data()
    state = made.begin(maps)
    assert isinstance(state, DecodingState)
    assert close(torch.stack([state.step(word) for word in words.unbind(1)], 1), made(maps, words))


def test_captions_can_be_reordered_part_of_the_way():
    made, (maps, words, _, _) = small(), data()
    state, rows = made.begin(maps), torch.tensor([1, 0, 1])
    for word in words[:, :-1].unbind(1):
        state.step(word)
    state.reorder(rows)
    assert close(state.step(words[rows, -1]), made(maps, words)[rows, -1])


def test_greedy_search_writes_with_it():
    made, (maps, _, _, _) = small(), data()
    written = greedy(made.begin(maps), torch.tensor([1, 1]), end=-1, limit=5)
    read = torch.cat([torch.ones(BATCH, 1, dtype=torch.long), written[:, :-1]], 1)
    assert torch.equal(written, made(maps, read).argmax(-1))


@pytest.mark.parametrize(("name", "dim", "words"), [("capgen", 1000, 100), ("coco", 1800, 512)])
def test_parameters_and_cost_are_those_that_follow_from_the_equations(name, dim, words):
    with torch.device("meta"):
        made = FAMILY.factory(name).eval()
        line = load_facts("show_attend_tell")["variants"][name]
        inputs = tuple(x.to("meta") for x in FAMILY.inputs(None))
    d = 512
    scores = d * d + d + dim * d + d
    start = 2 * (d * dim + dim) + dim + 1
    cell = 4 * dim * (words + d + dim + 2)
    output = VOCABULARY * words + dim * words + d * words + words * VOCABULARY + VOCABULARY
    assert count_parameters(made) == line["parameters"] == scores + start + cell + output
    assert round(count_macs(made, *inputs) / 1e9, 2) == line["gmacs"]


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="the map has 3 channels, but annotation=5"):
        small()(torch.randn(1, 3, 2, 2).double(), torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"features made \(5, 2, 2\) of images .*: .* give it image\[None\]"):
        small().begin(torch.randn(D, 2, 2).double())
    with pytest.raises(ValueError, match=r"words of shape \(1, 0\): give at least the token"):
        small()(torch.randn(1, D, 2, 2).double(), torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(ValueError, match="unknown variant 'vgg'; known: capgen, coco"):
        show_attend_tell("vgg", vocabulary=V)
