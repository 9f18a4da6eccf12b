"""Look into any model from outside: its attention, over an image or not, its parameters and its cost."""

from attention_notes.inspect.count import count_activations, count_macs, count_parameters
from attention_notes.inspect.record import record_attention
from attention_notes.inspect.relevance import attention_span, attention_times_gradient, gradient_rollout, rollout

__all__ = [
    "attention_span",
    "attention_times_gradient",
    "count_activations",
    "count_macs",
    "count_parameters",
    "gradient_rollout",
    "record_attention",
    "rollout",
]
