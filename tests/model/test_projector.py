"""Projector and predictor: exactly the layers of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from barlowctl.errors import UserError
from barlowctl.model import build_predictor, build_projector


def layers(module: nn.Module) -> list[str]:
    return [
        f"{part.in_features}>{part.out_features}" if isinstance(part, nn.Linear) else type(part).__name__
        for part in module
    ]


def test_the_papers_projector() -> None:
    with torch.device("meta"):
        projector = build_projector(2048, (8192, 8192, 8192))
    norm = ["BatchNorm1d", "ReLU"]
    assert layers(projector) == ["2048>8192", *norm, "8192>8192", *norm, "8192>8192"]
    assert all(part.bias is None for part in projector if isinstance(part, nn.Linear))
    weights = 2048 * 8192 + 2 * 8192 * 8192
    assert sum(p.numel() for p in projector.parameters()) == weights + 2 * 2 * 8192


def test_keys_are_those_of_the_authors_checkpoints() -> None:
    keys = {key.split(".")[0] for key in build_projector(8, (4, 4, 4)).state_dict()}
    assert keys == {"0", "1", "3", "4", "6"}


def test_without_batch_norm_nothing_else_changes() -> None:
    projector = build_projector(8, (4, 5, 6), batch_norm=False)
    assert layers(projector) == ["8>4", "ReLU", "4>5", "ReLU", "5>6"]
    assert all(part.bias is None for part in projector if isinstance(part, nn.Linear))


def test_values_against_the_formula() -> None:
    projector = build_projector(3, (4, 2)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    hidden = x @ projector[0].weight.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    expected = hidden.clamp(min=0) @ projector[3].weight.T
    assert torch.allclose(projector(x), expected, atol=1e-12)


def test_one_layer() -> None:
    assert layers(build_projector(8, (4,))) == ["8>4"]


def test_the_predictor_of_table_6() -> None:
    with torch.device("meta"):
        predictor = build_predictor(8192, (8192,))
    assert layers(predictor) == ["8192>8192", "BatchNorm1d", "ReLU", "8192>8192"]


@pytest.mark.parametrize("sizes", [(), (4, 0), (-1,)])
def test_impossible_widths(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="cannot be built"):
        build_projector(8, sizes)
