"""Training data-efficient image transformers & distillation through attention.

Touvron et al. 2020, arXiv 2012.12877. The idea: a ViT needs no more images than ImageNet has if its training is strict
enough, and a convolutional teacher can speak to it through a token of its own.

Departures:
    - In evaluation the logits of the two heads are averaged, as in the authors' code, timm and transformers. Section 4
      adds the outputs of their softmax; that is ``late_fusion``, and now and then it has another winner.
    - The divergence of equation 2 is taken from the teacher to the student, as in the authors' code, and averaged over
      the samples. Their code divides by the number of classes as well, which the equation does not.
    - The patch map starts as in ``vit``; everything else from the truncated normal distribution of section 6.
    - RandAugment, which the recipe names, is not here; it is a library of image operations.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.nn.initialise import truncated_normal
from attention_notes.nn.sizes import Size
from attention_notes.nn.variants import lookup
from attention_notes.nn.vision import Backbone, Indices, linear_head
from attention_notes.papers.vit import ClassToken, VisionTransformer, vit
from attention_notes.weights.pretrained import pretrainable


class TwoTokens(nn.Module):
    """A class token and a distillation token in front of the patches (section 4, figure 2).

    Both are learned, both take part in every layer; what tells them apart is who judges them at the end.
    """

    extra = 2
    no_weight_decay = ("token", "distillation")

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.distillation = nn.Parameter(torch.zeros(1, 1, dim))

    def prepend(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """Put both before the ``n`` patches, the class token first; ``m = n + 2``."""
        tokens = torch.cat([self.token, self.distillation], dim=1)
        return torch.cat([tokens.expand(patches.shape[0], -1, -1), patches], dim=1)

    def forward(self, z: Float[Tensor, "b m c"]) -> Float[Tensor, "b 2 c"]:
        """Read both."""
        return z[:, :2]


class DistilledVisionTransformer(Backbone):
    """A ViT with two tokens and two heads: one answers to the labels, the other to a teacher (section 4).

        (W_class y_0 + W_distillation y_1) / 2
        [W_class y_0; W_distillation y_1]        in training by distillation: set ``separate`` to True

    Args:
        encoder: a ``VisionTransformer`` with ``pooling=TwoTokens`` and no head.
        num_classes: width of each output; ``None`` for no heads: the outputs are then the tokens', of width ``c``.
        separate: whether the two outputs stay apart in training, as the two terms of a distillation loss need them; it
            may be set later on. In evaluation they are averaged in any case.

    Raises:
        ValueError: if the encoder has another pooling, or a head, or if ``num_classes`` is neither None nor 1 or more.
    """

    head_names = ("class_head", "distillation_head")

    def __init__(self, encoder: VisionTransformer, *, num_classes: int | None, separate: bool = False) -> None:
        super().__init__()
        if not isinstance(encoder.pooling, TwoTokens) or not isinstance(encoder.head, nn.Identity):
            raise ValueError(
                f"an encoder with {type(encoder.pooling).__name__} and {type(encoder.head).__name__} as its head: "
                "build it with pooling=TwoTokens and num_classes=None"
            )
        self.encoder = encoder
        self.separate = separate
        self.num_features = encoder.num_features
        self.class_head = linear_head(self.num_features, num_classes)
        self.distillation_head = linear_head(self.num_features, num_classes)

    def both(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b 2 k"]:
        """Logits of the two heads, the class head's first."""
        own, taught = self.encoder.read(self.encoder.tokens(images)).unbind(1)
        return torch.stack([self.class_head(own), self.distillation_head(taught)], dim=1)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b 2 k"] | Float[Tensor, "b k"]:
        """The mean of both logits, ``b k``; in training, if ``separate``, both of them, ``b 2 k``."""
        logits = self.both(images)
        return logits if self.training and self.separate else logits.mean(dim=1)

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b c gy gx"]]:
        """Those of the encoder."""
        return self.encoder.features(images, out_indices)

    def resize(self, image_size: Size) -> "DistilledVisionTransformer":
        """Expect another image size, in place, as ``VisionTransformer.resize`` does (section 3)."""
        self.encoder.resize(image_size)
        return self


def late_fusion(logits: Float[Tensor, "b 2 k"]) -> Float[Tensor, "b k"]:
    """The sum of the two softmax outputs, to be compared over classes (section 4, joint classifiers)."""
    return logits.softmax(-1).sum(dim=1)


Outputs = Float[Tensor, "b k"] | Float[Tensor, "b 2 k"]
Labels = Int[Tensor, " b"] | Float[Tensor, "b k"]


