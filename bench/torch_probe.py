"""Memory of a training step of PyTorch in a process of its own, measured as nbcnn.report.probe measures ours:
`python -m bench.torch_probe resnet18 MODEL.onnx --batch 8 --layout channels_last`.
"""

from __future__ import annotations

import argparse
import json

from bench.networks import SHAPES, inputs, labels
from bench.peers import TorchStep
from nbcnn.api import load
from nbcnn.report.probe import measure

LAYOUTS = ("contiguous", "channels_last")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.torch_probe", description=__doc__)
    parser.add_argument("network", choices=sorted(SHAPES))
    parser.add_argument("path", help="the network as an ONNX file, for its weights")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0])
    args = parser.parse_args()
    x = inputs(args.network, args.batch)
    t = labels(10 if args.network == "lenet" else 1000, args.batch)

    def step() -> TorchStep:
        weights = load(args.path).graph.initializers  # which lie in the file, and so add nothing
        last = args.layout == "channels_last"
        return TorchStep(args.network, weights, x, t, lr=0.0, momentum=0.9, threads=args.threads, channels_last=last)

    print(json.dumps(measure(step)))


if __name__ == "__main__":
    main()
