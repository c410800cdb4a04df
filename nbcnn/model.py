"""Model: a network that can be run, trained, looked at and saved."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.devices import HOST, Device, find_device
from nbcnn.errors import InputError
from nbcnn.graph import Dim, Graph, Value, is_float
from nbcnn.parameter import Parameter

if TYPE_CHECKING:
    from nbcnn.init import Initializer
    from nbcnn.passes.algorithms import Choose
    from nbcnn.plan import Plan
    from nbcnn.repeat import Repeat

__all__ = ["Model", "Port"]

PLANS_KEPT = 8
"""Plans of so many different input shapes are kept; the least recently used goes first."""


@dataclass(frozen=True)
class Port:
    """An input or output of a network. shape: numbers, symbols such as "N" as strings, None where nothing is known."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None


class Model:
    """A network with its weights.

    graph: the network as its file says; never rewritten by running or training, and not to be written to. parameters:
    the present weights by name, each with a `value`. dtype: what floats are computed in, "float32" or "float64". exact:
    forbid algorithms whose rounding differs from the direct sum of products. autotune: choose the algorithm of each
    convolution by timing them, once for a machine and a shape, instead of by the cost model. device: where weights lie
    and kernels run, see devices.find_device.

    Any thread may call a model; calls of one model wait for each other. copy.deepcopy gives another model with weights
    of its own; pickle keeps network, present weights and these settings. Plans are made anew.
    """

    def __init__(
        self,
        graph: Graph,
        dtype: str = "float32",
        *,
        source: str = "",
        exact: bool = False,
        autotune: bool = False,
        device: str | Device = "cpu",
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype {dtype!r} is neither 'float32' nor 'float64'")
        self.graph = graph
        self.dtype = np.dtype(dtype)
        self.source = source
        self.exact = exact
        self.autotune = autotune
        self.device = find_device(device)
        self.lock = threading.RLock()
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._needs: dict[Any, list[str]] = {}
        self._arena: Any = None
        self._last: Repeat | None = None
        self.parameters: dict[str, Parameter] = {}
        self.adopt(graph)

    def adopt(self, graph: Graph) -> None:
        """Take this graph as the model's source; parameters that it shares with the old one keep their values."""
        known = self.parameters
        self.graph = graph
        self.parameters = {
            name: known[name]
            if name in known and known[name].shape == array.shape
            else Parameter(name, array, self.dtype, self.device)
            for name, array in graph.initializers.items()
            if is_float(array.dtype)
        }
        self._plans.clear()
        self._needs.clear()
        self._last = None

    # --- what it is

    @property
    def inputs(self) -> list[Port]:
        """What a caller must feed."""
        return [_port(v) for v in self.graph.inputs]

    @property
    def outputs(self) -> list[Port]:
        return [_port(v) for v in self.graph.outputs]

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own properties, such as how pictures are prepared; saved with the model."""
        return self.graph.metadata

    def __repr__(self) -> str:
        inputs = ", ".join(f"{p.name} {p.dtype}{'' if p.shape is None else list(p.shape)}" for p in self.inputs)
        return f"<nbcnn.Model {self.source or self.graph.name!r}: {len(self.graph.nodes)} nodes, inputs {inputs}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """What copy and pickle make another model of; neither shares a weight that is written to with this one."""
        with self.lock:
            return partial(type(self), **self._settings()), (self.trained_graph(), self.dtype.name)

    def _settings(self) -> dict[str, Any]:
        return {"source": self.source, "exact": self.exact, "autotune": self.autotune, "device": self.device}

    # --- running

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        """Compute outputs, as onnxruntime's InferenceSession.run does.

        outputs: names, of outputs or of any value inside the network; None for all outputs. feeds: input name ->
        array in ONNX order. Returns arrays that are the caller's. Raises InputError for a wrong name, shape or type,
        UnsupportedError where the network needs what the engine does not have, naming nodes.
        """
        if outputs is None:
            with self.lock:
                if self._last is not None and self._last.fits(feeds):
                    return self._last.run(feeds)
        wanted = self._wanted(outputs)
        arrays = self.check_feeds(feeds)
        from nbcnn.repeat import Repeat

        with self.lock:
            changes = Parameter.changes
            plan = self._plan(wanted, arrays)
            declared = {v.name: v.dtype for v in self.graph.outputs}
            call = Repeat(plan, changes, arrays, [declared.get(name) for name in wanted])
            if outputs is None and not self._needs.get(self._key(wanted, arrays)):
                self._last = call
            return call.run(arrays)

    def __call__(self, x: Any) -> np.ndarray:
        """Run a network of one input and one output on x."""
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            names = [p.name for p in self.inputs], [p.name for p in self.outputs]
            raise InputError(
                f"model(x) needs one input and one output; this one has {names[0]} and {names[1]}: use run"
            )
        return self.run(None, {self.graph.inputs[0].name: x})[0]

    def plan(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Plan:
        """The plan that `run` would use for these arrays, made if need be: for reports and tests."""
        with self.lock:
            return self._plan(self._wanted(outputs), self.check_feeds(feeds))

    def _wanted(self, outputs: Sequence[str] | None) -> tuple[str, ...]:
        if outputs is None:
            return tuple(self.graph.output_names())
        if isinstance(outputs, str) or not isinstance(outputs, Iterable):
            raise InputError(f"outputs takes a list of names, such as [{outputs!r}], or None for all")
        known = {name for node in self.graph.nodes for name in node.outputs if name} | set(self.graph.output_names())
        wanted = tuple(outputs)
        for name in wanted:
            if name not in known:
                raise InputError(f"no output {name!r}; this network gives {self.graph.output_names()}")
        return wanted

    def check_feeds(self, feeds: Any) -> dict[str, np.ndarray]:
        """The inputs as arrays, in the network's order; raises InputError for one that does not fit."""
        declared = {v.name: v for v in self.graph.inputs}
        if not isinstance(feeds, Mapping):
            kind = type(feeds).__name__
            raise InputError(f"feeds takes arrays by name, such as {{name: x}}, for {list(declared)}, not {kind}")
        for name in feeds:
            if name not in declared:
                raise InputError(f"no input {name!r}; this network takes {list(declared)}")
        missing = [name for name in declared if name not in feeds]
        if missing:
            raise InputError(f"input {missing[0]!r} is not fed; this network takes {list(declared)}")
        return {name: _checked(declared[name], feeds[name], self.device, self.dtype) for name in declared}

    @staticmethod
    def _key(wanted: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> Any:
        return wanted, tuple((n, a.shape, a.dtype.str) for n, a in arrays.items())

    def _plan(self, wanted: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> Plan:
        """The plan for inputs of these shapes, and, where shapes depend on values, for these values: what they are is
        computed first, by a plan of its own where they are not inputs.
        """
        from nbcnn.ops.base import UndeterminedError

        key = self._key(wanted, arrays)
        needs = list(self._needs.get(key) or (v.name for v in self.graph.inputs if _is_text(v, arrays)))
        known: dict[str, np.ndarray] = {}
        while True:
            for name in needs[len(known) :]:
                known[name] = arrays[name] if name in arrays else self._value(name, arrays)
            try:
                plan = self._plan_for(key, wanted, arrays, known)
                self._needs[key] = needs  # only of what has a plan, with which it goes
                return plan
            except UndeterminedError as error:
                if error.value in known:
                    raise
                needs.append(error.value)

    def _value(self, name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """A value inside of the network, for these inputs."""
        from nbcnn.repeat import Repeat

        changes = Parameter.changes
        return Repeat(self._plan((name,), arrays), changes, arrays, [None]).run(arrays)[0]

    def _plan_for(
        self, key: Any, wanted: tuple[str, ...], arrays: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]
    ) -> Plan:
        key = (key, tuple((a.tobytes() if not a.dtype.hasobject else tuple(a.flat)) for a in known.values()))
        if key in self._plans and self._plans[key].is_current():
            self._plans.move_to_end(key)
            return self._plans[key]
        from nbcnn.lower import lower_for_inference

        shapes = {name: (a.shape, a.dtype) for name, a in arrays.items()}
        graph = lower_for_inference(
            self.graph,
            shapes,
            self.parameters,
            self.dtype,
            wanted,
            self.chooser(),
            known,
            self.device.backend,
            self.device.kept,
        )
        plan = self._plans[key] = self.build(graph)
        while len(self._plans) > PLANS_KEPT:
            (gone, _), _ = self._plans.popitem(last=False)
            if all(gone != kept for kept, _ in self._plans):
                self._needs.pop(gone, None)
        return plan

    def chooser(self) -> Choose:
        """What picks the algorithm of each convolution."""
        from nbcnn.passes.algorithms import by_cost, direct

        if self.exact or self.device is not HOST:
            return direct
        if self.autotune:
            from nbcnn.autotune import Tuner
            from nbcnn.threads import get_num_threads

            return Tuner(get_num_threads())
        return by_cost

    def build(self, graph: Graph) -> Plan:
        """Bind a lowered graph to this model's weights and memory."""
        from nbcnn.kernels.cpu.threads import most
        from nbcnn.placement import Arena
        from nbcnn.plan import build_plan
        from nbcnn.small import is_small

        if self._arena is None:
            self._arena = Arena()
        used = {name: p for name, p in self.parameters.items() if name in graph.values}
        if self.device is not HOST:
            return build_plan(graph, used, self.dtype, self._arena, self.device)
        alone = is_small(graph)
        return build_plan(graph, used, self.dtype, self._arena, threads=1 if alone else most(), alone=alone)

    # --- changing it: each gives another model with the present weights, and leaves this one as it is

    def replace_head(
        self,
        classes: int,
        *,
        output: str | None = None,
        init: str | Initializer = "glorot_uniform",
        seed: int = 0,
        labels: Iterable[str] | None = None,
    ) -> Model:
        """With a new last layer, for so many classes, called `labels`; see surgery.new_head."""
        from nbcnn.surgery import new_head

        return self._with(new_head(self, classes, output=output, init=init, seed=seed, labels=labels))

    def cut(self, name: str) -> Model:
        """The front, up to the node or value of this name: a feature extractor; see surgery.cut."""
        from nbcnn.surgery import cut

        return self._with(cut(self, name))

    def rename(self, names: Mapping[str, str]) -> Model:
        """With other names of inputs, outputs or values, new names by old ones; see surgery.rename."""
        from nbcnn.surgery import rename

        return self._with(rename(self, names))

    def set_batch(self, batch: int | str) -> Model:
        """For batches of this size, or of any ("N"), also where a file has its size inside; see surgery.set_batch."""
        from nbcnn.surgery import set_batch

        return self._with(set_batch(self, batch))

    def convert_fc_to_conv(self) -> Model:
        """With convolutions in place of fully connected layers, for larger pictures; see surgery.convert_fc_to_conv."""
        from nbcnn.surgery import convert_fc_to_conv

        return self._with(convert_fc_to_conv(self))

    def fold_batch_norm(self) -> Model:
        """For export: batch norms become part of the layers before them; see surgery.fold_batch_norm."""
        from nbcnn.surgery import fold_batch_norm

        return self._with(fold_batch_norm(self))

    def _with(self, graph: Graph) -> Model:
        return Model(graph, self.dtype.name, **self._settings())

    # --- saving and proof

    def save(self, path: str | os.PathLike[str], opset: int | None = None) -> None:
        """Write the network with its present weights: same graph, names, opset and metadata as it was loaded with.

        opset: another version of ONNX's operators, to which onnx's converter brings the nodes. Raises FileError when
        the file cannot be written, ModelError when the network has no form in that version; an old file then stays
        whole.
        """
        from nbcnn.api import save

        save(self, path, opset)

    def trained_graph(self) -> Graph:
        """The source graph with the present weights (arrays of weights that never changed are shared, not copied)."""
        graph = self.graph.copy()
        for name, parameter in self.parameters.items():
            if parameter.version:
                graph.initializers[name] = parameter.value
        return graph


def _on_host(value: Value, given: Any) -> np.ndarray:
    """What was fed, as an array of the host's memory."""
    if not isinstance(given, np.ndarray) and hasattr(given, "__cuda_array_interface__"):
        raise InputError(f"input {value.name!r} lies in a GPU's memory: load the network with device='cuda'")
    try:
        return np.asarray(given)
    except ValueError:
        raise InputError(f"input {value.name!r} is not an array: its rows differ in length") from None


def _is_text(value: Value, arrays: Mapping[str, np.ndarray]) -> bool:
    return value.name in arrays and arrays[value.name].dtype.kind in "OSU"


def _port(value: Value) -> Port:
    return Port(value.name, "?" if value.dtype is None else value.dtype.name, value.shape)


def _checked(value: Value, given: Any, device: Device, dtype: np.dtype) -> Any:
    """The array that was fed, if it fits what the network declares; the first dimension, the batch, is free. One that
    lies in the memory of the device that the model is on stays there.
    """
    array = device.adopt(given)
    if array is not None:
        wanted = dtype if value.dtype is None or is_float(value.dtype) else value.dtype
        if array.dtype != wanted or not array.is_c_contiguous():
            raise InputError(f"input {value.name!r} on the GPU must be {wanted} and contiguous, not {array.dtype}")
    else:
        array = _on_host(value, given)
    if array.dtype.kind in "OSUT" and (value.dtype is None or not value.dtype.hasobject):
        raise InputError(f"input {value.name!r} is not an array of numbers")
    if value.dtype is not None and array.dtype != value.dtype and not (is_float(array.dtype) and is_float(value.dtype)):
        raise InputError(f"input {value.name!r} takes {value.dtype}, not {array.dtype}")
    shape = array.shape if value.shape is None else value.shape
    fits = len(array.shape) == len(shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise InputError(
            f"input {value.name!r} takes shape {list(shape)} (any first dimension), not {list(array.shape)}"
        )
    if array.size == 0 and 0 not in (value.shape or ()):
        raise InputError(f"input {value.name!r} is empty: shape {list(array.shape)}")
    return array
