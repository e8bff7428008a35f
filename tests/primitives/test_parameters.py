"""The constants of a network: defaults that agree, and limits that nest."""

from dataclasses import fields

import pytest

from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.parameters import MAY_BE_ZERO, Parameters


def test_the_defaults_agree() -> None:
    Parameters().check()
    assert len(Parameters().values()) == len(fields(Parameters))
    assert Parameters(*Parameters().values()) == Parameters()


@pytest.mark.parametrize("name", [item.name for item in fields(Parameters)])
def test_every_parameter_is_a_positive_integer_or_may_be_zero(name: str) -> None:
    if name in MAY_BE_ZERO:
        Parameters(**{name: 0}).check()
    for value in (*((0,) if name not in MAY_BE_ZERO else ()), -1, 2**63, "1", 1.0, True, None):
        with pytest.raises(BadConfiguration):
            Parameters(**{name: value}).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_transaction_bytes": 262_144},
        {"max_transaction_bytes": 262_144 - 159},
        {"max_block_batches": 1_901},
        {"max_batch_bytes": 5_000_000},
        {"max_batch_bytes": 1_000_001, "block_bytes": 2_000_000},
        {"block_bytes": 262_143},
        {"max_batch_signatures": 15},
        {"view_timeout_cap_ms": 999},
        {"max_operations": 65_536},
        {"delegates": 1_025},
        {"epoch_rounds": 781},
        {"delegates": 1_024, "epoch_rounds": 17},
        {"difficulty_window": 1_025},
        {"modifier_depth": 1_025},
    ],
)
def test_limits_must_nest(changes: dict[str, int]) -> None:
    with pytest.raises(BadConfiguration):
        Parameters(**changes).check()
