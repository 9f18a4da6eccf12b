"""BERT against transformers."""

import pytest
import torch

from attention_notes.papers.bert import BERT, PreTraining, bert, mask_tokens
from attention_notes.weights import layouts, load_weights
from tests.papers.bert.theirs import VOCABULARY, small, theirs


def assert_near(a, b, tolerance, name="difference", *, scale=None):
    """Relative to the largest entry, or to ``scale``: rounding errors are of that size."""
    off = ((a - b).abs().max() / (b.abs().max() if scale is None else scale)).item()
    assert off <= tolerance, (name, off)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_transformers_in_outputs_and_gradients(dtype, tolerance):
    reference = theirs(dtype=dtype)
    ours = PreTraining(small()).to(dtype).eval()
    name = load_weights(ours, reference.state_dict())
    tokens, segments = torch.randint(1, VOCABULARY, (5, 11)), torch.randint(2, (5, 11))
    tokens[0, 7:] = 0
    want = reference(tokens, attention_mask=tokens.ne(0).long(), token_type_ids=segments)
    got = ours(tokens, segments)
    wanted = want.prediction_logits, want.seq_relationship_logits
    for a, b in zip(got, wanted, strict=True):
        assert_near(a, b, tolerance)
    weights = [torch.randn_like(x) for x in got]
    for outputs in (got, wanted):
        sum((x * w).sum() for x, w in zip(outputs, weights, strict=True)).backward()
    found = layouts(ours)[name].to_theirs(ours, {n: p.grad for n, p in ours.named_parameters()})
    for key, parameter in reference.named_parameters():  # a softmax does not see the bias of its keys: theirs is noise
        seen = "query" if key.endswith("key.bias") else "key"
        beside = reference.get_parameter(key.replace("self.key", f"self.{seen}"))
        assert_near(found[key], parameter.grad, tolerance, key, scale=beside.grad.abs().max())


def test_pooled_and_all_tokens_equal_those_of_bert_model():
    reference = theirs("BertModel", torch.float64)
    ours = small().double().eval()
    load_weights(ours, reference.state_dict())
    tokens = torch.randint(1, VOCABULARY, (3, 7))
    want = reference(tokens, attention_mask=torch.ones_like(tokens))
    z, pooled = ours(tokens)
    assert_near(z, want.last_hidden_state, 1e-10)
    assert_near(pooled, want.pooler_output, 1e-10)


@pytest.mark.parametrize(
    ("variant", "count"), [("base", 109_482_240), ("large", 335_141_888), ("minilm_l6", 22_713_216)]
)
def test_counts(variant, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in bert(variant).parameters()) == count


def test_a_later_token_changes_an_earlier_output_and_padding_changes_nothing():
    model, tokens = small().double().eval(), torch.arange(1, 12)[None]
    changed = tokens.clone()
    changed[0, 8] = 20
    assert (model(tokens)[0][0, 2] - model(changed)[0][0, 2]).abs().max() > 1e-6
    padded = torch.cat([tokens, torch.zeros(1, 2, dtype=torch.long)], 1)
    torch.testing.assert_close(model(padded)[0][:, :11], model(tokens)[0], rtol=0, atol=1e-12)


def test_without_layers_a_token_is_the_norm_of_three_rows():
    model = small(layers=0).eval()
    tokens, segments = torch.randint(1, VOCABULARY, (2, 5)), torch.randint(2, (2, 5))
    parts = model.embeddings
    rows = parts.tokens.weight[tokens] + parts.positions.weight[:5] + parts.segments.weight[segments]
    torch.testing.assert_close(model(tokens, segments)[0], parts.norm(rows))


def test_words_are_read_with_the_table_of_the_tokens():
    model, tokens = PreTraining(small()).eval(), torch.randint(1, VOCABULARY, (2, 5))
    z, _ = model.bert(tokens)
    assert torch.equal(model.words(z), model(tokens).words)
    before = model.words(z)
    with torch.no_grad():  # not by the same in all its entries: what the norm returns sums to zero
        model.bert.embeddings.tokens.weight[7, 0] += 1
    moved = (model.words(z) - before).abs().amax((0, 1))
    assert (moved > 1e-3).nonzero().flatten().tolist() == [7]


def test_the_start_is_normal_and_only_the_row_of_padding_is_zero():
    model = small(dim=300)
    rows = model.embeddings.tokens.weight
    assert not rows[0].any()
    assert rows[1:].any(1).all()
    for weight in (rows[1:], model.layers[0].attention.query.weight, model.pooler.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(bias.any() for name, bias in model.named_parameters() if name.endswith("bias"))


def test_the_start_is_that_of_transformers():
    import transformers

    sizes = {"hidden_size": 300, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 400}
    reference = transformers.BertForPreTraining(transformers.BertConfig(vocab_size=200, **sizes))
    ours = PreTraining(BERT(200, layers=1, dim=300, heads=3, hidden=400))
    found = layouts(ours)["transformers"].to_theirs(ours)
    for name, parameter in reference.named_parameters():
        assert found[name].std().item() == pytest.approx(parameter.std().item(), rel=0.15, abs=1e-12), name
        assert found[name].mean().item() == pytest.approx(parameter.mean().item(), abs=0.005), name


def test_of_the_selected_tokens_80_percent_are_masked_10_random_10_kept():
    tokens = torch.full((1000, 100), 5)
    tokens[:, 0] = 1
    draw = torch.Generator().manual_seed(0)
    got, chosen = mask_tokens(tokens, mask=2, vocabulary=10_000, special=(1,), generator=draw)
    assert torch.equal(got[~chosen], tokens[~chosen])
    assert not chosen[:, 0].any()
    shares = {2: 0.8, 5: 0.1}
    assert chosen[:, 1:].float().mean().item() == pytest.approx(0.15, abs=0.005)
    for token, share in shares.items():
        assert (got[chosen] == token).float().mean().item() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(("rate", "selected"), [(0, 0), (1, 33)])
def test_rates_of_nothing_and_of_everything(rate, selected):
    _, chosen = mask_tokens(torch.ones(3, 11, dtype=torch.long), mask=0, vocabulary=3, rate=rate)
    assert chosen.sum() == selected


def test_errors_name_the_values():
    with pytest.raises(ValueError, match="14 tokens, but there are 13 positions"):
        small()(torch.ones(1, 14, dtype=torch.long))
    with pytest.raises(ValueError, match="tokens from 23 to 23, but known are 0 to 22"):
        small()(torch.full((1, 3), 23))
    with pytest.raises(ValueError, match="segments from 0 to 2, but known are 0 to 1"):
        small()(torch.ones(1, 3, dtype=torch.long), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="rate=2"):
        mask_tokens(torch.ones(1, 3, dtype=torch.long), mask=0, vocabulary=3, rate=2)
    with pytest.raises(ValueError, match="dim=33"):
        small(heads=5)
