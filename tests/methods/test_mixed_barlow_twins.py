"""Mixed Barlow Twins as a method: who is mixed with whom, and when it is drawn anew."""

from __future__ import annotations

import copy

import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.methods import MixedBarlowTwins, Targets
from barlowctl.objective.mixed import mixed_barlow_twins_loss
from tests.methods.test_barlow_twins import networks, views


def method(**options: object) -> MixedBarlowTwins:
    backbone, projector, _ = networks()
    return MixedBarlowTwins(backbone, projector, **options)  # type: ignore[arg-type]


def test_the_third_view_is_the_mixture_of_images() -> None:
    ours, (x1, x2) = method(seed=4, lambd=0.02, lambd_reg=2.0, scale=0.5), views()
    terms = ours([x1, x2])
    alpha, pi = ours.share().double(), ours.partners(8)
    assert 0.0 < alpha < 1.0
    assert sorted(pi.tolist()) == list(range(8))
    backbone, projector, _ = networks()
    mixed = alpha * x1 + (1 - alpha) * torch.stack([x2[row] for row in pi.tolist()])
    z = [projector(backbone(view)) for view in (x1, x2, mixed)]
    expected = mixed_barlow_twins_loss(*z, alpha=alpha, permutation=pi, lambd=0.02, lambd_reg=2.0)
    assert terms.loss.item() == pytest.approx(0.5 * expected.loss.item(), rel=1e-12)
    assert [t.item() for t in terms[1:]] == [t.item() for t in expected[1:]]


def test_in_parts_a_batch_embeds_as_whole() -> None:
    """Partners are of the whole batch, so that two passes over micro-batches have the batch's gradient."""
    ours = method().eval()
    arranged = ours.arrange(views(), Targets.unlabelled(8))
    whole = ours.embeddings(arranged)
    parts = [ours.embeddings([view[rows] for view in arranged]) for rows in (slice(0, 3), slice(3, 8))]
    for number, z in enumerate(whole):
        torch.testing.assert_close(torch.cat([part[number] for part in parts]), z, rtol=1e-12, atol=1e-14)


def test_every_step_draws_anew_and_the_state_says_which_it_is() -> None:
    ours = method(seed=1)
    drawn = []
    for _ in range(4):
        drawn.append((ours.share().item(), tuple(ours.partners(16).tolist())))
        ours.after_step(torch.tensor(0.0))
    assert len({share for share, _ in drawn}) == len({partners for _, partners in drawn}) == 4
    assert all(partners != tuple(range(16)) for _, partners in drawn)  # images are mixed with other ones
    other = method(seed=1)
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert other.share().item() == ours.share().item()
    assert torch.equal(other.partners(16), ours.partners(16))
    assert method(seed=2).share().item() != drawn[0][0]


def test_the_mixing_term_rises_over_its_warm_up() -> None:
    ours = method(lambd=0.1, lambd_reg=3.0, reg_warmup=0.2)
    embeddings = [z.detach() for z in ours.embeddings(ours.arrange(views(), Targets.unlabelled(8)))]
    for progress, share in ((0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.9, 1.0)):
        targets = Targets.unlabelled(8)
        terms = ours.compare(embeddings, Targets(targets.labels, targets.indices, None, torch.tensor(progress)))
        rest = terms.invariance + 0.1 * terms.redundancy
        assert (terms.loss - rest).item() == pytest.approx(0.1 * 3.0 * share * terms.mixing.item(), rel=1e-6)


@pytest.mark.parametrize("reg_warmup", [5e-324, 1e-320, 1e-40, 1e-30])
def test_a_warm_up_of_no_length_is_over_with_the_first_step(reg_warmup: float) -> None:
    """In single precision, in which progress is, these are zero or near it: 0 / 0 gave a loss of nan."""
    ours = method(lambd=0.1, lambd_reg=3.0, reg_warmup=reg_warmup)
    embeddings = [z.detach() for z in ours.embeddings(ours.arrange(views(), Targets.unlabelled(8)))]
    for progress, share in ((0.0, 0.0), (1e-9, 1.0)):
        targets = Targets.unlabelled(8)
        terms = ours.compare(embeddings, Targets(targets.labels, targets.indices, None, torch.tensor(progress)))
        rest = terms.invariance + 0.1 * terms.redundancy
        assert (terms.loss - rest).item() == pytest.approx(0.1 * 3.0 * share * terms.mixing.item(), rel=1e-6)


def test_two_views_are_needed() -> None:
    with pytest.raises(UserError, match="2 views of each image, got 3"):
        method()([*views(), views()[0]])
