"""Session: a graph without weights and the weights, made one, in ONNX Runtime on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from real_robot.runtime.checks import Checks, Observation
from real_robot.runtime.contract import Contract
from real_robot.runtime.refused import ActionRefused, BundleRefused

NOWHERE = "/nonexistent"  # where the graph may look for weights that were not given to it
ONNX_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


class Session:
    """Answers observations with actions; the weights it was made with never change.

    It remembers nothing: where a policy looks at several images of a camera, they come stacked.
    Weights are put in before the runtime optimises, so nothing of other weights can be folded into
    the graph; they are all of them, since the graph holds none and is given no place to look.
    """

    def __init__(self, graph: bytes, weights: Mapping[str, np.ndarray], contract: Contract):
        contract = contract.stacked()
        self.contract, self.checks = contract, Checks(contract)
        # ONNX Runtime reads these arrays where they are, for as long as it lives.
        self.weights = {name: np.array(value, order="C") for name, value in weights.items()}
        try:
            self.session = _open(graph, self.weights)
        except Exception as error:  # its errors share no class of their own
            raise BundleRefused(
                "ONNX Runtime does not take this graph with these weights", found=_first(error)
            ) from None
        self._check_graph()
        self.outputs = [node.name for node in self.session.get_outputs()]

    @property
    def batches(self) -> bool:
        """Whether it takes several observations at once."""
        return bool(self.session.get_inputs()[0].shape[0] != 1)

    def act(self, observation: Observation) -> np.ndarray:
        """Return actions (chunk, dim) float64, finite and within the bounds, or refuse."""
        return self.checks.actions(self.batch(self.checks.feed(observation)))

    def batch(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return actions (B, chunk, dim) float32 for arrays with a batch axis, unchecked."""
        try:
            return self.compute(feed)
        except Exception as error:
            raise ActionRefused("the policy cannot be computed", found=_first(error)) from None

    def compute(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute them; any error is `batch`'s to tell."""
        return self.session.run(self.outputs, feed)[0]

    def _check_graph(self) -> None:
        """Refuse a graph whose doors are not those of the contract."""
        contract = self.contract
        found = {node.name: (node.type, node.shape[1:]) for node in self.session.get_inputs()}
        expected = {
            leaf.key: (ONNX_TYPES[leaf.dtype], list(leaf.shape)) for leaf in contract.observation
        }
        out = [(node.type, node.shape[1:]) for node in self.session.get_outputs()]
        action = (ONNX_TYPES["float32"], [contract.action.chunk, contract.action.dim])
        if found != expected or out != [action]:
            raise BundleRefused(
                "the graph is not that of the contract",
                expected=f"{expected} -> {action}",
                found=f"{found} -> {out}",
            )


def _open(graph: bytes, weights: Mapping[str, np.ndarray]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, NOWHERE)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
