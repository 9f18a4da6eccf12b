"""DeiT against timm and transformers, its losses against their equations, its augmentations against timm's."""

import math
import sys
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare, kstest

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.papers.deit import (
    RECIPE,
    VARIANTS,
    VIT_RECIPE,
    DistilledVisionTransformer,
    TwoTokens,
    cutmix,
    deit,
    erase,
    hard_distillation,
    late_fusion,
    mix,
    mixup,
    repeated_augmentation,
    smooth,
    soft_distillation,
)
from attention_notes.papers.vit import ClassToken, PatchEmbedding, VisionTransformer, vit
from attention_notes.weights import layouts, to_layout, to_timm
from tests.papers.vit.test_model import randomised

# exact, of timm's deit_*_patch16_*
PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("deit")["variants"].items()}
GMACS = {variant: line["gmacs"] for variant, line in load_facts("deit")["variants"].items()}

# every dimension another prime: images 11 channels of 10 x 21, cut 2 x 3 into a grid of 5 x 7
CHANNELS, IMAGE, PATCH = 11, (10, 21), (2, 3)
HEADS, DIM, HIDDEN, DEPTH, CLASSES, BATCH = 13, 13 * 17, 19, 2, 23, 3
SIZES = {"depth": DEPTH, "heads": HEADS, "hidden": HIDDEN}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def small(pooling=TwoTokens, **overrides):
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    classes = None if pooling is TwoTokens else CLASSES
    model = VisionTransformer(patches, num_classes=classes, pooling=pooling, **(SIZES | overrides))
    if pooling is TwoTokens:
        model = DistilledVisionTransformer(model, num_classes=CLASSES)
    return randomised(model).eval()


def images(dtype=torch.float32, batch=BATCH):
    return torch.randn(batch, CHANNELS, *IMAGE, dtype=dtype)


def assert_same(ours, theirs, a, b, name, renamed=lambda theirs: theirs):
    """Equal outputs, and equal gradients of every parameter that they depend on."""
    assert close(a, b)
    toward = torch.randn_like(a)
    names = dict(ours.named_parameters())
    got = dict(zip(names, torch.autograd.grad(a, names.values(), toward), strict=True))
    got = renamed({n: g for n, g in layouts(ours)[name].to_theirs(ours, got).items() if g.any()})
    expected = dict(theirs.named_parameters())
    gradients = torch.autograd.grad(b, [expected[name] for name in got], toward)
    for name, gradient in zip(got, gradients, strict=True):
        assert gradient.abs().max() > 0, name
        assert close(got[name], gradient), name
    return expected.keys() - got.keys()


def timms():
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=IMAGE,
        patch_size=PATCH,
        in_chans=CHANNELS,
        embed_dim=DIM,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=HIDDEN / DIM + 1e-9,
        num_classes=CLASSES,
    )


@DTYPES
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_equal_those_of_timm_in_training_and_after(dtype, training):
    ours, theirs = small().to(dtype).train(training), timms().to(dtype).train(training)
    ours.separate = True
    theirs.set_distilled_training(True)
    theirs.load_state_dict(to_timm(ours), strict=True)
    x = images(dtype)
    b = torch.stack(theirs(x), dim=1) if training else theirs(x)
    assert b.shape == ((BATCH, 2, CLASSES) if training else (BATCH, CLASSES))
    assert assert_same(ours, theirs, ours(x), b, "timm") == set()


def huggingfaces(kind):
    from transformers import DeiTConfig

    return kind(
        DeiTConfig(
            image_size=IMAGE,
            patch_size=PATCH,
            num_channels=CHANNELS,
            hidden_size=DIM,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=HIDDEN,
            num_labels=CLASSES,
            layer_norm_eps=1e-6,  # theirs is 1e-12 by default; the authors' code and timm have 1e-6
            attn_implementation="sdpa",
        )
    ).eval()


@DTYPES
def test_outputs_and_gradients_equal_those_of_transformers_with_teacher(dtype):
    from transformers import DeiTForImageClassificationWithTeacher

    ours, theirs = small().to(dtype), huggingfaces(DeiTForImageClassificationWithTeacher).to(dtype)
    theirs.load_state_dict(to_layout(ours, "transformers, as loaded"), strict=True)
    x = images(dtype)
    their = theirs(x)
    both = ours.both(x)
    assert close(both[:, 0], their.cls_logits)
    assert close(both[:, 1], their.distillation_logits)
    assert assert_same(ours, theirs, ours(x), their.logits, "transformers, as loaded") == set()


