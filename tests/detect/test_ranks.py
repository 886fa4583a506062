"""Two ranks are one: terms, gradients, statistics, with unequally many RoIs and no foreground on one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from tests.detect import detectors, ranks
from tests.dist.gang import together

pytest.importorskip("pycocotools.mask")


def test_two_ranks_are_one() -> None:
    small = replace(detectors.SMALL, box_features=16, before_nms=detectors.SMALL.proposals)
    cases = [("c4", small), ("c4", replace(small, recompute=True)), ("fpn", small)]
    alone, of_ranks = ranks.steps(ALONE, cases), together(ranks.steps, 2, cases)
    for number, (terms, values) in enumerate(alone):
        assert min(terms) > 0
        for own_terms, own_values in (results[number] for results in of_ranks):
            np.testing.assert_allclose(own_terms, terms, rtol=1e-12)
            assert own_values.keys() == values.keys()
            for name, value in values.items():
                np.testing.assert_allclose(own_values[name], value, rtol=1e-6, atol=1e-10, err_msg=name)
