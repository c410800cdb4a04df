"""Text of a file that is not UTF-8: protobuf hands it out as bytes.

Where it is only shown (names of nodes and graphs, doc strings, metadata) it is read with escapes and stays in the file
as it was. The names of values tie a network together: there it is refused.
"""

from __future__ import annotations

from onnx import GraphProto

from nbcnn.errors import ModelError

__all__ = ["check_names", "text"]


def text(field: str | bytes) -> str:
    r"""What a field says, with \xff for a byte that is no UTF-8."""
    return field if isinstance(field, str) else field.decode(errors="backslashreplace")


def check_names(graph: GraphProto) -> None:
    """Raise ModelError unless all names of values, in sub-graphs too, are UTF-8."""
    for entries in (graph.initializer, graph.input, graph.output, graph.value_info):
        for entry in entries:
            check_name(entry.name)
    for sparse in graph.sparse_initializer:
        check_name(sparse.values.name)
    for node in graph.node:
        for name in (*node.input, *node.output):
            check_name(name)
        for attribute in node.attribute:
            check_name(attribute.name)
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                check_names(inner)


def check_name(name: str | bytes) -> None:
    if isinstance(name, bytes):
        raise ModelError(f"the name {name!r} is not UTF-8 text: rename it where the file was made")
