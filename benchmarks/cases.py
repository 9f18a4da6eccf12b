"""What is compared with what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.cait import cait
from attention_notes.papers.deit import deit
from attention_notes.papers.dnl import DNL
from attention_notes.papers.nest import nest
from attention_notes.papers.non_local import DotProduct, NonLocal
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.tnt import tnt
from attention_notes.papers.twins import twins
from attention_notes.papers.vit import vit
from attention_notes.registry.parity import fill
from benchmarks import peers
from benchmarks.peers import Peer

INFERENCE, TRAINING = "inference", "training"
CHUNKED, COMPILED, COMPILED_TRAINING = "inference, in chunks", "inference, compiled", "training, compiled"


@dataclass(frozen=True)
class Case:
    """One model of ours and the same of others.

    Args:
        key: the chapter.
        build: makes ours.
        peers: by library, what makes the peer from ours.
        shape: of one input.
        goals: how many times as long the quickest peer should take at least, by ``speed.kind``.
        batches: how many inputs at once, by kind of work, on as many threads as the machine has; on one thread only
            inference, of the first of them.
        quick: the batch of the quick check.
        chunks: whether it is timed in chunks, too.
        aside: whether inference is timed on one thread and with memory kept, too.
        compiled: how many inputs at once when compiled, by kind of work; inference of most of ``batches`` when empty.
        counted: makes the model whose multiply-accumulates are the work, where ours does more for its kernel's sake.
    """

    key: str
    build: Callable[[], nn.Module]
    peers: Mapping[str, Peer]
    shape: tuple[int, ...] = (3, 224, 224)
    goals: Mapping[str, float] = field(default_factory=dict)
    batches: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {INFERENCE: (1, 8), TRAINING: (1, 8)})
    quick: int = 8
    chunks: bool = True
    aside: bool = True
    compiled: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    counted: Callable[[], nn.Module] | None = None

    def model(self) -> nn.Module:
        """Ours, with random numbers in every parameter, those that start at zero too."""
        model = self.build()
        fill(model)
        for name, parameter in model.named_parameters():
            if self.key == "vit" and name.endswith("qkv.bias"):
                nn.init.zeros_(parameter)  # vit-pytorch has none
        return model.eval()

    def inputs(self, batch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Random inputs, the same at every call."""
        drawn = torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(batch))
        return drawn.to(device, dtype)


_DEIT: dict[str, Any] = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-6,
}
_PVT_V2: dict[str, Any] = {
    "hidden_sizes": (64, 128, 320, 512),
    "mlp_ratios": (8, 8, 4, 4),
    "num_attention_heads": (1, 2, 5, 8),
}
_FEW = {INFERENCE: (1, 8), TRAINING: (1,)}  # a model that is four times as large as the others
_BLOCK: dict[str, Any] = {"shape": (256, 64, 64), "batches": {INFERENCE: (1, 2), TRAINING: (1, 2)}, "quick": 2}
_BLOCK |= {"goals": {INFERENCE: 1.3, TRAINING: 1.3, COMPILED: 1.0}, "chunks": False}


def _beside_timm(key: str, build: Callable[[], nn.Module], name: str, *, goal: float) -> Case:
    """One goal for every kind of work; compiled also in training, and nothing aside."""
    goals = dict.fromkeys((INFERENCE, TRAINING, COMPILED, COMPILED_TRAINING), goal)
    batches = {INFERENCE: (1, 8), TRAINING: (1, 8)}
    return Case(key, build, {"timm": peers.timm(name)}, goals=goals, chunks=False, aside=False, compiled=batches)


