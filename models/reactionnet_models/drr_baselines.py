"""Models of DRR's Table 1 that are not DRR without some part: one encoder with one layer, feature fusion, SEV-Net.

Feature fusion is attentional feature fusion (Dai et al., WACV 2021), from its published formula. SEV-Net (Yang et al.,
CVPR 2021) has no public code: ours is a reading of its idea, thin on purpose. Letters: N pictures, D domains, K labels,
F features, L tokens.
"""

import torch
from torch import Tensor, nn

from reactionnet_models.temporal import or_all


class LinearHead(nn.Linear):
    """One layer over the mean of a picture's map."""

    def biases(self) -> list[Tensor]:
        """What is added to a label's answer at the end, (K,)."""
        return [self.bias]


class Normalised(nn.BatchNorm2d):
    """Batch normalisation that a batch of one value a channel, which has no variance, goes through as in inference."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.training and x_NCHW.numel() == x_NCHW.shape[1]:
            return nn.functional.batch_norm(
                x_NCHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x_NCHW)


class AttentionalFusion(nn.Module):
    """x w + y (1 - w), twice, with w from the sum of both, near (each place) and far (their mean): (N, F, H, W)."""

    def __init__(self, width: int, reduction: int = 4):
        super().__init__()
        inner = max(width // reduction, 1)

        def look() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(width, inner, 1),
                Normalised(inner),
                nn.ReLU(),
                nn.Conv2d(inner, width, 1),
                Normalised(width),
            )

        self.near, self.far = look(), look()

    def forward(self, x_NFHW: Tensor, y_NFHW: Tensor) -> Tensor:
        both = x_NFHW + y_NFHW
        weight = (self.near(both) + self.far(both.mean((2, 3), keepdim=True))).sigmoid()
        return 2 * x_NFHW * weight + 2 * y_NFHW * (1 - weight)


class FusionHead(nn.Module):
    """The pictures' maps fused, then the text at every place, then a linear layer: logits (N, K).

    How three domains are fused by a net for two is our reading.
    """

    def __init__(self, width: int, num_labels: int):
        super().__init__()
        self.pictures, self.words = AttentionalFusion(width), AttentionalFusion(width)
        self.last = nn.Linear(width, num_labels)

    def biases(self) -> list[Tensor]:
        """What is added to a label's answer at the end, (K,)."""
        return [self.last.bias]

    def forward(self, map_NDFHW: Tensor, text_NF: Tensor, mask_ND: Tensor) -> Tensor:
        map_NDFHW = map_NDFHW * mask_ND[:, : map_NDFHW.shape[1], None, None, None]
        fused = self.pictures(map_NDFHW[:, 0], map_NDFHW[:, 1])
        said = (text_NF * mask_ND[:, -1:])[:, :, None, None].expand_as(fused)
        return self.last(self.words(fused, said).mean((2, 3)))


class SemanticHead(nn.Module):
    """SEV-Net, our reading: an embedding of each label looks at the others, then at all places of the pictures and the
    text; a linear layer of its own answers. The original's embeddings are of the units' descriptions; here they are learned.
    """

    def __init__(self, width: int, num_labels: int, heads: int = 4):
        super().__init__()
        self.label_KF = nn.Parameter(torch.randn(num_labels, width) * width**-0.5)
        self.layer = nn.TransformerDecoderLayer(width, heads, width, dropout=0.1, batch_first=True, norm_first=True)
        self.weight_KF = nn.Parameter(torch.randn(num_labels, width) * width**-0.5)
        self.bias_K = nn.Parameter(torch.zeros(num_labels))

    def biases(self) -> list[Tensor]:
        """What is added to a label's answer at the end, (K,)."""
        return [self.bias_K]

    def forward(self, map_NDFHW: Tensor, text_NF: Tensor, mask_ND: Tensor) -> Tensor:
        num, domains, _, height, wide = map_NDFHW.shape
        tokens_NLF = torch.cat([map_NDFHW.flatten(3).transpose(2, 3).flatten(1, 2), text_NF[:, None]], 1)
        seen_NL = torch.cat([mask_ND[:, :domains].repeat_interleave(height * wide, 1), mask_ND[:, -1:]], 1)
        seen_NL = or_all(seen_NL)  # a frame without anything: its labels are masked
        label_NKF = self.layer(self.label_KF.expand(num, -1, -1), tokens_NLF, memory_key_padding_mask=~seen_NL)
        return (label_NKF * self.weight_KF).sum(-1) + self.bias_K
