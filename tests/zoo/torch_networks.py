"""The zoo's networks written again in PyTorch, from the papers and with the usual names of parameters."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    def __init__(self, features: int = 256, pad: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=pad)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=pad)
        self.fc1 = nn.Linear(features, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def alexnet(classes: int, features: int) -> nn.Module:
    front = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    head = nn.Sequential(
        nn.Dropout(), nn.Linear(features, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, classes),
    )  # fmt: skip
    return nn.Sequential(OrderedDict(features=front, flatten=nn.Flatten(), classifier=head))


def vgg16(classes: int, features: int) -> nn.Module:
    front: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            front += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            front.append(nn.MaxPool2d(2))
    head = nn.Sequential(
        nn.Linear(features, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, classes),
    )  # fmt: skip
    return nn.Sequential(OrderedDict(features=nn.Sequential(*front), flatten=nn.Flatten(), classifier=head))


class Residual(nn.Module):
    """A block of ResNet: convolutions of kernels[i] to widths[i] channels, the one at `at` with the stride."""

    def __init__(self, channels: int, widths: list[int], kernels: list[int], stride: int, at: int) -> None:
        super().__init__()
        self.depth, before = len(widths), channels
        for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            conv = nn.Conv2d(before, width, kernel, stride if i == at else 1, kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(width))
            before = width
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or channels != before:
            self.downsample = nn.Sequential(nn.Conv2d(channels, before, 1, stride, bias=False), nn.BatchNorm2d(before))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = F.relu(y) if i < self.depth else y
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, depths: tuple[int, ...], wide: bool, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                width = 64 * 2**stage
                stride = 2 if stage > 0 and number == 0 else 1
                if wide:
                    blocks.append(Residual(channels, [width, width, 4 * width], [1, 3, 1], stride, 1))
                else:
                    blocks.append(Residual(channels, [width, width], [3, 3], stride, 0))
                channels = 4 * width if wide else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


def densenet121(classes: int) -> nn.Module:
    front: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        norm0=nn.BatchNorm2d(64),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, 2, 1),
    )
    channels = 64
    for block, depth in enumerate((6, 12, 24, 16), 1):
        layers = OrderedDict((f"denselayer{i + 1}", DenseLayer(channels + 32 * i)) for i in range(depth))
        front[f"denseblock{block}"] = nn.Sequential(layers)
        channels += 32 * depth
        if block < 4:
            shrink = nn.Conv2d(channels, channels // 2, 1, bias=False)
            parts = OrderedDict(norm=nn.BatchNorm2d(channels), relu=nn.ReLU(), conv=shrink, pool=nn.AvgPool2d(2))
            front[f"transition{block}"] = nn.Sequential(parts)
            channels //= 2
    front["norm5"] = nn.BatchNorm2d(channels)
    rest = OrderedDict(relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return nn.Sequential(OrderedDict(features=nn.Sequential(front), **rest, classifier=nn.Linear(channels, classes)))


class Inception(nn.Module):
    def __init__(self, channels: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        a, b0, b, c0, c, d = filters
        self.branch1 = nn.Conv2d(channels, a, 1)
        self.branch2 = nn.Sequential(nn.Conv2d(channels, b0, 1), nn.Conv2d(b0, b, 3, padding=1))
        self.branch3 = nn.Sequential(nn.Conv2d(channels, c0, 1), nn.Conv2d(c0, c, 5, padding=2))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(channels, d, 1))

    def forward(self, x: Tensor) -> Tensor:
        b = self.branch2[1](F.relu(self.branch2[0](x)))
        c = self.branch3[1](F.relu(self.branch3[0](x)))
        return F.relu(torch.cat([self.branch1(x), b, c, self.branch4(x)], 1))


class GoogLeNet(nn.Module):
    """Its rows are those of the paper's table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""

    ROWS = (
        ("3a", 192, (64, 96, 128, 16, 32, 32)),
        ("3b", 256, (128, 128, 192, 32, 96, 64)),
        ("4a", 480, (192, 96, 208, 16, 48, 64)),
        ("4b", 512, (160, 112, 224, 24, 64, 64)),
        ("4c", 512, (128, 128, 256, 24, 64, 64)),
        ("4d", 512, (112, 144, 288, 32, 64, 64)),
        ("4e", 528, (256, 160, 320, 32, 128, 128)),
        ("5a", 832, (256, 160, 320, 32, 128, 128)),
        ("5b", 832, (384, 192, 384, 48, 128, 128)),
    )

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 7, 2, 3), nn.Conv2d(64, 64, 1)
        self.conv3 = nn.Conv2d(64, 192, 3, padding=1)
        for name, channels, filters in self.ROWS:
            self.add_module(f"inception{name}", Inception(channels, filters))
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.local_response_norm(F.max_pool2d(F.relu(self.conv1(x)), 3, 2, ceil_mode=True), 5)
        x = F.local_response_norm(F.relu(self.conv3(F.relu(self.conv2(x)))), 5)
        for name, *_ in self.ROWS:
            if name.endswith("a"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = self.get_submodule(f"inception{name}")(x)
        return self.fc(x.mean((2, 3)))
