"""The same network in PyTorch, as a rival to time ours against.

Written from the description of the network; it has the layers and shapes of
`topdb_tf.model.network` with ResNet-50, both losses and Adam with an L2 penalty.
"""

import torch
from torch import nn
from torch.nn import functional

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1))


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


class TopDropNetwork(nn.Module):
    """Top-DB-Net with ResNet-50: features and logits of three streams in training,
    embeddings of 1536 numbers in inference.
    """

    def __init__(self, num_pids, num_dropped_rows=7):
        super().__init__()
        self.num_dropped_rows = num_dropped_rows
        blocks, channels = [], 64
        for width, count, stride in STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(Bottleneck(channels, width, 4 * width, step))
                channels = 4 * width
        self.backbone = nn.Sequential(
            *convolution(3, 64, 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            *blocks,
        )
        self.bottlenecks = nn.Sequential(*(Bottleneck(2048, 512, 2048) for _ in "12"))
        self.reductions = nn.ModuleList([reduction(512), reduction(1024)])
        dims = (512, 1024, 2048)
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


def reduction(dim):
    """Returns a reduction of 2048 features to `dim`."""
    return nn.Sequential(
        nn.Linear(2048, dim), nn.BatchNorm1d(dim), nn.ReLU(inplace=True)
    )
