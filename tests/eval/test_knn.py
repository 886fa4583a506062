"""kNN against plain loops and against scikit-learn; accuracy with ties; limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from barlowctl.errors import UserError
from barlowctl.eval import knn
from barlowctl.eval.knn import Votes, accuracy, knn_predict
from tests.oracles import knn as oracle


def problem(n: int = 60, q: int = 25, f: int = 6, classes: int = 4) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, f))
    bank_labels, labels = random.integers(0, classes, n), random.integers(0, classes, q)
    bank = (centres[bank_labels] + random.normal(size=(n, f))) * random.uniform(0.1, 10, (n, 1))
    queries = centres[labels] + random.normal(size=(q, f))
    return bank, bank_labels, queries, labels


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(a, dtype=torch.float32 if a.dtype.kind == "f" else torch.int64) for a in arrays]


@pytest.mark.parametrize("temperature", [0.07, 1.0, 0.004])
@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_votes_match_plain_loops(temperature: float, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, bank_labels, queries, _ = problem()
    monkeypatch.setattr(knn, "SIMILARITIES_AT_ONCE", rows_at_once * len(bank))
    votes = knn_predict(*tensors(bank, bank_labels, queries), k=(1, 5, 20), temperature=temperature, num_classes=4)
    assert list(votes) == [1, 5, 20]
    for k, vote in votes.items():
        expected = oracle.vote_shares(bank, bank_labels, queries, k=k, temperature=temperature, num_classes=4)
        np.testing.assert_allclose(vote.scores.numpy(), expected, atol=2e-4)
        np.testing.assert_array_equal(vote.predictions.numpy(), expected.argmax(axis=1))


@pytest.mark.parametrize("k", [3, 15])
def test_predictions_match_scikit_learn(k: int) -> None:
    bank, bank_labels, queries, labels = problem(n=200, q=100)
    theirs = KNeighborsClassifier(
        n_neighbors=k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(bank, bank_labels)
    votes = knn_predict(*tensors(bank, bank_labels, queries), k=[k], temperature=0.1, num_classes=4)[k]
    np.testing.assert_array_equal(votes.predictions.numpy(), theirs.predict(queries))
    np.testing.assert_allclose(votes.scores.numpy(), theirs.predict_proba(queries), atol=1e-5)
    assert accuracy(votes.scores, torch.tensor(labels)) == pytest.approx(theirs.score(queries, labels))


def test_more_neighbours_than_the_bank_holds_are_reported() -> None:
    bank, bank_labels, queries, _ = problem(n=30)
    votes = knn_predict(*tensors(bank, bank_labels, queries), k=(30, 200), num_classes=4)
    assert (votes[30].neighbours, votes[30].note) == (30, None)
    assert (votes[200].k, votes[200].neighbours) == (200, 30)
    assert votes[200].note == "k is 200 but the bank holds 30 samples: all of them vote"
    assert torch.equal(votes[30].scores, votes[200].scores)


def test_lengths_of_features_do_not_count() -> None:
    bank, bank_labels, queries, _ = problem()
    before = knn_predict(*tensors(bank, bank_labels, queries), k=[5], num_classes=4)[5].scores
    after = knn_predict(*tensors(bank * 7, bank_labels, queries * 0.01), k=[5], num_classes=4)[5].scores
    torch.testing.assert_close(before, after, rtol=0, atol=1e-5)
    for scale in (1e-25, 1e-13, 1e20, 1e35):
        far = knn_predict(*tensors(bank * scale, bank_labels, queries / scale), k=[5], num_classes=4)[5].scores
        torch.testing.assert_close(before, far, rtol=0, atol=1e-5)
        index = knn.nearest(*tensors(bank * scale, queries), top=3)[1]
        assert torch.equal(index, knn.nearest(*tensors(bank, queries), top=3)[1])
    assert torch.equal(knn.unit_rows(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_inputs_are_not_changed_and_runs_repeat() -> None:
    inputs = tensors(*problem()[:3])
    copies = [t.clone() for t in inputs]
    first = knn_predict(*inputs, num_classes=4)
    second = knn_predict(*inputs, num_classes=4)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
    assert all(torch.equal(first[k].scores, second[k].scores) for k in (20, 200))


@pytest.mark.parametrize("top", [1, 2, 3, 5, 9])
def test_accuracy_matches_a_sorted_list(top: int) -> None:
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 4, (200, 5)).astype(float), random.integers(0, 5, 200)  # many ties
    assert accuracy(torch.tensor(scores), torch.tensor(labels), top=top) == pytest.approx(
        oracle.top_accuracy(scores, labels, top), abs=1e-12
    )


def test_a_tie_goes_to_the_smaller_class() -> None:
    tied = torch.tensor([[0.0, 0.5, 0.5], [0.2, 0.4, 0.4]])
    assert Votes(k=2, neighbours=2, scores=tied).predictions.tolist() == [1, 1]
    assert accuracy(tied, torch.tensor([1, 2])) == 0.5


def test_rows_that_are_not_finite_are_wrong() -> None:
    scores = torch.tensor([[float("nan")] * 2, [1.0, 0.0]])
    assert accuracy(scores, torch.tensor([0, 0]), top=2) == 0.5


def test_bad_input_is_named() -> None:
    bank, labels, queries = tensors(*problem()[:3])
    cases: list[tuple[str, dict[str, object]]] = [
        ("go from -1 to", {"bank_labels": torch.full_like(labels, -1)}),
        ("with 3 classes", {"num_classes": 3}),
        (r"\(25, 5\)", {"queries": queries[:, :5]}),
        ("0 queries", {"queries": queries[:0]}),
        (r"k \(0,\)", {"k": [0]}),
        ("temperature 0", {"temperature": 0.0}),
        ("queries contain NaN", {"queries": queries * float("nan")}),
        ("bank contain NaN", {"bank": bank / 0.0}),
    ]
    for message, changed in cases:
        arguments = {
            "bank": bank, "bank_labels": labels, "queries": queries, "num_classes": 4, **changed
        }  # fmt: skip
        with pytest.raises(UserError, match=message):
            knn_predict(**arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="against labels"):
        accuracy(torch.zeros(3, 2), torch.zeros(2))
