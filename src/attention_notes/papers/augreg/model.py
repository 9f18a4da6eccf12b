"""How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers.

Steiner et al. 2021, arXiv 2106.10270 (sections, tables and figures are those of version 2, of June 2022). The idea: the
Vision Transformer stays as it is; how much augmentation and regularisation it should get depends on the number of its
images, on the length of its training and on its size, and a sweep over all of these finds out.

What stands here is that sweep as data: ``LEVELS`` of augmentation, a ``Recipe`` for a pre-training, ``RECIPES`` of the
checkpoints that the authors recommend, and ``TRANSFER`` for fine-tuning. ``augreg`` builds a ``vit`` with the
regularisation of a recipe, or with weights that one of them made.

Departures:
    - No hybrids: R+Ti/16, R26+S/32 and R50+L/32 (table 2) need a ResNet with standardised weights and group norm.
    - RandAugment itself is a library of image operations and not here, only its two numbers. The paper's is that of
      TensorFlow, whose scale ends at 10: of magnitude 20 it rotates by 60 degrees, torchvision's by 20.
    - No hidden layer in the head. With ImageNet-1k alone the paper trained models with it as well (section 3.2).
    - The paper does not print its loss. That of the authors' configurations is here (``sigmoid_loss``).
    - The head starts as that of ``vit``: small weights where the authors have zeros, and biases of zero. ``prior_bias``
      gives it the biases that the authors' configurations have for their loss.
    - ``pretrained=True`` is a model that was tuned to ImageNet-1k, at 224 pixels. No weights are listed here: they are
      in the list of ``vit``, and ``CHECKPOINTS`` says which recipe made them.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.sizes import Size
from attention_notes.nn.variants import lookup
from attention_notes.nn.vision import VisionModel
from attention_notes.papers.vit import VisionTransformer, vit
from attention_notes.weights.pretrained import pretrainable


@dataclass(frozen=True)
class Level:
    """How much the images of a pre-training are changed: the triple (l, m, α) of section 3.3.

    Args:
        layers: operations that RandAugment applies to an image, one after the other; l.
        magnitude: how strongly, on the scale of TensorFlow's RandAugment; m.
        alpha: of Mixup's Beta distribution; α. 0 is no Mixup.
    """

    layers: int
    magnitude: int
    alpha: float

    def share(self) -> float:
        """Draw Mixup's λ from Beta(α, α): the share of an image and of its labels that stays, at least a half.

        As in the authors' code the larger of λ and 1 - λ stays, and it is one draw a batch.
        """
        if not self.alpha:
            return 1.0
        alpha = torch.tensor(self.alpha)
        drawn = torch.distributions.Beta(alpha, alpha).sample().item()
        return max(drawn, 1 - drawn)


# section 3.3, from the weakest to the strongest; figures 4 and 7 call the last two heavy1 and heavy2
LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "none": Level(0, 0, 0.0),
        "light1": Level(2, 0, 0.0),  # not nothing: a magnitude of 0 still inverts, equalises and darkens
        "light2": Level(2, 10, 0.2),
        "medium1": Level(2, 15, 0.2),
        "medium2": Level(2, 15, 0.5),
        "strong1": Level(2, 20, 0.5),
        "strong2": Level(2, 20, 0.8),
    }
)
# Names of checkpoints have light0 and light1 for the paper's light1 and light2. That is inferred: seven names stand for
# seven levels, and the best B/32 of figure 4 on the right is light2, while its recommended file says light1.
_IN_FILES = {"none": "none", "light0": "light1", "light1": "light2"} | {name: name for name in [*LEVELS][3:]}
_TO_FILES = {level: name for name, level in _IN_FILES.items()}

# section 3.3: 28 settings, with each of the seven levels
REGULARIZATION = (0.0, 0.1)  # of dropout and of stochastic depth, together
WEIGHT_DECAY = (0.1, 0.03)
# section 3.4
PRETRAINING: Mapping[str, Any] = MappingProxyType(
    {"batch": 4096, "betas": (0.9, 0.999), "warmup": 10_000, "clip": 1.0, "image_size": 224}
)
EPOCHS: Mapping[str, tuple[int, ...]] = MappingProxyType({"i1k": (300,), "i21k": (30, 300)})

_NUMBER = r"\d+(?:\.\d+)?"
_FILE = re.compile(
    rf"(?P<model>\w+)-(?P<data>[a-z0-9]+)-(?P<epochs>\d+)ep-lr_(?P<rate>{_NUMBER})-aug_(?P<level>[a-z]+\d?)"
    rf"-wd_(?P<weight_decay>{_NUMBER})-do_(?P<dropout>{_NUMBER})-sd_(?P<stochastic_depth>{_NUMBER})"
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One pre-training of the sweep (sections 3.3 and 3.4).

    Args:
        model: which Vision Transformer, as ``vit`` calls it: ``"B/16"``.
        data: ``"i1k"`` or ``"i21k"``, ImageNet-1k with 1.3 or ImageNet-21k with 13 million images.
        epochs: 30 or 300.
        level: a key of ``LEVELS``.
        weight_decay: decoupled, and multiplied by the rate of the step, as ``torch.optim.AdamW`` has it.
        dropout: probability of dropping.
        stochastic_depth: probability of skipping a branch of the last block, growing linearly from 0 at the first.
        rate: the peak of the learning rate.
        source: where the authors or others published it.

    Raises:
        ValueError: if there is no such level.
    """

    model: str
    data: str
    epochs: int
    level: str
    weight_decay: float
    dropout: float
    stochastic_depth: float
    rate: float = 0.001
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"unknown level of augmentation {self.level!r}; known: {', '.join(LEVELS)}")

    @classmethod
    def read(cls, file: str, *, source: str = "") -> "Recipe":
        """The recipe in the name of a checkpoint, also in its whole address, of ``gs://vit_models/augreg``.

        What follows ``--`` in it says how the checkpoint was fine-tuned, and is left out.

        Raises:
            ValueError: if the name tells no recipe, or that of a hybrid.
        """
        name = PurePath(file).name.partition("--")[0]
        found = _FILE.match(name)
        if found is None or found["level"] not in _IN_FILES:
            raise ValueError(
                f"{file!r} tells no recipe: a name is like {RECIPES['B/16'].file}, and its level one of "
                f"{', '.join(_IN_FILES)}"
            )
        if found["model"].startswith("R"):
            raise ValueError(f"{file!r} is a hybrid of a ResNet and a ViT, and those are not here")
        return cls(
            model=found["model"].replace("_", "/"),
            data=found["data"],
            epochs=int(found["epochs"]),
            level=_IN_FILES[found["level"]],
            weight_decay=float(found["weight_decay"]),
            dropout=float(found["dropout"]),
            stochastic_depth=float(found["stochastic_depth"]),
            rate=float(found["rate"]),
            source=source,
        )

    @property
    def file(self) -> str:
        """The name of the authors' checkpoint, without ``.npz``; its level is called as there."""
        return (
            f"{self.model.replace('/', '_')}-{self.data}-{self.epochs}ep-lr_{self.rate}-aug_{_TO_FILES[self.level]}"
            f"-wd_{self.weight_decay}-do_{self.dropout}-sd_{self.stochastic_depth}"
        )

    @property
    def augmentation(self) -> Level:
        """What is done to the images, after a random crop in the style of Inception and a random flip."""
        return LEVELS[self.level]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``vit`` or of any ``VisionTransformer`` for the regularisation."""
        return {"dropout": self.dropout, "drop_path": self.stochastic_depth}

    def optimizer(self, model: VisionModel) -> torch.optim.AdamW:
        """Adam with decoupled weight decay of matrices; biases, norms, positions and class token do not decay.

        Its rate is the peak: multiply it by ``schedule``, and clip the norm of all gradients at 1 (``PRETRAINING``).
        """
        groups = model.parameter_groups(self.rate, weight_decay=self.weight_decay)
        return torch.optim.AdamW(groups, betas=PRETRAINING["betas"])


def sweep(model: str, *, data: str, epochs: int) -> list[Recipe]:
    """The 28 recipes that section 3.3 tries for a model, an amount of data and a length of training."""
    return [
        Recipe(
            model=model,
            data=data,
            epochs=epochs,
            level=level,
            weight_decay=decay,
            dropout=probability,
            stochastic_depth=probability,
        )
        for probability, level, decay in itertools.product(REGULARIZATION, LEVELS, WEIGHT_DECAY)
    ]


def schedule(step: int, *, total: int, warmup: int = PRETRAINING["warmup"]) -> float:
    """The share of the peak rate at a step: a cosine that falls to 0, times a line that rises to 1 (section 3.4).

        min(1, t / w) · (1 + cos(π (t - w) / (T - w))) / 2

    The cosine stands at 1 during the ``warmup`` of w steps. As in the authors' code.

    Raises:
        ValueError: if the warm-up does not end before the training.
    """
    if not 0 <= warmup < total:
        raise ValueError(f"a warm-up of {warmup} steps in a training of {total}: it must be shorter, and 0 or more")
    progress = min(max((step - warmup) / (total - warmup), 0.0), 1.0)
    rising = min(1.0, step / warmup) if warmup else 1.0
    return rising * (1 + math.cos(math.pi * progress)) / 2


def sigmoid_loss(logits: Float[Tensor, "b k"], targets: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Cross-entropy of each class by itself, summed over classes and averaged over images.

    Targets may be several classes at once, or mixed by Mixup. ``prior_bias`` makes it small at the start.
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1).mean()


def prior_bias(head: nn.Linear) -> None:
    """Set the biases of a head to -log k, in place: to a sigmoid each of the k classes is about as rare as 1 / k."""
    nn.init.constant_(head.bias, -math.log(head.out_features))


@dataclass(frozen=True)
class Transfer:
    """What fine-tuning sweeps over (table 4): SGD of momentum 0.9, 512 images, gradients clipped at norm 1.

    Args:
        rates: peaks of the learning rate.
        steps: lengths of training, each with its warm-up; the rate follows ``schedule``.
    """

    rates: tuple[float, ...]
    steps: tuple[tuple[int, int], ...]


# table 4
_SMALL, _MIDDLE = ((500, 100), (2_500, 200)), ((2_500, 200), (10_000, 500))
TRANSFER: Mapping[str, Transfer] = MappingProxyType(
    {
        "ImageNet-1k": Transfer((0.01, 0.03), ((20_000, 500),)),
        "Pets37": Transfer((1e-3, 3e-3, 0.01), _SMALL),
        "Kitti-distance": Transfer((1e-3, 3e-3, 0.01), _SMALL),
        "CIFAR-100": Transfer((1e-3, 3e-3, 0.01), _MIDDLE),
        "Resisc45": Transfer((1e-3, 3e-3, 0.01), _MIDDLE),
    }
)

_README = "README.md of google-research/vision_transformer at commit c6de1e5, available ViT models"
_NOTEBOOK = "vit_jax_augreg.ipynb of google-research/vision_transformer at commit c6de1e5, cell 21"
_TIMM = "timm 1.0.31, models/vision_transformer.py"
_CHOSEN = {
    # the best of the sweep by validation accuracy in pre-training (section 4.5)
    "Ti/16": ("Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", _README),
    "S/32": ("S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0", _README),
    "S/16": ("S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", _README),
    "B/32": ("B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", _README),
    "B/16": ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", _README),
    "B/8": ("B_8-i21k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", _NOTEBOOK),
    "L/16": ("L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0", _README),
    # what timm chose among those of ImageNet-1k
    "S/16 i1k": ("S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", _TIMM),
    "B/32 i1k": ("B_32-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.1-sd_0.1", _TIMM),
    "B/16 i1k": ("B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1", _TIMM),
}
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {variant: Recipe.read(file, source=source) for variant, (file, source) in _CHOSEN.items()}
)

# table 1, with patches of 16 pixels for all and of 32 for S and B (section 3.2); the authors' repository added B/8
VARIANTS: dict[str, dict[str, Any]] = {
    variant: {"size": recipe.model, "data": recipe.data} for variant, recipe in RECIPES.items()
}

# Which file became which repository of ``vit``'s list: timm 1.0.31, models/vision_transformer.py. The first of a
# variant is that of ``pretrained=True``. Some are not those that the authors recommend.
_CONVERTED = {
    "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0": ("tiny_patch16", "21k 384 up"),
    "S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0": ("small_patch32", "21k 384 up"),
    "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0": ("small_patch16", "21k 384 up"),
    "B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0": ("base_patch32", "21k up"),
    "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0": ("base_patch32", "384"),
    "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0": ("base_patch16", "21k 384 up"),
    "B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0": ("base_patch8", "21k up"),
    "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1": ("large_patch16", "21k 384 up"),
    "S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0": ("small_patch16", "1k 1k-384"),
    "B_32-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.1-sd_0.1": ("base_patch32", "1k 1k-384"),
    "B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1": ("base_patch16", "1k 1k-384"),
}
_ENDINGS = {
    "21k": "224.augreg_in21k_ft_in1k",
    "384": "384.augreg_in21k_ft_in1k",
    "up": "224.augreg_in21k",  # as pre-trained, with 21,843 classes
    "1k": "224.augreg_in1k",
    "1k-384": "384.augreg_in1k",
}
CHECKPOINTS: Mapping[str, Recipe] = MappingProxyType(
    {
        f"timm/vit_{name}_{_ENDINGS[ending]}": Recipe.read(file, source=_TIMM)
        for file, (name, endings) in _CONVERTED.items()
        for ending in endings.split()
    }
)


def published(variant: str) -> list[str]:
    """The repositories with weights of a variant, that of ``pretrained=True`` first.

    Raises:
        ValueError: if the variant is unknown.
    """
    row = lookup(VARIANTS, variant)
    return [repo for repo, made in CHECKPOINTS.items() if (made.model, made.data) == (row["size"], row["data"])]


def _from_the_list_of_vit(build: Callable[..., VisionTransformer]) -> Callable[..., VisionTransformer]:
    """Let the factory find published weights where they are listed, among those of ``vit``."""

    @wraps(build)
    def factory(variant: str, **options: Any) -> VisionTransformer:
        source = options.get("pretrained")
        if not (source is True or isinstance(source, str)):
            return build(variant, **options)
        repos = published(variant)
        if source is not True and source not in repos:
            raise ValueError(
                f"{source!r} holds no weights of augreg {variant!r}, which are {', '.join(repos)}; vit knows others, "
                "and a file is given as a Path"
            )
        return vit(VARIANTS[variant]["size"], **{**options, "pretrained": repos[0] if source is True else source})

    return factory


@_from_the_list_of_vit
@pretrainable
def augreg(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size = 224,
    channels: int = 3,
    **overrides: Any,
) -> VisionTransformer:
    """A Vision Transformer for the pre-training of ``RECIPES[variant]``, or with the weights of such a pre-training.

    Without published weights it has the recipe's dropout and stochastic depth. With them it has neither unless they are
    asked for: augmentation and regularisation belong to pre-training, and fine-tuning is without (figure 2, and
    ``configs/augreg.py`` of the authors' code).

    Args:
        variant: a key of ``VARIANTS``: ``"B/16"`` of ImageNet-21k, ``"B/16 i1k"`` of ImageNet-1k.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: any other argument of ``vit``.

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    size = lookup(VARIANTS, variant)["size"]
    sizes = {"num_classes": num_classes, "image_size": image_size, "channels": channels}
    return vit(size, **sizes, **{**RECIPES[variant].options, **overrides})