@DTYPES
def test_transformers_model_without_teacher_is_a_distilled_one_that_ignores_its_second_token(dtype):
    from transformers import DeiTForImageClassification

    def renamed(tensors):
        return {name.replace("cls_classifier", "classifier"): tensor for name, tensor in tensors.items()}

    ours, theirs = small().to(dtype), huggingfaces(DeiTForImageClassification).to(dtype)
    state = renamed(to_layout(ours, "transformers, as loaded"))
    assert theirs.load_state_dict(state, strict=False).missing_keys == []
    x = images(dtype)
    a, b = ours.both(x)[:, 0], theirs(x).logits
    assert assert_same(ours, theirs, a, b, "transformers, as loaded", renamed) == set()


@pytest.mark.parametrize("variant", ["Ti/16", "Ti/16 distilled"])
def test_two_layers_of_the_tiny_model_equal_those_of_timm_at_full_width(variant):
    import timm

    name = "deit_tiny_distilled_patch16_224" if "distilled" in variant else "deit_tiny_patch16_224"
    ours, theirs = randomised(deit(variant, depth=2)).eval(), timm.create_model(name, depth=2).eval()
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert close(ours(x), theirs(x))


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return deit(variant, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timm(variant):
    import timm

    size = {"Ti": "tiny", "S": "small", "B": "base"}[variant.split("/")[0]]
    distilled = "distilled_" if "distilled" in variant else ""
    with torch.device("meta"):
        theirs = timm.create_model(f"deit_{size}_{distilled}patch16_{384 if '384' in variant else 224}")
    assert count_parameters(on_meta(variant)) == PARAMETERS[variant] == count_parameters(theirs)


@pytest.mark.parametrize(("variant", "gmacs"), GMACS.items())
def test_the_cost_is_that_of_a_vit_with_one_token_more(variant, gmacs):
    model, size = on_meta(variant).eval(), VARIANTS[variant]["image_size"]
    assert round(count_macs(model, torch.empty(1, 3, size, size, device="meta")) / 1e9, 2) == gmacs


def test_the_second_token_costs_itself_its_position_and_its_head():
    for size, width in (("Ti/16", 192), ("S/16", 384), ("B/16", 768)):
        assert PARAMETERS[f"{size} distilled"] - PARAMETERS[size] == 2 * width + 1000 * (width + 1)


def test_without_distillation_a_deit_is_a_vit_to_the_last_name():
    ours, theirs = deit("Ti/16", depth=1), vit("Ti/16", depth=1)
    assert type(ours) is VisionTransformer
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 224, 224)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_the_weights_start_as_the_authors_code_starts_them():
    for model in (deit("S/16 distilled", depth=1), deit("S/16", depth=1)):
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif "norm" not in name and "patches" not in name:
                assert abs(parameter.std() - 0.02) < 0.002, name


