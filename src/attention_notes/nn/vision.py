"""What every vision model can do, whatever its paper: one protocol, and what the trunks share of it."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import index
from typing import Any, ClassVar, Protocol, SupportsIndex, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.initialise import Start, truncated_normal
from attention_notes.nn.sizes import Size, pair

Indices = Iterable[SupportsIndex]
Model = TypeVar("Model", bound="Backbone")


@runtime_checkable
class VisionModel(Protocol):
    """A classifier of images ``b ch y x``, or of clips ``b ch t y x``; ``Backbone`` does most of what is said here.

    **Sizes of images.** A model whose parameters or masks belong to one size (ViT, DeiT, Swin) refuses images of
    another with a ``ValueError`` that names both sizes and ``resize``. It never interpolates by itself: images that
    nobody meant to have that size are then found out. A model that by its paper takes any size takes any: ResNets
    with all that is put into them, and PVT, whose first version needs sides of k * 32 pixels and interpolates its
    positions in each call.

    **Outputs** are logits ``b k`` or, where ``num_classes`` is None, what the head would be given, ``b c``. They are of
    the same kind in training and in evaluation.

    **Dropout** is off by default: ``dropout``, ``attention_dropout`` for the weights of attentions and
    ``projection_dropout`` for what their last map gives, each where the authors' code has it. Stochastic depth is part
    of a variant, as its depth is, since the published accuracies of large variants were not reached without. So
    ``drop_path`` has by default the rate with which the variant's authors trained it on ImageNet-1k, which is 0 where
    they had none (ViT, ResNets). It acts in training only; ``drop_path=0.0`` turns it off.
    """

    @property
    def num_classes(self) -> int | None:
        """Width of the logits; None where there is no head."""

    @property
    def num_features(self) -> int:
        """Channels of what the head is given."""

    def reset_head(self, num_classes: SupportsIndex | None) -> Any:
        """Put a new head in the place of the old one, and return the model.

        The head starts as the family starts its heads, on the old one's device and in its dtype; with two heads, as in
        a distilled DeiT, both are new. None removes it.

        Raises:
            ValueError: if the number is not 1 or more.
        """

    def features(self, images: Tensor, out_indices: Indices | None = None) -> list[Tensor]:
        """The maps ``b c y x`` inside of the model (of clips ``b c t y x``), the first one first.

        There is one after each stage; in ViT and DeiT, which have no stages, one after each block, of the tokens of
        patches alone, on their grid. Each is what the next stage or block is given. So the norm that belongs to the
        head has not been applied to the last one: ``model.norm(map.movedim(1, -1))`` does, where there is such a norm.

        Args:
            images: as in ``forward``.
            out_indices: which maps, in this order; counted from 0, or from the last with -1. All when not given. What
                comes after the last of them does not run.

        Raises:
            ValueError: if there is no such map.
        """

    def checkpointing(self, on: bool = True) -> Any:
        """Run each block again in the backward pass instead of keeping what is inside of it, and return the model.

        Less memory in training for one more forward pass: of four images of 224 pixels, ViT-B/16, Swin-T and PVT v2-B2
        keep 0.07 to 0.11 and a ResNet-50 0.36 of what they keep otherwise for the gradients, and a step takes 1.2 to
        1.35 times as long (two cores of a CPU). Gradients and running statistics are the same to the last bit, with
        dropout too. It is off by default, acts in training only, and leaves the state dict as it is.

        Works under ``torch.compile``. Blocks with running statistics other than those of PyTorch's batch norms stay
        outside of the graph, where they are right too; ``fullgraph=True`` refuses them.
        """

    def parameter_groups(
        self, lr: int | float, *, weight_decay: int | float = 0.05, layer_decay: int | float = 1.0
    ) -> list[dict[str, Any]]:
        """Groups for an optimizer of PyTorch: ``params``, ``lr`` and ``weight_decay``, the first layers first.

        What has one axis is not decayed, that is biases, norms and LayerScale, and neither are positions, class tokens
        and their like, tables and networks of relative positions, and logit scales: so in the authors' code of Swin
        (``optimizer.py`` and ``no_weight_decay_keywords``) and in timm's ``param_groups_weight_decay``. PVT's authors
        decay its positions; here nobody's are. A part says so by ``no_weight_decay``, a tuple of names of its
        parameters and parts.

        Layers near the images may learn more slowly (Clark et al. 2020, ELECTRA, arXiv 2003.10555). As in BEiT (Bao et
        al. 2021, ``optim_factory.py``), block ``i`` of ``L`` has the rate ``lr * layer_decay ** (L + 1 - i)``, the stem
        that of ``i = 0``, and the head with its norm ``lr``. What stands between two blocks goes with the one before,
        as in SimMIM's code for Swin. For ResNets, whose authors had one rate, the same rule holds.

        Args:
            lr: rate of the head.
            weight_decay: of what is decayed.
            layer_decay: factor from one block to the one before it, above 0 and up to 1.

        Returns:
            Each parameter once, also one that several parts share; none that needs no gradient.

        Raises:
            ValueError: if a number is out of range.
        """

    def resize(self, image_size: Size) -> Any:
        """Make the model expect images of another size, in place, and return it.

        What belongs to the old size is interpolated; all other parameters stay the same objects, and at the model's own
        size all do. A model that takes any size has nothing to change, but for the table of positions of PVT's first
        version, which is then interpolated for good.

        Raises:
            ValueError: if the model cannot take that size.
            TypeError: if its stem is somebody else's, and of one size only.
        """


class Backbone(nn.Module):
    """What the trunks share of ``VisionModel``; each has its own ``features``, and its blocks in ``Blocks``.

    A trunk sets ``num_features``. ``head_names`` says where its heads are, ``start_head`` how they start.
    """

    head_names: ClassVar[tuple[str, ...]] = ("head",)
    start_head: Start = staticmethod(truncated_normal)
    num_features: int

    @property
    def num_classes(self) -> int | None:
        """Width of the logits, that of the last linear map in the head; None where there is no head."""
        parts = self.get_submodule(self.head_names[0]).modules()
        widths = [width for part in parts if isinstance(width := getattr(part, "out_features", None), int)]
        return widths[-1] if widths else None

    def reset_head(self: Model, num_classes: SupportsIndex | None) -> Model:
        """Put a new head in the place of the old one, as in ``VisionModel``."""
        classes = check_classes(num_classes)
        for name in self.head_names:
            old = [p for p in self.get_submodule(name).parameters() if p.is_floating_point()]
            like = (old or [p for p in self.parameters() if p.is_floating_point()])[-1]
            head = linear_head(self.num_features, classes).to(like.device)
            self.start_head(head)
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, head.to(like.dtype).train(self.training))
        return self

    def features(
        self, images: Float[Tensor, "b ch *s"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b _ *_"]]:
        """The maps inside of the model, as in ``VisionModel``."""
        raise NotImplementedError

    def checkpointing(self: Model, on: bool = True) -> Model:
        """Run each block again in the backward pass, as in ``VisionModel``."""
        for blocks in self._sequences():
            blocks.checkpointed = on
        return self

    def parameter_groups(
        self, lr: int | float, *, weight_decay: int | float = 0.05, layer_decay: int | float = 1.0
    ) -> list[dict[str, Any]]:
        """Groups for an optimizer of PyTorch, as in ``VisionModel``."""
        if not (lr >= 0 and weight_decay >= 0 and 0 < layer_decay <= 1):
            raise ValueError(
                f"lr={lr}, weight_decay={weight_decay}, layer_decay={layer_decay}: the first two must be 0 or more, "
                "the last above 0 and at most 1"
            )
        if layer_decay != 1:
            self._sequences()  # without them there are no layers to tell apart
        last, layers = _layers(self)
        kept = _not_decayed(self)
        groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
        for layer, parameter in layers:
            if parameter.requires_grad:
                groups[layer, parameter.ndim > 1 and parameter not in kept].append(parameter)
        return [
            {
                "params": params,
                "lr": lr * layer_decay ** (last - layer),
                "weight_decay": weight_decay if decayed else 0.0,
            }
            for (layer, decayed), params in sorted(groups.items(), key=lambda group: group[0])
        ]

    def resize(self: Model, image_size: Size) -> Model:
        """Nothing changes in a model that takes any size."""
        pair(image_size)
        return self

    def _sequences(self) -> list[Blocks]:
        if found := [part for part in self.modules() if isinstance(part, Blocks)]:
            return found
        raise ValueError(
            f"this {type(self).__name__} does not say what its blocks are: put them into nn.checkpointing.Blocks"
        )


def check_classes(num_classes: Any) -> int | None:
    """A number of classes, or None for a model without a head.

    Raises:
        ValueError: if it is neither None nor a whole number, 1 or more.
    """
    if num_classes is None:
        return None
    try:
        classes = index(num_classes)
    except TypeError:
        classes = 0
    if classes < 1 or isinstance(num_classes, bool):
        raise ValueError(
            f"num_classes={num_classes!r}: give a whole number, 1 or more, or None for a model without a head, which "
            "returns its features"
        )
    return classes


def linear_head(dim: int, num_classes: SupportsIndex | None) -> nn.Module:
    """A linear map from ``dim`` features to the logits, or what leaves the features as they are.

    Raises:
        ValueError: as ``check_classes``.
    """
    classes = check_classes(num_classes)
    return nn.Identity() if classes is None else nn.Linear(dim, classes)


def which_maps(out_indices: Indices | None, count: int) -> list[int]:
    """The indices of maps, counted from 0; all ``count`` of them for None.

    Raises:
        ValueError: if they are no whole numbers, or if there is no such map.
    """
    if out_indices is None:
        return list(range(count))
    try:
        indices = [index(i) for i in out_indices]
    except TypeError:
        raise ValueError(f"out_indices={out_indices!r}: give whole numbers in a list, such as [-1]") from None
    if any(not -count <= i < count for i in indices):
        raise ValueError(
            f"out_indices={indices}: there are {count} maps, 0 to {count - 1}, or -{count} to -1 from the last one"
        )
    return [i % count for i in indices]


def maps_after(
    parts: Iterable[nn.Module],
    x: Tensor,
    out_indices: Indices | None,
    *,
    run: Callable[[nn.Module, Tensor], Tensor] = lambda part, x: part(x),
    as_map: Callable[[Tensor], Tensor] = lambda x: x,
) -> list[Tensor]:
    """The maps after some of the parts of a trunk, which run one after the other up to the last that is needed.

    Args:
        parts: blocks or stages.
        x: what enters the first.
        out_indices: after which of them, as in ``VisionModel.features``.
        run: runs one of them.
        as_map: makes the map from what comes out.

    Raises:
        ValueError: as ``which_maps``.
    """
    parts = [*parts]
    wanted, maps = which_maps(out_indices, len(parts)), {}
    for i, part in enumerate(parts[: 1 + max(wanted, default=-1)]):
        x = run(part, x)
        if i in wanted:
            maps[i] = as_map(x)
    return [maps[i] for i in wanted]


def _layers(model: nn.Module) -> tuple[int, list[tuple[int, nn.Parameter]]]:
    """The layer of the head, and each parameter once with its own: 0 for the stem, then the number of its block."""
    seen = set[nn.Parameter]()
    found: list[tuple[int, bool, nn.Parameter]] = []
    count = 0

    def take(parameters: Iterable[nn.Parameter], inside: bool) -> None:
        for parameter in parameters:
            if parameter not in seen:
                seen.add(parameter)
                found.append((count, inside, parameter))

    def visit(module: nn.Module) -> None:
        nonlocal count
        take(module.parameters(recurse=False), inside=False)
        for part in module.children():
            if isinstance(module, Blocks):
                count += 1
                take(part.parameters(), inside=True)
            else:
                visit(part)

    visit(model)
    return count + 1, [(layer + (layer == count and not inside), parameter) for layer, inside, parameter in found]


def _not_decayed(model: nn.Module) -> set[nn.Parameter]:
    """What the parts of a model name in ``no_weight_decay``, which is a method in models of timm."""
    found = set[nn.Parameter]()
    for module in model.modules():
        names = getattr(module, "no_weight_decay", ())
        for name in names() if callable(names) else names:
            owner, _, last = name.rpartition(".")
            named = getattr(module.get_submodule(owner), last, None)  # such as registers, of which there may be none
            found |= {*named.parameters()} if isinstance(named, nn.Module) else {p for p in (named,) if p is not None}
    return found
