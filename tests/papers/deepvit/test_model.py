"""DeepViT against its equation on timm's ViT, against the published counts, and where it is a ViT."""

from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.inspect.attention_maps import see
from attention_notes.papers.deepvit import VARIANTS, ConvPatches, DeepViT, ReAttention, RescaledBlock, deepvit
from attention_notes.papers.vit import Block, PatchEmbedding, SelfAttention, vit
from attention_notes.weights import layouts, to_timm

PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("deepvit")["variants"].items()}
GMACS = {variant: line["gmacs"] for variant, line in load_facts("deepvit")["variants"].items()}

# every dimension another prime: images 11 channels of 10 x 21, cut 2 x 3 into a grid of 5 x 7
CHANNELS, IMAGE, PATCH, TOKENS = 11, (10, 21), (2, 3), 36
HEADS, DIM, HIDDEN, DEPTH, CLASSES, BATCH = 5, 5 * 17, 19, 2, 23, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
TRAINING = pytest.mark.parametrize("training", [False, True])


def small(**overrides):
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    sizes = {"depth": DEPTH, "heads": HEADS, "hidden": HIDDEN, "num_classes": CLASSES}
    return randomised(DeepViT(patches, **(sizes | overrides))).eval()


def randomised(model):
    """Norms start at one, biases at zero, and maps almost even: a parity on such shows nothing."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.01, 0.1)
            elif tensor.is_floating_point() and (tensor.ndim == 1 or "token" in name or "positions" in name):
                tensor.normal_(0.7 if "norm" in name else 0.1, 0.3)
            elif "qkv.weight" in name:
                tensor.mul_(2.0)
    return model


def images(dtype=torch.float32, batch=BATCH):
    return torch.randn(batch, CHANNELS, *IMAGE, dtype=dtype)


def timms():
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": IMAGE, "patch_size": PATCH, "in_chans": CHANNELS, "num_classes": CLASSES}
    sizes |= {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": HIDDEN / DIM + 1e-9}
    return VisionTransformer(**sizes).eval()


class Written(nn.Module):
    """Re-attention as its equation says, between the maps that a model of timm has."""

    def __init__(self, theirs, ours):
        super().__init__()
        self.qkv, self.proj = theirs.qkv, theirs.proj
        self.load(ours)

    def load(self, ours):
        self.own = nn.ParameterList(p.detach().clone() for p in own_of(ours))
        self.running = [b.clone() for b in (ours.norm.running_mean, ours.norm.running_var)]

    def forward(self, z, **_):
        theta, bias, gain, shift = self.own
        q, k, v = self.qkv(z).unflatten(2, (3, len(bias), -1)).unbind(2)
        maps = (torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5).softmax(-1)
        mixed = torch.einsum("bhnm,hg->bnmg", maps, theta) + bias
        mean, variance = self.running
        if self.training:
            mean, variance = mixed.mean((0, 1, 2)), mixed.var((0, 1, 2), unbiased=False)
        new = (mixed - mean) / (variance + 1e-5).sqrt() * gain + shift
        return self.proj(torch.einsum("bnmg,bmgd->bngd", new, v).flatten(2))


def own_of(attention):
    """What Re-attention has more than self-attention."""
    return attention.theta, attention.bias, attention.norm.weight, attention.norm.bias


@DTYPES
@TRAINING
def test_outputs_and_gradients_equal_the_equation_on_a_model_of_timm(dtype, training):
    ours, theirs = small().to(dtype), timms().to(dtype)
    plain = small(reattention_depth=0).to(dtype)
    plain.load_state_dict({name: ours.state_dict()[name] for name in plain.state_dict()})
    layout = layouts(plain)["timm"]
    theirs.load_state_dict(layout.to_theirs(plain))
    for a, b in zip(ours.blocks, theirs.blocks, strict=True):
        b.attn = Written(b.attn, a.attention)
    ours.train(training)
    theirs.train(training)
    x = images(dtype).requires_grad_()
    a, b = ours(x), theirs(x)
    assert a.shape == (BATCH, CLASSES)
    assert close(a, b)
    toward = torch.randn_like(a)
    names = dict(ours.named_parameters())
    got = dict(zip(("", *names), torch.autograd.grad(a, [x, *names.values()], toward), strict=True))
    shared = layout.to_theirs(plain, {name: got[name] for name, _ in plain.named_parameters()})
    pairs = [(got[""], x, "images")]
    pairs += [(gradient, theirs.get_parameter(name), name) for name, gradient in shared.items()]
    for i, block in enumerate(theirs.blocks):
        rows = ("theta", "bias", "norm.weight", "norm.bias")
        pairs += [(got[f"blocks.{i}.attention.{n}"], p, n) for n, p in zip(rows, block.attn.own, strict=True)]
    for (gradient, _, name), expected in zip(
        pairs, torch.autograd.grad(b, [p for _, p, _ in pairs], toward), strict=True
    ):
        silent = training and name == "bias"  # the norm subtracts it
        assert silent or expected.abs().max() > 1e-6, name
        assert gradient.abs().max() < 1e-4 if silent else close(gradient, expected), name


@DTYPES
def test_with_the_identity_and_without_a_norm_it_is_timms_vit(dtype):
    ours = small(attention=partial(ReAttention, norm=nn.Identity)).to(dtype)
    for block in ours.blocks:
        nn.init.eye_(block.attention.theta)
        nn.init.zeros_(block.attention.bias)
    plain = small(reattention_depth=0).to(dtype)
    plain.load_state_dict({name: ours.state_dict()[name] for name in plain.state_dict()})
    theirs = timms().to(dtype)
    theirs.load_state_dict(to_timm(plain))
    x = images(dtype).requires_grad_()
    a, b = ours(x), theirs(x)
    assert close(a, b)
    assert close(plain(x), b)
    toward = torch.randn_like(a)
    wanted = [name for name, _ in plain.named_parameters()]
    got = torch.autograd.grad(a, [x, *(ours.get_parameter(name) for name in wanted)], toward)
    shared = layouts(plain)["timm"].to_theirs(plain, dict(zip(wanted, got[1:], strict=True)))
    expected = torch.autograd.grad(b, [x, *(theirs.get_parameter(name) for name in shared)], toward)
    for gradient, reference in zip((got[0], *shared.values()), expected, strict=True):
        assert close(gradient, reference)


def test_two_heads_by_hand():
    """P_1 the identity, P_2 even; head 1 gets P_1 + P_2, head 2 gets P_2 - P_1 and 1 more."""
    attention = ReAttention(2, heads=2, norm=nn.Identity)
    attention.theta.data = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    attention.bias.data = torch.tensor([0.0, 1.0])
    maps = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]])
    new = [[[1.5, 0.5], [0.5, 1.5]], [[0.5, 1.5], [1.5, 0.5]]]
    assert attention.regenerate(maps)[0].tolist() == new
    attention.norm = nn.BatchNorm2d(2)
    normalised = attention.train().regenerate(maps)[0]
    assert close(normalised[0], torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / (1 + 4e-5) ** 0.5)
    assert close(normalised[1], -normalised[0])


def test_a_row_of_the_mixed_maps_sums_to_what_its_column_of_theta_does():
    attention = ReAttention(10, heads=5, norm=nn.Identity).double()
    maps = torch.randn(3, 5, 7, 7, dtype=torch.float64).softmax(-1)
    sums = attention.theta.sum(0) + 7 * attention.bias
    assert close(attention.regenerate(maps).sum(-1), sums[:, None].expand(3, 5, 7))


def test_rows_of_new_maps_sum_to_the_norms_bias_in_training():
    """The mean of a mixed map is that of each of its rows, so the norm subtracts from a row its own mean."""
    attention = ReAttention(10, heads=5).double()
    maps = torch.randn(3, 5, 7, 7, dtype=torch.float64).softmax(-1)
    assert close(attention.regenerate(maps).sum(-1) + 1, torch.ones(3, 5, 7, dtype=torch.float64))
    nn.init.normal_(attention.norm.bias)
    nn.init.normal_(attention.norm.weight)
    assert close(attention.regenerate(maps).sum(-1), 7 * attention.norm.bias[:, None].expand(3, 5, 7))
    attention.eval()
    assert not close(attention.regenerate(maps).sum(-1), 7 * attention.norm.bias[:, None].expand(3, 5, 7))


def test_at_the_start_of_a_training_what_all_values_share_is_lost():
    """So the bias of the values has no gradient, and moves the output only after the norm's has moved."""
    attention, z = ReAttention(10, heads=5).double(), torch.randn(3, 7, 10, dtype=torch.float64)
    before = attention(z)
    nn.init.normal_(attention.qkv.bias[20:])
    assert close(attention(z), before)
    gradient = torch.autograd.grad(attention(z).square().sum(), attention.qkv.bias)[0]
    assert gradient[20:].abs().max() < 1e-12 < gradient[:10].abs().max()
    nn.init.ones_(attention.norm.bias)
    assert not close(attention(z), before)
    assert not close(SelfAttention(10, heads=5).double()(z), before)


