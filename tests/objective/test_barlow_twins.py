"""The loss against oracles written from the formula, in value, gradient and what does not change it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.objective import barlow_twins_loss, choose_form, correlation
from barlowctl.objective.barlow_twins import Form
from tests.oracles import loss as oracle

SHAPES = [(5, 12), (9, 9), (24, 7), (2, 3), (6, 1)]  # N < D, N = D, N > D, the smallest batch, one dimension
FORMS: list[Form] = ["primal", "gram"]


def embeddings(n: int, d: int, *, seed: int = 0, constant: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Two correlated batches with an offset and a spread per dimension."""
    random = np.random.default_rng(seed)
    z1 = random.normal(size=(n, d))
    z2 = 0.7 * z1 + random.normal(size=(n, d))
    z1, z2 = z1 * random.uniform(0.5, 3, d) + random.normal(size=d), z2 * 2.0 - 1.0
    if constant:
        z1[:, 0], z2[:, -1] = 3.0, -2.0
    return z1, z2


def ours(z1: np.ndarray, z2: np.ndarray, dtype: torch.dtype, **options: Any) -> tuple[list[float], list[np.ndarray]]:
    """[loss, invariance, redundancy] and the gradients of the loss."""
    a, b = (torch.tensor(z, dtype=dtype, requires_grad=True) for z in (z1, z2))
    result = barlow_twins_loss(a, b, **options)
    result.loss.backward()
    assert all(t.dtype == dtype for t in result)
    grads = [z.grad.numpy() for z in (a, b) if z.grad is not None]
    assert len(grads) == 2
    return [t.item() for t in result], grads


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_value_and_gradient_match_the_formula(n: int, d: int, constant: bool, form: Form) -> None:
    z1, z2 = embeddings(n, d, constant=constant)
    expected = [oracle.loss(z1, z2, lambd=0.0051), *oracle.terms(z1, z2)]
    expected_grads = oracle.gradient(z1, z2, lambd=0.0051)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        values, grads = ours(z1, z2, dtype, form=form)
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance * d)
        if n == 2 and dtype == torch.float32:
            continue  # two standardised samples are +1 and -1 up to eps: the gradient is rounding
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            scale = max(np.abs(expected_grad).max(), 1e-3)
            np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("rows", [1, 2, 4, 7])
@pytest.mark.parametrize(("n", "d"), [(9, 12), (8, 5)])
def test_the_gram_form_in_blocks(n: int, d: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that divide the batch and blocks that do not."""
    monkeypatch.setattr(correlation, "ROWS_AT_ONCE", rows)
    z1, z2 = embeddings(n, d)
    values, grads = ours(z1, z2, torch.float64, form="gram")
    np.testing.assert_allclose(values, [oracle.loss(z1, z2, lambd=0.0051), *oracle.terms(z1, z2)], rtol=1e-10)
    for grad, expected_grad in zip(grads, oracle.gradient(z1, z2, lambd=0.0051), strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-10 * np.abs(expected_grad).max())
    a = torch.tensor(z1)
    gram = correlation.symmetric_gram(a)
    np.testing.assert_allclose(gram.numpy(), z1 @ z1.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_last_smaller_batch_is_divided_by_the_rows_it_has(form: Form) -> None:
    """5 rows where a whole batch has 8: the correlation of 5, and not 5/8 of it as in the authors' code."""
    z1, z2 = embeddings(5, 12)
    values, _ = ours(z1, z2, torch.float64, form=form, lambd=0.0051)
    c = oracle.standardized(z1).T @ oracle.standardized(z2) / 5
    on, off = np.diag(c), c - np.diag(np.diag(c))
    assert values[0] == pytest.approx(((1 - on) ** 2).sum() + 0.0051 * (off**2).sum(), rel=1e-10)
    authors = ((1 - on * 5 / 8) ** 2).sum() + 0.0051 * ((off * 5 / 8) ** 2).sum()
    assert abs(values[0] - authors) > 0.1
    (_, invariance, _), _ = ours(z1, z1, torch.float64, form=form)
    assert invariance == pytest.approx(0.0, abs=1e-6)  # equal views satisfy it; divided by 8 they would not


def test_the_gradient_oracle_agrees_with_central_differences() -> None:
    z1, z2 = embeddings(6, 4)
    expected = oracle.gradient(z1, z2, lambd=0.3)
    first = oracle.numerical_gradient(lambda z: oracle.loss(z, z2, lambd=0.3), z1)
    second = oracle.numerical_gradient(lambda z: oracle.loss(z1, z, lambd=0.3), z2)
    np.testing.assert_allclose(first, expected[0], atol=1e-8)
    np.testing.assert_allclose(second, expected[1], atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(256, 512), (512, 256)])
def test_both_forms_agree_at_size_in_float32(n: int, d: int) -> None:
    z1, z2 = embeddings(n, d)
    exact, exact_grads = ours(z1, z2, torch.float64, form="primal")
    for form in FORMS:
        values, grads = ours(z1, z2, torch.float32, form=form)
        np.testing.assert_allclose(values, exact, rtol=1e-5)
        assert max(relative(g, e) for g, e in zip(grads, exact_grads, strict=True)) < 1e-5


