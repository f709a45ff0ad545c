"""Graph: a policy's computation as ONNX, and apart from it the weights.

The graph refers to its weights as external data, at their very places in `weights.safetensors`:
any ONNX Runtime can load the two files as they lie, and ours can put other weights in.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from real_robot.runtime.manifest import WEIGHTS
from robo_offline.errors import UserError
from robo_offline.export.deployed import Deployed

ROWS = 2  # of the example; a single one would be taken for a constant
LARGEST_CONSTANT = 1024  # numbers; more than a shape or a bound means that a weight got in


def trace(deployed: Deployed, example: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Return the graph and the weights it needs, as the bytes of their two files.

    `example` has at least one row. Raises UserError where the policy cannot be traced.
    """
    program = _program(deployed, example, ROWS)
    if isinstance(program.model.graph.inputs[0].shape[0], int):  # it counts the rows: just one then
        program = _program(deployed, example, 1)
    weights = _optimise(program.model, deployed.tensors())
    raw = pack(weights)
    return _weightless(program.model, weights, raw), raw


def pack(weights: dict[str, Tensor]) -> bytes:
    """Return the bytes of a weights file."""
    arrays = {name: np.array(value.detach().numpy(), order="C") for name, value in weights.items()}
    return safetensors.numpy.save(arrays)


def _program(deployed: Deployed, example: dict[str, np.ndarray], rows: int) -> Any:
    names = list(deployed.paths)
    leaves = tuple(torch.from_numpy(np.repeat(example[name][:1], rows, 0)) for name in names)
    free = (tuple({0: torch.export.Dim("batch")} for _ in leaves),) if rows > 1 else None
    try:
        with _quiet():
            return torch.onnx.export(
                deployed,
                leaves,
                dynamo=True,
                dynamic_shapes=free,
                input_names=names,
                output_names=["action"],
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors share no class of their own
        cause = error.__cause__ or error
        raise UserError(
            f"the policy of {type(deployed.algo).__name__} cannot be exported",
            expected="tensor operations without a branch on a tensor's value",
            found=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}",
        ) from error


def _optimise(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Simplify the graph without looking at a weight; return those that it uses."""
    import onnxscript.optimizer

    graph = model.graph
    weights = [value for name, value in graph.initializers.items() if name in tensors]
    kept, doors = {}, len(graph.inputs)
    # As inputs without a value, or a bias that is still zero would be optimised away with the
    # addition, and other weights could never bring it back.
    for weight in weights:
        kept[weight.name], weight.const_value = weight.const_value, None
        graph.initializers.pop(weight.name)
        graph.inputs.append(weight)
    with _quiet():
        onnxscript.optimizer.optimize(model)
    del graph.inputs[doors:]
    used = [weight for weight in weights if weight.uses()]
    for weight in used:
        weight.const_value = kept[weight.name]
        graph.initializers[weight.name] = weight
    return {weight.name: tensors[weight.name] for weight in used}


def _weightless(model: Any, weights: dict[str, Tensor], raw: bytes) -> bytes:
    import onnx
    import onnx_ir

    _forget(model)
    proto = onnx_ir.to_proto(model)
    header = int.from_bytes(raw[:8], "little")
    places = json.loads(raw[8 : 8 + header])
    for tensor in proto.graph.initializer:
        if tensor.name not in weights:
            _check_constant(tensor)
            continue
        first, last = places[tensor.name]["data_offsets"]
        where = {"location": WEIGHTS, "offset": 8 + header + first, "length": last - first}
        bare = onnx.TensorProto(
            name=tensor.name,
            dims=tensor.dims,
            data_type=tensor.data_type,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in where.items():
            bare.external_data.add(key=key, value=str(value))
        tensor.CopyFrom(bare)
    return proto.SerializeToString(deterministic=True)


def _check_constant(tensor: Any) -> None:
    count = int(np.prod(tensor.dims))
    if count > LARGEST_CONSTANT:
        raise UserError(
            "a tensor of the policy is neither a parameter nor a buffer",
            found=f"{count} numbers, called {tensor.name} in the graph",
            remedy="register it as a buffer: what is not one can be neither saved nor exchanged",
        )


def _forget(model: Any) -> None:
    """Drop what the exporter notes about source files: no business of a robot."""
    model.metadata_props.clear()
    model.doc_string = None
    graph = model.graph
    graph.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*graph.inputs, *graph.initializers.values()]:
        value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence notes of the exporter about its own parts, and about packages it does without."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
