"""Parts of arrays that cost nothing to take: where a loop over a few hundred elements is all that is done with one, the
counting of references that comes with a slice would take as long.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["part"]


@intrinsic
def part(typingctx, array, start, stop):
    """part(array, start, stop): array[start:stop] of a flat array, without bounds checks and without holding on to it;
    a caller holds the array itself.
    """

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        whole = cgutils.create_struct_proxy(kind)(context, builder, value=args[0])
        found = cgutils.create_struct_proxy(kind)(context, builder)
        i64 = ir.IntType(64)
        count = builder.sub(args[2], args[1])
        found.meminfo = ir.Constant(found.meminfo.type, None)
        found.parent = ir.Constant(found.parent.type, None)
        found.nitems = count
        found.itemsize = whole.itemsize
        found.data = builder.gep(whole.data, [args[1]])
        found.shape = cgutils.pack_array(builder, [count], i64)
        found.strides = whole.strides
        return found._getvalue()

    return array(array, types.int64, types.int64), codegen