def soft_distillation(
    student: Outputs, *, teacher: Float[Tensor, "b k"], labels: Labels, tau: float = 3.0, weight: float = 0.1
) -> Float[Tensor, ""]:
    """Agree with the labels, and with the whole distribution of the teacher (equation 2).

        (1 - λ) CE(ψ(Z_s), y) + λ τ² KL(ψ(Z_t / τ) || ψ(Z_s / τ))

    Args:
        student: logits Z_s, one for both terms or, as ``b 2 k``, one for each.
        teacher: logits Z_t, which get no gradient.
        labels: the classes y, or a distribution over them, as from ``smooth`` or ``mix``.
        tau: temperature τ.
        weight: share λ of the teacher.
    """
    own, taught = _outputs(student)
    believed, aimed = F.log_softmax(taught / tau, -1), F.log_softmax(teacher.detach() / tau, -1)
    divergence = F.kl_div(believed, aimed, reduction="batchmean", log_target=True)
    return (1 - weight) * F.cross_entropy(own, labels) + weight * tau**2 * divergence


def hard_distillation(student: Outputs, *, teacher: Float[Tensor, "b k"], labels: Labels) -> Float[Tensor, ""]:
    """Agree with the labels, and with the teacher's decision as if it were a label (equation 3).

        1/2 CE(ψ(Z_s), y) + 1/2 CE(ψ(Z_s), y_t),   y_t = argmax_c Z_t(c)

    Arguments as in ``soft_distillation``. The teacher's decision is not smoothed.
    """
    own, taught = _outputs(student)
    return (F.cross_entropy(own, labels) + F.cross_entropy(taught, teacher.argmax(-1))) / 2


def _outputs(student: Tensor) -> tuple[Tensor, Tensor]:
    """The output that the labels judge, and the one that the teacher judges: the same where there is but one."""
    if student.ndim == 2:
        return student, student
    own, taught = student.unbind(1)
    return own, taught


def smooth(labels: Int[Tensor, " b"], *, num_classes: int, epsilon: float = 0.1) -> Float[Tensor, "b k"]:
    """1 - ε for the true class, the rest shared by the *other* classes (section 4).

    PyTorch's ``label_smoothing`` shares it among all: the same with ε K / (K - 1).
    """
    other = epsilon / (num_classes - 1)
    return other + (1 - epsilon - other) * F.one_hot(labels, num_classes)


def mixup(
    images: Float[Tensor, "b ch y x"], targets: Float[Tensor, "b k"], *, share: float
) -> tuple[Float[Tensor, "b ch y x"], Float[Tensor, "b k"]]:
    """Blend each sample with its counterpart from the other end of the batch (Zhang et al. 2017, arXiv 1710.09412)."""
    return share * images + (1 - share) * images.flip(0), share * targets + (1 - share) * targets.flip(0)


