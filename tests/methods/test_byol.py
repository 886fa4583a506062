"""BYOL: what goes through which network, what moves the target, and what does not."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods import Targets
from barlowctl.methods.byol import BYOL
from barlowctl.objective.byol import byol_loss
from barlowctl.train.step import TrainingStep
from tests.methods.siamese_networks import Views, byol, make, optimizer_of, to_input


def views() -> list[Tensor]:
    return [to_input(view) for view in next(Views((8, 8)).epoch(0)).views]


def method() -> BYOL:
    made = make("byol")
    assert isinstance(made, BYOL)
    with torch.no_grad():  # a target of its own, as it is after some steps
        for p in made.target.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()), dtype=p.dtype))
    return made


def test_both_views_go_through_both_networks_one_at_a_time() -> None:
    """Value, gradients and running statistics are those of four calls; views in one batch would give others."""
    ours, plain = method(), method()
    terms = ours(views())
    terms.loss.backward()

    x1, x2 = views()
    online = nn.Sequential(plain.backbone, plain.projector)
    p1, p2 = plain.predictor(online(x1)), plain.predictor(online(x2))
    targets = plain.target.networks
    with torch.no_grad():
        z1, z2 = targets(x1), targets(x2)
    expected = byol_loss(p1, p2, z1, z2)
    expected.loss.backward()
    assert terms.loss.item() == expected.loss.item()
    for (name, p), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert (p.grad is None) == (other.grad is None) == name.startswith("target"), name
        if p.grad is not None and other.grad is not None:
            torch.testing.assert_close(p.grad, other.grad, rtol=1e-10, atol=1e-14)
    for (name, buffer), other in zip(ours.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, other), name
    together = method()
    together.predictor(together.project(torch.cat([x1, x2])))
    assert not torch.equal(together.backbone[1].running_mean, ours.backbone[1].running_mean)


def test_the_targets_batch_norm_normalises_by_the_batch_and_keeps_its_own_statistics() -> None:
    ours = method().train()
    x1, x2 = views()
    norm = ours.target.networks[0][1]
    before = norm.running_mean.clone()
    z1 = ours.embeddings([x1, x2])[2]
    inputs = ours.target.networks[0][0]
    expected = before
    for x in (x1, x2):
        expected = 0.9 * expected + 0.1 * inputs(x).mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected)
    assert not torch.allclose(norm.running_mean, ours.backbone[1].running_mean)  # it is not the online network's
    with torch.no_grad():
        assert not torch.allclose(z1, ours.eval().embeddings([x1, x2])[2])  # running statistics would give this


def test_the_average_by_hand_with_both_ends_of_its_schedule() -> None:
    """tau 0.9 at the beginning, 0.95 half-way, 1 at the end; scale and shift of batch norm too, buffers not."""
    ours = method()
    expected = {name: p.clone() for name, p in ours.target.named_parameters()}
    buffers = {name: b.clone() for name, b in ours.target.named_buffers()}
    online = dict(zip(expected, [*ours.backbone.parameters(), *ours.projector.parameters()], strict=True))
    for progress in (0.0, 0.5, 1.0):
        tau = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2
        with torch.no_grad():
            for name, p in online.items():
                p.mul_(1.1)
                expected[name] = tau * expected[name] + (1 - tau) * p
        ours.after_step(torch.tensor(progress, dtype=torch.float64))
        for name, p in ours.target.named_parameters():
            torch.testing.assert_close(p, expected[name], rtol=1e-12, atol=1e-15, msg=name)
    assert all(torch.equal(b, buffers[name]) for name, b in ours.target.named_buffers())
    norms = [name for name, p in expected.items() if p.ndim == 1]
    assert len(norms) >= 4


def test_the_target_follows_after_the_optimizers_step() -> None:
    """Towards the new weights, by the share of this step's progress; nothing else moves it."""
    ours, plain = method(), method()
    optimizer, reference = optimizer_of(ours), optimizer_of(plain)
    step = TrainingStep(ours, optimizer, to_input=to_input, device=torch.device("cpu"), precision="fp32")
    shares: list[float] = []
    for number, batch in enumerate(Views((8, 8)).epoch(0)):
        rows = len(batch.views[0])
        progress = number / 10
        computed = step.compute(batch.views, step.targets(batch.labels, batch.indices, [rows], progress))
        step.update(computed)

        plain.zero_grad()
        plain([to_input(view) for view in batch.views]).loss.backward()
        before = [p.clone() for p in plain.target.parameters()]
        reference.step()
        share = 0.1 * (1 + math.cos(math.pi * progress)) / 2
        with torch.no_grad():
            online = [*plain.backbone.parameters(), *plain.projector.parameters()]
            for p, old, new in zip(plain.target.parameters(), before, online, strict=True):
                p.copy_(old + share * (new - old))
        shares.append(share)
    for (name, value), other in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-8, msg=name)  # progress is float32 in a step
    assert shares[0] == 0.1


def test_a_step_that_is_taken_back_leaves_the_target_as_it_was() -> None:
    ours = method()
    step = TrainingStep(ours, optimizer_of(ours), to_input=to_input, device=torch.device("cpu"), precision="fp32")
    before = copy.deepcopy(ours.state_dict())
    batch = next(Views((8, 8)).epoch(0))
    step.compute(batch.views, step.targets(batch.labels, batch.indices, [len(batch.views[0])], 0.0))
    ours.after_step(torch.tensor(0.0))
    assert not torch.equal(next(ours.target.parameters()), before["target.networks.0.0.weight"])
    step.undo()
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_no_optimizer_sees_the_target_and_the_online_network_is_evaluated() -> None:
    ours = method()
    optimized = {id(p) for group in optimizer_of(ours).param_groups for p in group["params"]}
    assert not optimized & {id(p) for p in ours.target.parameters()}
    assert optimized == {id(p) for part in (ours.backbone, *ours.heads().values()) for p in part.parameters()}
    assert {id(p) for p in ours.moving()} == {id(p) for p in ours.target.parameters()}
    image = views()[0]
    assert torch.equal(ours.eval().embed(image), ours.backbone(image))
    assert torch.equal(ours.project(image), ours.projector(ours.backbone(image)))


def test_what_it_says_and_refuses() -> None:
    assert byol(momentum=0.996).describe(256).endswith("momentum 0.996, rising to 1")
    assert byol(momentum=0.99, schedule="constant").describe(256).endswith("momentum 0.99")
    assert byol().alarm({"loss": 0.1, "spread": 0.9}, 0.5) is None
    assert "collapsed" in (byol().alarm({"loss": 0.0, "spread": 0.01}, 0.5) or "")
    with pytest.raises(UserError, match="2 views of each image, got 3"):
        byol()([torch.zeros(2, 1, 8, 8)] * 3)
    with pytest.raises(UserError, match="momentum"):
        byol(momentum=1.5)


def test_labels_change_nothing_and_what_autocast_gives_is_compared_in_float32() -> None:
    ours = method()
    embedded = ours.embeddings(views())
    rows = len(embedded[0])
    one = ours.compare(embedded, Targets.unlabelled(rows))
    other = ours.compare(embedded, Targets.unlabelled(rows, label=3))
    assert one.loss.item() == other.loss.item()
    half = [z.detach().bfloat16() for z in embedded]
    terms = ours.compare(half, Targets.unlabelled(rows))
    assert {term.dtype for term in terms} == {torch.float32}
    assert terms.loss.item() == ours.compare([z.float() for z in half], Targets.unlabelled(rows)).loss.item()
