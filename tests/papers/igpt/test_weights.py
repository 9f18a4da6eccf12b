"""Weights of ``transformers``, there and back."""

import pytest
import torch
from safetensors.torch import save_file

from attention_notes.claims import close
from attention_notes.papers.gpt import gpt
from attention_notes.papers.igpt import VARIANTS, igpt
from attention_notes.weights import load_weights, to_layout
from tests.papers.igpt.foreign import SIZES, drawn, theirs


def test_weights_of_transformers_load_and_travel_back_bit_for_bit():
    other, ours = drawn(), igpt("iGPT-S", **SIZES)
    assert load_weights(ours, other.state_dict()) == "transformers"
    again = theirs()
    again.load_state_dict(to_layout(ours, "transformers"))
    for key, tensor in other.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    conv = other.state_dict()["transformer.h.1.attn.c_attn.weight"]
    assert torch.equal(ours.layers[1].attention.key.weight, conv[:, 30:60].T)
    assert torch.equal(ours.output.weight, other.lm_head.weight)


def test_other_sizes_are_refused_with_both():
    with pytest.raises(ValueError, match=r"colours=23.*colours=29"):
        igpt("iGPT-S", **SIZES | {"colours": 29}, pretrained=drawn().state_dict())


def test_masks_of_older_files_are_passed_over():
    masks = {"attn.bias": torch.ones(1, 1, 19, 19), "attn.masked_bias": torch.tensor(-1e4)}
    older = {f"transformer.h.{i}.{name}": mask for i in range(2) for name, mask in masks.items()}
    igpt("iGPT-S", **SIZES, pretrained=drawn().state_dict() | older)


def test_published_weights_are_had_by_name_alone(tmp_path, monkeypatch):
    """Of a small model in place of the published one."""
    monkeypatch.setitem(VARIANTS, "iGPT-S", VARIANTS["iGPT-S"] | SIZES)
    other = drawn()
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr("attention_notes.weights.pretrained.fetch", lambda checkpoint: tmp_path / "model.safetensors")
    ours = igpt("iGPT-S", pretrained=True).eval()
    assert ours.checkpoint.repo == "openai/imagegpt-small"
    read = torch.randint(24, (2, 17))
    assert close(ours(read), other(read).logits)
    with pytest.raises(ValueError, match="colours cannot be changed with them"):
        igpt("iGPT-S", pretrained=True, colours=29)


def test_weights_of_gpt_2_are_refused():
    state = to_layout(gpt("GPT-2", vocabulary=24, context=19, layers=2, dim=30, heads=3), "transformers")
    with pytest.raises(ValueError, match=r"not the weights of this ImageGPT.*lm_head"):
        igpt("iGPT-S", **SIZES, pretrained=state)
