"""The small model of this paper, and the same of ``transformers``."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.igpt import ImageGPT, igpt
from tests.weights.parity import Case, randomised

# every size another prime, but for the width, which the heads divide
SIZES: dict[str, Any] = {"colours": 23, "context": 19, "layers": 2, "dim": 30, "heads": 3}


def theirs(**others: float) -> nn.Module:
    import transformers

    sizes = {"vocab_size": SIZES["colours"] + 1, "n_positions": SIZES["context"]}
    sizes |= {"n_layer": SIZES["layers"], "n_embd": SIZES["dim"], "n_head": SIZES["heads"]}
    return transformers.ImageGPTForCausalImageModeling(transformers.ImageGPTConfig(**sizes | others))


def drawn() -> Any:
    """Theirs, random where it starts at zero or one, too; a norm's gain is around one."""
    model = randomised(theirs())
    for name, parameter in model.named_parameters():
        if ".ln_" in name:
            nn.init.normal_(parameter, mean=0.7, std=0.3)
    return model


def pair() -> tuple[ImageGPT, nn.Module]:
    """Ours with the random weights of theirs, both in evaluation mode."""
    other = drawn()
    return igpt("iGPT-S", **SIZES, pretrained=other.state_dict()).eval(), other


class Pixels(Case):
    """A case that reads the start token and pixels."""

    def images(self) -> Tensor:
        return torch.randint(SIZES["colours"] + 1, (2, *self.image))


CASES = {"igpt pixels": Pixels(partial(igpt, "iGPT-S", **SIZES), drawn, "transformers", (17,))}
LAYOUTS = {"igpt": {"transformers"}}
