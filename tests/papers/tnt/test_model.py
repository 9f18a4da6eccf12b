"""TNT against timm, against its equations written out, and against the paper's counts."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.inspect.attention_maps import see
from attention_notes.papers.tnt import TNT, VARIANTS, InnerBlock, TNTBlock, WordEmbedding, tnt
from attention_notes.papers.vit import MeanPooling
from attention_notes.weights import layouts, load_weights, to_layout, to_timm

# exact: timm's, and the authors' without what nothing reads
PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("tnt")["variants"].items()}
GMACS = {variant: line["gmacs"] for variant, line in load_facts("tnt")["variants"].items()}
UNREAD = {"tnt_ti": 196 * 192, "tnt_s": 196 * 384, "tnt_b": 196 * 640}
AUTHORS = {"tnt_s": 23_843_848, "tnt_b": 65_554_120}

# images 11 channels of 12 x 42, cut 4 x 6 into a grid of 3 x 7, with 2 x 3 words of 2 x 2 each
CHANNELS, IMAGE, PATCH, GRID, WORDS = 11, (12, 42), (4, 6), (3, 7), (2, 3)
DIM, HEADS, HIDDEN, WORD_DIM, WORD_HEADS, DEPTH, CLASSES, BATCH = 26, 13, 19, 10, 5, 2, 23, 3
SIZES = {"dim": DIM, "heads": HEADS, "hidden": HIDDEN, "word_dim": WORD_DIM, "word_heads": WORD_HEADS, "depth": DEPTH}
SIZES |= {"patch": PATCH, "word": 2, "image_size": IMAGE, "channels": CHANNELS, "num_classes": CLASSES}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def randomised(model):
    """Norms start at one, biases at zero, positions near it: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "token" in name or "pos" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def small(**overrides):
    return randomised(tnt("tnt_s", **(SIZES | overrides)))


def timms(**overrides):
    from timm.models.tnt import TNT as Reference

    sizes = {"img_size": IMAGE, "patch_size": PATCH, "in_chans": CHANNELS, "num_classes": CLASSES, "embed_dim": DIM}
    sizes |= {"inner_dim": WORD_DIM, "depth": DEPTH, "num_heads_inner": WORD_HEADS, "num_heads_outer": HEADS}
    sizes |= {"mlp_ratio": HIDDEN / DIM + 1e-9, "first_stride": 2}
    return Reference(**(sizes | overrides)).eval()


