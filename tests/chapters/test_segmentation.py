"""The pyramid's head: its equation by hand, any number of maps, any size; and the scenes that it learns from."""

import pytest
import torch
import torch.nn.functional as F

from attention_notes.chapters.data import digits
from attention_notes.chapters.data.scenes import scenes
from attention_notes.chapters.segmentation import PyramidHead


def test_the_head_adds_lifted_maps_and_names_every_pixel():
    head = PyramidHead((3, 5), dim=7, num_classes=2)
    fine, coarse = torch.randn(2, 3, 11, 13), torch.randn(2, 5, 5, 7)
    lifted = F.interpolate(head.lateral[1](coarse), size=(11, 13), mode="bilinear")
    each = torch.einsum("bcyx,dc->bdyx", fine, head.lateral[0].weight[:, :, 0, 0]) + head.lateral[0].bias[:, None, None]
    expected = head.classify(head.norm(each + lifted).relu())
    torch.testing.assert_close(head((fine, coarse), (11, 13)), expected, atol=1e-5, rtol=1e-5)
    assert head((fine, coarse), (44, 53)).shape == (2, 2, 44, 53)


def test_a_constant_pyramid_is_named_alike_everywhere():
    head = PyramidHead((3, 5), dim=7, num_classes=2)
    logits = head((torch.ones(1, 3, 8, 12), torch.ones(1, 5, 4, 6)), (32, 48))
    torch.testing.assert_close(logits, logits[..., :1, :1].expand_as(logits))


def test_maps_and_widths_must_pair(unchecked):
    with pytest.raises(ValueError, match="1 maps, but the head was built for 2"):
        PyramidHead((3, 5), dim=7, num_classes=2)([torch.ones(1, 3, 8, 12)], (8, 12))


def test_scenes_are_the_same_every_time_and_labelled_where_the_ink_is():
    images, labels = scenes(7, size=(40, 52), seed=3)
    assert images.shape == (7, 3, 40, 52)
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, scenes(7, size=(40, 52), seed=3)[0])
    assert not torch.equal(images, scenes(7, size=(40, 52), seed=4)[0])
    assert labels.flatten(1).any(1).all()
    assert 0 <= labels.min() < labels.max() <= 10


def test_a_label_covers_the_ink_of_its_digit():
    _, labels = scenes(200, per_scene=1, digit=8, seed=0)
    kinds = [sorted(set(label.unique().tolist()) - {0}) for label in labels]
    assert {len(kind) for kind in kinds} == {1}
    assert len({kind[0] for kind in kinds}) == 10
    shapes, names = digits()[0]
    ink = {1 + int(name): shapes[names == name].gt(0.5).sum((1, 2, 3)) for name in names.unique()}
    for label, kind in zip(labels, kinds, strict=True):
        assert int((label > 0).sum()) in ink[kind[0]].tolist()


def test_held_out_scenes_share_neither_digit_nor_ground_with_the_others():
    plain = {"size": (24, 24), "digit": 8, "per_scene": 0}
    train, test = (scenes(150, seed=0, held_out=part, **plain)[0].flatten(1) for part in (False, True))
    assert torch.cdist(train, test).min() > 0.1


def test_a_scene_too_large_or_too_small_is_refused():
    for size in ((500, 64), (16, 64)):
        with pytest.raises(ValueError, match=r"must hold digits of 20 x 20 and fit"):
            scenes(1, size=size, seed=0)
