"""One thread, a fixed random stream for every test, and a tiny spec."""

import pytest
import torch
from toy import spec as toy_spec

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def stream():
    """Begin every test at the same place of the global random stream."""
    torch.manual_seed(0)


@pytest.fixture
def spec():
    """What the toy environment shows and takes: 4 numbers in, 2 out."""
    return toy_spec()