CASES = {
    "ViT-B/16": Case(
        "vit",
        partial(vit, "B/16"),
        {
            "timm": peers.timm("vit_base_patch16_224"),
            "torchvision": peers.torchvision("vit_b_16"),
            "transformers": peers.transformers("ViT", layer_norm_eps=1e-6),
            "vit-pytorch": peers.vit_pytorch,
        },
        goals={INFERENCE: 0.97, TRAINING: 0.97, COMPILED: 1.0},
        batches=_FEW,
        quick=1,
    ),
    "DeiT-S distilled": Case(
        "deit",
        partial(deit, "S/16 distilled"),
        {
            "timm": peers.timm("deit_small_distilled_patch16_224"),
            "transformers": peers.transformers("DeiT", **_DEIT),
        },
        goals={INFERENCE: 0.97, TRAINING: 0.97, COMPILED: 1.0},
    ),
    "Swin-T": Case(
        "swin",
        partial(swin, "swin_t", drop_path=0.0),
        {
            "timm": peers.timm("swin_tiny_patch4_window7_224"),
            "timm, fused": peers.timm("swin_tiny_patch4_window7_224", fused=True),
            "torchvision": peers.torchvision("swin_t"),
            "transformers": peers.transformers("Swin", drop_path_rate=0.0),
        },
        goals={INFERENCE: 1.10, TRAINING: 1.10, CHUNKED: 1.10, COMPILED: 1.0},
    ),
    "Swin V2-T": Case(
        "swin",
        partial(swin, "swinv2_t", drop_path=0.0),
        {
            "timm": peers.timm("swinv2_tiny_window8_256"),
            "torchvision": peers.torchvision("swin_v2_t"),
            "transformers": peers.transformers(
                "Swinv2", layout="transformers", image_size=256, window_size=8, drop_path_rate=0.0
            ),
        },
        shape=(3, 256, 256),
        goals={INFERENCE: 1.05, TRAINING: 1.05, CHUNKED: 1.20, COMPILED: 1.0},
    ),
    "PVT-Small": Case(
        "pvt",
        partial(pvt, "pvt_small", drop_path=0.0),
        {"transformers": peers.transformers("Pvt", layout="transformers", depths=(3, 4, 6, 3), drop_path_rate=0.0)},
        goals={INFERENCE: 1.0, TRAINING: 1.0, CHUNKED: 1.25, COMPILED: 1.0},
    ),
    "PVT v2-B2": Case(
        "pvt",
        partial(pvt, "pvt_v2_b2", drop_path=0.0),
        {
            "timm": peers.timm("pvt_v2_b2"),
            "transformers": peers.transformers(
                "PvtV2", layout="transformers", depths=(3, 4, 6, 3), drop_path_rate=0.0, **_PVT_V2
            ),
        },
        goals={INFERENCE: 1.0, TRAINING: 1.0, CHUNKED: 1.25, COMPILED: 1.0},
    ),
    "CaiT-XXS24": _beside_timm("cait", partial(cait, "XXS24", drop_path=0.0), "cait_xxs24_224", goal=1.0),
    "TNT-S": _beside_timm("tnt", partial(tnt, "tnt_s", drop_path=0.0), "tnt_s_patch16_224", goal=1.6),
    "Twins-SVT-S": _beside_timm("twins", partial(twins, "twins_svt_small", drop_path=0.0), "twins_svt_small", goal=1.4),
    "NesT-T": _beside_timm("nest", partial(nest, "nest_t", drop_path=0.0), "nest_tiny_jx", goal=1.4),
    "Non-local block": Case(
        "non_local",
        partial(NonLocal, 256),
        {"mmcv": peers.mmcv("embedded_gaussian"), "timm": peers.timms_non_local},
        **_BLOCK,
    ),
    "Non-local, dot product": Case(
        "non_local",
        partial(NonLocal, 256, pairwise=DotProduct),
        {"mmcv": peers.mmcv("dot_product")},
        **_BLOCK,
    ),
    "DNL block": Case(
        "dnl",
        partial(DNL, 256),
        {"the equations": peers.LiteralDNL},
        **_BLOCK,
        counted=lambda: peers.LiteralDNL(DNL(256)),  # ours widens queries and keys to the width of the values
    ),
}
