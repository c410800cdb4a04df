"""`python -m bench BENCHMARK`: see --help."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from nbcnn.report.agreement import Disagreement

BENCHMARKS = {
    "models": "inference of whole networks beside onnxruntime",
    "training": "training steps beside PyTorch",
    "gpu": "all of that on a GPU, beside PyTorch (cuDNN) on the same GPU",
    "ptx": "what CUDA kernels compile to, with no GPU: registers, shared memory, spills",
    "kernels": "convolutions, layer by layer, against the multiply-add ceiling",
    "bandwidth": "operators that wait for memory, and Gemm at batch 1, against the memory triad",
    "algorithms": "every algorithm of 3x3 convolutions, and the cost model that chooses among them",
    "memory": "resident memory beside onnxruntime, and of training steps beside PyTorch",
    "firstrun": "the first run on a machine, with nothing compiled, and the next one",
    "overhead": "what an engine takes besides its kernels: Python, idle threads, a second process",
    "results": "known results of real networks on real data",
    "onnx": "the test suite of onnx itself: taken, passed, left out",
    "quantized": "networks quantized to bytes, beside onnxruntime and beside float32",
    "fuzz": "mutated model files: a clear error or a result, never a crash, a hang or gigabytes",
    "random-graphs": "random networks of supported operators, beside onnxruntime",
    "mnist": "the lecture's LeNet and MLP on MNIST",
    "halves": "training with activations in 16 bits beside training in float32: the accuracy that is reached",
    "pages": "the pages of reports that are there already",
    "readme": "the README's tables, from the reports that are kept",
    "finetune": "a pretrained ResNet-20 on Fashion-MNIST, against the same network from scratch",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark; 0 when all is well, 1 when a result is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, text in BENCHMARKS.items():
        module = import_module(f"bench.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=text, description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.configure(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except Disagreement as error:
        print(f"wrong result: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
