"""Compute convolutions of few channels with a lane for each picture, where there are pictures enough.

Rules, after layouts are chosen:
1. a convolution of one group, without dilation or residual, of up to MOST_CHANNELS channels on either side, *can* be
   computed so (where panels of weights are no narrower than a tile); pooling and activations that treat all channels
   alike and keep zeros finite go along;
2. such operators that hand values to each other form a region; a region is converted if one of its convolutions
   would leave lanes empty, having too few output channels, and if there is work enough for what enters and leaves it;
3. what a region reads goes through `ToBatch`, what others read of it through `FromBatch`; conversions of layout at its
   edges are merged into these;
4. at inference, where there are too few pictures, a convolution of a few planes, with stride 1 and without padding,
   is computed with a lane for each pixel (`PlanesConv`);
5. at inference, a maximum over windows without overlap is taken while such a convolution stores;
6. `multiply_less`: a convolution of pictures in lanes, with stride 1 and some depth or a maximum, multiplies less by
   Toom and Cook's algorithm, which rounds otherwise, where a block of evaluated pictures stays in the L2 cache.
"""

from __future__ import annotations

from math import prod

from nbcnn.graph import Graph, Node
from nbcnn.kernels.cpu.lane_tiling import MORE_ROWS, pictures
from nbcnn.kernels.cpu.tiling import lanes, panel_width
from nbcnn.ops.batch_lanes import DIRECT, FEWER, POINTS, line_outputs

__all__ = ["multiply_less", "pictures_in_lanes"]

MOST_CHANNELS, MOST_PLANES = 32, 4
LEAST_DEPTH, LEAST_BLOCKS, MOST_EVALUATED = 4, 4, 512 * 1024
"""Rule 6: input channels, blocks of pictures, each of which one thread computes, and bytes of one when evaluated."""
LEAST_WORK = 16
"""Rule 2: multiplications for each element that has to be moved into lanes or out of them."""
FILLED, CHANNELS_FILL = 0.85, 0.7
"""The share of lanes that pictures must fill, and that output channels must not."""
ALIKE = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh")


def _few_channels(node: Node, graph: Graph) -> bool:
    """Rule 1, for convolutions."""
    w = graph.values[node.inputs[1]].dims
    x = graph.values[node.inputs[0]]
    assert x.dtype is not None
    if min(panel_width(channels, x.dtype.itemsize) for channels in w[:2]) < MORE_ROWS:
        return False
    plain = node.attrs["group"] == 1 and max(node.attrs["dilations"]) == 1 and not node.input(3)
    return plain and max(w[:2]) <= MOST_CHANNELS


def _leaves_lanes(node: Node, graph: Graph) -> bool:
    """Whether output channels would leave lanes empty."""
    value = graph.values[node.outputs[0]]
    assert value.dtype is not None
    return value.dims[1] < CHANNELS_FILL * lanes(value.dtype.itemsize)


