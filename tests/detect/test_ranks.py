"""Several ranks are one: terms, gradients, statistics, with unequally many RoIs and no foreground on one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from tests.detect import detectors, ranks
from tests.dist.gang import together

pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize(("size", "images"), [(2, 3), pytest.param(4, 5, marks=pytest.mark.slow)])
def test_several_ranks_are_one(size: int, images: int) -> None:
    small = replace(detectors.SMALL, box_features=16, before_nms=detectors.SMALL.proposals)
    cases = [("c4", small, images), ("c4", replace(small, recompute=True), images), ("fpn", small, images)]
    alone, of_ranks = ranks.steps(ALONE, cases), together(ranks.steps, size, cases)
    for number, (terms, values) in enumerate(alone):
        assert min(terms) > 0
        for own_terms, own_values in (results[number] for results in of_ranks):
            np.testing.assert_allclose(own_terms, terms, rtol=1e-12)
            assert own_values.keys() == values.keys()
            for name, value in values.items():
                np.testing.assert_allclose(own_values[name], value, rtol=1e-6, atol=1e-10, err_msg=name)