def test_stochastic_depth_grows_to_a_tenth_and_rests_in_evaluation():
    rates = [block.drop_path.p for block in deit("Ti/16 distilled").encoder.blocks]
    assert rates[0] == 0
    assert rates[-1] == 0.1
    assert torch.tensor(rates).diff().allclose(torch.tensor(0.1 / 11))
    model, x = small(drop_path=0.9), images()
    assert torch.equal(model(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_the_two_answers_stay_apart_only_in_training_and_only_where_that_is_asked_for():
    model, x = small(), images()
    both, mean = model.both(x), model(x)
    assert both.shape == (BATCH, 2, CLASSES)
    assert close(mean, both.mean(dim=1))
    assert torch.equal(model.train()(x), mean)
    model.separate = True
    assert torch.equal(model(x), both)
    assert torch.equal(model.eval()(x), mean)


def test_the_map_after_each_block_equals_timms_and_has_neither_token():
    ours, theirs = small(), timms().eval()
    theirs.load_state_dict(to_timm(ours))
    x = images()
    maps, expected = ours.features(x), theirs.forward_intermediates(x, intermediates_only=True)
    assert all(close(a, b) for a, b in zip(maps, expected, strict=True))
    assert [m.shape for m in maps] == [(BATCH, DIM, 5, 7)] * DEPTH


def test_the_two_tokens_are_told_apart_by_their_heads_alone():
    """Swap tokens, positions and heads: the same two answers, in the other order."""
    model, x = small(), images()
    before = model.both(x)
    pooling, positions = model.encoder.pooling, model.encoder.positions
    pooling.token.data, pooling.distillation.data = pooling.distillation.data, pooling.token.data
    positions.data[:, :2] = positions.data[:, :2].flip(1)
    assert not close(model.both(x), before)
    model.class_head, model.distillation_head = model.distillation_head, model.class_head
    assert close(model.both(x), before.flip(1))


def test_each_head_hears_its_own_judge_and_the_distillation_token_both():
    model, x = small(), images().abs()
    own, taught = model.both(x).unbind(1)
    distillation, head = model.encoder.pooling.distillation, model.distillation_head.weight
    to_token, to_head = torch.autograd.grad(own.sum(), (distillation, head), retain_graph=True)
    assert to_token.any()
    assert not to_head.any()
    to_token, to_head = torch.autograd.grad(taught.sum(), (distillation, model.class_head.weight))
    assert to_token.any()
    assert not to_head.any()


def test_without_heads_the_outputs_are_the_two_tokens():
    encoder = small().encoder
    model = DistilledVisionTransformer(encoder, num_classes=None, separate=True).train()
    x = images()
    assert torch.equal(model(x), encoder.tokens(x)[:, :2])


def test_resizing_keeps_the_positions_of_both_tokens_and_equals_timm():
    ours, theirs = small(), timms()
    theirs.load_state_dict(to_timm(ours))
    theirs.eval().set_input_size((22, 39))
    before = ours.encoder.positions[:, :2].clone()
    assert ours.resize((22, 39)) is ours
    assert torch.equal(ours.encoder.positions[:, :2], before)
    x = torch.randn(BATCH, CHANNELS, 22, 39)
    assert close(ours(x), theirs(x))


def test_a_base_model_enlarged_to_384_pixels_has_the_parameters_of_the_384_variant():
    model = deit("Ti/16 distilled", depth=1).resize(384)
    assert model.encoder.positions.shape == (1, 2 + 24 * 24, 192)
    assert on_meta("B/16 384 distilled").encoder.positions.shape == (1, 2 + 24 * 24, 768)


def test_wrong_parts_are_refused_by_name(unchecked):
    with pytest.raises(ValueError, match="unknown variant 'L/16'; known: Ti/16, Ti/16 distilled"):
        deit("L/16")
    with pytest.raises(ValueError, match="230"):
        deit("Ti/16", image_size=230, depth=1)
    with pytest.raises(ValueError, match="ClassToken and Identity"):
        DistilledVisionTransformer(vit("Ti/16", depth=1, num_classes=None), num_classes=5)
    with pytest.raises(ValueError, match="TwoTokens and Linear"):
        DistilledVisionTransformer(vit("Ti/16", depth=1, pooling=TwoTokens), num_classes=5)


def test_an_undistilled_deit_may_pool_otherwise():
    assert type(deit("Ti/16 distilled", depth=1, pooling=ClassToken)) is VisionTransformer


# the losses


def logits(*shape, dtype=torch.float64):
    return torch.randn(*shape, CLASSES, dtype=dtype) * 2


def test_soft_distillation_is_equation_2_written_out():
    student, teacher, labels = logits(BATCH), logits(BATCH), torch.tensor([2, 11, 22])
    tau, weight = 3.0, 0.1
    expected = 0.0
    for z, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        p = [math.exp(v / tau) for v in t]
        q = [math.exp(v / tau) for v in z]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        entropy = math.log(sum(math.exp(v) for v in z)) - z[y]
        expected += ((1 - weight) * entropy + weight * tau**2 * divergence) / BATCH
    assert soft_distillation(student, teacher=teacher, labels=labels).item() == pytest.approx(expected, abs=1e-10)


def test_hard_distillation_is_equation_3_written_out():
    student, teacher, labels = logits(BATCH), logits(BATCH), torch.tensor([2, 11, 22])
    log_p = student.log_softmax(-1)
    decided = teacher.argmax(-1).tolist()
    expected = -sum(log_p[i, y] + log_p[i, d] for i, (y, d) in enumerate(zip(labels, decided, strict=True))) / 2 / BATCH
    assert close(hard_distillation(student, teacher=teacher, labels=labels), expected)


@pytest.mark.parametrize("loss", [soft_distillation, hard_distillation])
def test_two_equal_outputs_are_judged_as_one_would_be(loss):
    student, teacher, labels = logits(BATCH), logits(BATCH), torch.tensor([2, 11, 22])
    one = loss(student, teacher=teacher, labels=labels)
    assert close(loss(torch.stack([student, student], 1), teacher=teacher, labels=labels), one)


@pytest.mark.parametrize("loss", [soft_distillation, hard_distillation])
def test_labels_judge_the_first_output_and_the_teacher_the_second(loss):
    student, teacher, labels = logits(BATCH, 2), logits(BATCH), torch.tensor([2, 11, 22])
    value = loss(student, teacher=teacher, labels=labels)
    new_labels = loss(student, teacher=teacher, labels=labels.roll(1))
    own = F.cross_entropy(student[:, 0], labels.roll(1)) - F.cross_entropy(student[:, 0], labels)
    assert close(new_labels - value, own * (0.9 if loss is soft_distillation else 0.5))
    student.requires_grad_()
    again = loss(student, teacher=student.detach()[:, 1], labels=labels)
    (gradient,) = torch.autograd.grad(again, student)
    if loss is soft_distillation:  # nothing left to learn from a teacher that one agrees with
        assert gradient[:, 1].abs().max() < 1e-15
    assert gradient[:, 0].abs().max() > 1e-3


def test_the_teacher_gets_no_gradient():
    student, teacher = logits(BATCH).requires_grad_(), logits(BATCH).requires_grad_()
    soft_distillation(student, teacher=teacher, labels=torch.tensor([2, 11, 22])).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


def test_without_a_share_the_teacher_is_silent_and_with_all_of_it_alone():
    student, teacher, labels = logits(BATCH), logits(BATCH), torch.tensor([2, 11, 22])
    alone = soft_distillation(student, teacher=teacher, labels=labels, weight=0.0)
    assert close(alone, F.cross_entropy(student, labels))
    only = [soft_distillation(student, teacher=teacher, labels=y, weight=1.0) for y in (labels, labels.roll(1))]
    assert torch.equal(*only)


def test_at_a_high_temperature_the_teachers_gradient_is_the_difference_of_centred_logits():
    student, teacher = logits(BATCH).requires_grad_(), logits(BATCH)
    loss = soft_distillation(student, teacher=teacher, labels=torch.tensor([2, 11, 22]), tau=1e5, weight=1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    centred = [z - z.mean(-1, keepdim=True) for z in (student.detach(), teacher)]
    torch.testing.assert_close(gradient, (centred[0] - centred[1]) / CLASSES / BATCH, atol=1e-5, rtol=1e-3)


def test_late_fusion_adds_probabilities_and_may_crown_another_class_than_the_mean_of_logits():
    assert close(late_fusion(logits(BATCH, 2)).sum(-1), torch.full((BATCH,), 2.0, dtype=torch.float64))
    heads = torch.tensor([[[0.0, 5.0, -90.0], [3.0, 0.0, -90.0]]])
    fused = late_fusion(heads)[0]
    p, q = 1 / (1 + math.exp(5)), 1 / (1 + math.exp(-3))
    torch.testing.assert_close(fused, torch.tensor([p + q, 2 - p - q, 0.0]))
    vetoed = torch.tensor([[[4.0, 0.0, 1.0], [-9.0, 0.0, 1.0]]])
    assert (vetoed.mean(1).argmax().item(), late_fusion(vetoed).argmax().item()) == (2, 0)


def test_smoothing_shares_the_rest_among_the_other_classes():
    smoothed = smooth(torch.tensor([2, 0]), num_classes=5)
    torch.testing.assert_close(smoothed, torch.tensor([[0.025, 0.025, 0.9, 0.025, 0.025], [0.9] + [0.025] * 4]))


def test_pytorchs_smoothing_is_ours_with_more():
    z, labels = logits(BATCH, dtype=torch.float32), torch.tensor([2, 11, 22])
    theirs = F.cross_entropy(z, labels, label_smoothing=0.1 * CLASSES / (CLASSES - 1))
    assert close(F.cross_entropy(z, smooth(labels, num_classes=CLASSES)), theirs)


# the augmentations


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 0.8}, {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}])
def test_mixup_and_cutmix_and_their_targets_equal_timms(alphas):
    from timm.data.mixup import Mixup, rand_bbox

    x, labels = torch.randn(4, 3, 29, 31), torch.tensor([2, 11, 22, 7])
    targets = F.one_hot(labels, CLASSES).float()
    clipped = 0
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002 - timm draws from the global generator
        theirs = Mixup(**alphas, label_smoothing=0.0, num_classes=CLASSES)(x.clone(), labels)
        np.random.seed(seed)  # noqa: NPY002
        np.random.rand()  # noqa: NPY002 - whether to mix at all
        if "cutmix_alpha" in alphas:
            share = np.random.beta(1.0, 1.0)  # noqa: NPY002
            centre = int(np.random.randint(0, 29)), int(np.random.randint(0, 31))  # noqa: NPY002
            ours = cutmix(x, targets, share=share, centre=centre)
            clipped += abs(ours[1][0, 2].item() - share) > 0.05
        else:
            ours = mixup(x, targets, share=np.random.beta(0.8, 0.8))  # noqa: NPY002
        assert close(ours[0], theirs[0])
        assert close(ours[1], theirs[1])
    assert rand_bbox is not None
    assert clipped > 3 or "cutmix_alpha" not in alphas


