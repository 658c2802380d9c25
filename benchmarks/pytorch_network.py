"""The same network in PyTorch, as a rival to time ours against.

Written from the description of the network; it has the layers and shapes of
`topdb_tf.model.network` with ResNet-50 or, without bottlenecks, MobileNetV2, both
losses and Adam with an L2 penalty.
"""

import torch
from torch import nn
from torch.nn import functional

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1))
INVERTED_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 1),
    (6, 320, 1, 1),
)


class Bottleneck(nn.Module):
    """A residual bottleneck, strided in its 3x3 convolution."""

    def __init__(self, channels, width, out, stride=1):
        super().__init__()
        self.residual = nn.Sequential(
            *convolution(channels, width, 1),
            nn.ReLU(inplace=True),
            *convolution(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *convolution(width, out, 1),
        )
        self.shortcut = nn.Identity()
        if channels != out or stride > 1:
            self.shortcut = nn.Sequential(*convolution(channels, out, 1, stride))

    def forward(self, x):
        return functional.relu(self.residual(x) + self.shortcut(x), inplace=True)


class InvertedResidual(nn.Module):
    """A block of MobileNetV2: wider, a convolution by channel, narrower."""

    def __init__(self, channels, out, stride, expansion):
        super().__init__()
        wide = channels * expansion
        expand = [*convolution(channels, wide, 1), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(
            *(expand if expansion > 1 else []),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            *convolution(wide, out, 1),
        )
        self.adds = stride == 1 and channels == out

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


class TopDropNetwork(nn.Module):
    """Top-DB-Net: features and logits of three streams in training,
    embeddings of 1536 numbers in inference.
    """

    def __init__(self, num_pids, backbone="resnet50", size=(384, 128)):
        super().__init__()
        self.num_dropped_rows = round(0.3 * size[0] / 16)
        is_resnet = backbone == "resnet50"
        channels = 2048 if is_resnet else 1280
        self.backbone = (resnet50 if is_resnet else mobilenet_v2)()
        bottlenecks = [Bottleneck(2048, 512, 2048) for _ in "12" if is_resnet]
        self.bottlenecks = nn.Sequential(*bottlenecks)
        self.reductions = nn.ModuleList(reduction(channels, d) for d in (512, 1024))
        dims = (512, 1024, channels)
        self.necks = nn.ModuleList(nn.BatchNorm1d(dim) for dim in dims)
        self.classifiers = nn.ModuleList(nn.Linear(dim, num_pids) for dim in dims)

    def forward(self, images):
        maps = self.backbone(images)
        deeper = self.bottlenecks(maps)
        dropped = deeper * self.mask(maps) if self.training else deeper
        features = [
            self.reductions[0](maps.mean((2, 3))),
            self.reductions[1](dropped.amax((2, 3))),
        ]
        if not self.training:
            necks = zip(self.necks, features, strict=False)
            return torch.cat([neck(part) for neck, part in necks], dim=1)
        features.append(deeper.mean((2, 3)))
        necks = zip(self.necks, features, strict=True)
        necked = [neck(part) for neck, part in necks]
        pairs = zip(self.classifiers, necked, strict=True)
        return features, [classifier(part) for classifier, part in pairs]

    def mask(self, maps):
        activity = maps.detach().square().sum(1).mean(-1)  # (batch, height)
        rows = activity.topk(self.num_dropped_rows, dim=1).indices
        return torch.ones_like(activity).scatter(1, rows, 0)[:, None, :, None]


def training_step(network, optimizer, *, precision, device="cpu"):
    """Returns the function from images and labels that makes one step.

    It returns the loss. float16 has its loss scaled, as is usual there.
    """
    half = None if precision == "float32" else getattr(torch, precision)
    scaler = torch.amp.GradScaler(device, enabled=half is torch.float16)

    def step(images, labels):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, half, enabled=half is not None):
            features, logits = network(images)
        loss = sum(
            functional.cross_entropy(part.float(), labels, label_smoothing=0.1)
            for part in logits
        ) + sum(batch_hard(part.float(), labels) for part in features)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


def batch_hard(features, labels, margin=0.3):
    """Returns the batch-hard triplet loss of features `(batch, dim)`."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None] - 2 * features @ features.T
    distances = squared.clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels[None]
    positive = distances.masked_fill(~same, 0).amax(1)
    negative = distances.masked_fill(same, float("inf")).amin(1)
    return functional.relu(positive - negative + margin).mean()


def convolution(channels, filters, size, stride=1):
    """Returns a convolution without bias and its batch normalisation."""
    product = nn.Conv2d(channels, filters, size, stride, size // 2, bias=False)
    return product, nn.BatchNorm2d(filters)


def resnet50():
    """Returns the layers of ResNet-50 with a last stride of 1."""
    blocks, channels = [], 64
    for width, count, stride in STAGES:
        for index in range(count):
            step = stride if index == 0 else 1
            blocks.append(Bottleneck(channels, width, 4 * width, step))
            channels = 4 * width
    stem = convolution(3, 64, 7, 2)
    return nn.Sequential(*stem, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), *blocks)


def mobilenet_v2():
    """Returns the layers of MobileNetV2 with a last stride of 1."""
    layers, channels = [*convolution(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    for expansion, out, count, stride in INVERTED_STAGES:
        for index in range(count):
            step = stride if index == 0 else 1
            layers.append(InvertedResidual(channels, out, step, expansion))
            channels = out
    last = [*convolution(channels, 1280, 1), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, *last)


def reduction(channels, dim):
    """Returns a reduction of features to `dim`."""
    return nn.Sequential(
        nn.Linear(channels, dim), nn.BatchNorm1d(dim), nn.ReLU(inplace=True)
    )
