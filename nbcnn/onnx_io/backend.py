"""The engine as a backend of ONNX: `prepare`, `run_model`, `run_node` and `supports_device`.

See onnx.backend.base. Networks that say float64 anywhere are computed in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.backend import base

__all__ = ["Backend", "Prepared", "prepare", "run_model", "run_node", "supports_device"]


class Prepared(base.BackendRep):
    """A loaded network. model: an nbcnn.Model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for inputs in the network's order, by name, or for the array of its one input."""
        names = [port.name for port in self.model.inputs]
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            arrays = inputs if isinstance(inputs, Sequence) else [inputs]
            feeds = dict(zip(names, arrays, strict=False))
        return tuple(self.model.run(None, feeds))


class Backend(base.Backend):
    """The class that onnx's own test suite takes."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Load a network. Raises ModelError where it is not valid, UnsupportedError where it needs what the engine does
        not have.
        """
        from nbcnn.api import load

        if not cls.supports_device(device):
            raise ValueError(f"device {device!r}: this backend computes on 'CPU'")
        ports = (*model.graph.input, *model.graph.output)
        wide = any(value.type.tensor_type.elem_type == TensorProto.DOUBLE for value in ports)
        return Prepared(load(model, dtype="float64" if wide else "float32"))

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """The outputs of one node. outputs_info: (element type, shape) of each; None lets onnx infer them."""
        arrays = [np.asarray(array) for array in inputs]
        names = [name for name in node.input if name]
        ports = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        results = [name for name in node.output if name]
        if outputs_info is None:
            outputs = [onnx.ValueInfoProto(name=name) for name in results]
        else:
            outputs = [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
                for name, (kind, shape) in zip(results, outputs_info, strict=True)
            ]
        graph = helper.make_graph([node], "node", ports, outputs)
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])
        return cls.run_model(onnx.shape_inference.infer_shapes(model), dict(zip(names, arrays, strict=True)), device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return base.Device(device).type == base.DeviceType.CPU


prepare, run_model, run_node = Backend.prepare, Backend.run_model, Backend.run_node
supports_device = Backend.supports_device
