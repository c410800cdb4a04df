"""Writes docs/operators.md, the table of operators, from the engine's own list.

Run `python docs/operators.py` at the root of the project after an operator was added; a test says when that was
forgotten. What cannot be read off the code is in NOTES.
"""

from __future__ import annotations

from pathlib import Path

import onnx.defs  # noqa: TID251 (documentation is no part of the engine)

from nbcnn.ops import REGISTRY, Op

__all__ = ["NOTES", "Row", "render", "rows"]

FIRST = 7
"""The first opset that whole networks are promised to run at."""

NOTES = {
    "AveragePool": "1 to 3 spatial dimensions",
    "BatchNormalization": "spatial=0 is for inference alone; statistics of the whole batch while it is trained",
    "Cast": "all types but complex ones; floats are computed in one type, to which float16 and bfloat16 are rounded",
    "CastLike": "as Cast",
    "Ceil": "its derivative is zero: no gradient comes through",
    "Conv": "1 to 3 spatial dimensions; any strides, pads, dilations, group, auto_pad",
    "ConvTranspose": "1 to 3 spatial dimensions; any strides, pads, dilations, group, auto_pad, output shape",
    "ConstantOfShape": "its input must be known",
    "Dropout": "nothing at inference, but where training_mode says so; "
    "while it is trained, the mask follows from seed, step, node and place",
    "Floor": "its derivative is zero: no gradient comes through",
    "Gemm": "all attributes; C of any shape that ONNX allows",
    "GridSample": "1 to 3 spatial dimensions; every mode and padding",
    "GlobalLpPool": "1 to 3 spatial dimensions",
    "LpPool": "1 to 3 spatial dimensions",
    "MatMul": "as numpy.matmul, up to 6 dimensions",
    "MaxPool": "1 to 3 spatial dimensions; the second output, indices, too; also of int8 and uint8",
    "MaxRoiPool": "gradients by the picture alone",
    "Pad": "pads and value must be constants; modes constant, reflect, edge, wrap",
    "Resize": "modes nearest, linear, cubic, antialias; all coordinates, policies and axes; integers are rounded, "
    "as by onnx's reference (onnxruntime cuts fractions off)",
    "Reshape": "the shape must be known",
    "RoiAlign": "gradients by the picture alone",
    "Round": "its derivative is zero: no gradient comes through",
    "Sign": "its derivative is zero: no gradient comes through",
    "Slice": "starts, ends, axes and steps must be constants",
    "Split": "the sizes must be constants",
    "Upsample": "modes nearest and linear",
}
"""What a user should know beside the versions."""

HEAD = """\
# Operators

Written by `python docs/operators.py`; do not edit. The engine has {count} operators of ONNX; the versions are those of
ONNX up to opset {newest}.

- **opsets**: the versions of the operator's definition that are understood. A file of opset 17 uses the newest version
  that is not above 17.
- **runs**: *yes*: floats are computed by a kernel, or only looked at in another way; integers and booleans may be
  left to NumPy. *NumPy*: no kernel, as it is about shapes, integers, booleans or strings; when the plan is made, where
  its inputs are known by then, else at every run.
- **trains**: *yes*: gradients pass through it, for one input or more. *-*: its output has no useful gradient. *no*: a
  network cannot be trained through it.

`nbcnn check MODEL.onnx` gives the same answers for the nodes of a file, attributes and shapes included. Inputs that
"must be constants" are initializers, constants, or what can be computed from these and from shapes.
"""

Row = tuple[str, str, str, str, str]


def _parts(name: str) -> tuple[str, str]:
    """Domain and operator of a name in REGISTRY."""
    domain, _, op = name.rpartition(".")
    return domain, op


def versions(name: str, since: int, newest: int) -> str:
    """The versions of an operator's definition that a file of opset FIRST or later can use."""
    every = sorted(
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == _parts(name) and not schema.deprecated and schema.since_version <= newest
    )
    first = max([version for version in every if version <= max(FIRST, since)], default=every[0])
    return ", ".join(str(version) for version in every if version >= first)


def rows(newest: int) -> list[Row]:
    """One row for each operator of ONNX that the engine has, by name."""
    found = []
    for name, op in sorted(REGISTRY.items()):
        domain, op_type = _parts(name)
        if onnx.defs.has(op_type, domain=domain):
            kernel = type(op).bind is not Op.bind or op.rewritten
            trained = type(op).grad is not Op.grad or op.rewritten
            gradient = "yes" if trained else "no" if op.differentiable else "-"
            found.append(
                (name, versions(name, op.since, newest), "yes" if kernel else "NumPy", gradient, NOTES.get(name, ""))
            )
    return found


def render(newest: int) -> str:
    """The whole page."""
    table = [("operator", "opsets", "runs", "trains", "notes"), ("---",) * 5, *rows(newest)]
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in table]
    return HEAD.format(count=len(table) - 2, newest=newest) + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".md")
    path.write_text(render(onnx.defs.onnx_opset_version()), encoding="utf-8")
    print(f"wrote {path}")
