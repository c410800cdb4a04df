"""The oracle: every operator of the engine, forward and backward, in plain float64 NumPy.

It shares no code with the engine, imports only NumPy and the standard library, and prefers the obvious to the fast.
Arrays are in ONNX order (N, C, spatial...), with one to three spatial dimensions. An operator is a function of its ONNX
name in snake_case, with ONNX's attribute names; `op_backward(dy, inputs, attributes)` returns the inputs' gradients.
Where that name is a Python builtin an underscore follows it (max_, slice_). test_reference.py checks all this.
"""

# Re-exports, packed: one name a line would make three hundred.
# ruff: noqa: F401
# isort: off
# fmt: off
from reference.arithmetic import (
    add, add_backward, div, div_backward, max_, max_backward, min_, min_backward, mul, mul_backward, pow_,
    pow_backward, sub, sub_backward, sum_, sum_backward,
)
from reference.conv import conv, conv_backward
from reference.elementwise import (
    abs_, abs_backward, clip, clip_backward, elu, elu_backward, exp, exp_backward, hard_sigmoid,
    hard_sigmoid_backward, leaky_relu, leaky_relu_backward, log, log_backward, log_softmax,
    log_softmax_backward, neg, neg_backward, prelu, prelu_backward, relu, relu_backward, selu, selu_backward,
    sigmoid, sigmoid_backward, sign, sign_backward, softmax, softmax_backward, softplus, softplus_backward,
    softsign, softsign_backward, erf, erf_backward, sqrt, sqrt_backward, tanh, tanh_backward,
)
from reference.geometry import Windows, auto_pads, output_size, windows
from reference.linear import gemm, gemm_backward, matmul, matmul_backward
from reference.loss import (
    binary_cross_entropy, binary_cross_entropy_with_logits, l1, l2, softmax_cross_entropy, squared_error,
)
from reference.norm import (
    batch_normalization, batch_normalization_backward, batch_normalization_training,
    batch_normalization_training_backward, dropout, dropout_backward, lrn, lrn_backward,
)
from reference.optim import adam, adamw, sgd
from reference.pool import (
    average_pool, average_pool_backward, global_average_pool, global_average_pool_backward, global_lp_pool,
    global_lp_pool_backward, global_max_pool, global_max_pool_backward, lp_pool, lp_pool_backward, max_pool,
    max_pool_backward, max_pool_indices,
)
from reference.reduce import (
    reduce_max, reduce_max_backward, reduce_mean, reduce_mean_backward, reduce_sum, reduce_sum_backward,
)
from reference.resize import resize, resize_backward, resize_matrix, source_coordinate, upsample, upsample_backward
from reference.shape import (
    concat, concat_backward, flatten, gather, gather_backward, pad, pad_backward, reshape, reshape_backward,
    slice_, slice_backward, split, split_backward, squeeze, transpose, transpose_backward, unsqueeze,
)