def cutmix(
    images: Float[Tensor, "b ch y x"], targets: Float[Tensor, "b k"], *, share: float, centre: tuple[int, int]
) -> tuple[Float[Tensor, "b ch y x"], Float[Tensor, "b k"]]:
    """Paste a box of the counterpart around ``centre`` (Yun et al. 2019, arXiv 1905.04899).

    The box has ``1 - share`` of the area. Where it sticks out of the image it is cut off, and the targets follow the
    area that is really covered.
    """
    spans = []
    for size, middle in zip(images.shape[-2:], centre, strict=True):
        side = int(size * math.sqrt(1 - share))
        spans.append(slice(max(middle - side // 2, 0), min(middle + (side + 1) // 2, size)))
    rows, columns = spans
    mixed = images.clone()
    mixed[..., rows, columns] = images.flip(0)[..., rows, columns]
    kept = 1 - mixed[0, 0, rows, columns].numel() / mixed[0, 0].numel()
    return mixed, kept * targets + (1 - kept) * targets.flip(0)


def mix(
    images: Float[Tensor, "b ch y x"],
    targets: Float[Tensor, "b k"],
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    switch: float = 0.5,
) -> tuple[Float[Tensor, "b ch y x"], Float[Tensor, "b k"]]:
    """CutMix with probability ``switch``, mixup otherwise; the share from a symmetric Beta distribution.

    Table 9 prints 0.8 and 1.0 as probabilities. In the authors' code they are the two alphas, and ``switch`` is 0.5.
    """
    cut = torch.rand(()).item() < switch
    alpha = torch.tensor(cutmix_alpha if cut else mixup_alpha)
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    if not cut:
        return mixup(images, targets, share=share)
    y, x = (int(torch.randint(size, ())) for size in images.shape[-2:])
    return cutmix(images, targets, share=share, centre=(y, x))


def erase(images: Float[Tensor, "b ch y x"], *, probability: float = 0.25) -> Float[Tensor, "b ch y x"]:
    """Fill a random rectangle of some images with noise (Zhong et al. 2017, arXiv 1708.04896, with timm's choices).

    Expects normalised images: the noise has mean 0 and deviation 1.
    """
    images = images.clone()
    for image in images:
        if torch.rand(()).item() < probability and (box := _rectangle(*image.shape[-2:])):
            image[:, *box].normal_()
    return images


def _rectangle(y: int, x: int) -> tuple[slice, slice] | None:
    """1/50 to 1/3 of the area, 0.3 to 1/0.3 times as high as wide; none if ten in a row do not fit."""
    for _ in range(10):
        area = y * x * torch.empty(()).uniform_(1 / 50, 1 / 3).item()
        aspect = math.exp(torch.empty(()).uniform_(math.log(0.3), -math.log(0.3)).item())
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < y and width < x:
            top, left = int(torch.randint(y - height + 1, ())), int(torch.randint(x - width + 1, ()))
            return slice(top, top + height), slice(left, left + width)
    return None


def repeated_augmentation(
    count: int, *, repeats: int = 3, generator: torch.Generator | None = None
) -> Int[Tensor, " n"]:
    """The order of an epoch in which each image comes ``repeats`` times in a row, to be augmented anew each time.

    The epoch keeps its length ``n = count``, and shows one image in ``repeats`` (Berman et al. 2019, arXiv 1902.05509).
    """
    return torch.randperm(count, generator=generator).repeat_interleave(repeats)[:count]


# table 9; None is its cross. ``rate`` is the peak, for DeiT per 512 images of a batch: 0.001 at 1024.
_TABLE_9: dict[str, tuple[Any, Any]] = {
    "epochs": (300, 300),
    "batch": (4096, 1024),
    "optimizer": ("AdamW", "AdamW"),
    "rate": (0.003, 0.0005 * 1024 / 512),
    "decay of the rate": ("cosine", "cosine"),
    "weight decay": (0.3, 0.05),
    "warm-up epochs": (3.4, 5),
    "label smoothing": (None, 0.1),
    "dropout": (0.1, None),
    "stochastic depth": (None, 0.1),
    "repeated augmentation": (None, 3),  # a tick in table 9; three times by section 6
    "gradient clipping": ("yes", None),
    "RandAugment": (None, "9/0.5"),
    "mixup": (None, 0.8),
    "CutMix": (None, 1.0),
    "erasing": (None, 0.25),
}
VIT_RECIPE: Mapping[str, Any] = MappingProxyType({name: row[0] for name, row in _TABLE_9.items()})
RECIPE: Mapping[str, Any] = MappingProxyType({name: row[1] for name, row in _TABLE_9.items()})

VARIANTS: dict[str, dict[str, Any]] = {
    # tables 1 and 5: the sizes are those of ``vit``; trained at 224 pixels, the base size also tuned at 384
    f"{size}{' 384' if pixels == 384 else ''}{kind}": {"size": size, "image_size": pixels, "pooling": pooling}
    for size, pixels in (("Ti/16", 224), ("S/16", 224), ("B/16", 224), ("B/16", 384))
    for kind, pooling in (("", ClassToken), (" distilled", TwoTokens))
}


@pretrainable
def deit(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size | None = None,
    channels: int = 3,
    **overrides: Any,
) -> VisionTransformer | DistilledVisionTransformer:
    """A DeiT by its name: ``"S/16"`` is a ViT, ``"S/16 distilled"`` has the second token, ``"B/16 384"`` more patches.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of each output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both; the variant's own when not given.
        channels: channels of the image.
        overrides: arguments of ``vit``, such as ``depth`` and ``block``; stochastic depth, ``drop_path``, is 0.1
            (table 9).

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    row = lookup(VARIANTS, variant)
    options = {"drop_path": RECIPE["stochastic depth"], "pooling": row["pooling"], "channels": channels, **overrides}
    options["image_size"] = row["image_size"] if image_size is None else image_size
    if options["pooling"] is not TwoTokens:
        return _initialised(vit(row["size"], num_classes=num_classes, **options))
    encoder = vit(row["size"], num_classes=None, **options)
    return _initialised(DistilledVisionTransformer(encoder, num_classes=num_classes))


Model = TypeVar("Model", VisionTransformer, DistilledVisionTransformer)


def _initialised(model: Model) -> Model:
    """Linear maps, tokens and positions from a normal distribution, cut off far out, as in the authors' code."""
    encoder = model.encoder if isinstance(model, DistilledVisionTransformer) else model
    nn.init.trunc_normal_(encoder.positions, std=0.02)
    if isinstance(encoder.pooling, ClassToken | TwoTokens):
        for token in encoder.pooling.parameters():
            nn.init.trunc_normal_(token, std=0.02)
    encoder.initialise(truncated_normal)
    if isinstance(model, DistilledVisionTransformer):
        truncated_normal(model.class_head)
        truncated_normal(model.distillation_head)
    return model
