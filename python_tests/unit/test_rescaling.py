"""Value rescaling beside its formulas in float64 and beside printed values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atari_fast.ops.rescaling import inverse_rescale, rescale

ORACLES = {
    0.0: 0.0,
    0.5: 0.2252448714,
    1.0: 0.4152135624,
    -1.0: -0.4152135624,
    3.0: 1.003,
    10.0: 2.3266247904,
    100.0: 9.1498756211,
    1000.0: 31.6385840391,
    10000.0: 109.0049998750,
    1e6: 1999.0004998751,
}
ULPS = 8 * float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("z", ORACLES)
def test_rescale_has_the_printed_values(z: float) -> None:
    exact = rescale(torch.tensor(z, dtype=torch.float64)).item()
    assert exact == pytest.approx(ORACLES[z], rel=1e-10, abs=1e-12)
    assert rescale(torch.tensor(z)).item() == pytest.approx(exact, rel=ULPS)


@pytest.mark.parametrize("z", ORACLES)
def test_inverse_rescale_undoes_it(z: float) -> None:
    value = torch.tensor(ORACLES[z], dtype=torch.float64)
    assert inverse_rescale(value).item() == pytest.approx(z, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_a_round_trip_keeps_the_digits_of_small_and_large_values(epsilon: float) -> None:
    sizes = np.geomspace(1e-8, 1e6, 400)
    z = torch.tensor(np.concatenate([-sizes, [0.0], sizes]), dtype=torch.float32)
    back = inverse_rescale(rescale(z, epsilon), epsilon)
    # h^-1 grows as the square where z is large: the relative error of h counts twice there.
    assert torch.allclose(back, z, rtol=2 * ULPS, atol=0)


def test_inverse_rescale_is_its_formula() -> None:
    z = torch.linspace(-300, 300, 2001, dtype=torch.float64)
    eps = 1e-3
    root = ((1 + 4 * eps * (z.abs() + 1 + eps)).sqrt() - 1) / (2 * eps)
    assert torch.allclose(inverse_rescale(z), z.sign() * (root**2 - 1), rtol=1e-9, atol=1e-9)