def _can(node: Node, graph: Graph, outputs: set[str]) -> bool:
    x, y = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    if x.layout != "last" or len(x.dims) < 3 or len([n for n in node.outputs if n]) != 1 or y.name in outputs:
        return False
    assert x.dtype is not None
    block = pictures(x.dtype.itemsize)
    if x.dims[0] < FILLED * block * -(-x.dims[0] // block):
        return False
    return _few_channels(node, graph) if node.op == "Conv" else node.op in ALIKE


def _regions(graph: Graph) -> list[set[int]]:
    """The nodes of each region, by position."""
    outputs = set(graph.output_names())
    able = {i for i, node in enumerate(graph.nodes) if node.inputs and node.outputs and _can(node, graph, outputs)}
    home: dict[str, set[int]] = {}
    found: list[set[int]] = []
    for i in sorted(able):
        node = graph.nodes[i]
        region = home.get(node.inputs[0])
        if region is None:
            region = set()
            found.append(region)
            home[node.inputs[0]] = region
        region.add(i)
        home[node.outputs[0]] = region
    return [r for r in found if _pays([graph.nodes[i] for i in sorted(r)], graph)]


def _pays(region: list[Node], graph: Graph) -> bool:
    """Rule 2."""
    convolutions = [node for node in region if node.op == "Conv"]
    if not any(_leaves_lanes(node, graph) for node in convolutions):
        return False
    own, made = {id(node) for node in region}, {node.outputs[0] for node in region}
    edges = {node.inputs[0] for node in region} - made
    edges |= {name for node in graph.nodes if id(node) not in own for name in node.inputs if name in made}
    multiplied = sum(
        graph.values[node.outputs[0]].size * prod(graph.values[node.inputs[1]].dims[1:]) for node in convolutions
    )
    return multiplied >= LEAST_WORK * sum(graph.values[name].size for name in edges)


class _Edges:
    """Makes the conversions at the edges of regions, once for each value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.blocked: dict[str, str] = {}
        self.plain: dict[tuple[str, str], str] = {}
        self.nodes: list[Node] = []

    def blocked_value(self, name: str) -> str:
        """A new value for the blocks of this one."""
        value = self.graph.values[name]
        assert value.dtype is not None
        block = pictures(value.dtype.itemsize)
        n, channels, *spatial = value.dims
        shape = (-(-n // block), channels * block, *spatial)
        return self.graph.new_value(f"{name}.blocks", value.dtype, shape, "last")

    def enter(self, name: str) -> str:
        """The blocks of a value; made from what its conversion to channels last reads, where there was one."""
        if name not in self.blocked:
            new = self.blocked[name] = self.blocked_value(name)
            producer = self.producers.get(name)
            source = producer.inputs[0] if producer is not None and producer.op == "ToLayout" else name
            self.nodes.append(Node("ToBatch", [source], [new]))
        return self.blocked[name]

    def leave(self, name: str) -> None:
        """Write the value that blocks stand for, for readers outside."""
        self.nodes.append(Node("FromBatch", [self.blocked[name]], [name]))


def pictures_in_lanes(graph: Graph, train: bool) -> None:
    """Rules 1 to 5; train: gradients will be made, so nothing is done that has none."""
    _blocks(graph)
    if not train:
        _pixels_in_lanes(graph)
        _pool_while_storing(graph)
    graph.prune()


def _blocks(graph: Graph) -> None:
    """Rules 1 to 3."""
    regions = _regions(graph)
    edges = _Edges(graph)
    inside = {i for region in regions for i in region}
    made = {graph.nodes[i].outputs[0] for i in inside}
    outside: set[str] = set()
    for i, node in enumerate(graph.nodes):
        if i not in inside:
            outside.update(name for name in node.inputs if name in made)
    for i, node in enumerate(graph.nodes):
        if i in inside:
            _enter(node, edges, graph)
            edges.nodes.append(node)
            continue
        if node.op == "ToLayout" and node.inputs[0] in edges.blocked and node.inputs[0] in made:
            edges.nodes.append(Node("FromBatch", [edges.blocked[node.inputs[0]]], node.outputs))
            continue
        for name in node.inputs:
            if name in outside:
                outside.discard(name)
                edges.leave(name)
        edges.nodes.append(node)
    graph.nodes = edges.nodes


def _enter(node: Node, edges: _Edges, graph: Graph) -> None:
    x, y = node.inputs[0], node.outputs[0]
    dtype = graph.values[x].dtype
    assert dtype is not None
    node.inputs[0] = edges.enter(x)
    node.outputs[0] = edges.blocked[y] = edges.blocked_value(y)
    if node.op == "Conv":
        node.op = "BatchConv"
        kept = {k: v for k, v in node.attrs.items() if k in ("strides", "pads", "low", "high")}
        node.attrs = kept | {"group": pictures(dtype.itemsize), "algorithm": DIRECT}


def _pixels_in_lanes(graph: Graph) -> None:
    """Rule 4."""
    producers = graph.producers()
    for node in graph.nodes:
        if node.op != "Conv" or not (_few_channels(node, graph) and _leaves_lanes(node, graph)):
            continue
        x, w = graph.values[node.inputs[0]], graph.values[node.inputs[1]].dims
        moves = max(node.attrs["strides"]) > 1 or any(node.attrs["pads"])
        before = producers.get(x.name)
        if w[1] > MOST_PLANES or len(w) != 4 or moves or before is None or before.op != "ToLayout":
            continue
        node.op, node.inputs[0] = "PlanesConv", before.inputs[0]
        kept = {k: v for k, v in node.attrs.items() if k in ("low", "high")}
        node.attrs = kept | {"group": 1, "algorithm": "few-channel planes"}


def _pool_while_storing(graph: Graph) -> None:
    """Rule 5."""
    producers, sole = graph.producers(), graph.sole_readers()
    for pool in [n for n in graph.nodes if n.op == "MaxPool"]:
        conv, win = producers.get(pool.inputs[0]), pool.attrs["window"]
        if conv is None or conv.op not in ("BatchConv", "PlanesConv") or "pool" in conv.attrs:
            continue
        fits = win.strides == win.kernel and not any((*win.begins, *win.ends)) and max(win.dilations) == 1
        whole = all(o * k <= n for o, k, n in zip(win.out, win.kernel, win.size, strict=True))
        if fits and whole and pool.inputs[0] in sole:
            conv.attrs["pool"] = win.kernel
            conv.outputs[0] = pool.outputs[0]
            graph.nodes.remove(pool)


def multiply_less(graph: Graph) -> None:
    """Rule 6; not for models that must be exact."""
    for node in graph.nodes:
        if node.op == "BatchConv" and _pays_to_multiply_less(node, graph):
            node.attrs["algorithm"] = FEWER


def _pays_to_multiply_less(node: Node, graph: Graph) -> bool:
    x, y = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    channels, lines, columns = x.dims[1] // node.attrs["group"], x.dims[2:-1], y.dims[-1]
    kernel = graph.values[node.inputs[1]].dims[2:]
    assert x.dtype is not None
    if len(kernel) > 2 or max(node.attrs["strides"]) > 1 or not 3 <= kernel[-1] <= 6 or x.dims[0] < LEAST_BLOCKS:
        return False
    if "pool" in node.attrs:
        columns *= node.attrs["pool"][-1]
    tiles = -(-columns // line_outputs(kernel[-1]))
    evaluated = tiles * POINTS * prod(lines) * x.dims[1] * x.dtype.itemsize
    return (channels >= LEAST_DEPTH or "pool" in node.attrs) and evaluated <= MOST_EVALUATED