def images(dtype=torch.float32):
    return torch.randn(BATCH, CHANNELS, *IMAGE, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_outputs_and_gradients_equal_those_of_timm(dtype, pooling):
    ours = small().to(dtype)
    theirs = timms(global_pool=pooling).to(dtype)
    layout = layouts(ours)["timm"]
    theirs.load_state_dict(layout.to_theirs(ours), strict=True)
    x = images(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    a = ours(x) if pooling == "token" else ours.head(ours.tokens(x)[:, 1:].mean(1))
    b = theirs(y)
    assert close(a, b)
    toward, names = torch.randn_like(a), dict(ours.named_parameters())
    found = torch.autograd.grad(a, [*names.values(), x], toward)
    got, expected = layout.to_theirs(ours, dict(zip(names, found, strict=False))), dict(theirs.named_parameters())
    assert got.keys() == expected.keys()
    gradients = torch.autograd.grad(b, [*expected.values(), y], toward)
    for name, gradient in zip(expected, gradients, strict=False):
        assert gradient.abs().max() > 0, name
        assert close(got[name], gradient), name
    assert close(found[-1], gradients[-1])


def test_in_training_it_drops_what_timm_drops():
    """Stochastic depth skips the words of one patch and not of another; the same random numbers skip the same."""
    ours, theirs = small(drop_path=0.4).train(), timms(drop_path_rate=0.4).train()
    theirs.load_state_dict(to_timm(ours))
    for part in theirs.modules():
        if type(part).__name__ == "DropPath":  # theirs draws from a Bernoulli distribution
            kept = 1 - part.drop_prob
            part.forward = lambda x, kept=kept: x * (torch.rand(len(x), *(1,) * (x.ndim - 1)) >= 1 - kept) / kept
    x, answers = images(), []
    for model in (ours, theirs):
        torch.manual_seed(3)
        answers.append(model(x))
    assert close(*answers)
    assert not close(ours(x), answers[0])


def test_two_layers_of_the_small_model_equal_those_of_timm_at_full_width():
    import timm

    ours, theirs = randomised(tnt("tnt_s", depth=2)), timm.create_model("tnt_s_patch16_224", depth=2).eval()
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert close(ours(x), theirs(x))


def test_the_map_after_each_block_equals_timms():
    ours, theirs = small(), timms()
    theirs.load_state_dict(to_timm(ours))
    x = images()
    maps, expected = ours.features(x), theirs.forward_intermediates(x, intermediates_only=True)
    assert all(close(a, b) for a, b in zip(maps, expected, strict=True))
    assert [m.shape for m in maps] == [(BATCH, DIM, *GRID)] * DEPTH


def attend(x, layer, heads):
    """Equation 1, head by head, from the maps of a layer."""
    q, k, v = (part.split(x.shape[-1] // heads, -1) for part in layer.qkv(x).chunk(3, -1))
    mixed = [(a @ b.mT / a.shape[-1] ** 0.5).softmax(-1) @ c for a, b, c in zip(q, k, v, strict=True)]
    return layer.output(torch.cat(mixed, -1))


def transformer(x, block, heads):
    """Equations 6 and 7, or 9 and 10."""
    x = x + attend(block.attention_norm(x), block.attention, heads)
    mlp = block.mlp
    return x + mlp.contract(F.gelu(mlp.expand(block.mlp_norm(x))))


@DTYPES
def test_a_block_is_its_equations_written_out(dtype):
    """Patch by patch, in outputs and gradients; nothing is added to the class token."""
    block = small().blocks[0].to(dtype)
    words = torch.randn(BATCH, 21, 6, WORD_DIM, dtype=dtype, requires_grad=True)
    sentences = torch.randn(BATCH, 22, DIM, dtype=dtype, requires_grad=True)
    of_patch = [transformer(words[:, i], block.inner, WORD_HEADS) for i in range(21)]  # 6 and 7
    part = block.aggregation
    added = [part.after(part.projection(part.before(y.flatten(1)))) for y in of_patch]  # 8
    rows = [sentences[:, 0], *(sentences[:, 1 + i] + added[i] for i in range(21))]
    expected = torch.stack(of_patch, 1), transformer(torch.stack(rows, 1), block.outer, HEADS)  # 9 and 10
    found = block(words, sentences)
    assert all(close(a, b) for a, b in zip(found, expected, strict=True))
    inputs = [words, sentences, *block.parameters()]
    toward = [torch.randn_like(x) for x in found]
    for a, b in zip(*(torch.autograd.grad(out, inputs, toward) for out in (found, expected)), strict=True):
        assert a.abs().max() > 0
        assert close(a, b)


def test_words_are_a_convolution_that_ends_at_the_border_of_their_patch():
    """Written out: 7 x 7 pixels around the first pixel of each step, zeros where the patch has none."""
    words = small().patches.words
    x = images()
    found = words(x)
    assert found.shape == (BATCH, 21, 6, WORD_DIM)
    patch = F.pad(x[:, :, 4:8, 12:18], (3, 3, 3, 3))  # row 1, column 2 of the grid
    weight, bias = words.projection.weight.flatten(1), words.projection.bias
    for j, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        piece = patch[:, :, 2 * row : 2 * row + 7, 2 * column : 2 * column + 7].flatten(1)
        assert close(found[:, 7 + 2, j], F.linear(piece, weight, bias) + words.positions[0, j])


def stream_of_words(model, x):
    words, tokens = model.streams(x)
    for block in model.blocks:
        words, tokens = block(words, tokens)
    return words, tokens


def test_words_never_depend_on_another_patch_however_many_layers():
    model, x = small(), images()
    other = x.clone()
    other[:, :, 4:8, 12:18] += 1.0  # patch 9
    (a, z), (b, u) = stream_of_words(model, x), stream_of_words(model, other)
    moved = (a - b).abs().amax((0, 2, 3))
    assert moved[9] > 1e-2
    assert torch.equal(moved.nonzero().flatten(), torch.tensor([9]))
    assert ((z - u).abs().amax((0, 2)) > 1e-5).all(), "sentences all do"


def test_words_do_not_depend_on_sentences():
    model, x = small(), images()
    words, tokens = model.streams(x)
    a, b = model.blocks((words, tokens)), model.blocks((words, torch.randn_like(tokens)))
    assert torch.equal(a[0], b[0])
    assert not close(a[1], b[1])


def test_permuting_words_changes_the_output_by_their_positions_alone():
    """A layer permutes words as its input is permuted. On a flat image all words are alike but for their positions."""
    model, order = small(), torch.randperm(6)
    inner, words = model.blocks[0].inner, torch.randn(BATCH, 21, 6, WORD_DIM)
    assert close(inner(words[:, :, order]), inner(words)[:, :, order])
    flat, made = torch.zeros(1, CHANNELS, *IMAGE), model.patches.words
    assert close(made(flat)[0, 0] - made.projection.bias, made.positions[0])
    assert made.positions.std() > 0.1


def test_without_what_words_add_it_is_a_vision_transformer():
    """The degenerate case: what a block adds is zero where its last norm is."""
    model, x = small(), images()
    for block in model.blocks:
        nn.init.zeros_(block.aggregation.after.weight)
        nn.init.zeros_(block.aggregation.after.bias)
    tokens = model.embed(x)
    for block in model.blocks:
        tokens = block.outer(tokens)
    assert close(model(x), model.head(model.norm(tokens)[:, 0]))


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return tnt(variant, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_parameters_of_the_table_and_of_equation_18(variant):
    model, row = on_meta(variant), VARIANTS[variant]
    assert count_parameters(model) == PARAMETERS[variant]
    assert PARAMETERS[variant] + UNREAD[variant] == AUTHORS.get(variant, PARAMETERS[variant] + UNREAD[variant])
    d, c, m = row["dim"], row["word_dim"], 16
    kernels = sum(p.numel() for n, p in model.blocks[0].named_parameters() if p.ndim > 1)
    assert kernels == 12 * c * c + m * c * d + 12 * d * d


@pytest.mark.parametrize(("variant", "gmacs"), GMACS.items())
def test_the_cost_is_that_of_the_table(variant, gmacs):
    model = on_meta(variant).eval()
    assert round(count_macs(model, torch.empty(1, 3, 224, 224, device="meta")) / 1e9, 2) == gmacs


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_of_the_authors_code_is_ours_and_zeros_that_nothing_reads(variant):
    model = on_meta(variant)
    state = to_layout(model, "the authors")
    assert state["outer_tokens"].numel() == UNREAD[variant]
    assert sum(t.numel() for t in state.values()) == PARAMETERS[variant] + UNREAD[variant]


def test_weights_of_the_authors_code_load_with_its_zeros_and_not_with_others():
    one, other = small(), small()
    state = to_layout(one, "the authors")
    assert load_weights(other, state) == "the authors"
    assert torch.equal(one(x := images()), other(x))
    assert {name: tuple(state[name].shape) for name in ("blocks.0.inner_attn.qk.weight", "outer_tokens")} == {
        "blocks.0.inner_attn.qk.weight": (20, 10),
        "outer_tokens": (1, 21, 26),
    }
    with pytest.raises(ValueError, match="outer_tokens"):
        load_weights(other, state | {"outer_tokens": torch.ones(1, 21, 26)})


def test_the_weights_start_as_the_authors_code_starts_them():
    """Linear maps, tokens and positions of deviation 0.02, no biases; the convolution as PyTorch starts it."""
    import timm

    ours, theirs = tnt("tnt_s", depth=1), timm.create_model("tnt_s_patch16_224", depth=1)
    ours = to_timm(ours)
    for name, tensor in theirs.state_dict().items():
        assert ours[name].shape == tensor.shape
        if name.startswith("pixel_embed"):
            bound = (3 * 49) ** -0.5
            assert ours[name].abs().max() <= bound
            assert ours[name].abs().max() > 0.8 * bound
        elif tensor.ndim == 1:
            assert torch.equal(ours[name], tensor), name
        else:
            spreads = [x[x.abs() < 1].std() for x in (ours[name], tensor)]  # PyTorch draws, once in millions, a 2
            assert abs(spreads[0] / spreads[1] - 1) < (0.02 if tensor.numel() > 50_000 else 0.4), name
            assert abs(spreads[0] - 0.02) < 0.006, name


def test_stochastic_depth_grows_to_a_tenth_in_both_streams():
    model = on_meta("tnt_s")
    for side in ("inner", "outer"):
        rates = [getattr(block, side).drop_path.p for block in model.blocks]
        assert (rates[0], rates[-1]) == (0, 0.1)


def test_another_size_interpolates_the_sentences_positions_and_keeps_those_of_the_words():
    from timm.layers import resample_abs_pos_embed

    ours = small()
    words, before = ours.patches.words.positions, ours.positions.detach().clone()
    assert ours.resize((20, 48)) is ours
    assert ours.patches.words.positions is words
    expected = resample_abs_pos_embed(before, new_size=[5, 8], old_size=[3, 7], num_prefix_tokens=1)
    assert close(ours.positions, expected)
    theirs = timms(img_size=(20, 48))
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(BATCH, CHANNELS, 20, 48)
    assert close(ours(x), theirs(x))
    assert [tuple(m.shape[2:]) for m in ours.features(x)] == [(5, 8)] * DEPTH


def test_each_word_looks_at_the_words_of_its_patch_and_each_sentence_at_all_patches():
    model, x = small(), images()
    seen = see(model, x)
    assert torch.equal(seen.output, model(x))
    gaze = seen.layers["blocks.1.inner.attention"].map((7, 14))  # in patch 9, rows 4 to 7 and columns 12 to 17
    over = gaze.over_image()
    assert over.shape == (BATCH, WORD_HEADS, *IMAGE)
    assert gaze.places.shape == (BATCH, WORD_HEADS, 6, 21)
    inside = torch.zeros(IMAGE, dtype=torch.bool)
    inside[4:8, 12:18] = True
    assert torch.equal(over > 0, inside.expand_as(over))
    weights = seen.layers["blocks.1.inner.attention"].weights.unflatten(0, (BATCH, 21))
    assert torch.equal(gaze.places[:, :, 2:4, 6:9].flatten(2), weights[:, 9, :, 3 + 1])  # its second row and column
    gaze = seen.layers["blocks.1.outer.attention"].map("class")
    assert gaze.places.shape == (BATCH, HEADS, *GRID)
    assert torch.equal(gaze.extra[..., 0], seen.layers["blocks.1.outer.attention"].weights[:, :, 0, 0])


def test_a_rollout_follows_the_sentences_and_leaves_the_words_out():
    model, x = small(pooling=MeanPooling, registers=2), images()
    seen = see(model, x, gradients=True)
    outer = replace(seen, layers={name: layer for name, layer in seen.layers.items() if "outer" in name})
    assert (len(seen.layers), len(outer.layers)) == (2 * DEPTH, DEPTH)
    gaze = seen.rollout()
    assert torch.equal(gaze.places, outer.rollout().places)
    assert gaze.grid.size == GRID
    assert close(gaze.places.sum((-1, -2)) + gaze.extra.sum(-1) + gaze.padding, torch.ones(BATCH))
    score = seen.output[:, 7]
    assert close(seen.gradient_rollout(score).places, outer.gradient_rollout(score).places)


def test_parts_may_be_anybodys():
    class Outer(nn.Module):
        def __init__(self, dim, *, heads, hidden, **options):
            super().__init__()
            self.told = {"heads": heads, "hidden": hidden, **options}

        def forward(self, tokens):
            return tokens

    model = small(block=lambda dim, **options: TNTBlock(dim, outer=Outer, **options))
    assert model.blocks[1].outer.told.keys() == {"heads", "hidden", "norm", "dropout", "drop_path", "qkv_bias"}
    assert type(model.blocks[1].inner) is InnerBlock
    assert model(images()).shape == (BATCH, CLASSES)


def test_wrong_sizes_are_refused_by_name(unchecked):
    with pytest.raises(ValueError, match="unknown variant 'tnt_l'; known: tnt_ti, tnt_s, tnt_b"):
        tnt("tnt_l")
    with pytest.raises(ValueError, match="230"):
        tnt("tnt_s", image_size=230, depth=1)
    with pytest.raises(ValueError, match="dim=24 is not divisible by heads=5"):
        tnt("tnt_s", word_heads=5, depth=1)
    with pytest.raises(ValueError, match="images of 16 x 42, but the model was built for 12 x 42"):
        small()(torch.randn(1, CHANNELS, 16, 42))
    assert WordEmbedding(6, image_size=32, patch=16, word=5).words == (4, 4)
    assert isinstance(small(), TNT)
