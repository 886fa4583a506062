"""A setting that a method cannot have is refused when it is made, as `barlowctl.losses` refuses it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from barlowctl import methods
from barlowctl.errors import UserError
from barlowctl.methods import Method, Targets

NAN = float("nan")
SIZES = {"width": 4, "images": 40, "negatives": 8, "prototypes": 6, "batch": 8, "queue": 16}
TAKES: dict[str, tuple[str, ...]] = {
    "PIRL": ("width", "images", "negatives"), "MoCo": ("width", "batch", "queue"), "SwAV": ("width", "prototypes"),
}  # fmt: skip


def make(name: str, **settings: Any) -> Method:
    networks = [nn.Linear(4, 4) for _ in range(3 if name in ("BYOL", "SimSiam", "PIRL") else 2)]
    sizes = {size: SIZES[size] for size in TAKES.get(name, ())}
    return getattr(methods, name)(*networks, **{**sizes, **settings})


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("BarlowTwins", {"lambd": -0.1}, "lambd is -0.1"),
        ("BarlowTwins", {"scale": 0}, "scale is 0"),
        ("BarlowTwins", {"small": -1}, "small is -1"),
        ("BarlowTwins", {"form": "gramm"}, "unknown form 'gramm', did you mean 'gram'?"),
        ("MixedBarlowTwins", {"lambd_reg": NAN}, "lambd_reg is nan"),
        ("MixedBarlowTwins", {"lambd": -1}, "lambd is -1"),
        ("MixedBarlowTwins", {"reg_warmup": -1}, "reg_warmup is -1"),
        ("MixedBarlowTwins", {"form": "prim"}, "unknown form 'prim', did you mean 'primal'?"),
        ("VICReg", {"variance": -1}, "variance is -1"),
        ("VICReg", {"scale": NAN}, "scale is nan"),
        ("SimCLR", {"temperature": "0.1"}, "temperature is '0.1', a str"),
        ("SimCLR", {"scale": -1}, "scale is -1"),
        ("BYOL", {"schedule": "cosin"}, "unknown schedule 'cosin', did you mean 'cosine'?"),
        ("BYOL", {"momentum": "1"}, "momentum is '1', a str"),
        ("MoCo", {"temperature": 0}, "temperature is 0"),
        ("MoCo", {"queue": 16.0}, "queue is 16.0, a float"),
        ("SwAV", {"temperature": -1}, "temperature is -1"),
        ("SwAV", {"epsilon": 0}, "epsilon is 0"),
        ("SwAV", {"iterations": 0}, "iterations is 0"),
        ("SwAV", {"prototypes": 1}, "prototypes is 1"),
        ("SwAV", {"queue": -1}, "queue is -1"),
        ("SwAV", {"frozen_share": NAN}, "frozen_share is nan"),
        ("PIRL", {"momentum": 2}, "momentum is 2"),
        ("PIRL", {"negatives": 0}, "negatives is 0"),
        ("PIRL", {"criterion": "infonce"}, "unknown criterion 'infonce', did you mean 'nce'?"),
    ],
)
def test_a_setting_that_a_method_cannot_have_is_refused(name: str, settings: dict[str, Any], words: str) -> None:
    assert isinstance(make(name), Method)
    with pytest.raises(UserError) as refused:
        make(name, **settings)
    assert refused.value.message == words
    assert refused.value.__notes__[0].startswith("allowed: ")


@pytest.mark.parametrize("name", ["SwAV", "PIRL", "MoCo"])
def test_embeddings_of_another_width_are_refused(name: str) -> None:
    method = make(name, width=5, **({"patches": 1} if name == "PIRL" else {}))
    if name == "PIRL":
        method.patch_head = nn.Flatten()
    with pytest.raises(UserError, match=r"5.*4 dimensions"):
        method([torch.ones(8, 4), torch.ones(8, 4)], Targets.unlabelled(8))
