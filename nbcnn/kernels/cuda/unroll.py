"""Loops over tuples that the compiler sees unrolled, so that every element stays in a register of its own.

A GPU's registers cannot be indexed: an array that a loop walks through lies in (slow) local memory unless the loop is
unrolled, which NVVM does only where it likes to. The elements of a tuple are registers; `each` visits them one by one.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, device, intrinsic, ir, types

__all__ = ["each", "groups", "inlined", "joined", "turned"]


if SIMULATED:
    inlined = device

    @device
    def each(body, items, args):
        """(body(items[0], 0, args), body(items[1], 1, args), ...)."""
        return tuple([body(item, i, args) for i, item in enumerate(items)])

    @device
    def groups(items, parts):
        """The elements of a tuple in as many tuples of neighbours as `parts` has elements."""
        size = len(items) // len(parts)
        return tuple([items[i * size : (i + 1) * size] for i in range(len(parts))])

    @device
    def joined(parts):
        """The elements of tuples in one tuple: the inverse of `groups`."""
        return tuple([item for part in parts for item in part])

    @device
    def turned(parts):
        """Tuples of the first, the second, ... elements of the parts."""
        return tuple(zip(*parts, strict=True))

else:

    def inlined(function):
        """Decorator of device code that is never called, but copied to each place that names it."""
        return cuda.jit(function, device=True, forceinline=True)

    @intrinsic
    def each(typingctx, body, items, args):
        """(body(items[0], 0, args), body(items[1], 1, args), ...).

        body: an `inlined` function. items: a tuple whose elements have one type. args: anything.
        """
        call = typingctx.resolve_function_type(body, (items.dtype, types.int64, args), {})
        kind = types.none if call.return_type == types.none else types.UniTuple(call.return_type, items.count)

        def codegen(context, builder, signature, values):
            code = context.get_function(body, call, typingctx)
            context.add_linking_libs(getattr(code, "libs", ()))
            found = [
                code(builder, (builder.extract_value(values[1], i), ir.IntType(64)(i), values[2]))
                for i in range(items.count)
            ]
            return context.get_dummy_value() if kind == types.none else context.make_tuple(builder, kind, found)

        return kind(body, items, args), codegen

    @intrinsic
    def groups(typingctx, items, parts):
        """The elements of a tuple in as many tuples of neighbours as `parts` has elements."""
        part = types.UniTuple(items.dtype, items.count // parts.count)
        kind = types.UniTuple(part, parts.count)

        def codegen(context, builder, signature, values):
            have = [builder.extract_value(values[0], i) for i in range(items.count)]
            found = [
                context.make_tuple(builder, part, have[i : i + part.count]) for i in range(0, items.count, part.count)
            ]
            return context.make_tuple(builder, kind, found)

        return kind(items, parts), codegen

    @intrinsic
    def joined(typingctx, parts):
        """The elements of tuples in one tuple: the inverse of `groups`."""
        kind = types.UniTuple(parts.dtype.dtype, parts.count * parts.dtype.count)

        def codegen(context, builder, signature, values):
            found = [
                builder.extract_value(values[0], (i, k)) for i in range(parts.count) for k in range(parts.dtype.count)
            ]
            return context.make_tuple(builder, kind, found)

        return kind(parts), codegen

    @intrinsic
    def turned(typingctx, parts):
        """Tuples of the first, the second, ... elements of the parts."""
        line = types.UniTuple(parts.dtype.dtype, parts.count)
        kind = types.UniTuple(line, parts.dtype.count)

        def codegen(context, builder, signature, values):
            found = [
                context.make_tuple(
                    builder, line, [builder.extract_value(values[0], (i, k)) for i in range(parts.count)]
                )
                for k in range(parts.dtype.count)
            ]
            return context.make_tuple(builder, kind, found)

        return kind(parts), codegen
