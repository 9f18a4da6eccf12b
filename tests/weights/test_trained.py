"""The cells that show a trained model, as they stand in the chapters, against a hub on this machine."""

import dataclasses
import re
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from safetensors.torch import save
from torch import nn

from attention_notes.chapters import data
from attention_notes.chapters.demo import show_trained
from attention_notes.images.imagenet_names import names
from attention_notes.papers import families
from attention_notes.papers.vit import vit
from attention_notes.papers.vit.model import NAMED
from attention_notes.weights import to_timm
from attention_notes.weights.checkpoints import checkpoints, find, lists
from tests.weights.loopback import COMMIT

CHAPTERS = Path(__file__).parents[2] / "book/chapters"
FACTORIES = {key: families()[key].factory for key in lists() if families()[key].size is not None}
NAMES = {**FACTORIES, "data": data, "device": "cpu", "show_trained": show_trained}


def cell(key):
    """The code that shows a trained model in a chapter, and the variant that it names."""
    (code,) = re.findall(r"^_ = (show_trained\(.*\))$", (CHAPTERS / f"{key}.md").read_text(), flags=re.MULTILINE)
    return code, re.search(r'show_trained\(\w+, "([^"]+)"', code)[1]


@pytest.mark.parametrize("key", FACTORIES)
def test_the_cell_of_a_chapter_shows_a_model_from_the_hub(hub, capsys, monkeypatch, key):
    code, variant = cell(key)
    listed = find(key, variant)
    monkeypatch.setitem(checkpoints(), listed.repo, dataclasses.replace(listed, revision=COMMIT, sha256=None))
    model = FACTORIES[key](variant)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    hub.files[listed.repo] = {"model.safetensors": save(to_timm(model))}
    drawn = eval(code, NAMES)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert {line.split("  ")[-1] for line in lines} <= set(names())
    pictures = [axes for axes in drawn.figure.axes if axes.images]
    assert len(pictures) == 5  # the image, three layers, the rollout
    assert all(len(axes.images) == 2 for axes in pictures[1:])
    plt.close(drawn.figure)


@pytest.mark.parametrize("key", FACTORIES)
def test_without_a_network_the_cell_says_what_it_would_show(hub, capsys, key):
    hub.close()
    assert eval(cell(key)[0], NAMES) is None
    said = capsys.readouterr().out
    assert find(key, cell(key)[1]).repo in said
    assert "With a network this cell names" in said


def test_weights_without_a_head_are_drawn_and_name_nothing(hub, capsys, monkeypatch):
    repo = "timm/vit_base_patch16_224.dino"
    monkeypatch.setitem(NAMED, "B/16", {**NAMED["Ti/16"], "depth": 2})
    monkeypatch.setitem(checkpoints(), repo, dataclasses.replace(checkpoints()[repo], revision=COMMIT))
    hub.files[repo] = {"model.safetensors": save(to_timm(vit("B/16", num_classes=None)))}
    drawn = show_trained(vit, "B/16", data.photograph(), pretrained=repo)
    assert capsys.readouterr().out == ""
    plt.close(drawn.figure)