VARIANTS: list[dict[str, Any]] = [
    {"normalization": normalization, "terms": terms, "criterion": criterion}
    for normalization, terms, criterion in itertools.product(
        ["batch", "feature", "none"],
        ["both", "invariance", "redundancy"],
        ["cross-correlation", "cross-entropy"],
    )
]


def forms_of(variant: dict[str, Any]) -> list[Form]:
    return ["primal"] if variant["criterion"] == "cross-entropy" else FORMS


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
@pytest.mark.parametrize(("n", "d"), [(5, 8), (16, 6)])
def test_every_row_of_table_5_matches_its_formula(n: int, d: int, variant: dict[str, Any]) -> None:
    z1, z2 = embeddings(n, d, seed=3)
    rest = {"normalization": variant["normalization"], "criterion": variant["criterion"], "temperature": 0.3}

    def formula(a: np.ndarray, b: np.ndarray) -> float:
        return oracle.loss(a, b, lambd=0.02, terms_used=variant["terms"], **rest)

    expected = [formula(z1, z2), *oracle.terms(z1, z2, **rest)]
    expected_grads = [
        oracle.numerical_gradient(lambda z: formula(z, z2), z1),
        oracle.numerical_gradient(lambda z: formula(z1, z), z2),
    ]
    for form in forms_of(variant):
        values, grads = ours(z1, z2, torch.float64, form=form, lambd=0.02, temperature=0.3, **variant)
        np.testing.assert_allclose(values, expected, rtol=1e-10)
        for grad, want in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(grad, want, atol=1e-7 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_gradcheck(variant: dict[str, Any]) -> None:
    for (n, d), form in itertools.product([(3, 5), (4, 4), (5, 3)], forms_of(variant)):
        z1, z2 = (torch.tensor(z, requires_grad=True) for z in embeddings(n, d))
        assert torch.autograd.gradcheck(
            lambda a, b, form=form: barlow_twins_loss(a, b, lambd=0.05, form=form, **variant).loss, (z1, z2)
        )


@pytest.mark.parametrize("form", FORMS)
def test_each_term_alone_has_its_own_gradient(form: Form) -> None:
    z1, z2 = (torch.tensor(z, requires_grad=True) for z in embeddings(7, 5))
    for index in (1, 2):
        assert torch.autograd.gradcheck(lambda a, b, index=index: barlow_twins_loss(a, b, form=form)[index], (z1, z2))


@pytest.mark.parametrize("form", FORMS)
def test_one_input_may_be_a_constant(form: Form) -> None:
    z1, z2 = embeddings(6, 9)
    expected = oracle.gradient(z1, z2, lambd=0.0051)
    for which in (0, 1):
        tensors = [torch.tensor(z) for z in (z1, z2)]
        tensors[which].requires_grad_()
        barlow_twins_loss(tensors[0], tensors[1], form=form).loss.backward()
        grad = tensors[which].grad
        assert grad is not None
        np.testing.assert_allclose(grad.numpy(), expected[which], atol=1e-12)
        assert tensors[1 - which].grad is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(5))
def test_affine_maps_of_a_dimension_change_nothing(form: Form, seed: int) -> None:
    """Up to the eps of the standardisation, so on data of large variance."""
    random = np.random.default_rng(seed)
    n, d = random.integers(3, 20, size=2)
    z1, z2 = (1e4 * z for z in embeddings(n, d, seed=seed))
    gain, offset = random.uniform(0.5, 20, d), random.normal(size=d) * 1e4
    before, _ = ours(z1, z2, torch.float64, form=form)
    after, _ = ours(z1 * gain + offset, z2 * gain[::-1] - offset, torch.float64, form=form)
    np.testing.assert_allclose(after, before, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(5))
def test_symmetries(form: Form, seed: int) -> None:
    """Swapping the views, reordering the samples, reordering the dimensions of both: the same loss."""
    random = np.random.default_rng(100 + seed)
    n, d = random.integers(3, 20, size=2)
    z1, z2 = embeddings(n, d, seed=seed)
    samples, dimensions = random.permutation(n), random.permutation(d)
    before, _ = ours(z1, z2, torch.float64, form=form)
    for a, b in ((z2, z1), (z1[samples], z2[samples]), (z1[:, dimensions], z2[:, dimensions])):
        np.testing.assert_allclose(ours(a, b, torch.float64, form=form)[0], before, rtol=1e-11, atol=1e-12)
    if n > 2 and d > 1:
        unpaired, _ = ours(z1[samples], z2[np.roll(samples, 1)], torch.float64, form=form)
        assert abs(unpaired[0] - before[0]) > 1e-3


