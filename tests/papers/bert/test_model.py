"""BERT against transformers."""

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from attention_notes.papers.bert import (
    BERT,
    PreTraining,
    bert,
    from_transformers,
    mask_tokens,
    to_transformers,
)

SIZES = {"layers": 2, "dim": 30, "heads": 3, "hidden": 44, "length": 13}


def small(**options):
    return BERT(23, **{**SIZES, **options})


def theirs(kind=torch.float64):
    config = BertConfig(
        vocab_size=23, hidden_size=30, num_hidden_layers=2, num_attention_heads=3, intermediate_size=44,
        max_position_embeddings=13, attn_implementation="eager",
    )  # fmt: skip
    model = BertForPreTraining(config).to(kind).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize(("kind", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_transformers_in_outputs_and_gradients(kind, close):
    reference = theirs(kind)
    ours = PreTraining(small()).to(kind).eval()
    ours.load_state_dict(from_transformers(reference.state_dict()))
    tokens = torch.randint(1, 23, (5, 11))
    tokens[0, 7:] = 0
    segments = torch.randint(2, (5, 11))
    want = reference(tokens, attention_mask=tokens.ne(0).long(), token_type_ids=segments)
    got = ours(tokens, segments)
    for a, b in zip(got, (want.prediction_logits, want.seq_relationship_logits), strict=True):
        torch.testing.assert_close(a, b, rtol=close, atol=close * 10)
    (got.words.sin().mean() + got.follows.sin().sum()).backward()
    (want.prediction_logits.sin().mean() + want.seq_relationship_logits.sin().sum()).backward()
    gradients = from_transformers({n: p.grad for n, p in reference.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=close * 10, atol=close * 10, msg=name)


def test_a_state_of_transformers_comes_back_bit_for_bit():
    for model in (theirs(), theirs().bert):
        state = {n: x for n, x in model.state_dict().items() if not n.endswith("position_ids")}
        back = to_transformers(from_transformers(state))
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], x) for name, x in state.items())


@pytest.mark.parametrize(("variant", "count"), [("base", 109_482_240), ("large", 335_141_888)])
def test_counts(variant, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in bert(variant).parameters()) == count


def test_a_later_token_changes_an_earlier_output_and_padding_changes_nothing():
    model, tokens = small().double().eval(), torch.arange(1, 12)[None]
    changed = tokens.clone()
    changed[0, 8] = 20
    assert not torch.allclose(model(tokens)[0][0, 2], model(changed)[0][0, 2])
    padded = torch.cat([tokens, torch.zeros(1, 2, dtype=torch.long)], 1)
    torch.testing.assert_close(model(padded)[0][:, :11], model(tokens)[0])


def test_the_start_is_normal_and_only_the_row_of_padding_is_zero():
    model = small(dim=300)
    rows = model.embeddings.tokens.weight
    assert (rows[0] == 0).all()
    assert abs(rows[1:].std().item() - 0.02) < 0.001
    assert (model.pooler.bias == 0).all()


def test_of_the_selected_tokens_80_percent_are_masked_10_random_10_kept():
    tokens = torch.full((1000, 100), 5)
    tokens[:, 0] = 1
    got, chosen = mask_tokens(
        tokens, mask=2, vocabulary=10_000, special=(1,), generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(got[~chosen], tokens[~chosen])
    assert not chosen[:, 0].any()
    assert abs(chosen[:, 1:].float().mean().item() - 0.15) < 0.005
    assert abs((got[chosen] == 2).float().mean().item() - 0.8) < 0.015
    assert abs((got[chosen] == 5).float().mean().item() - 0.1) < 0.015


def test_errors_name_the_values():
    with pytest.raises(ValueError, match="14 tokens, but there are 13 positions"):
        small()(torch.ones(1, 14, dtype=torch.long))
    with pytest.raises(ValueError, match="tokens from 23 to 23, but known are 0 to 22"):
        small()(torch.full((1, 3), 23))
    with pytest.raises(ValueError, match="rate=2"):
        mask_tokens(torch.ones(1, 3, dtype=torch.long), mask=0, vocabulary=3, rate=2)
    with pytest.raises(ValueError, match=r"'x\.weight' is no weight"):
        from_transformers({"x.weight": torch.ones(1)})
