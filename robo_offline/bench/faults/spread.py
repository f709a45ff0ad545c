"""How a row of times is told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread(values_ms: Sequence[float]) -> str:
    """Return the median, the highest and the number of values."""
    if len(values_ms) == 1:
        return f"{values_ms[0]:.1f} ms"
    return f"{np.median(values_ms):.1f} ms p50, {max(values_ms):.1f} ms max of {len(values_ms)}"


def figures_ms(name: str, values_ms: Sequence[float]) -> dict[str, float]:
    """Return the same for a machine."""
    return {
        f"{name}_p50_ms": round(float(np.median(values_ms)), 3),
        f"{name}_max_ms": round(float(max(values_ms)), 3),
        f"{name}_count": len(values_ms),
    }
