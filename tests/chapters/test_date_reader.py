"""The stored model that reads dates."""

import json
from importlib import resources

import torch

from attention_notes.chapters.data import dates
from attention_notes.chapters.date_reader import date_reader


def recorded(measure):
    """The smallest and the largest value over all recorded runs of the claim about dates."""
    file = resources.files("attention_notes.papers.transformer") / "evidence.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    values = [run["values"]["transformer-enc-dec-cross-attends"][measure] for run in runs]
    return min(values), max(values)


def test_it_reads_days_that_it_was_not_trained_on_as_well_as_the_recorded_trainings():
    days = dates.all_days(range(1900, 2100))
    order = torch.randperm(len(days), generator=torch.Generator().manual_seed(0))
    held_out = [days[i] for i in order[: len(days) // 10]]
    drawn = dates.sample(dates.unambiguous(dates.date_styles())[0], held_out, 1000, seed=1)
    model, characters = date_reader()
    source = characters.encode([style.write(day) for style, day in drawn])
    written = characters.decode(model.greedy(source, start=1, end=2, limit=12))
    right = sum(text == day.isoformat() for text, (_, day) in zip(written, drawn, strict=True)) / len(drawn)
    measures = [recorded(f"dates read, year {place}") for place in ("first", "last")]
    one_in_a_hundred = 0.01  # what a thousand dates leave uncertain, with three deviations
    assert min(low for low, _ in measures) - one_in_a_hundred <= right
    assert right <= max(high for _, high in measures) + one_in_a_hundred


def test_the_file_is_small_and_the_model_does_not_train():
    assert (resources.files("attention_notes.chapters.data") / "date_reader.safetensors").stat().st_size < 400_000
    model, characters = date_reader()
    assert not model.training
    assert len(characters) == len(model.embedding.tokens.weight)
    assert model.embedding.tokens.weight.dtype == torch.float32