def test_the_bias_of_theta_acts_in_evaluation_alone():
    attention, z = ReAttention(10, heads=5).double(), torch.randn(3, 7, 10, dtype=torch.float64)
    trained, evaluated = attention(z), attention.eval()(z)
    nn.init.normal_(attention.bias)
    assert close(attention.train()(z), trained)
    assert not close(attention.eval()(z), evaluated)


def test_the_norm_enlarges_by_no_more_than_its_epsilon_lets_it():
    """Maps at the start are so even that their variance is far below 1e-5: they come out smaller than one."""
    attention = ReAttention(48, heads=6).double()
    maps = (0.01 * torch.randn(3, 6, 50, 50, dtype=torch.float64)).softmax(-1)
    mixed = torch.einsum("bhnm,hg->bgnm", maps, attention.theta)
    new, centred = attention.regenerate(maps), mixed - mixed.mean((0, 2, 3), keepdim=True)
    assert centred.var() < 1e-6
    assert new.std() < 0.2
    enlarged = new.std((0, 2, 3)) / centred.std((0, 2, 3)) * 1e-5**0.5
    assert ((enlarged > 0.99) & (enlarged < 1)).all()


def test_the_batch_counts_in_training_and_not_in_evaluation():
    model, x = small(), images()
    assert close(model(x)[:2], model(x[:2]))
    model.train()
    assert not close(model(x)[:2], model(x[:2]))


