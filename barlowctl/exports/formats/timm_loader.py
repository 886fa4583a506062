"""A small Python file for hub folders whose stem timm has no argument for: it teaches timm the network."""

from __future__ import annotations

from torch import nn

from barlowctl.exports.exported import ExportedModel
from barlowctl.model.backbone import STEMS

LOADER_NAME = "register_with_timm.py"

_TEMPLATE = '''\
"""Registers '{name}' with timm: {architecture} with a {kernel}x{kernel} convolution of stride {stride} and no max-pool.

timm has no argument for this stem, so it must read this file once before it loads the folder:

    import runpy, timm
    runpy.run_path("FOLDER/{file}")
    model = timm.create_model("local-dir:FOLDER", pretrained=True)

num_classes, in_chans and features_only work as with timm's own models. Written by barlowctl; needs timm and torch only.
"""

import warnings

import timm
import torch
from timm.models import build_model_with_cfg, register_model


def build(in_chans=3, **kwargs):
    """timm's {architecture}, its stem replaced."""
    model = timm.create_model({architecture!r}, in_chans=in_chans, **kwargs)
    width = model.bn1.num_features
    model.conv1 = torch.nn.Conv2d(in_chans, width, {kernel}, stride={stride}, padding={padding}, bias=False)
    torch.nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = torch.nn.Identity()
    model.feature_info[0]["reduction"] = {stride}
    for stage in model.feature_info[1:]:
        stage["reduction"] = stage["reduction"] * {stride} // 4
    return model


def {name}(pretrained=False, **kwargs):
    """The entry point that timm calls."""
    return build_model_with_cfg(build, {name!r}, pretrained, **kwargs)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # registered before by another folder of the same network: the same again
    register_model({name})
'''


def registered_name(architecture: str, stem: str) -> str:
    """What timm calls the network once the loader was read: a name that it does not know before."""
    return architecture if stem == "default" else f"{architecture}_{stem}_stem"


def loader_source(model: ExportedModel) -> str:
    """The file's text."""
    shape = STEMS[model.stem]
    assert shape is not None
    assert isinstance(model.backbone.get_submodule("conv1"), nn.Conv2d)
    return _TEMPLATE.format(
        name=registered_name(model.architecture, model.stem),
        file=LOADER_NAME,
        architecture=model.architecture,
        kernel=shape.kernel,
        stride=shape.stride,
        padding=shape.padding,
    )
