"""Other people's models with the weights of ours.

Each function takes one of our models and gives the peer, whose outputs are then the same. Where a peer is another model
as it is published, what was changed to make it the same one is said.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.dnl import DNL
from attention_notes.papers.gpt import GPT
from attention_notes.papers.non_local import NonLocal
from attention_notes.papers.transformer import Transformer
from attention_notes.papers.vit import VisionTransformer
from attention_notes.registry.parity import installed
from attention_notes.weights import to_layout

installed("torchvision")  # transformers imports it, too
Peer = Callable[[Any], nn.Module]


class Logits(nn.Module):
    """A model of transformers, whose output is an object: its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits, those of the class token where there are two sorts."""
        out: Any = self.model(images)
        return out.logits


def timm(name: str, *, fused: bool = False) -> Peer:
    """timm's model of that name; ``fused`` lets it use the fused kernel wherever it can, which is not its default."""

    def build(ours: nn.Module) -> nn.Module:
        from timm.layers import set_fused_attn
        from timm.models import create_model

        set_fused_attn(enable=True, experimental=fused)
        try:
            model = create_model(name, num_classes=1000)
        finally:
            set_fused_attn(enable=True, experimental=False)
        model.load_state_dict(to_layout(ours, "timm"))
        return model

    return build


def torchvision(name: str) -> Peer:
    """torchvision's model of that name, without stochastic depth."""

    def build(ours: nn.Module) -> nn.Module:
        import torchvision.models

        model = getattr(torchvision.models, name)()
        layout = "torchvision, as loaded" if isinstance(ours, VisionTransformer) else "torchvision"
        model.load_state_dict(_torchvisions_swin_v2(ours) if "v2" in name else to_layout(ours, layout))
        for module in model.modules():
            if isinstance(module, torchvision.ops.StochasticDepth):
                module.p = 0.0
        return model

    return build


def _torchvisions_swin_v2(ours: nn.Module) -> dict[str, Tensor]:
    """The state of its second Swin, which keeps a bias of the keys that it sets to zero in every forward."""
    state = to_layout(ours, "timm")
    for name in [name for name in state if name.endswith("q_bias")]:
        q, v = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros_like(q), v])
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
        name = re.sub(r"layers\.(\d)\.blocks", lambda found: f"features.{2 * int(found[1]) + 1}", name)
        name = re.sub(r"layers\.(\d)\.downsample", lambda found: f"features.{2 * int(found[1])}", name)
        name = name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3").replace("head.fc", "head")
        renamed[name] = tensor
    for name, module in ours.named_modules():
        if hasattr(module, "coordinates"):
            stage, block = map(int, re.findall(r"\d+", name))
            at = f"features.{2 * stage + 1}.{block}.attn"
            renamed[f"{at}.relative_coords_table"] = module.coordinates[None]
            renamed[f"{at}.relative_position_index"] = module.index.flatten()
    return renamed


def transformers(kind: str, *, layout: str = "transformers, as loaded", **config: Any) -> Peer:
    """The classifier of transformers of that kind, such as ``"Swin"``, without stochastic depth."""

    def build(ours: nn.Module) -> nn.Module:
        import transformers

        name = f"{kind}ForImageClassification"
        model = getattr(transformers, name + ("WithTeacher" if kind == "DeiT" else ""))(
            getattr(transformers, f"{kind}Config")(num_labels=1000, **config)
        )
        for name, module in model.named_modules():
            if re.search(r"(patch_embeddings?(\.\d)?|self|attention)\.layer_norm$", name):
                module.eps = 1e-5  # of the pyramids, as in the authors' code; transformers has 1e-6
        model.load_state_dict(to_layout(ours, layout))
        return Logits(model)

    return build


def vit_pytorch(ours: VisionTransformer) -> nn.Module:
    """vit-pytorch's ``ViT``, without the two norms that it has around the map of the patches.

    Its queries, keys and values have no biases: those of ours, shared by both, must be zero.
    """
    from vit_pytorch import ViT

    blocks: Any = ours.blocks
    patches: Any = ours.patches
    pooling: Any = ours.pooling
    hidden, dim = blocks[0].mlp.expand.weight.shape
    model = ViT(
        image_size=patches.image_size,
        patch_size=patches.patch,
        num_classes=ours.head.out_features,
        dim=dim,
        depth=len(blocks),
        heads=blocks[0].attention.heads,
        mlp_dim=hidden,
        dim_head=dim // blocks[0].attention.heads,
    )
    model.to_patch_embedding[1], model.to_patch_embedding[3] = nn.Identity(), nn.Identity()
    p, (py, px) = patches.projection, patches.patch
    weight = p.weight.unflatten(1, (-1, py, px)).permute(0, 2, 3, 1).flatten(1)  # its patches are y, x, channel
    state = {"cls_token": pooling.token[0], "pos_embedding": ours.positions[0]}
    state |= {"to_patch_embedding.2.weight": weight, "to_patch_embedding.2.bias": p.bias}
    for i, block in enumerate(blocks):
        at = f"transformer.layers.{i}"
        if block.attention.qkv.bias.any():
            raise ValueError("vit-pytorch has no biases of queries, keys and values: make ours zero first")
        state[f"{at}.0.to_qkv.weight"] = block.attention.qkv.weight
        named = {"0.norm": block.attention_norm, "0.to_out.0": block.attention.output, "1.net.0": block.mlp_norm}
        named |= {"1.net.1": block.mlp.expand, "1.net.4": block.mlp.contract}
        state |= {f"{at}.{name}.{kind}": getattr(m, kind) for name, m in named.items() for kind in ("weight", "bias")}
    for name, module in {"transformer.norm": ours.norm, "mlp_head": ours.head}.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    model.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return model


