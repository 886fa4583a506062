"""The linear probe against its formula, against scikit-learn, and its protocol."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.eval.linear import balanced_split, fit_heads, linear_probe
from tests.oracles import linear as oracle

CPU = torch.device("cpu")
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def problem(n: int, *, classes: int = 4, f: int = 8, noise: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian classes in features of unequal offsets and scales."""
    centres = np.random.default_rng(99).normal(size=(classes, f))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    features = centres[labels] + noise * random.normal(size=(n, f))
    return torch.tensor(features * np.geomspace(0.1, 50, f) + 3.0, dtype=torch.float32), torch.tensor(labels)


def test_heads_trained_together_match_the_formula_one_by_one() -> None:
    features, labels = problem(50)
    features[:, 3] = 2.5  # constant
    members = torch.arange(5, 50)
    pairs = [(0.1, 0.0), (0.5, 0.01), (0.02, 0.3)]
    heads = fit_heads(features, labels, members, pairs, num_classes=4, epochs=3, batch_size=16, seed=7, device=CPU)
    generator = torch.Generator().manual_seed(7)
    batches = [batch.numpy() for _ in range(3) for batch in torch.randperm(45, generator=generator).split(16)]
    weight, bias = heads.weight.view(8, 3, 4), heads.bias.view(3, 4)
    for index, (lr, weight_decay) in enumerate(pairs):
        w, b = oracle.sgd(
            features[5:].numpy(), labels[5:].numpy(), batches, num_classes=4, lr=lr, weight_decay=weight_decay
        )
        np.testing.assert_allclose(weight[:, index].numpy(), w, atol=2e-6)
        np.testing.assert_allclose(bias[index].numpy(), b, atol=2e-6)
        assert np.abs(w).max() > 1e-3
    assert weight[3].abs().max() == 0.0


def test_the_gradient_oracle_agrees_with_central_differences() -> None:
    random = np.random.default_rng(0)
    x, y, w, b = random.normal(size=(9, 3)), random.integers(0, 4, 9), random.normal(size=(3, 4)), np.ones(4)
    gradient, _ = oracle.gradient(w, b, x, y, 0.2)
    for index in np.ndindex(3, 4):
        step = np.zeros_like(w)
        step[index] = 1e-5
        difference = oracle.objective(w + step, b, x, y, 0.2) - oracle.objective(w - step, b, x, y, 0.2)
        assert difference / 2e-5 == pytest.approx(gradient[index], abs=1e-8)


def test_a_converged_head_is_scikit_learns_solution() -> None:
    features, labels = problem(300)
    decay = 0.05
    heads = fit_heads(
        features, labels, torch.arange(300), [(0.5, decay)], num_classes=4, epochs=400, batch_size=300,
        seed=0, device=CPU,
    )  # fmt: skip
    x = heads.standardize(features).numpy()
    theirs = LogisticRegression(C=1 / (decay * 300), tol=1e-8, max_iter=1000).fit(x, labels.numpy())
    np.testing.assert_allclose(heads.weight.numpy(), theirs.coef_.T, atol=2e-3)


def test_accuracy_is_that_of_scikit_learn() -> None:
    train, train_labels = problem(3000, noise=2.0, seed=1)
    test, test_labels = problem(2000, noise=2.0, seed=2)
    ours = linear_probe(train, train_labels, test, test_labels, num_classes=4, seed=0, epochs=10)
    mean, std = train.mean(0), train.std(0)
    theirs = LogisticRegression(max_iter=500).fit(((train - mean) / std).numpy(), train_labels.numpy())
    expected = theirs.score(((test - mean) / std).numpy(), test_labels.numpy())
    assert 0.5 < expected < 0.95
    assert ours.top1 == pytest.approx(expected, abs=0.01)
    predictions, own = theirs.predict(((test - mean) / std).numpy()), ours.scores.argmax(dim=1).numpy()
    for label in range(4):
        members = test_labels.numpy() == label
        assert (own[members] == label).mean() == pytest.approx((predictions[members] == label).mean(), abs=0.04)


def test_settings_are_chosen_on_validation_and_never_on_the_test_set() -> None:
    """The test labels are shuffled: nothing about the choice may change."""
    train, train_labels = problem(400, noise=2.0)
    test, test_labels = problem(300, noise=2.0, seed=5)
    first = linear_probe(train, train_labels, test, test_labels, num_classes=4, seed=3, epochs=4)
    other = linear_probe(train, train_labels, test, test_labels.roll(1), num_classes=4, seed=3, epochs=4)
    assert (first.lr, first.weight_decay, first.validation_top1, first.sweep) == (
        other.lr,
        other.weight_decay,
        other.validation_top1,
        other.sweep,
    )
    assert other.top1 < first.top1 - 0.2
    best = max(first.sweep, key=lambda row: (row.top1, -row.loss))
    assert (best.lr, best.weight_decay, best.top1) == (first.lr, first.weight_decay, first.validation_top1)
    assert len(first.sweep) == 24


