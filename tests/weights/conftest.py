"""A hub on loopback, and a cache of its own for every test."""

import huggingface_hub.constants
import huggingface_hub.file_download
import huggingface_hub.utils
import pytest

from tests.weights.loopback import Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    served = Hub()
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    huggingface_hub.utils.disable_progress_bars()
    yield served
    served.close()
