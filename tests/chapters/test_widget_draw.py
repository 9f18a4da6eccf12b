"""The trained model of a page: exported without loss, and refused where the script could not run it."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from attention_notes.chapters import data
from attention_notes.chapters.widgets.draw import drawing_pad, export, levels
from attention_notes.papers.vit import MeanPooling, VisionTransformer, vit


def reader(**options):
    sizes = {"patch": 2, "dim": 12, "depth": 2, "heads": 3, "hidden": 14}
    return vit("Ti/16", **{"num_classes": 10, "image_size": 8, "channels": 1, **sizes, **options}).eval()


def read_back(weights, manifest):
    """The parameters as anyone would read them who has the bytes and the manifest only."""
    state = {}
    for entry in manifest["parameters"]:
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(weights, "<f4", count, entry["offset"]).reshape(entry["shape"])
        state[entry["name"]] = torch.from_numpy(values.copy())
    return state


ODD = {"channels": 3, "image_size": (9, 10), "patch": (3, 5)}


@pytest.mark.parametrize("options", [{}, {"pooling": MeanPooling}, ODD])
def test_what_is_exported_is_the_model_to_the_last_bit(options):
    model, other = reader(**options), reader(**options)
    images = torch.rand(2, model.patches.channels, *model.patches.image_size)
    assert not torch.equal(model(images), other(images))
    other.load_state_dict(read_back(*export(model)))
    assert torch.equal(model(images), other(images))


def test_the_file_holds_the_parameters_and_nothing_else():
    model = reader()
    weights, manifest = export(model)
    assert len(weights) == 4 * sum(p.numel() for p in model.parameters()) == manifest["bytes"]
    assert manifest["crc32"] == zlib.crc32(weights)
    assert [entry["offset"] % 4 for entry in manifest["parameters"]] == [0] * len(model.state_dict())


def test_the_manifest_tells_the_sizes_of_the_model():
    model = reader(**ODD, pooling=MeanPooling)
    manifest = json.loads(json.dumps(export(model)[1]))
    del manifest["parameters"], manifest["bytes"], manifest["crc32"]
    sizes = {"image_size": [9, 10], "patch": [3, 5], "channels": 3}
    assert manifest == {**sizes, "depth": 2, "heads": 3, "extra": 0, "eps": 1e-6}


def test_a_model_in_half_precision_is_exported_as_what_it_is():
    model = reader().bfloat16()
    state = read_back(*export(model))
    assert all(torch.equal(value, state[name].bfloat16()) for name, value in model.state_dict().items())


class Stem(nn.Sequential):
    dim, grid = 12, (4, 4)

    def __init__(self):
        super().__init__(nn.Conv2d(1, 12, 3, stride=2, padding=1))


def test_a_model_that_the_script_cannot_run_is_refused():
    with pytest.raises(ValueError, match="Identity"):
        export(reader(num_classes=None))
    with pytest.raises(ValueError, match="Stem"):
        export(VisionTransformer(Stem(), depth=1, heads=3, hidden=14, num_classes=10))


def test_a_scan_is_written_a_letter_for_each_pixel():
    image = torch.tensor([[[0, 1, 9, 10], [11, 15, 16, 0]]]) / 16
    assert levels(image) == "019abfg0"


@pytest.mark.parametrize("value", [0.5 / 16, 17 / 16, -1 / 16])
def test_a_scan_has_its_levels_of_grey_and_no_others(value):
    with pytest.raises(ValueError, match="1/16"):
        levels(torch.full((1, 8, 8), value))


def test_the_pad_takes_held_out_digits_along_in_turn():
    _, (unseen, truth) = data.digits()
    live = drawing_pad(reader(), unseen, truth, each=2)
    examples = json.loads(live.json)["examples"]
    assert [example["label"] for example in examples] == [*range(10), *range(10)]
    for example in examples:
        pixels = torch.tensor([int(level, 17) for level in example["pixels"]]).reshape(8, 8) / 16
        found = (unseen[:, 0] == pixels).all((1, 2))
        assert truth[found].tolist() == [example["label"]]


def test_a_digit_that_is_missing_is_named():
    _, (unseen, truth) = data.digits()
    with pytest.raises(ValueError, match=r"\[7\]"):
        drawing_pad(reader(), unseen[truth != 7], truth[truth != 7])


def test_the_weights_travel_beside_the_data_and_not_in_it():
    _, (unseen, truth) = data.digits()
    model = reader()
    live = drawing_pad(model, unseen, truth)
    weights, manifest = export(model)
    assert live.files == {"weights": weights}
    assert json.loads(live.json)["manifest"] == json.loads(json.dumps(manifest))
    assert len(live.json) < 20_000
    (held,) = re.findall(r'data-file="weights">([^<]+)</script>', live._repr_mimebundle_()["text/html"])
    assert base64.b64decode(held) == weights


def test_the_words_of_the_pad_do_not_depend_on_how_training_went():
    _, (unseen, truth) = data.digits()
    one, other = (drawing_pad(reader(), unseen, truth) for _ in range(2))
    assert one.json != other.json
    assert repr(one) == repr(other)
    assert "2 layers of 3 heads" in repr(one)