def test_the_last_fit_uses_every_training_sample() -> None:
    """The result is that of a head trained on all 40, not on the nine tenths of the sweep."""
    train, train_labels = problem(40, noise=2.0)
    test, test_labels = problem(1000, noise=2.0, seed=5)
    settings: dict[str, Any] = {"num_classes": 4, "epochs": 5, "batch_size": 16, "seed": 3}
    result = linear_probe(train, train_labels, test, test_labels, lrs=[0.1], weight_decays=[1e-4], **settings)
    fitting, _ = balanced_split(train_labels, 0.1, seed=3)
    accuracies = []
    for members in (torch.arange(40), fitting):
        head = fit_heads(train, train_labels, members, [(0.1, 1e-4)], device=CPU, **settings)
        predictions = head.predict(test)[:, 0].argmax(1)
        accuracies.append((predictions == test_labels).double().mean().item())
    assert result.top1 == pytest.approx(accuracies[0])
    assert accuracies[0] != accuracies[1]
    assert not result.lr_at_edge  # a single value has no edge


def test_same_seed_same_result_other_seed_other_split() -> None:
    train, train_labels = problem(300, noise=2.0)
    test, test_labels = problem(300, noise=2.0, seed=5)
    runs = [
        linear_probe(train, train_labels, test, test_labels, num_classes=4, seed=seed, epochs=2) for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0].sweep != runs[2].sweep


def test_a_diverging_rate_does_not_win() -> None:
    train, train_labels = problem(200, noise=2.0)
    result = linear_probe(
        train, train_labels, train, train_labels, num_classes=4, seed=0, lrs=[0.1, 1e38], weight_decays=[1.0],
        epochs=3,
    )  # fmt: skip
    assert result.lr == 0.1
    assert result.lr_at_edge
    with pytest.raises(UserError, match="diverged at every"):
        linear_probe(train, train_labels, train, train_labels, num_classes=4, seed=0, lrs=[1e38], weight_decays=[1.0])


def test_top_5() -> None:
    train, train_labels = problem(600, classes=8, noise=3.0)
    test, test_labels = problem(400, classes=8, noise=3.0, seed=5)
    result = linear_probe(train, train_labels, test, test_labels, num_classes=8, seed=0, epochs=5)
    assert result.top1 < result.top5 < 1.0
    few = linear_probe(*problem(100), *problem(50, seed=5), num_classes=4, seed=0, epochs=2)
    assert few.top5 == 1.0


def test_the_split_is_balanced_and_seeded() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 5 + [3])
    fitting, validation = balanced_split(labels, 0.1, seed=0)
    assert labels[validation].bincount(minlength=4).tolist() == [5, 3, 1, 0]
    assert sorted([*fitting.tolist(), *validation.tolist()]) == list(range(86))
    assert torch.equal(validation, balanced_split(labels, 0.1, seed=0)[1])
    assert not torch.equal(validation, balanced_split(labels, 0.1, seed=1)[1])


def test_bad_input_is_named() -> None:
    train, labels = problem(40)
    test, test_labels = problem(20, seed=5)
    cases: list[tuple[str, tuple[Tensor, ...], int]] = [
        ("training labels go from -1", (train, labels - 1, test, test_labels), 4),
        ("test labels go from", (train, labels, test, test_labels + 1), 4),
        ("at least 2 classes", (train, labels * 0, test, test_labels * 0), 1),
        (r"\(40, 8\) and labels \(39,\)", (train, labels[1:], test, test_labels), 4),
        ("8 dimensions, test features 7", (train, labels, test[:, :7], test_labels), 4),
        ("training features contain NaN", (train * float("inf"), labels, test, test_labels), 4),
        ("no class has two", (train[:1], labels[:1], test, test_labels), 4),
    ]
    for message, arguments, classes in cases:
        with pytest.raises(UserError, match=message):
            linear_probe(*arguments, num_classes=classes, seed=0)


def idx(path: Path) -> Any:
    raw = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_raw_pixels_of_fashion_mnist() -> None:
    train, test = (
        torch.tensor(idx(FASHION_MNIST / f"{part}-images-idx3-ubyte.gz")).flatten(1).float() / 255
        for part in ("train", "t10k")
    )
    train_labels, test_labels = (
        torch.tensor(idx(FASHION_MNIST / f"{part}-labels-idx1-ubyte.gz")).long() for part in ("train", "t10k")
    )
    result = linear_probe(train, train_labels, test, test_labels, num_classes=10, seed=0)
    assert 0.838 < result.top1 < 0.850
