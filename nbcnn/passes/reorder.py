"""Let a maximum over windows come before the activation that it follows, while training.

Rule: Relu or Clip, then MaxPool without indices, becomes MaxPool, then the activation, where nobody else reads what
lies between, and unless the activation follows a batch norm, which applies it and its gradient in passing. Both grow
with their input, so the result and its gradient are the same, and the activation works on what is left of a picture
instead of all of it, twice. (At inference the activation is free: the convolution applies it while it stores.)
"""

from __future__ import annotations

from nbcnn.graph import Graph

__all__ = ["pool_before_activation"]


def pool_before_activation(graph: Graph) -> None:
    producers, sole = graph.producers(), graph.sole_readers()
    for pool in graph.nodes:
        between = pool.inputs[0] if pool.inputs else ""
        activation = producers.get(between)
        if pool.op != "MaxPool" or pool.output(1) or activation is None or activation.op not in ("Relu", "Clip"):
            continue
        source = producers.get(activation.inputs[0])
        if between not in sole or (source and source.op == "BatchNormalization"):
            continue
        result, value = pool.outputs[0], graph.values[pool.outputs[0]]
        pooled = graph.new_value(f"{result}.pooled", value.dtype, value.dims, value.layout)
        pool.inputs[0], pool.outputs[0] = activation.inputs[0], pooled
        activation.inputs[0], activation.outputs[0] = pooled, result
        producers[result], producers[pooled] = activation, pool
    graph.sort()
