"""MoCo as a method: three steps by hand in the authors' order, what keys are computed from, and what a step leaves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods import MoCo, Targets
from barlowctl.model import split_batch_norm
from barlowctl.objective.moco import info_nce

ROWS, WIDTH, K, MOMENTUM, TAU = 8, 7, 24, 0.9, 0.2


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    return backbone, nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, WIDTH))


def make(*, groups: int = 1, **options: Any) -> MoCo:
    backbone, projector = networks()
    split_batch_norm(backbone, groups)
    given = {"batch": ROWS, "queue": K, "momentum": MOMENTUM, "temperature": TAU, **options}
    return MoCo(backbone, projector, width=WIDTH, **given).double()


def views(step: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1 + step)
    return [torch.randn(ROWS, 1, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


def take_step(method: MoCo, step: int, optimizer: torch.optim.Optimizer) -> Any:
    method.zero_grad()
    method.before_step(torch.tensor(step / 3))
    terms = method(views(step))
    terms.loss.backward()
    optimizer.step()
    method.after_step(torch.tensor(step / 3))
    return terms


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in parameters if p.requires_grad], lr=0.5, momentum=0.9)


def test_three_steps_are_the_authors_builder_by_hand() -> None:
    """`moco/builder.py`: the key encoder follows, keys, loss with the old queue, enqueue; then the optimizer's step."""
    method = make()
    optimizer = sgd(method.parameters())
    online = nn.Sequential(*networks()).double()
    key = copy.deepcopy(online)
    queue, pointer = method.queue.rows.clone(), 0
    theirs = sgd(online.parameters())
    for step in range(4):  # one more than the queue holds batches
        terms = take_step(method, step, optimizer)
        with torch.no_grad():
            for p, q in zip(key.parameters(), online.parameters(), strict=True):
                p.copy_(p * MOMENTUM + q * (1.0 - MOMENTUM))
            x1, x2 = views(step)
            keys = nn.functional.normalize(key(x2), dim=1)
        queries = nn.functional.normalize(online(x1), dim=1)
        logits = torch.cat([(queries * keys).sum(dim=1, keepdim=True), queries @ queue.clone().t()], dim=1) / TAU
        loss = nn.functional.cross_entropy(logits, torch.zeros(ROWS, dtype=torch.long))
        assert terms.loss.item() == pytest.approx(loss.item(), rel=1e-12)
        queue[pointer : pointer + ROWS] = keys
        pointer = (pointer + ROWS) % K
        theirs.zero_grad()
        loss.backward()
        theirs.step()
    torch.testing.assert_close(method.queue.rows, queue)
    assert method.queue.pointer.item() == pointer
    ours = [*method.backbone.parameters(), *method.projector.parameters(), *method.key_encoder.parameters()]
    for mine, other in zip(ours, [*online.parameters(), *key.parameters()], strict=True):
        torch.testing.assert_close(mine, other)
    own = [*method.backbone.buffers(), *method.key_encoder.buffers()]
    for mine, other in zip(own, [*online.buffers(), *key.buffers()], strict=True):
        torch.testing.assert_close(mine, other)  # each encoder's running statistics are of its own views


def test_a_key_is_no_negative_in_its_own_step() -> None:
    method = make()
    begun = method.queue.rows.clone()
    q, k = method.embeddings(views())
    loss = method.compare([q, k], Targets.unlabelled(ROWS)).loss
    assert loss.item() == pytest.approx(info_nce(q, k, begun, temperature=TAU).loss.item(), rel=1e-12)
    torch.testing.assert_close(method.queue.rows, begun, rtol=0, atol=0)  # until the step is over
    method.after_step(torch.zeros(()))
    torch.testing.assert_close(method.queue.rows[:ROWS], nn.functional.normalize(k, dim=1))


def test_no_gradient_goes_to_keys_their_encoder_or_the_queue() -> None:
    method = make()
    q, k = method.embeddings(views())
    assert q.requires_grad
    assert not k.requires_grad
    method(views()).loss.backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in method.named_parameters() if p.requires_grad}
    assert not any(name.startswith("key_encoder") for name in trained)
    assert {id(p) for p in method.moving()} == {id(p) for p in method.key_encoder.parameters()}


