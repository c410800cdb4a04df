"""The kernels in `@cuda.jit`. Nothing here but arithmetic on shapes is imported until a model is asked to run on a GPU.

A kernel of the contract is a Python function, its launcher: it has the parameters of the CPU's kernel of that name,
chooses grid and block, and launches device code that stands above it in the same file.
"""
