"""JAA-Net's hierarchical and multi-scale region layer (AAR Fig. 3a): patches of a map, each with weights of its own.

Every patch has its own batch normalisation and 3 x 3 convolution with zeros at its border. A map of g x g patches is laid
out as one map of g*g times as many channels, so that one grouped convolution does what a loop over patches would.
Letters: B pictures, C channels, H, W pixels, g patches a side.
"""

import torch
from torch import Tensor, nn


class RegionLayer(nn.Module):
    """R^hm(C): x = conv(in); then 8 x 8, 4 x 4, 2 x 2 patches one after the other; out = ReLU(BN(x + all three)).

    (B, in, H, W) to (B, C, H, W). H and W must be multiples of 8, C of 4.
    """

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1)
        self.patches8 = PatchConv(num_out, num_out // 2, 8)
        self.patches4 = PatchConv(num_out // 2, num_out // 4, 4)
        self.patches2 = PatchConv(num_out // 4, num_out // 4, 2)
        self.bn = nn.BatchNorm2d(num_out)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        whole = self.conv(image_BCHW)
        eighths = self.patches8(whole)
        quarters = self.patches4(eighths)
        halves = self.patches2(quarters)
        return torch.relu_(self.bn(torch.cat([eighths, quarters, halves], dim=1).add_(whole)))


class PatchConv(nn.Module):
    """Per patch: batch normalisation, ReLU, 3 x 3 convolution. Channel of patch p, feature c is p * C + c, rows first."""

    def __init__(self, num_in: int, num_out: int, side: int):
        super().__init__()
        self.side = side
        self.bn = nn.BatchNorm2d(side * side * num_in)
        self.conv = nn.Conv2d(side * side * num_in, side * side * num_out, 3, padding=1, groups=side * side)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        side = self.side
        rows, columns = image_BCHW.shape[2] // side, image_BCHW.shape[3] // side
        patches = image_BCHW.unflatten(2, (side, rows)).unflatten(4, (side, columns))  # B, C, g, h, g, w
        stacked = patches.permute(0, 3, 5, 2, 4, 1).flatten(3).permute(0, 3, 1, 2)  # B, g g C, h, w; channels last
        stacked = self.conv(torch.relu_(self.bn(stacked)))
        patches = stacked.unflatten(1, (side, side, -1)).permute(0, 1, 4, 2, 5, 3)  # B, g, h, g, w, C
        return patches.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
