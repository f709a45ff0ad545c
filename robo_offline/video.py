"""Videos: episodes side by side in one H.264 file that any browser plays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

FRAMES_PER_SECOND = 10


def grid(clips: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Lay clips of (H, W, 3) frames side by side; one that ends early rests on its last."""
    columns = math.ceil(math.sqrt(len(clips)))
    rows = math.ceil(len(clips) / columns)
    height, width = clips[0][0].shape[:2]
    frames = []
    for moment in range(max(len(clip) for clip in clips)):
        canvas = np.zeros((rows * height, columns * width, 3), np.uint8)
        for number, clip in enumerate(clips):
            top, left = (number // columns) * height, (number % columns) * width
            canvas[top : top + height, left : left + width] = clip[min(moment, len(clip) - 1)]
        frames.append(canvas)
    return frames


def write_video(path: Path, frames: Sequence[np.ndarray]) -> Path | None:
    """Write frames (H, W, 3) uint8 as mp4; None where PyAV is not installed."""
    try:
        import av
    except ImportError:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.height, stream.width = (side - side % 2 for side in frames[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for image in frames:
            even = image[: stream.height, : stream.width]
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return partial.replace(path)