@cache
def on_meta(variant, **overrides):
    with torch.device("meta"):
        return deepvit(variant, **overrides).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_parameters_of_the_authors_code(variant):
    assert count_parameters(on_meta(variant)) == PARAMETERS[variant]


@pytest.mark.parametrize(("variant", "gmacs"), GMACS.items())
def test_the_cost_is_that_of_the_table(variant, gmacs):
    size = VARIANTS[variant]["image_size"]
    assert round(count_macs(on_meta(variant), torch.empty(1, 3, size, size, device="meta")) / 1e9, 2) == gmacs


@pytest.mark.parametrize("depth", [16, 24, 32])
def test_it_has_180_parameters_a_layer_more_than_a_vit(depth):
    with torch.device("meta"):
        plain = vit("S/16", depth=depth, heads=12, hidden=1152)
    assert PARAMETERS[str(depth)] - count_parameters(plain) == depth * (12 * 12 + 12 + 2 * 12)
    assert count_parameters(on_meta(str(depth), reattention_depth=0)) == count_parameters(plain)


def test_the_weights_start_as_the_authors_code_starts_them():
    model = deepvit("16", depth=1)
    for name, tensor in model.state_dict().items():
        if name.endswith(("theta", "attention.bias")):
            bound = 12**-0.5
        elif name.startswith("patches"):
            bound = (3 * 16 * 16) ** -0.5
        elif tensor.ndim == 1 or not tensor.ndim:
            start = torch.ones_like if name.endswith(("norm.weight", "running_var")) else torch.zeros_like
            assert tensor.equal(start(tensor)), name
            continue
        else:
            spread = tensor[tensor.abs() < 1].std()  # PyTorch draws, once in millions, a 2
            assert abs(spread / 0.02 - 1) < (0.02 if tensor.numel() > 50_000 else 0.2), name
            continue
        assert tensor.abs().max() <= bound, name
        assert tensor.abs().max() > (0.5 if tensor.numel() < 100 else 0.9) * bound, name


def test_stochastic_depth_grows_to_a_fifth():
    rates = [block.drop_path.p for block in on_meta("32").blocks]
    assert (rates[0], rates[-1]) == (0, 0.2)
    assert rates == sorted(rates)


