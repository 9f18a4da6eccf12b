"""Look into any model from outside: its attention, over an image or not, its parameters and its cost."""

from attention_notes.inspect.count import count_activations, count_macs, count_parameters
from attention_notes.inspect.record import attention_span, record_attention, rollout

__all__ = ["attention_span", "count_activations", "count_macs", "count_parameters", "record_attention", "rollout"]