def mmcv(mode: str) -> Peer:
    """mmcv's ``NonLocal2d``: the map of all pairs, held in memory."""

    def build(ours: NonLocal) -> nn.Module:
        from mmcv.cnn.bricks.non_local import NonLocal2d

        model = NonLocal2d(ours.channels, use_scale=False, mode=mode, norm_cfg={"type": "BN2d"})
        state = model.state_dict()
        names = {"output": "conv_out.conv", "norm": "conv_out.bn"} | {n: f"{n}.conv" for n in ("theta", "phi")}
        names["g"] = "g.conv" if "g.conv.weight" in state else "g"
        model.load_state_dict({_renamed(name, names): tensor for name, tensor in ours.state_dict().items()})
        return model

    return build


def timms_non_local(ours: NonLocal) -> nn.Module:
    """timm's ``NonLocalAttn`` with its scale taken away."""
    from timm.layers.non_local_attn import NonLocalAttn

    model = NonLocalAttn(ours.channels, use_scale=False, rd_channels=ours.g.out_channels)
    names = {"theta": "t", "phi": "p", "g": "g", "output": "z", "norm": "norm"}
    state = {_renamed(name, names): tensor for name, tensor in ours.state_dict().items()}
    model.load_state_dict({"z.bias": torch.zeros(ours.channels), **state})
    return model


def _renamed(name: str, names: dict[str, str]) -> str:
    first, rest = name.split(".", 1)
    return f"{names[first]}.{rest}"


class LiteralDNL(nn.Module):
    """Section 4 of the paper, line by line, with both maps held in memory, as published blocks have it."""

    def __init__(self, ours: DNL) -> None:
        super().__init__()
        self.block = ours

    def forward(self, x: Tensor) -> Tensor:
        """As ``DNL``."""
        attend: Any = self.block.attention
        tokens = x.flatten(2).mT
        q, k, v = attend.pairwise.query(tokens), attend.pairwise.key(tokens), self.block.value(tokens)
        q, k = q - q.mean(1, keepdim=True), k - k.mean(1, keepdim=True)
        pairwise = (q @ k.mT * attend.pairwise.scale).softmax(-1)
        unary = attend.unary.saliency(tokens).softmax(1)
        y = attend.gamma * (pairwise @ v) + unary.mT @ v
        return x + y.mT.unflatten(2, x.shape[2:])


def marian(ours: Transformer, *, longest: int) -> Any:
    """transformers' translation model with the sizes and weights of ours; positions as ours interleaves them."""
    from transformers import MarianConfig, MarianMTModel

    sizes: Any = ours.encoder.layers[0]
    vocabulary, dim = ours.embedding.tokens.weight.shape
    heads, hidden, layers = sizes.attention.heads, sizes.mlp.expand.out_features, len(ours.encoder.layers)
    both = {"layers": layers, "attention_heads": heads, "ffn_dim": hidden}
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=dim,
        activation_function="relu",
        scale_embedding=True,
        dropout=0.0,
        max_position_embeddings=longest,
        pad_token_id=ours.embedding.padding,
        decoder_start_token_id=1,
        eos_token_id=2,
        forced_eos_token_id=None,
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in both.items()},
    )
    model = MarianMTModel(config)
    state = model.state_dict()
    table = ours.embedding.positions(torch.zeros(1, longest, dim))
    for name in state:
        if name.endswith("embed_positions.weight"):
            state[name] = table
        elif name.endswith(("embed_tokens.weight", "shared.weight", "lm_head.weight")):
            state[name] = ours.embedding.tokens.weight.detach()
    maps = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    for side in ("encoder", "decoder"):
        attentions = {"self_attn": "attention"} | ({"encoder_attn": "cross"} if side == "decoder" else {})
        names = {f"{a}.{m}": f"{b}.{n}" for a, b in attentions.items() for m, n in maps.items()}
        names |= {"fc1": "mlp.expand", "fc2": "mlp.contract", "final_layer_norm": f"residuals.{len(attentions)}.norm"}
        names |= {f"{a}_layer_norm": f"residuals.{i}.norm" for i, a in enumerate(attentions)}
        for i in range(layers):
            for theirs, mine in names.items():
                for kind in ("weight", "bias"):
                    found = ours.get_submodule(f"{side}.layers.{i}.{mine}")
                    state[f"model.{side}.layers.{i}.{theirs}.{kind}"] = getattr(found, kind).detach()
    model.load_state_dict(state)
    return model.eval()


def gpt2(ours: GPT, *, end: int) -> Any:
    """transformers' GPT-2 with the sizes and weights of ours."""
    from transformers import GPT2Config, GPT2LMHeadModel

    (vocabulary, dim), context = ours.tokens.weight.shape, len(ours.positions.weight)
    heads: Any = ours.layers[0].attention.heads
    rates: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    sizes = {"n_layer": len(ours.layers), "n_embd": dim, "n_head": heads, "n_positions": context}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, bos_token_id=end, eos_token_id=end, **sizes, **rates))
    model.load_state_dict(to_layout(ours, "transformers") | {"lm_head.weight": ours.tokens.weight.detach()})
    return model.eval()