def test_identical_uncorrelated_views_have_a_loss_of_zero() -> None:
    z = torch.linalg.qr(torch.randn(64, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    z = torch.linalg.qr(z - z.mean(0))[0] * 1e4
    for form in FORMS:
        assert barlow_twins_loss(z, z, lambd=1.0, form=form).loss.item() < 1e-8


def test_a_large_offset_keeps_float32_accuracy() -> None:
    """Values around 1000 with a spread of 1: float32 itself holds seven digits of them."""
    random = np.random.default_rng(0)
    z1 = (1000 + random.normal(size=(512, 8))).astype(np.float32)
    z2 = (z1 + random.normal(size=(512, 8))).astype(np.float32)
    expected = oracle.loss(z1, z2, lambd=0.0051)
    for form in FORMS:
        assert ours(z1, z2, torch.float32, form=form)[0][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_constant_embeddings_stay_finite(variant: dict[str, Any]) -> None:
    for form in forms_of(variant):
        values, grads = ours(np.ones((4, 3)), np.full((4, 3), -5.0), torch.float32, form=form, **variant)
        assert np.isfinite(values).all()
        assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_loss(form: Form, dtype: torch.dtype) -> None:
    z1, z2 = embeddings(32, 16)
    expected, expected_grads = ours(z1, z2, torch.float32, form=form)
    a, b = (torch.tensor(z, dtype=torch.float32, requires_grad=True) for z in (z1, z2))
    with torch.autocast("cpu", dtype=dtype):
        result = barlow_twins_loss(a, b, form=form)
        result.loss.backward()
    assert [t.item() for t in result] == expected
    assert a.grad is not None
    np.testing.assert_array_equal(a.grad.numpy(), expected_grads[0])


def test_half_precision_embeddings_are_computed_in_float32() -> None:
    z1, z2 = (torch.tensor(z).bfloat16().requires_grad_() for z in embeddings(32, 16))
    result = barlow_twins_loss(z1, z2)
    result.loss.backward()
    assert result.loss.dtype == torch.float32
    assert z1.grad is not None
    assert z1.grad.dtype == torch.bfloat16
    expected = oracle.loss(z1.detach().double().numpy(), z2.detach().double().numpy(), lambd=0.0051)
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)


def test_terms_outside_the_loss_carry_no_gradient() -> None:
    z1, z2 = (torch.tensor(z, requires_grad=True) for z in embeddings(8, 4))
    assert not barlow_twins_loss(z1, z2, terms="invariance").redundancy.requires_grad
    assert not barlow_twins_loss(z1, z2, terms="redundancy").invariance.requires_grad
    with torch.no_grad():
        assert barlow_twins_loss(z1, z2).loss.grad_fn is None


def test_auto_takes_the_cheaper_form() -> None:
    assert choose_form(2048, 8192) == "gram"
    assert choose_form(8192, 8192) == "gram"
    assert choose_form(8193, 8192) == "primal"
    assert choose_form(1024, 512) == "primal"
    for n, d in ((4, 64), (64, 4)):
        z1, z2 = embeddings(n, d)
        chosen = choose_form(n, d)
        assert ours(z1, z2, torch.float32)[0] == ours(z1, z2, torch.float32, form=chosen)[0]


def test_over_many_ranks_the_wire_moves_the_crossing_from_three_quarters_of_d_to_d() -> None:
    """Per rank 4 n² d / W + 2 n d k against 3 n d² / W + 2 d² k, k the price of a number sent."""
    assert choose_form(7000, 8192, 8) == "gram"
    assert choose_form(8192, 8192, 1000) == "primal"
    assert choose_form(8100, 8192, 1000) == "gram"
    assert choose_form(32_000, 8192, 1000) == "primal"
    crossings = []
    for ranks in (2, 8, 64, 1024):
        crossings.append(max(n for n in range(6000, 8300) if choose_form(n, 8192, ranks) == "gram"))
    assert crossings == sorted(crossings)
    assert 6144 < crossings[0] < 8000
    assert 8150 < crossings[-1] <= 8192


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((1, 8), (1, 8)), {}, "at least 2 samples"),
        (((4, 8), (4, 9)), {}, r"\(4, 8\) and \(4, 9\)"),
        (((4, 8), (5, 8)), {}, "differ in shape"),
        (((4, 2, 4), (4, 2, 4)), {}, r"\(4, 2, 4\)"),
        (((4, 0), (4, 0)), {}, "0 dimensions"),
        (((4, 8), (4, 8)), {"form": "grams"}, "did you mean 'gram'"),
        (((4, 8), (4, 8)), {"terms": "redundency"}, "did you mean 'redundancy'"),
        (((4, 8), (4, 8)), {"normalization": "features"}, "did you mean 'feature'"),
        (((4, 8), (4, 8)), {"criterion": "crossentropy"}, "did you mean 'cross-entropy'"),
        (((4, 8), (4, 8)), {"criterion": "cross-entropy", "form": "gram"}, "form is 'gram'"),
        (((4, 1), (4, 1)), {"criterion": "cross-entropy"}, "1 dimension"),
        (((4, 8), (4, 8)), {"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_bad_input_is_named(shapes: tuple[tuple[int, ...], tuple[int, ...]], options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        barlow_twins_loss(torch.randn(shapes[0]), torch.randn(shapes[1]), **options)


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="int64"):
        barlow_twins_loss(torch.ones(4, 3, dtype=torch.int64), torch.ones(4, 3, dtype=torch.int64))
