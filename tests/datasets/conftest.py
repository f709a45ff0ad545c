"""Folders of their own for every test, and the real data when there is some."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Keep data sets and caches of a test out of the user's."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def real_data() -> Path:
    """Folder of logged data of other people."""
    folder = os.environ.get("ROBO_OFFLINE_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ROBO_OFFLINE_REAL_DATA names no folder of logged data")
    return Path(folder)