def test_views_have_roles() -> None:
    """The first view is the query: MoCo is not symmetric, unless it is asked to be."""
    x1, x2 = views()
    one, other = make()([x1, x2]).loss.item(), make()([x2, x1]).loss.item()
    assert one != pytest.approx(other, rel=1e-4)
    symmetric = make(symmetric=True, queue=4 * ROWS)
    queue = symmetric.queue.rows.clone()
    q1, k2, q2, k1 = symmetric.embeddings([x1, x2])
    both = [info_nce(q, k, queue, temperature=TAU).loss.item() for q, k in ((q1, k2), (q2, k1))]
    swapped = make(symmetric=True, queue=4 * ROWS)([x2, x1])
    assert symmetric.compare([q1, k2, q2, k1], Targets.unlabelled(ROWS)).loss.item() == pytest.approx(sum(both) / 2)
    assert swapped.loss.item() == pytest.approx(sum(both) / 2)
    symmetric.after_step(torch.zeros(()))
    torch.testing.assert_close(symmetric.queue.rows[: 2 * ROWS], nn.functional.normalize(torch.cat([k2, k1]), dim=1))


def test_shuffled_keys_come_back_in_the_order_of_their_queries() -> None:
    """In evaluation mode, in which rows do not see one another, the order changes nothing."""
    x2 = views()[1].to(memory_format=torch.channels_last)
    plain, mixed = make().eval(), make(shuffles=True).eval()
    torch.testing.assert_close(mixed._key(x2), plain._key(x2))


def test_shuffling_gives_keys_another_part_of_the_batch() -> None:
    """Keys of unshuffled parts know of the same images as their queries do; shuffled ones of others."""
    x = views()[1]
    parts = make(groups=4)
    torch.testing.assert_close(parts._key(x), parts.project(x))  # the two encoders are equal at the beginning
    shuffling = make(groups=4, shuffles=True)
    torch.manual_seed(3)
    keys = shuffling._key(x)
    torch.manual_seed(3)
    order = torch.rand(ROWS).argsort()
    expected = make(groups=4).project(x[order])
    torch.testing.assert_close(keys, expected[order.argsort()])
    assert (keys - parts.project(x)).abs().max() > 1e-3


def test_a_step_taken_back_leaves_what_it_had() -> None:
    """The key encoder is among what is put back: it moves before the loss is known."""
    from barlowctl.train.step import TrainingStep

    method = make().train()
    step = TrainingStep(
        method,
        sgd(method.parameters()),
        to_input=lambda v: v.permute(0, 3, 1, 2).double() / 255,
        device=torch.device("cpu"),
        precision="fp32",
    )
    images = [torch.randint(0, 256, (ROWS, 6, 6, 1), dtype=torch.uint8) for _ in range(2)]
    targets = step.targets(torch.zeros(ROWS), torch.arange(ROWS), [ROWS], 0.0)
    step.update(step.compute(images, targets))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    step.compute(images, targets)
    moved = [name for name, value in method.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("key_encoder.networks.0.0.weight") for name in moved)
    step.undo()
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_a_step_on_fewer_images_is_one() -> None:
    """Steps are timed, and memory is estimated, on parts of a batch."""
    method = make()
    method.before_step(torch.zeros(()))
    method([view[:5] for view in views()]).loss.backward()
    method.after_step(torch.zeros(()))
    assert method.queue.pointer.item() == 5


def test_it_says_what_it_compares() -> None:
    description = make().describe(ROWS)
    assert description == "InfoNCE, temperature 0.2, a queue of 24 keys, key encoder with momentum 0.9"
    assert make(symmetric=True, queue=48).describe(ROWS).endswith(", symmetric")
    assert make(shuffles=True).describe(ROWS).endswith(", shuffled batch norm")
    assert list(make().heads()) == ["projector"]
    assert make()(views())._asdict().keys() - {"loss"} == MoCo.terms.keys()
    assert "collapsed" in str(make().alarm({"loss": 3.0, "spread": 0.01}, 0.5))
    assert make().alarm({"loss": 3.0, "spread": 0.9}, 0.5) is None
    with pytest.raises(UserError, match="2 views"):
        make()(views()[:1])
    with pytest.raises(UserError, match="whole number of batches of 8"):
        make(queue=20)
