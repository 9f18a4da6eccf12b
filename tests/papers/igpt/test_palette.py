"""Colours as words: k-means by hand and beside scikit-learn, and images there and back."""

import numpy as np
import pytest
import torch

from attention_notes.claims import close
from attention_notes.papers.igpt import cluster, to_images, to_tokens

# two rows of three grey pixels
GREY = torch.tensor([[[[0.0, 1.0, 8.0], [1.0, 9.0, 10.0]]]])


def test_two_steps_by_hand():
    pixels, first = GREY.flatten()[:, None], torch.tensor([[0.0], [1.0]])
    assert close(cluster(pixels, first, steps=1), torch.tensor([[0.0], [29 / 5]]))
    assert close(cluster(pixels, first, steps=2), torch.tensor([[2 / 3], [9.0]]))
    assert torch.equal(cluster(pixels, first, steps=2), cluster(pixels, first, steps=3))


def test_as_scikit_learn_does():
    from sklearn.cluster import KMeans

    pixels = torch.randn(211, 3, dtype=torch.float64)
    first = pixels[:7].clone()
    theirs = KMeans(7, init=first.numpy(), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(pixels.numpy())
    ours = cluster(pixels, first, steps=100)
    assert close(ours, torch.from_numpy(theirs.cluster_centers_))
    assert np.array_equal(to_tokens(pixels.T[None, :, None], ours)[0], theirs.labels_)


def test_no_step_makes_the_error_larger():
    pixels = torch.rand(509, 3, dtype=torch.float64)
    errors = []
    for steps in range(8):
        palette = cluster(pixels, pixels[:13], steps=steps)
        image = pixels.T[None, :, None]
        errors.append((to_images(to_tokens(image, palette), palette, width=509) - image).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


def test_a_colour_without_pixels_stays():
    pixels, first = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [7.0]])
    assert cluster(pixels, first, steps=3).tolist() == [[0.5], [7.0]]


def test_pixels_are_read_row_by_row():
    palette = torch.tensor([[0.0], [9.0]])
    tokens = to_tokens(GREY, palette)
    assert tokens.tolist() == [[0, 0, 1, 0, 1, 1]]
    assert to_images(tokens, palette, width=3).tolist() == [[[[0, 0, 9], [0, 9, 9]]]]


def test_an_image_of_the_palettes_colours_comes_back():
    palette = torch.rand(11, 3)
    tokens = torch.randint(11, (2, 5 * 7))
    assert torch.equal(to_tokens(to_images(tokens, palette, width=7), palette), tokens)


def test_what_does_not_fit_is_refused_with_the_way_out(unchecked):
    palette = torch.rand(4, 3)
    with pytest.raises(ValueError, match="images of 1 channels, but the colours of the palette have 3: cluster"):
        to_tokens(GREY, palette)
    with pytest.raises(ValueError, match="7 tokens do not fill rows of 3 pixels: leave out the start token"):
        to_images(torch.zeros(1, 7, dtype=torch.int64), palette, width=3)
    with pytest.raises(ValueError, match="tokens from 0 to 4, but the palette has 4 colours, from 0 to 3: the start"):
        to_images(torch.tensor([[0, 4]]), palette, width=2)
