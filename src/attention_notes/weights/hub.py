"""How published weights come here: through ``huggingface_hub``, with its cache, its tokens and its ``HF_ENDPOINT``.

Every file is compared with its checksum.
"""

import hashlib
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from attention_notes.weights.checkpoints import Checkpoint

FILES = ("model.safetensors", "pytorch_model.bin")


class HubError(RuntimeError):
    """Weights could not be had: no network, a hub that does not answer, or a file that is not what was published."""


class Published(NamedTuple):
    """A file on the hub: its name, its commit, and its checksum, SHA-256 where it is a large one."""

    name: str
    revision: str
    checksum: str


def fetch(checkpoint: Checkpoint) -> Path:
    """The file of a checkpoint, from the cache or from the hub, and certainly the one that was published.

    Raises:
        HubError: if it cannot be had. Nothing that is damaged stays in the cache.
    """
    hub = client()
    cached = {name: hub.try_to_load_from_cache(checkpoint.repo, name, revision=checkpoint.revision) for name in FILES}
    name = next((n for n, path in cached.items() if isinstance(path, str)), None) or published_file(checkpoint).name
    try:
        path = hub.hf_hub_download(checkpoint.repo, name, revision=checkpoint.revision, endpoint=endpoint())
    except Exception as error:  # whose errors they are depends on what carries the bytes, and that has changed
        raise HubError(f"{checkpoint.repo} could not be had from {endpoint()}: {first_line(error)}") from error
    _verify(Path(path), checkpoint.sha256 if name == FILES[0] else None, checkpoint.repo)
    return Path(path)


def published_file(checkpoint: Checkpoint) -> Published:
    """What the hub has of a checkpoint: one request without retries, so that it fails fast without a network.

    Raises:
        HubError: if the hub does not answer, or has no such file.
    """
    hub = client()
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    for name in FILES:
        url = hub.hf_hub_url(checkpoint.repo, name, revision=checkpoint.revision, endpoint=endpoint())
        try:
            found = hub.get_hf_file_metadata(url, endpoint=endpoint())
        except EntryNotFoundError:
            continue
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise HubError(f"{endpoint()} has no {checkpoint.repo} at {checkpoint.revision or 'main'}") from error
        except Exception as error:  # as above
            raise HubError(
                f"{checkpoint.repo} is not in the cache, and {endpoint()} does not answer ({first_line(error)}): "
                "connect to a network, set HF_ENDPOINT to a mirror, or give the path of a file that you have"
            ) from error
        return Published(name, str(found.commit_hash), str(found.etag))
    raise HubError(f"{checkpoint.repo} at {endpoint()} has none of {', '.join(FILES)}")


def client() -> Any:
    """``huggingface_hub``, imported when it is needed: it reads the environment then.

    Its bar of progress would like to have widgets, and warns where a notebook has none; a line of text will do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import huggingface_hub.file_download
        import huggingface_hub.utils
    return huggingface_hub


def endpoint() -> str:
    """The address of the hub, or of the mirror that the environment names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def first_line(error: Exception) -> str:
    """The gist of an error that a library raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _verify(path: Path, sha256: str | None, repo: str) -> None:
    """Compare a file with its checksum: the listed one, and the one that the hub gave, which names it in the cache."""
    blob = path.resolve()
    expected = {sha256} if sha256 else set[str]()
    if len(blob.name) == 64:
        expected.add(blob.name)
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wrong := expected - {found}:
        with suppress(OSError):  # the cache may be there to be read only
            path.unlink()
            blob.unlink(missing_ok=True)
        way = f"remove {blob} from the cache" if blob.exists() else "it was removed from the cache; try again"
        raise HubError(
            f"the file of {repo} has the checksum {found[:12]}..., not {min(wrong)[:12]}...: it was damaged on its "
            f"way, or somebody changed it; {way}"
        )
