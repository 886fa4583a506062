"""PIRL as a method: the bank is by image and moves after the step, the jigsaw is by image, Z is of the first batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods import PIRL, Targets, keyed
from barlowctl.methods.pirl import NEGATIVES
from barlowctl.model import build_patch_head
from tests.oracles import pirl as oracle

IMAGES, WIDTH, PATCHES = 30, 5, 4


class Mean(nn.Module):
    """Images `(N, 3, S, S)` -> features `(N, 3)`."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def method(**options: object) -> PIRL:
    torch.manual_seed(0)
    made = PIRL(
        Mean(),
        nn.Linear(3, WIDTH),
        build_patch_head(3, (WIDTH,), patches=PATCHES),
        images=IMAGES,
        width=WIDTH,
        patches=PATCHES,
        **{"negatives": 12, "temperature": 0.4, **options},  # type: ignore[arg-type]
    ).double()
    made.bank.copy_(nn.functional.normalize(made.bank, dim=1))  # to the last digit of float64
    return made


def batch(indices: list[int]) -> tuple[list[Tensor], Targets]:
    """The views of images are their own, wherever they stand in a batch."""
    views = []
    for number in range(1 + PATCHES):
        size = 4 if number else 8
        drawn = [np.random.default_rng([number, index]).normal(size=(3, size, size)) for index in indices]
        views.append(torch.tensor(np.stack(drawn)))
    return views, Targets(torch.full((len(indices),), -1), torch.tensor(indices), None, torch.zeros(()))


def test_the_loss_is_the_mean_of_both_halves_against_the_banks_old_rows() -> None:
    """Negatives are drawn anew at each step, by its number."""
    for criterion, step in (("nce", 0), ("nce", 3), ("cross_entropy", 3)):
        ours = method(criterion=criterion)
        ours.step.fill_(step)
        views, targets = batch([4, 9, 17, 2, 25, 11])
        bank = ours.bank.clone()
        z = [t.detach().numpy() for t in ours.embeddings(ours.arrange(views, targets))]
        terms = ours(views, targets)
        assert torch.equal(ours.bank, bank)  # neither half moved it
        drawn = keyed.integers(0, torch.tensor(step), NEGATIVES, 12, IMAGES)
        rest = bank[targets.indices].numpy(), bank[drawn].numpy(), 0.4
        if criterion == "nce":
            halves = [oracle.nce(v, *rest, IMAGES, oracle.partition(v, *rest, IMAGES)) for v in z]
        else:
            halves = [oracle.cross_entropy(v, *rest) for v in z]
        assert terms.image.item() == pytest.approx(halves[0], rel=1e-10)
        assert terms.patches.item() == pytest.approx(halves[1], rel=1e-10)
        assert terms.loss.item() == pytest.approx(sum(halves) / 2, rel=1e-10)


def test_negatives_are_rows_of_the_images_that_are_trained_on() -> None:
    """Rows of held-out images never move: what is in them is nothing to the loss, and M does not count them."""
    trained_on = torch.tensor([2, 4, 9, 11, 17, 25, 26])
    for criterion in ("nce", "cross_entropy"):
        ours = method(criterion=criterion, trained_on=trained_on)
        views, targets = batch([4, 9, 17])
        z = [t.detach().numpy() for t in ours.embeddings(ours.arrange(views, targets))]
        drawn = trained_on[keyed.integers(0, torch.tensor(0), NEGATIVES, 12, len(trained_on))]
        rest = ours.bank[targets.indices].numpy(), ours.bank[drawn].numpy(), 0.4
        if criterion == "nce":
            halves = [oracle.nce(v, *rest, 7, oracle.partition(v, *rest, 7)) for v in z]
        else:
            halves = [oracle.cross_entropy(v, *rest) for v in z]
        others = torch.ones(IMAGES, dtype=torch.bool).index_fill(0, trained_on, False)
        ours.bank[others] = math.nan
        assert ours(views, targets).loss.item() == pytest.approx(sum(halves) / 2, rel=1e-10)
        assert "a memory bank of 7 x 5" in ours.describe(3)
        assert ours.state_dict().keys() == method(criterion=criterion).state_dict().keys()  # it follows from the recipe


