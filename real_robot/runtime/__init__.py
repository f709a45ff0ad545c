"""What acts on a robot: a policy bundle, checked byte by byte, run without what trained it.

A bundle is a folder. `policy.onnx` is the computation and holds no weight, `weights.safetensors`
holds all of them, `probe.safetensors` says what must come out, and `manifest.json` says what the
policy sees and does, with the hash of every other file; `manifest.sig` signs it.

Nothing here imports torch or the training stack, and nothing is unpickled.
"""

from real_robot.runtime.bundle import Bundle, read
from real_robot.runtime.contract import Action, Camera, Contract, Leaf, Normaliser, Part
from real_robot.runtime.manifest import PolicyManifest
from real_robot.runtime.policy import ActionChunk, OrtPolicy, SwapReport, load_bundle
from real_robot.runtime.refused import (
    ActionRefused,
    BundleRefused,
    DeadlineMissed,
    ObservationRefused,
    Refused,
)

__all__ = [
    "Action",
    "ActionChunk",
    "ActionRefused",
    "Bundle",
    "BundleRefused",
    "Camera",
    "Contract",
    "DeadlineMissed",
    "Leaf",
    "Normaliser",
    "ObservationRefused",
    "OrtPolicy",
    "Part",
    "PolicyManifest",
    "Refused",
    "SwapReport",
    "load_bundle",
    "read",
]
