"""Whether the hub still has what is listed: commits, checksums, tensors. Needs a network, but fetches no weights."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attention_notes.papers import families
from attention_notes.weights import layouts
from attention_notes.weights.checkpoints import Checkpoint
from attention_notes.weights.hub import HubError, client, endpoint, first_line, published_file


def problems(checkpoint: Checkpoint) -> tuple[list[str], dict[str, str]]:
    """What is not as it is listed, and what the hub has: its ``revision`` and, of a safetensors file, its ``sha256``.

    The names and shapes of the tensors stand at the head of a safetensors file, and must be those of a known layout.

    Raises:
        HubError: if the hub does not answer.
    """
    found = published_file(checkpoint)
    wrong = []
    if checkpoint.revision not in (None, found.revision):
        wrong.append(f"the revision is {found.revision}, listed is {checkpoint.revision}")
    if not found.name.endswith(".safetensors"):
        return wrong, {"revision": found.revision}
    if checkpoint.sha256 not in (None, found.checksum):
        wrong.append(f"the checksum is {found.checksum}, listed is {checkpoint.sha256}")
    try:
        header = (
            client()
            .HfApi(endpoint=endpoint())
            .parse_safetensors_file_metadata(checkpoint.repo, found.name, revision=found.revision)
        )
    except Exception as error:  # as in ``hub.fetch``
        raise HubError(f"the head of {checkpoint.repo} cannot be read: {first_line(error)}") from error
    try:
        _fit(checkpoint, {name: torch.empty(t.shape, device="meta") for name, t in header.tensors.items()})
    except ValueError as error:
        wrong.append(str(error))
    return wrong, {"revision": found.revision, "sha256": found.checksum}


def pin_lists(papers: Path, found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
    """Write what was found, by key and repository, into the lists below ``papers``, each whole or not at all.

    Raises:
        ValueError: if a list is not there; nothing is written then.
    """
    files = {key: papers / key / "checkpoints.yml" for key in found}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise ValueError(f"no list at {', '.join(missing)}: give the folder of a checkout that holds a folder a paper")
    for key, file in files.items():
        listed = file.read_text(encoding="utf-8")
        for repo, words in found[key].items():
            listed = pinned(listed, repo, words)
        part = file.with_suffix(".part")
        part.write_text(listed, encoding="utf-8")
        part.replace(file)


def pinned(listed: str, repo: str, found: Mapping[str, str]) -> str:
    """The text of the list, with what was found written behind a repository that has no revision yet."""
    words = "".join(f", {name}: {value}" for name, value in found.items())
    lines = words.replace(", ", "\n  ")
    text = re.sub(rf"(?m)^(- {{repo: {re.escape(repo)})(?=, (?!revision))", rf"\g<1>{words}", listed)
    return re.sub(rf"(?m)^(- repo: {re.escape(repo)})$(?!\n  revision)", rf"\g<1>{lines}", text)


def _fit(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    """Raise ``ValueError`` if tensors of these names and shapes are not the weights of the model."""
    with torch.device("meta"):
        model: Any = families()[checkpoint.key].factory(checkpoint.variant, **checkpoint.options)
        if checkpoint.resize:
            model.resize(**checkpoint.resize)
    layout = min(layouts(model).values(), key=lambda one: sum(map(len, one.misfits(state, model))))
    state = {name: tensor for name, tensor in state.items() if name not in layout.derived(model)}
    layout.to_ours(state, model)
