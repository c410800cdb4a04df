"""Well-known networks, built without a file and ready to be trained.

Each function returns a Model; graph_of(name, ...) the graph alone. Weights come from `init` (a name or a function of
nbcnn.init) and `seed`; biases start at zero. The output is logits, or probabilities with softmax=True: cross-entropy
trains on either. AlexNet, VGG, ResNet and DenseNet call their weights as torchvision does.
"""

from __future__ import annotations

from nbcnn.zoo.alexnet import alexnet
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.densenet import densenet121
from nbcnn.zoo.googlenet import googlenet
from nbcnn.zoo.lenet import lenet
from nbcnn.zoo.mlp import mlp
from nbcnn.zoo.registry import BUILDERS, graph_of
from nbcnn.zoo.resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from nbcnn.zoo.vgg import vgg16, vgg19

__all__ = [
    "BUILDERS",
    "GraphBuilder",
    "alexnet",
    "densenet121",
    "googlenet",
    "graph_of",
    "lenet",
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg16",
    "vgg19",
]
