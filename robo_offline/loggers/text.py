"""Numbers, shares and durations as people read them."""

from __future__ import annotations

import math
from typing import Any

from robo_offline.loggers.logger import is_number

NOTHING = "–"


def number(value: Any) -> str:
    """Write a number in at most four digits' precision; anything else as it is."""
    if value is None:
        return NOTHING
    if not is_number(value):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e7):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def rate(value: Any) -> str:
    """Write a rate with one decimal where it is small."""
    if not is_number(value) or not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def percent(share: Any) -> str:
    """Write a share of one as a percentage."""
    if not is_number(share) or not math.isfinite(share):
        return NOTHING
    return f"{100 * share:.0f} %"


def between(low: Any, high: Any) -> str:
    """Write the bounds of a share of one as percentages."""
    if not (is_number(low) and is_number(high)) or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def duration(seconds: Any) -> str:
    """Write seconds as 2:05 or 1:02:05, and days apart."""
    if not is_number(seconds) or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
