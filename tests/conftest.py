"""One thread, a fixed random stream for every test, and a tiny spec."""

import pytest
import torch
import toy

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def stream():
    """Begin every test at the same place of the global random stream."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def closed_runs():
    """Let go of the files and processes of every run that a test made."""
    yield
    while toy.OPEN:
        toy.OPEN.pop().close()


@pytest.fixture
def spec():
    """What the toy environment shows and takes: 4 numbers in, 2 out."""
    return toy.spec()