def test_the_bank_moves_after_the_step_by_the_images_own_index() -> None:
    """The same images in another order move the same rows to the same values, half way to the image's embedding."""
    moved = []
    for order in ([4, 9, 17], [17, 4, 9]):
        ours = method(momentum=0.5)
        before = ours.bank.clone()
        views, targets = batch(order)
        ours(views, targets)
        z = ours.projector(ours.backbone(views[0])).detach()
        ours.after_step(torch.tensor(0.0))
        changed = (ours.bank != before).any(dim=1).nonzero().flatten().tolist()
        assert changed == [4, 9, 17]
        for row, index in enumerate(order):
            expected = oracle.unit(0.5 * before[index].numpy() + 0.5 * oracle.unit(z[row].numpy()))
            np.testing.assert_allclose(ours.bank[index].numpy(), expected, rtol=1e-12)
        moved.append(ours.bank.clone())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-12, atol=1e-14)


def test_z_is_of_the_first_batch_and_then_a_constant() -> None:
    ours = method()
    assert ours.log_z is not None
    assert ours.log_z.isinf().all()
    ours(*batch([1, 2, 3]))
    first = ours.log_z.clone()
    assert first.isfinite().all()
    assert first[0] != first[1]
    assert abs(first[0].item() - math.log(IMAGES)) < 1.5
    ours.after_step(torch.tensor(0.0))
    ours(*batch([7, 8, 9]))
    assert torch.equal(ours.log_z, first)
    assert "log_z" not in method(criterion="cross_entropy").state_dict()


def test_no_gradient_goes_to_the_bank() -> None:
    ours = method()
    ours(*batch([1, 2, 3])).loss.backward()
    assert not ours.bank.requires_grad
    assert all(p.grad is not None for p in ours.parameters())


def test_every_image_has_its_own_jigsaw_which_is_another_at_the_next_step() -> None:
    ours = method()
    views, targets = batch(list(range(20)))
    orders = []
    for _ in range(2):
        arranged = ours.arrange(views, targets)
        assert torch.equal(arranged[0], views[0])
        cut, given = torch.stack(arranged[1:]), torch.stack(views[1:])
        order = [[next(k for k in range(4) if torch.equal(given[k, row], p)) for p in cut[:, row]] for row in range(20)]
        assert all(sorted(one) == [0, 1, 2, 3] for one in order)
        assert len({tuple(one) for one in order}) > 8
        orders.append(order)
        ours.after_step(torch.tensor(0.0))
    assert orders[0] != orders[1]
    pixels = [(view * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1) for view in views]
    again = method().arrange(pixels, targets)  # as pixels that come from the loader, for two passes
    assert torch.equal(again[1][3], pixels[1 + orders[0][3][0]][3])


def test_patches_go_to_their_own_head_in_order() -> None:
    ours = method()
    views, targets = batch([5, 6, 7])
    arranged = ours.arrange(views, targets)
    z = ours.embeddings(arranged)
    features = [view.mean(dim=(2, 3)) for view in arranged]
    joined = torch.cat([ours.patch_head.each(patch) for patch in features[1:]], dim=1)
    torch.testing.assert_close(z[0], ours.projector(features[0]))
    torch.testing.assert_close(z[1], ours.patch_head.together(joined))


def test_the_bank_begins_at_unit_length_by_the_seed_of_weights() -> None:
    one, other = method(), method()
    assert torch.equal(one.bank, other.bank)
    torch.testing.assert_close(one.bank.norm(dim=1), torch.ones(IMAGES, dtype=torch.float64))
    assert one.bank.abs().max() < 1.0


def test_ten_views_are_needed() -> None:
    views, targets = batch([1, 2])
    with pytest.raises(UserError, match="the image and 4 patches of each, got 2 views"):
        method()(views[:2], targets)
