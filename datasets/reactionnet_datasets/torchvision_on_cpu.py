"""Import torchvision, repaired where its wheel is linked against CUDA and torch is not.

Linux wheels of torchvision link libtorch_cuda. Beside a CPU torch their extension cannot be loaded and `import
torchvision` dies with "operator torchvision::nms does not exist", although its models and transforms are pure Python;
facenet-pytorch and transformers' image models go down with it. `ensure()` declares the two operators whose fake
kernels torchvision registers at import time and gives nms a NumPy kernel. Where torchvision is healthy it does
nothing; a broken pair beside a CUDA or ROCm torch still raises. Call it before every import of torchvision,
facenet_pytorch or a transformers model. `torchvision.io` stays unavailable after a repair.
"""

import importlib
import sys
from typing import Literal

import numpy as np
import torch

_libraries: list[torch.library.Library] = []  # must outlive the process, else the operators vanish


def ensure() -> Literal["native", "repaired"]:
    """Import torchvision and say whether it had to be repaired. ImportError if it is not installed."""
    if _libraries:
        return "repaired"
    try:
        importlib.import_module("torchvision")
        return "native"
    except (RuntimeError, AttributeError) as error:
        if torch.version.cuda is not None or torch.version.hip is not None or "torchvision" not in str(error):
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)
    importlib.import_module("torchvision")
    setattr(importlib.import_module("torchvision.ops.boxes"), "_assert_has_ops", lambda: None)  # noqa: B010
    return "repaired"


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression; boxes are x1, y1, x2, y2. Returns indices, best score first."""
    boxes = dets.detach().cpu().numpy().astype(np.float64)
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1) * (y2 - y1)
    order = np.argsort(-scores.detach().cpu().numpy(), kind="stable")
    keep = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(best)
        w = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        h = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        shared = np.clip(w, 0, None) * np.clip(h, 0, None)
        order = rest[shared <= iou_threshold * (area[best] + area[rest] - shared)]
    return torch.as_tensor(np.asarray(keep, dtype=np.int64), device=dets.device)
