"""The benchmark suite: kernels, whole networks and training steps beside onnxruntime and PyTorch, and the results on
real data.

Run `python -m bench --help` at the root of the project. onnxruntime comes with nbcnn; what compares with PyTorch needs
torch too.
"""
