"""GPT and GPT-2, beside those of ``transformers``."""

import torch
from torch import Tensor, nn

from attention_notes.papers import Family, Reference
from attention_notes.papers.gpt.model import VARIANTS, gpt

TOKENS = 64  # a text of some length


def _texts(size: int | None) -> tuple[Tensor, ...]:
    return (torch.ones(1, TOKENS, dtype=torch.int64),)


def _reference(variant: str) -> Reference:
    row, first = VARIANTS[variant], variant == "GPT"
    sizes = {"vocab_size": row["vocabulary"], "n_positions": row["context"], "n_layer": row["layers"]}
    sizes |= {"n_embd": row["dim"], "n_head": row["heads"]}

    def build() -> nn.Module:
        import transformers

        if first:
            return transformers.OpenAIGPTModel(transformers.OpenAIGPTConfig(**sizes))
        return transformers.GPT2Model(transformers.GPT2Config(**sizes))

    return Reference("transformers", f"transformers{', GPT' * first}, without its head", build)


FAMILY = Family(gpt, VARIANTS, _reference, size=None, inputs=_texts)
