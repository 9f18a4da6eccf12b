"""Weights of ``transformers``, there and back."""

import pytest
import torch
from safetensors.torch import save_file

from attention_notes.claims import close
from attention_notes.papers.gpt import VARIANTS, gpt
from attention_notes.weights import load_weights, to_layout
from attention_notes.weights.checkpoints import find
from tests.papers.gpt.foreign import NAMES, SIZES, pair, theirs
from tests.weights.parity import randomised

both = pytest.mark.parametrize("name", NAMES)


@both
@pytest.mark.parametrize("head", [True, False])
def test_weights_of_transformers_load_and_travel_back_bit_for_bit(name, head):
    other = randomised(theirs(name, head=head))
    ours = gpt(name, **SIZES)
    layout = load_weights(ours, other.state_dict())
    assert layout == f"transformers{', GPT' * (name == 'GPT')}{', without its head' * (not head)}"
    again = theirs(name, head=head)
    missing, unknown = again.load_state_dict(to_layout(ours, layout), strict=False)
    assert (missing, unknown) == (["lm_head.weight"] if head else [], [])  # tied to the tokens
    for key, tensor in other.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    query = ours.layers[1].attention.query.weight
    conv = other.state_dict()[f"{'transformer.' * head}h.1.attn.c_attn.weight"]
    assert torch.equal(query, conv[:, : len(query)].T)


@both
def test_files_of_transformers_are_read(name, tmp_path):
    ours, other = pair(name)
    other.save_pretrained(tmp_path)
    again = gpt(name, **SIZES, pretrained=tmp_path / "model.safetensors")
    for key, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_masks_of_older_files_are_passed_over():
    _, other = pair("GPT-2")
    state = other.state_dict() | {"transformer.h.0.attn.bias": torch.ones(1, 1, 19, 19)}
    gpt("GPT-2", **SIZES, pretrained=state)


def test_gpt_and_gpt_2_are_told_apart_by_their_last_norm():
    with pytest.raises(ValueError, match=r"not the weights of this GPT .*: unknown transformer\.ln_f\.bias"):
        gpt("GPT", **SIZES, pretrained=theirs("GPT-2").state_dict())
    with pytest.raises(ValueError, match=r"not the weights of this GPT .*: no transformer\.ln_f\.bias"):
        gpt("GPT-2", **SIZES, pretrained=theirs("GPT").state_dict())


def test_other_sizes_are_refused_with_both():
    with pytest.raises(ValueError, match=r"vocabulary=23.*vocabulary=29"):
        gpt("GPT-2", **SIZES | {"vocabulary": 29}, pretrained=theirs("GPT-2").state_dict())


def test_the_weights_of_gpt_2_are_pinned():
    checkpoint = find("gpt", "GPT-2")
    assert (checkpoint.repo, checkpoint.input, checkpoint.options) == ("openai-community/gpt2", None, {})
    assert len(checkpoint.revision) == 40
    assert len(checkpoint.sha256) == 64


def test_published_weights_are_had_by_name_alone(monkeypatch, tmp_path):
    """Of a small model in place of the published one, whose file has no prefix, and the masks of older versions."""
    monkeypatch.setitem(VARIANTS, "GPT-2", VARIANTS["GPT-2"] | SIZES)
    trunk = randomised(theirs("GPT-2", head=False))
    save_file(trunk.state_dict() | {"h.0.attn.bias": torch.ones(1, 1, 19, 19)}, tmp_path / "model.safetensors")
    monkeypatch.setattr("attention_notes.weights.pretrained.fetch", lambda checkpoint: tmp_path / "model.safetensors")
    ours = gpt("GPT-2", pretrained=True).eval()
    assert ours.checkpoint.repo == "openai-community/gpt2"
    assert not ours.dropout.training
    text = torch.randint(23, (2, 17))
    assert close(ours.hidden(text), trunk(text).last_hidden_state)
    with pytest.raises(ValueError, match="vocabulary cannot be changed with them"):
        gpt("GPT-2", pretrained=True, vocabulary=24)
