"""Trainer: optimization steps on a model, and whole training runs."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.arguments import check_count
from nbcnn.errors import DataError, InputError, TrainingError
from nbcnn.graph import Value, is_float
from nbcnn.model import Model
from nbcnn.optim import SGD, Optimizer
from nbcnn.progress import Clock, Epoch, History, Progress, interrupts
from nbcnn.scaling import LossScale

if TYPE_CHECKING:
    from nbcnn.plan import Plan

__all__ = ["Epoch", "History", "Progress", "Trainer"]


@dataclass
class _Step:
    """A bound training step. split: the number of plan steps before anything is changed."""

    plan: Plan
    split: int


@dataclass
class _Snapshot:
    """What a run goes back to when its loss stops being a number."""

    weights: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    steps_done: int


class Trainer:
    """Trains a model in place.

    loss: "cross_entropy" (targets: class indices, or one-hot rows), "hinge" (class indices), "squared_error",
    "binary_cross_entropy", "binary_cross_entropy_with_logits" or "dice". Cross-entropy on an output that comes from a
    Softmax is taken of what goes into it. output: which output is trained, where there are several. train: patterns
    of initializers to train besides the default ones; freeze: patterns of initializers and nodes to leave alone (a
    frozen batch norm keeps using its running statistics). l1, l2: penalties on weights of two dimensions and more (l2
    adds strength / 2 * sum of squares to what is minimized; the reported loss is that of the data alone). seed: of
    dropout. schedule: step (from 1) -> factor of the learning rate.

    Batch norms use batch statistics and dropout is on, as in PyTorch's train(), unless frozen. Running and saving the
    model have them as at inference from now on, also where the file said training_mode=1.
    """

    def __init__(
        self,
        model: Model,
        loss: str = "cross_entropy",
        optimizer: Optimizer | None = None,
        *,
        output: str | None = None,
        train: Sequence[str] = (),
        freeze: Sequence[str] = (),
        l1: float = 0.0,
        l2: float = 0.0,
        seed: int = 0,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        from nbcnn.passes.specialize import need_operators
        from nbcnn.trainables import settle, trainable, untie
        from nbcnn.training_graph import FOUND, LOSSES, RANDOM, SCALE, logits_of

        if loss not in LOSSES:
            raise InputError(f"loss {loss!r} is none of {', '.join(LOSSES)}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise InputError(f"optimizer must be one such as nbcnn.SGD(lr=0.01), not {optimizer!r}")
        if isinstance(train, str) or isinstance(freeze, str):
            raise InputError("train and freeze take lists of patterns, such as ['conv1.*'], not one string")
        if not 0 <= seed < 2**63:
            raise InputError(f"seed must be from 0 to 2**63 - 1, not {seed}")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer or SGD(lr=0.01)
        self.freeze = tuple(freeze)
        self.penalties = (l1, l2)
        self.schedule = schedule
        self.steps_done = 0
        with model.lock:
            model.adopt(settle(untie(model.graph)))
            self.output = _chosen_output(model, output)
            self.logits = logits_of(model.graph, self.output, loss)
            self.trained = trainable(model.graph, train, freeze)
        if not self.trained:
            need_operators(model.graph)
            raise InputError(
                "nothing is left to train: every weight is frozen"
                if freeze
                else "nothing to train: no operator of this network has weights; name others with train (--train)"
            )
        self._device = model.device
        self._seed = seed
        self._written: dict[str, bytes] = {}
        self._states: dict[str, Any] = {RANDOM: self._device.put(np.array([seed, 0], np.int64))}
        self.scale = LossScale() if self._device.kept == np.float16 and model.dtype == np.float32 else None
        if self.scale is not None:
            for name in (SCALE, FOUND):
                self._states[name] = self._device.put(np.zeros(1, model.dtype))
        for name in ("weights", "others"):
            self._states[f"nbcnn.hyper.{name}"] = self._device.put(self.optimizer.hyper(1, l1, l2))
        self._steps: OrderedDict[Any, _Step] = OrderedDict()

    # --- one step

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.optimizer.lr * (self.schedule(self.steps_done + 1) if self.schedule else 1.0)

    def step(self, x: Any, t: Any) -> float:
        """One optimization step on a batch; returns the loss before its update.

        x: the network's input (an array, or a dictionary of arrays for several), t: targets. Where gradients in
        float16 overflow, nothing is updated, and the next step scales them down (see scaling.LossScale). Raises
        InputError for what does not fit, and TrainingError, before anything is changed, when the loss is not a finite
        number.
        """
        from nbcnn.executor import execute

        with self.model.lock:
            step, loss = self._forward(x, t)
            overflowed = self.scale is not None and self._overflowed()
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {self.steps_done + 1} with learning rate {self.lr:g}: "
                    "lower the learning rate, or look for values that are not finite in the data"
                )
            if self.scale is not None and not self.scale.accepts(overflowed):
                return loss
            execute(step.plan, step.split)
            self.steps_done += 1
            for name in self._changed:
                self.model.parameters[name].version += 1
        return loss

    def _overflowed(self) -> bool:
        """Whether a gradient of the step did; looked at once."""
        from nbcnn.training_graph import FOUND

        found = bool(self._device.read(self._states[FOUND])[0])
        if found:
            self._device.write(self._states[FOUND], 0)
        return found

    def plan(self, x: Any, t: Any) -> Plan:
        """The plan that `step` would use for a batch like this, made if need be: for reports, and to compile it."""
        with self.model.lock:
            return self._bound(self._feeds(x), self._target(t)).plan

    def _feeds(self, x: Any) -> dict[str, np.ndarray]:
        return self.model.check_feeds(x if isinstance(x, dict) else {self.model.graph.inputs[0].name: x})

    def _forward(self, x: Any, t: Any) -> tuple[_Step, float]:
        """The step for a batch, computed up to its loss, and the loss; nothing of the model is changed yet."""
        from nbcnn.executor import execute
        from nbcnn.training_graph import LOSS, TARGET

        feeds = self._feeds(x)
        target = self._target(t)
        with self.model.lock:
            step = self._bound(feeds, target)
            for name, array in (*feeds.items(), (TARGET, target)):
                if name in step.plan.arrays:
                    step.plan.feed(name, array)
            self._set_hyper()
            execute(step.plan, 0, step.split)
            return step, float(step.plan.fetch(LOSS)[0])

    def _target(self, t: Any) -> np.ndarray:
        try:
            target = np.asarray(t)
        except ValueError:
            raise InputError("the targets are not an array: their rows differ in length") from None
        if is_float(target.dtype):
            return target.astype(self.model.dtype, copy=False)
        if target.dtype.kind not in "iub":
            raise InputError(f"targets must be numbers, not {target.dtype}")
        if self.loss in ("cross_entropy", "hinge"):
            return target.astype(np.int64, copy=False)
        return target.astype(self.model.dtype)

    def _set_hyper(self) -> None:
        from nbcnn.training_graph import RANDOM, SCALE

        number = self.steps_done + 1
        if self.scale is not None:
            self._set_state(SCALE, np.array([self.scale.factor], self.model.dtype))
        scale = self.schedule(number) if self.schedule else 1.0
        for name, (l1, l2) in (("weights", self.penalties), ("others", (0.0, 0.0))):
            self._set_state(f"nbcnn.hyper.{name}", self.optimizer.hyper(number, l1, l2, scale))
        self._set_state(RANDOM, np.array([self._seed, self.steps_done], np.int64))

    def _set_state(self, name: str, values: np.ndarray) -> None:
        """Write what differs from the last step's; to a GPU a copy of a few numbers costs as much as a small layer."""
        content = values.tobytes()
        if self._written.get(name) != content:
            self._device.write(self._states[name], values)
            self._written[name] = content

    def _bound(self, feeds: dict[str, np.ndarray], target: np.ndarray) -> _Step:
        from nbcnn.training_graph import TARGET

        key = (tuple((n, a.shape) for n, a in feeds.items()), target.shape, target.dtype.str)
        if key in self._steps and self._steps[key].plan.is_current():
            self._steps.move_to_end(key)
        else:
            self._steps[key] = self._build(feeds, target)
            while len(self._steps) > 4:
                self._steps.popitem(last=False)
        found = self._steps[key]
        classes = found.plan.graph.values.get(self.logits)
        if found.plan.graph.values[TARGET].dtype == np.int64 and classes is not None:
            _check_labels(target, classes)
        return found

    def _build(self, feeds: dict[str, np.ndarray], target: np.ndarray) -> _Step:
        from nbcnn.training_graph import LOSS, step_graph

        model = self.model
        graph = step_graph(
            model.graph,
            {name: (a.shape, a.dtype) for name, a in feeds.items()},
            (target.shape, target.dtype),
            logits=self.logits,
            loss=self.loss,
            trained=self.trained,
            freeze=self.freeze,
            parameters=model.parameters,
            optimizer=self.optimizer,
            states=self._states,
            dtype=model.dtype,
            choose=model.chooser(),
            device=self._device,
        )
        plan = model.build(graph)
        looked_at = [i for i, n in enumerate(plan.nodes) if LOSS in n.outputs or n.op == "Unscale"]
        split = 1 + max(looked_at)
        effects = {name for node in graph.nodes if node.attrs.get("effect") for name in (*node.inputs, *node.outputs)}
        self._changed = [name for name in model.parameters if name in effects]
        return _Step(plan, split)

    # --- whole runs

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        seed: int = 0,
        augment: Any = None,
        patience: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        after_epoch: Callable[[Epoch], None] | None = None,
    ) -> History:
        """Train for some epochs on a data set of nbcnn.data, or on a pair of arrays (x, t), reshuffled each epoch
        from the seed.

        validation: a data set on which the accuracy is measured after each epoch. patience: stop after so many epochs
        in which it did not improve. Ctrl-C, or SIGTERM, ends the run after the present step (a second at once). When
        the loss stops being a number, TrainingError is raised and the model has the weights of the last epoch's end.
        """
        from nbcnn.data import Loader, as_dataset

        check_count("epochs", epochs)
        if patience is not None:
            check_count("patience", patience)
            if validation is None:
                raise InputError("patience needs validation data, on which to see whether an epoch was better")
        loader = Loader(as_dataset(train), batch_size, shuffle=True, seed=seed, augment=augment)
        if len(loader) == 0:
            raise DataError("the training data is empty")
        held = None if validation is None else as_dataset(validation)
        history, best, since = History(), -1.0, 0
        with interrupts() as stopped:
            clock = Clock(epochs * len(loader))
            for number in range(1, epochs + 1):
                start, before = time.monotonic(), self._snapshot()
                try:
                    loss = self._epoch(loader, number, epochs, clock, progress, stopped)
                except TrainingError as error:
                    self._restore(before)
                    when = f"those of the end of epoch {number - 1}" if number > 1 else "as they were before training"
                    raise TrainingError(f"{error}; the weights are {when}") from None
                if loss is None:
                    history.interrupted = True
                    break
                accuracy = None if held is None else self.evaluate(held, batch_size)
                result = Epoch(number, loss, accuracy, time.monotonic() - start)
                history.epochs.append(result)
                if after_epoch:
                    after_epoch(result)
                if accuracy is not None and accuracy > best:
                    best, since = accuracy, 0
                else:
                    since += 1
                if stopped.is_set() or (patience is not None and accuracy is not None and since >= patience):
                    history.interrupted = stopped.is_set()
                    break
        return history

    def _epoch(
        self,
        loader: Any,
        number: int,
        epochs: int,
        clock: Clock,
        progress: Callable[[Progress], None] | None,
        stopped: threading.Event,
    ) -> float | None:
        """One pass over the data; the mean loss, None when it was interrupted."""
        total, count = 0.0, 0
        for index, (x, t) in enumerate(loader):
            loss = self.step(x, t)
            total, count = total + loss * len(x), count + len(x)
            clock.tick(len(x))
            if progress:
                progress(Progress(number, epochs, index + 1, len(loader), loss, clock.rate, clock.left))
            if stopped.is_set():
                return None
        self._check_finite(x, t)
        return total / count

    def _check_finite(self, x: Any, t: Any) -> None:
        """The loss of a step shows what the step before it did to the weights; of the last one, this shows it."""
        after = f"after step {self.steps_done} with learning rate {self.lr:g}: lower the learning rate"
        for name in self._changed:
            if not np.isfinite(self._device.read(self.model.parameters[name].data)).all():
                raise TrainingError(f"{name!r} holds values that are not finite {after}")
        loss = self._forward(x, t)[1]
        if self.scale is not None:
            self._overflowed()  # of no step
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss} {after}")

    def predict(self, x: Any) -> np.ndarray:
        """The values that the loss is taken of (before a final Softmax), at inference."""
        feeds = x if isinstance(x, dict) else {self.model.graph.inputs[0].name: x}
        return self.model.run([self.logits], feeds)[0]

    def evaluate(self, data: Any, batch_size: int = 32) -> float:
        """The share of a labelled data set that the model classifies right."""
        from nbcnn.data import Loader, as_dataset

        right = count = 0
        for x, t in Loader(as_dataset(data), batch_size, shuffle=False):
            scores = self.predict(x).reshape(len(x), -1)
            labels = t if np.ndim(t) == 1 else np.argmax(np.reshape(t, (len(x), -1)), 1)
            right += int((scores.argmax(1) == labels).sum())
            count += len(x)
        if count == 0:
            raise DataError("the data to evaluate on is empty")
        return right / count

    def _snapshot(self) -> _Snapshot:
        """What steps change: weights, running statistics, the optimizer's states."""
        names = getattr(self, "_changed", self.model.parameters)  # before the first step: whatever it may change
        weights = {name: self.model.parameters[name].value for name in names}
        states = {name: self._device.read(array) for name, array in self._states.items()}
        return _Snapshot(weights, states, self.steps_done)

    def _restore(self, before: _Snapshot) -> None:
        with self.model.lock:
            for name, value in before.weights.items():
                if name in self._changed:
                    self.model.parameters[name].value = value
            for name, array in self._states.items():
                self._device.write(array, before.states.get(name, 0))
            self._written.clear()
            self.steps_done = before.steps_done


def _chosen_output(model: Model, output: str | None) -> str:
    names = model.graph.output_names()
    if output is None and len(names) > 1:
        raise InputError(f"this network has {len(names)} outputs, {names}: say which one to train with output=")
    if output is not None and output not in names:
        raise InputError(f"no output {output!r}; this network gives {names}")
    return output or names[0]


def _check_labels(target: np.ndarray, logits: Value) -> None:
    classes = logits.dims[1]
    bad = np.flatnonzero((target < 0) | (target >= classes))
    if bad.size:
        value = target.reshape(-1)[bad[0]]
        raise DataError(
            f"label {value} of sample {bad[0]} is out of range: the network has {classes} classes, 0 to {classes - 1}"
        )
