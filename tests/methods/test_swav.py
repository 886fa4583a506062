"""SwAV: calls of the backbone, prototypes that are scaled and for a while kept, and the queue, against loops."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods import Targets
from barlowctl.methods.swav import SwAV
from barlowctl.train.step import EAGER_STEPS, TrainingStep
from tests.methods.siamese_networks import (
    EMBEDDING,
    PROTOTYPES,
    SIZES,
    Batch,
    Views,
    make,
    optimizer_of,
    swav,
    to_input,
)
from tests.oracles import siamese as oracle


def method(**options: object) -> SwAV:
    made = make("swav", **options)
    assert isinstance(made, SwAV)
    return made.train()


def batches(count: int = 5) -> list[Batch]:
    return list(Views(SIZES["swav"]).epoch(0))[:count]


def inputs(batch: Batch) -> list[Tensor]:
    return [to_input(view) for view in batch.views]


def step_of(ours: SwAV, **options: object) -> TrainingStep:
    optimizer = optimizer_of(ours, **options)  # type: ignore[arg-type]
    return TrainingStep(ours, optimizer, to_input=to_input, device=torch.device("cpu"), precision="fp32")


def take(step: TrainingStep, batch: Batch, progress: float) -> None:
    targets = step.targets(batch.labels, batch.indices, [len(batch.views[0])], progress)
    step.update(step.compute(batch.views, targets))


def test_one_backbone_call_for_each_size_and_one_head_call_for_all() -> None:
    """Batch norm sees all views of a size together, sizes apart; the projector's sees all: as in the authors' code."""
    ours, plain = method(), method()
    calls: list[tuple[int, ...]] = []
    ours.backbone.register_forward_hook(lambda module, args, out: calls.append(tuple(args[0].shape)))
    (batch,) = batches(1)
    scores = ours.embeddings(inputs(batch))
    assert calls == [(20, 1, 8, 8), (20, 1, 6, 6)]
    large1, large2, small1, small2 = inputs(batch)
    features = torch.cat([plain.backbone(torch.cat([large1, large2])), plain.backbone(torch.cat([small1, small2]))])
    embedded = nn.functional.normalize(plain.projector(features), dim=1)
    expected = [*(embedded @ plain.prototypes.weight.t()).chunk(4), *embedded.chunk(4)[:2]]
    for actual, value in zip(scores, expected, strict=True):
        torch.testing.assert_close(actual, value, rtol=1e-12, atol=1e-14)
    for buffer, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, other)
    alone = method().embeddings([large1, large1, small1, small2])
    assert not torch.allclose(alone[0], scores[0])  # another batch for batch norm
    assert not any(z.requires_grad for z in scores[4:])


def test_the_loss_is_the_authors_loop() -> None:
    ours = method(queue=0)
    ours.before_step(torch.tensor(0.0))
    (batch,) = batches(1)
    scores = [s.detach().numpy() for s in ours.embeddings(inputs(batch))[:4]]
    terms = method(queue=0)
    terms.before_step(torch.tensor(0.0))
    actual = terms(inputs(batch))
    assert actual.loss.item() == pytest.approx(oracle.swav(scores), rel=1e-10)
    assert actual.entropy.item() == pytest.approx(oracle.code_entropy(scores), rel=1e-8)


def test_lengths_of_features_and_prototypes_do_not_count() -> None:
    ours, longer = method(queue=0), method(queue=0)
    with torch.no_grad():
        longer.prototypes.weight.mul_(7.0)
        last = longer.projector[-1]
        last.weight.mul_(10.0)
        last.bias.mul_(10.0)
    (batch,) = batches(1)
    for one in (ours, longer):
        one.before_step(torch.tensor(0.0))
    norms = longer.prototypes.weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-12, atol=0)
    assert ours(inputs(batch)).loss.item() == pytest.approx(longer(inputs(batch)).loss.item(), rel=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw", "muon"])
def test_frozen_prototypes_are_moved_by_nothing(optimizer: str) -> None:
    """Three steps of ten: by no gradient, decay or momentum, up to the scaling. Then they move."""
    ours = method(frozen_share=0.3, queue=0)
    step = step_of(ours, name=optimizer, decay=0.5)
    begun = nn.functional.normalize(ours.prototypes.weight.detach(), dim=1)
    for number, batch in enumerate(batches(4)):
        take(step, batch, number / 10)
        if number < 3:
            assert ours.prototypes.weight.grad is None
            torch.testing.assert_close(ours.prototypes.weight.detach(), begun, rtol=1e-12, atol=1e-14)
            assert step.optimizer is not None
            assert ours.prototypes.weight not in step.optimizer.state  # no momentum that would push them later
    assert ours.prototypes.weight.grad is not None
    assert not torch.allclose(ours.prototypes.weight.detach(), begun, rtol=1e-3)
    assert all(p.grad is not None for p in ours.backbone.parameters())


def test_a_step_that_keeps_prototypes_is_not_captured() -> None:
    """A graph would keep them for ever: those that follow are alike only after some steps that move them."""
    ours = method(frozen_share=0.3, queue=0)
    step = step_of(ours)
    step._captures = True
    capturable: list[bool] = []

    def replayed(views: object, targets: object) -> bool:
        capturable.append(step._alike >= EAGER_STEPS and not ours.withheld(step._at))
        return False

    step._is_replayed = replayed  # type: ignore[assignment]
    for number, batch in enumerate([*batches(), *batches()]):
        take(step, batch, number / 10)
    assert capturable == [False] * (3 + EAGER_STEPS) + [True] * (10 - 3 - EAGER_STEPS)


def test_the_queue_by_hand() -> None:
    """From its step on it takes each batch after the loss, newest first; full it counts, with the prototypes of now."""
    ours = method(queue=23, queue_from=0.2, frozen_share=0.0)
    step = step_of(ours)
    queue = np.zeros((2, 23, EMBEDDING))
    lengths = []
    for number, batch in enumerate(batches()):
        twin = copy.deepcopy(ours)
        twin.before_step(torch.tensor(number / 10))
        embeddings = [t.detach().numpy() for t in twin.embeddings(inputs(batch))]
        weights = twin.prototypes.weight.detach().numpy()
        full = bool((queue[:, -1] != 0).any())
        queued = [rows @ weights.T for rows in queue] if full else []
        terms = twin.compare([torch.tensor(f) for f in embeddings], Targets.unlabelled(len(embeddings[0])))
        assert terms.loss.item() == pytest.approx(oracle.swav(embeddings[:4], queued=queued), rel=1e-9), number
        lengths.append(full)
        take(step, batch, number / 10)
        if number >= 2:
            queue = np.concatenate([np.stack(embeddings[4:]), queue], axis=1)[:, :23]
        assert ours.queue is not None
        np.testing.assert_allclose(ours.queue.numpy(), queue, atol=1e-12)
    assert lengths == [False] * 5
    for batch in batches(2):  # 29 rows have come: it is full from here on
        twin = copy.deepcopy(ours)
        twin.before_step(torch.tensor(0.5))
        embeddings = [t.detach().numpy() for t in twin.embeddings(inputs(batch))]
        weights = twin.prototypes.weight.detach().numpy()
        terms = twin.compare([torch.tensor(f) for f in embeddings], Targets.unlabelled(len(embeddings[0])))
        queued = [rows @ weights.T for rows in queue]
        assert terms.loss.item() == pytest.approx(oracle.swav(embeddings[:4], queued=queued), rel=1e-9)
        assert abs(terms.loss.item() - oracle.swav(embeddings[:4])) > 1e-5
        take(step, batch, 0.5)
        queue = np.concatenate([np.stack(embeddings[4:]), queue], axis=1)[:, :23]


def test_a_batch_larger_than_the_queue_leaves_its_first_rows() -> None:
    ours = method(queue=4, queue_from=0.0)
    embedded = ours.embeddings(inputs(batches(1)[0]))
    ours.compare(embedded, Targets.unlabelled(10))
    ours.after_step(torch.tensor(0.0))
    assert ours.queue is not None
    assert torch.equal(ours.queue, torch.stack(embedded[4:])[:, :4])


def test_a_step_that_is_taken_back_leaves_prototypes_and_queue() -> None:
    ours = method(queue_from=0.0)
    step = step_of(ours)
    before = copy.deepcopy(ours.state_dict())
    (batch,) = batches(1)
    step.compute(batch.views, step.targets(batch.labels, batch.indices, [10], 0.0))
    ours.after_step(torch.tensor(0.0))
    assert not torch.equal(ours.state_dict()["queue"], before["queue"])
    step.undo()
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_codes_and_queue_take_no_gradient() -> None:
    ours = method(queue_from=0.0)
    for batch in batches(3):
        ours(inputs(batch)).loss.backward()
        ours.after_step(torch.tensor(0.5))
    assert ours.queue is not None
    assert not ours.queue.requires_grad
    assert "queue" in ours.state_dict()
    assert "queue" not in method(queue=0).state_dict()


def test_half_precision_does_not_reach_the_codes() -> None:
    """exp(1 / 0.05) is more than float16 holds: scores are float32 whatever the network computes in."""
    torch.manual_seed(3)
    ours = swav(queue=0).float()
    (batch,) = batches(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedded = ours.embeddings([x.float() for x in inputs(batch)])
        terms = ours.compare(embedded, Targets.unlabelled(10))
    assert {t.dtype for t in embedded} == {torch.float32}
    assert math.isfinite(terms.loss.item())
    lengths = embedded[4].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_loss_at_ln_k_is_said() -> None:
    ours = method(frozen_share=0.1)
    stuck = {"loss": math.log(PROTOTYPES) * 0.999, "entropy": 1.6, "spread": 0.9}
    assert ours.alarm(stuck, 0.1) is None  # prototypes were not trained yet
    assert f"ln K = {math.log(PROTOTYPES):.3f}" in (ours.alarm(stuck, 0.2) or "")
    assert ours.alarm({**stuck, "loss": 0.9 * math.log(PROTOTYPES)}, 0.2) is None
    assert "collapsed" in (ours.alarm({"loss": 0.5, "spread": 0.01}, 0.2) or "")


def test_what_it_says_and_refuses() -> None:
    assert method(frozen_share=0.0, queue=0).describe(64) == "codes over 5 prototypes"
    description = method(frozen_share=0.01, queue=40, queue_from=0.15).describe(64)
    assert description == (
        "codes over 5 prototypes, which stay as they are for the first 1.0% of training, "
        "with a queue of 40 from 15% of training on"
    )
    with pytest.raises(UserError, match="2 views of each image or more, got 1"):
        method()([torch.zeros(2, 1, 8, 8)])
    assert {id(p) for p in method().moving()} != set()
