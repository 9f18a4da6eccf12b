"""Another order in memory changes no number, and is gone afterwards."""

import pytest
import torch
from torch import nn

from attention_notes.nn.layout import column_major
from attention_notes.papers.gpt import GPT, gpt
from attention_notes.papers.transformer import transformer


def small() -> GPT:
    return gpt("GPT-2", layers=2, dim=24, heads=3, vocabulary=29, context=17, dropout=0.0).eval()


def test_weights_with_no_fewer_outputs_than_inputs_lie_column_by_column_and_others_as_before():
    model = small()
    with column_major(model):
        layer = model.layers[0]
        for part in (layer.attention.query, layer.mlp.expand, model.tokens):
            assert part.weight.stride() == (1, part.weight.shape[0])
        assert layer.mlp.contract.weight.is_contiguous()
        assert model.positions.weight.is_contiguous()


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_every_weight_is_the_same_parameter_with_the_same_numbers_row_by_row(fails):
    model = small()
    before, copies = dict(model.named_parameters()), {n: p.detach().clone() for n, p in model.named_parameters()}
    try:
        with column_major(model):
            if fails:
                raise RuntimeError("stopped")
    except RuntimeError:
        pass
    for name, parameter in model.named_parameters():
        assert parameter is before[name]
        assert parameter.is_contiguous()
        assert torch.equal(parameter, copies[name])


def test_a_weight_that_two_parts_share_is_turned_once_and_still_shared():
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    with column_major(model):
        assert model[1].weight is model[0].weight
        assert model[0].weight.stride() == (1, 5)


def test_a_text_is_continued_with_the_same_tokens_and_a_translation_too():
    model, prompt = small(), torch.randint(29, (1, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    translator = transformer("base", vocabulary=31, layers=2, dim=24, heads=3, hidden=48).eval()
    source = torch.randint(3, 31, (1, 6))
    texts = model.greedy(prompt, end=0, limit=12), translator.greedy(source, start=1, end=2, limit=12)
    with column_major(model), column_major(translator):
        turned = model.greedy(prompt, end=0, limit=12), translator.greedy(source, start=1, end=2, limit=12)
        logits = model(prompt)
    assert all(torch.equal(a, b) for a, b in zip(texts, turned, strict=True))
    torch.testing.assert_close(logits, model(prompt), atol=1e-5, rtol=1e-5)


def test_gradients_and_new_weights_arrive_as_without():
    model, tokens = small(), torch.randint(29, (2, 7))
    model(tokens).square().sum().backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with column_major(model):
        model(tokens).square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-5, rtol=1e-4)
        other = small()
        model.load_state_dict(other.state_dict())
        assert model.tokens.weight.stride() == (1, 29)
    assert torch.equal(model(tokens), other(tokens))


def test_a_model_that_is_elsewhere_is_refused_and_one_that_is_turned_already_stays_so_until_the_outer_end():
    with pytest.raises(ValueError, match="the model is on meta"), column_major(small().to("meta")):
        pass
    model = small()
    with column_major(model):
        with column_major(model):
            pass
        assert not model.tokens.weight.is_contiguous()
    assert model.tokens.weight.is_contiguous()
