"""The commands of ``python -m attention_notes``, as somebody types them."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from attention_notes.__main__ import main
from attention_notes.papers.vit import VARIANTS, vit
from attention_notes.weights import checkpoints as listing
from attention_notes.weights import to_timm
from attention_notes.weights.checkpoints import checkpoints

TINY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 20).convert("RGB").save(path)
    return path


@pytest.fixture
def retriever(monkeypatch, tmp_path):
    """A small model in place of the published one, which says that everything is a golden retriever."""
    monkeypatch.setitem(VARIANTS, "Ti/16", {**VARIANTS["Ti/16"], "depth": 3})
    model = vit("Ti/16")
    nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias[207] = 10.0
    save_file(to_timm(model), tmp_path / "model.safetensors")
    monkeypatch.setitem(checkpoints(), TINY, dataclasses.replace(checkpoints()[TINY], sha256=None))
    monkeypatch.setattr("attention_notes.weights.pretrained.fetch", lambda checkpoint: tmp_path / "model.safetensors")


def test_the_list_shows_models_and_their_weights(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "vit:B/16" in lines
    assert f"    {TINY}" in lines
    assert lines[-1].endswith(f"{len(checkpoints())} published weights")
    assert main(["list", "pvt_v2_b2_li"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "pvt:pvt_v2_b2_li"


def test_a_model_is_shown_with_its_cost_and_its_weights(capsys):
    assert main(["show", "vit:Ti/16"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("vit:Ti/16: 5,717,416 parameters, 1.26 GMACs at 224 x 224") or "1.25 GMACs" in out
    assert TINY in out
    assert "timm; transformers" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "vit:B/61"], "did you mean vit:B/16"),
        (["list", "nothing-like-it"], "no model and no weights with 'nothing-like-it'"),
        (["verify", "swin_t"], "unknown model 'swin_t'"),
        (["predict", "nowhere.png"], "nowhere.png"),
        (["attend", "nowhere.png"], "nowhere.png"),
    ],
)
def test_a_mistake_is_one_line_and_the_status_is_2(capsys, arguments, words):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert words in said.err
    assert len(said.err.splitlines()) == 1


def test_a_picture_is_named(capsys, picture, retriever):
    assert main(["predict", str(picture), "--model", "vit:Ti/16", "--top", "2"]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert first.split("  ")[-1] == "golden retriever"
    assert first.strip().startswith("95.")  # e^10 / (e^10 + 999)


def test_attention_is_drawn_over_a_picture(capsys, picture, retriever, tmp_path):
    for at in ([], ["--at", "100", "37"]):
        out = tmp_path / f"seen{len(at)}.png"
        assert main(["attend", str(picture), "--model", "vit:Ti/16", "--out", str(out), *at]) == 0
        with Image.open(out) as drawn:
            assert len(drawn.convert("RGB").getcolors(1 << 20)) > 300
    assert not list(tmp_path.glob(".*"))
    assert main(["attend", str(picture), "--model", "vit:Ti/16", "--at", "500", "37", "--out", str(out)]) == 2
    assert main(["attend", str(picture), "--model", "vit:Ti/16", "--out", str(tmp_path / "seen.docx")]) == 2
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "seen.docx").exists()


def test_verify_says_what_is_off_and_its_status_is_1(capsys, monkeypatch):
    assert main(["verify", "vit:Ti/16"]) == 0
    assert "1 models, 0 off" in capsys.readouterr().out
    monkeypatch.setitem(VARIANTS, "Ti/16", {**VARIANTS["Ti/16"], "hidden": 769})
    assert main(["verify", "vit:Ti/16"]) == 1
    assert "OFF: parameters" in capsys.readouterr().out


def test_the_list_of_weights_can_be_held_against_the_hub(capsys, monkeypatch):
    two = dict(list(checkpoints().items())[:2])
    monkeypatch.setattr(listing, "checkpoints", lambda: two)
    found = {repo: ([], {"revision": "abc"}) for repo in two}
    monkeypatch.setattr("attention_notes.registry.checking.problems", lambda checkpoint: found[checkpoint.repo])
    assert main(["verify", "--weights"]) == 0
    assert "2 published weights, 0 off" in capsys.readouterr().out
    found[next(iter(two))] = (["the checksum is another"], {})
    assert main(["verify", "--weights"]) == 1
    assert "✗" in capsys.readouterr().out


def test_it_is_a_module_that_runs():
    done = subprocess.run(
        [sys.executable, "-m", "attention_notes", "list", "vit:Ti"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("vit:Ti/16\n")
    assert done.stderr == ""
