"""The networks in PyTorch: timm's, and an EEGNet written layer by layer after its authors' code.

Arrays go in and come out as ours are: [batch, freq, frame, row], or [batch, 1, time, row] where there is no converter.
"""
# pyright: reportMissingImports=false

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

try:
    import torchvision  # noqa: F401  # timm imports it
except RuntimeError:
    # Beside a PyTorch for CPUs, a torchvision for GPUs lacks its compiled operators. No network here uses them, but
    # torchvision must find their names.
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
import timm  # noqa: E402

Maps = Float[np.ndarray, "batch freq frame row"]

VERSIONS = f"PyTorch {torch.__version__}, timm {timm.__version__}"


def nepinet(n_rows: int) -> nn.Module:
    """`efficientnetv2_rw_t` of timm."""
    return timm.create_model("efficientnetv2_rw_t", in_chans=n_rows, num_classes=1)


def aied(n_rows: int) -> nn.Module:
    """`resnet18` of timm."""
    return timm.create_model("resnet18", in_chans=n_rows, num_classes=1)


def vgg16(n_rows: int) -> nn.Module:
    """`vgg16` of timm, as the group of Siamese-ES uses it: features, their mean over the map, a linear layer."""
    features = timm.create_model("vgg16", in_chans=n_rows, num_classes=0).features
    return _sequence(features=features, mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(512, 1))


def eegnet(n_rows: int, n_times: int) -> nn.Module:
    """EEGNet-8,2 without dropout, its head a convolution over all times; batch normalisation has PyTorch's epsilon.

    The authors' code holds the norm of each spatial filter below 1, and that of the head below 0.25.
    """
    net = _sequence(
        pad0=nn.ZeroPad2d((31, 32, 0, 0)),
        temporal=nn.Conv2d(1, 8, (1, 64), bias=False),
        norm0=nn.BatchNorm2d(8),
        spatial=nn.Conv2d(8, 16, (n_rows, 1), groups=8, bias=False),
        norm1=nn.BatchNorm2d(16),
        elu1=nn.ELU(),
        mean1=nn.AvgPool2d((1, 4)),
        pad1=nn.ZeroPad2d((7, 8, 0, 0)),
        by_time=nn.Conv2d(16, 16, (1, 16), groups=16, bias=False),
        by_feature=nn.Conv2d(16, 16, 1, bias=False),
        norm2=nn.BatchNorm2d(16),
        elu2=nn.ELU(),
        mean2=nn.AvgPool2d((1, 8)),
        head=nn.Conv2d(16, 1, (1, n_times // 32)),
        flat=nn.Flatten(),
    )
    with torch.no_grad():
        for layer, largest in ((net.spatial, 1.0), (net.head, 0.25)):
            layer.weight.copy_(torch.renorm(layer.weight, 2, 0, largest))
    return net


def settle(net: nn.Module, x: Maps) -> None:
    """Give batch normalisations weights and biases that do something, and nearly the statistics of a batch.

    Nearly, so that no layer is trivial; no further off, or what forty layers make of it is of no size that any
    training gives.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.1, 0.5)
            norm.bias.normal_(0.0, 0.2)
        net.train()(_features_first(x))
        for norm in norms:
            norm.running_mean.add_(0.02 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt())
            norm.running_var.mul_(0.95 + 0.1 * torch.rand_like(norm.running_var))
    net.eval()


def arrays(net: nn.Module) -> dict[str, np.ndarray]:
    """All that a network computes with, by name."""
    return {name: x.numpy() for name, x in net.state_dict().items() if not name.endswith("num_batches_tracked")}


def n_parameters(net: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in net.parameters())


@torch.no_grad()
def output(net: nn.Module, x: Maps) -> Float[np.ndarray, "batch 1"]:
    """Logits."""
    return net(_features_first(x)).numpy()


@torch.no_grad()
def stages(net: nn.Module, x: Maps) -> list[Float[np.ndarray, "batch _ _ _"]]:
    """The maps of `efficientnetv2_rw_t`: after the stem, the six stages, the last convolution."""
    maps = [net.bn1(net.conv_stem(_features_first(x)))]
    for stage in net.blocks:
        maps.append(stage(maps[-1]))
    maps.append(net.bn2(net.conv_head(maps[-1])))
    return [m.numpy().transpose(0, 2, 3, 1) for m in maps]


def _sequence(**layers: nn.Module) -> Any:
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


def _features_first(x: Maps) -> torch.Tensor:
    """As PyTorch's layers want it: rows are features of maps, and the height of raw rows."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose((0, 1, 3, 2) if x.shape[1] == 1 else (0, 3, 1, 2))))