def test_targets_of_cutmix_say_what_share_of_the_pixels_is_whose():
    x = torch.stack([torch.zeros(1, 29, 31), torch.ones(1, 29, 31)])
    for seed in range(10):
        torch.manual_seed(seed)
        mixed, targets = cutmix(x, torch.eye(2), share=0.3 + seed / 20, centre=(3 * seed, 30 - 3 * seed))
        assert close(mixed[0].mean(), targets[0, 1])
        assert close(mixed[1].mean(), targets[1, 1])


def test_mixing_leaves_the_batch_as_it_was_and_its_targets_distributions():
    x, targets = torch.randn(4, 3, 29, 31), torch.eye(CLASSES)[[2, 11, 22, 7]]
    before = x.clone(), targets.clone()
    kinds = set()
    for _ in range(20):
        mixed, mixed_targets = mix(x, targets)
        assert close(mixed_targets.sum(-1), torch.ones(4))
        pasted = ((mixed == x) | (mixed == x.flip(0))).all().item()
        kinds.add(pasted)
    assert kinds == {True, False}
    assert torch.equal(x, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize(("switch", "cut"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_a_batch_is_cut_or_blended_as_often_and_by_shares_as_the_recipe_says(monkeypatch, switch, cut):
    drawn = {"cut": [], "blended": []}
    module = sys.modules[mix.__module__]

    def draw(kind):
        def drawing(x, y, *, share, centre=()):
            drawn[kind].append((share, *centre))
            return x, y

        return drawing

    monkeypatch.setattr(module, "cutmix", draw("cut"))
    monkeypatch.setattr(module, "mixup", draw("blended"))
    x, targets = torch.zeros(2, 1, 8, 16), torch.eye(2)
    for _ in range(1000):
        mix(x, targets, switch=switch, mixup_alpha=0.5, cutmix_alpha=3.0)
    assert len(drawn["cut"]) == pytest.approx(1000 * cut, abs=4.5 * (1000 * cut * (1 - cut)) ** 0.5)
    for kind, alpha in (("cut", 3.0), ("blended", 0.5)):
        if drawn[kind]:
            shares = np.array(drawn[kind])[:, 0]
            assert kstest(shares, "beta", args=(alpha, alpha)).pvalue > 1e-5
    for axis, size in ((1, 8), (2, 16)):
        if drawn["cut"]:
            places = np.array(drawn["cut"])[:, axis].astype(int)
            assert chisquare(np.bincount(places, minlength=size)).pvalue > 1e-5, "a box may lie anywhere"


def test_erasing_puts_one_rectangle_of_noise_into_the_share_of_images_that_is_asked_for():
    x = torch.full((400, 2, 29, 31), 7.0)
    erased = erase(x, probability=0.25)
    assert (x == 7).all()
    touched = (erased != 7).any(1)
    hit = touched.flatten(1).any(1)
    assert 70 < hit.sum() < 130
    for picture in touched[hit]:
        rows, columns = picture.any(1), picture.any(0)
        height, width = int(rows.sum()), int(columns.sum())
        assert picture.sum() == height * width
        assert rows.nonzero().max() - rows.nonzero().min() + 1 == height
        assert 0.01 < height * width / (29 * 31) < 0.36
        assert 0.25 < height / width < 4
    noise = erased[(erased != 7)]
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert torch.equal(erase(x, probability=0.0), x)


def test_repeated_augmentation_gives_the_order_of_timms_sampler():
    from timm.data.distributed_sampler import RepeatAugSampler

    theirs = list(RepeatAugSampler(range(512), num_replicas=1, rank=0, num_repeats=3))
    ours = repeated_augmentation(512, generator=torch.Generator().manual_seed(0))
    assert ours.tolist() == theirs
    assert len(ours.unique()) == math.ceil(512 / 3)


def test_the_recipes_have_the_same_rows_and_cannot_be_changed():
    assert RECIPE.keys() == VIT_RECIPE.keys()
    assert RECIPE["rate"] == 0.001
    with pytest.raises(TypeError):
        RECIPE["epochs"] = 1
