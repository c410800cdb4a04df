"""The passes, in order: from a source graph to one that `build_plan` binds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import numpy as np

from nbcnn.graph import Graph, is_float
from nbcnn.parameter import Parameter
from nbcnn.passes.affine import absorb_affine
from nbcnn.passes.algorithms import Choose, choose_algorithms, direct
from nbcnn.passes.blocks import fuse_blocks
from nbcnn.passes.chains import fuse_chains
from nbcnn.passes.decompose import decompose
from nbcnn.passes.einsum import expand_einsum
from nbcnn.passes.eliminate import eliminate
from nbcnn.passes.fuse import fold_batch_norm, fuse_epilogues
from nbcnn.passes.halves import keep_in_halves
from nbcnn.passes.integer import integer_products
from nbcnn.passes.lanes import multiply_less, pictures_in_lanes
from nbcnn.passes.layout import choose_layouts
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.parts import write_into_concats
from nbcnn.passes.pictures import read_pictures_as_given
from nbcnn.passes.quantized import fuse_quantized
from nbcnn.passes.reorder import pool_before_activation
from nbcnn.passes.shuffle import fuse_shuffles
from nbcnn.passes.specialize import Mode, specialize
from nbcnn.passes.tables import tabulate

__all__ = ["lower_for_inference", "lower_for_training"]

Feeds = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def lower_for_inference(
    source: Graph,
    feeds: Feeds,
    parameters: Mapping[str, Parameter],
    dtype: np.dtype,
    outputs: Iterable[str] | None = None,
    choose: Choose = direct,
    known: Mapping[str, np.ndarray] | None = None,
    backend: str = "cpu",
    kept: np.dtype | None = None,
) -> Graph:
    """The graph that computes `outputs` (default: all) for inputs of these shapes; `choose` picks algorithms; `known`
    are values that it may rest on; `backend`: whose kernels it is for (some forms only pay on a processor);
    `kept`: what activations are kept in, if not in float32.
    """
    graph = specialize(source, feeds, dtype, outputs, known=known)
    fuse_shuffles(graph)
    expand_einsum(graph)
    eliminate(graph)
    fuse_quantized(graph)
    tabulate(graph)
    decompose(graph)
    eliminate(graph)
    absorb_affine(graph)
    fold_batch_norm(graph)
    fuse_epilogues(graph)
    fuse_chains(graph, parameters)
    integer_products(graph)
    choose_layouts(graph)
    if backend == "cpu":
        pictures_in_lanes(graph, train=False)
    choose_algorithms(graph, choose)
    if choose is not direct:
        multiply_less(graph)
    if backend == "cpu":
        read_pictures_as_given(graph)
        fuse_blocks(graph)
        write_into_concats(graph)
    keep_in_halves(graph, kept)
    pack_weights(graph, parameters)
    return graph


def lower_for_training(
    source: Graph,
    feeds: Feeds,
    dtype: np.dtype,
    outputs: Iterable[str],
    mode: Mode,
    trained: Container[str] | None = None,
    backend: str = "cpu",
) -> Graph:
    """The forward graph of a training step; the loss, the gradients and the updates are added to it by the trainer.

    trained: the weights whose gradients are asked for, None for all of them. backend: whose kernels it is for.
    """
    weights = {name for name, array in source.initializers.items() if is_float(array.dtype)}
    graph = specialize(source, feeds, dtype, outputs, mode)
    fuse_shuffles(graph)
    expand_einsum(graph)
    decompose(graph)
    eliminate(graph)
    pool_before_activation(graph)
    fuse_epilogues(graph)
    fuse_chains(graph, weights, weights if trained is None else trained)
    choose_layouts(graph)
    if backend == "cpu":
        pictures_in_lanes(graph, train=True)
    return graph
