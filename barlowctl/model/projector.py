"""The projector on top of the backbone, and the predictor of the asymmetry ablation (Table 6)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from barlowctl.errors import UserError


def build_projector(in_features: int, sizes: Sequence[int], *, batch_norm: bool = True) -> nn.Sequential:
    """Linear - batch norm - ReLU for every size but the last, then one Linear; (N, in) -> (N, sizes[-1]).

    As in section 2.2 and the authors' code no Linear has a bias: the batch norm behind a hidden one has its
    own, and behind the last one the objective subtracts the mean. Modules are numbered as in the authors'
    checkpoints (0, 1 | 3, 4 | 6 for three sizes).

    Args:
        in_features: width of the backbone's features.
        sizes: widths of the layers, the last one is the embedding's; the paper: (8192, 8192, 8192).
        batch_norm: False drops the batch norms and changes nothing else (Table 5, "no BN in the MLP"). No
            bias takes their place: the paper's row removes layers, and a bias would be a second change.
    """
    check_widths(in_features, sizes)
    layers: list[nn.Module] = []
    before = in_features
    for after in sizes[:-1]:
        layers.append(nn.Linear(before, after, bias=False))
        if batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU(inplace=True))
        before = after
    layers.append(nn.Linear(before, sizes[-1], bias=False))
    return nn.Sequential(*layers)


def check_widths(in_features: int, sizes: Sequence[int]) -> None:
    """Refuse widths that cannot be.

    Raises:
        UserError: with the widths.
    """
    if not sizes or min(sizes) < 1 or in_features < 1:
        raise UserError(
            f"a projector from {in_features} features with widths {list(sizes)} cannot be built",
            allowed="one or more positive widths",
        )


def build_predictor(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Fully connected layers with batch norm and ReLU between, (N, width) -> (N, width).

    Table 6: two layers of 8192, so `build_predictor(8192, (8192,))`. Biases: none, as in the projector.
    """
    return build_projector(width, (*hidden, width))