@pytest.mark.parametrize(("variant", "plain", "last"), [("32", 0, 32), ("S", 11, 5), ("L", 20, 12)])
def test_the_last_layers_have_it(variant, plain, last):
    kinds = [type(block.attention) for block in on_meta(variant).blocks]
    assert kinds == [SelfAttention] * plain + [ReAttention] * last
    kinds = {type(block) for block in on_meta(variant).blocks}
    assert kinds == {RescaledBlock if plain else Block}


def test_the_new_maps_of_s_are_scaled_and_those_of_l_are_not():
    assert {block.attention.scale for block in on_meta("S").blocks[11:]} == {33**-0.5}
    assert {block.attention.scale for block in on_meta("L").blocks[20:]} == {1.0}
    attention = ReAttention(10, heads=5)
    maps = torch.randn(3, 5, 7, 7).softmax(-1)
    before = attention.regenerate(maps)
    attention.scale = 0.25
    assert close(attention.regenerate(maps), before / 4)


@DTYPES
def test_with_a_factor_of_one_half_every_branch_counts_twice(dtype):
    """But for the norms' epsilon, which counts four times."""
    block = randomised(RescaledBlock(10, factor=0.5, heads=5, hidden=7)).to(dtype)
    z = torch.randn(3, 7, 10, dtype=dtype)
    norms = [
        partial(F.layer_norm, normalized_shape=(10,), weight=n.weight, bias=n.bias, eps=4e-6)
        for n in (block.attention_norm, block.mlp_norm)
    ]
    half = z + 2 * block.attention(norms[0](z))
    assert close(block(z), half + 2 * block.mlp(norms[1](half)))


def test_the_stem_is_three_convolutions():
    stem = randomised(ConvPatches(5, image_size=(16, 32), channels=2)).eval()
    assert (stem.grid, stem.patch) == ((1, 2), (16, 16))
    x = torch.randn(3, 2, 16, 32)
    z = x
    for (convolution, norm, _), stride, padding in zip(stem.layers, (2, 1), (3, 1), strict=True):
        z = F.conv2d(z, convolution.weight, stride=stride, padding=padding)
        z = F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    assert z.shape == (3, 64, 8, 16)
    z = F.conv2d(z, stem.projection.weight, stem.projection.bias, stride=8)
    assert close(stem(x), z.flatten(2).mT)
    with pytest.raises(ValueError, match="16"):
        ConvPatches(5, image_size=24)


def test_what_is_seen_are_the_maps_before_they_are_mixed():
    model, x = small(), images()
    seen = see(model, x)
    assert torch.equal(seen.output, model(x))
    layer = seen.layers["blocks.1.attention"]
    assert close(layer.weights.sum(-1), torch.ones(BATCH, HEADS, TOKENS))
    assert layer.map((5, 14)).places.shape == (BATCH, HEADS, 5, 7)
    new = []
    model.blocks[1].attention.norm.register_forward_hook(lambda module, given, out: new.append(out))
    with record_attention(model) as maps:
        model(x)
    assert close(model.blocks[1].attention.regenerate(maps["blocks.1.attention"]), new[0])


def test_a_norm_may_be_anybodys():
    class OverHeads(nn.Module):
        def __init__(self, heads):
            super().__init__()
            self.norm = nn.LayerNorm(heads)

        def forward(self, maps):
            return self.norm(maps.movedim(1, -1)).movedim(-1, 1)

    attention = ReAttention(10, heads=5, norm=OverHeads)
    new = attention.regenerate(torch.randn(3, 5, 7, 7).softmax(-1))
    assert close(new.sum(1) + 1, torch.ones(3, 7, 7)), "over heads, and not over places"


def test_wrong_sizes_are_refused_by_name(unchecked):
    with pytest.raises(ValueError, match="unknown variant '12'; known: 16, 24, 32, S, L, L 384"):
        deepvit("12")
    with pytest.raises(ValueError, match="reattention_depth=3, but there are 2 layers: give 0 to 2"):
        deepvit("16", depth=2, reattention_depth=3)
    with pytest.raises(ValueError, match="dim=384 is not divisible by heads=7"):
        deepvit("16", depth=1, heads=7)
    with pytest.raises(ValueError, match="images of 16 x 42, but the model was built for 10 x 21"):
        small()(torch.randn(1, CHANNELS, 16, 42))
