"""The constants of a network: defaults that agree, and limits that nest."""

from dataclasses import fields

import pytest

from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.parameters import Parameters


def test_the_defaults_agree() -> None:
    Parameters().check()
    assert len(Parameters().values()) == len(fields(Parameters))
    assert Parameters(*Parameters().values()) == Parameters()


@pytest.mark.parametrize("name", [item.name for item in fields(Parameters)])
def test_every_parameter_is_a_positive_integer(name: str) -> None:
    for value in (0, -1, 2**63, "1", 1.0, True, None):
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
    ],
)
def test_limits_must_nest(changes: dict[str, int]) -> None:
    with pytest.raises(BadConfiguration):
        Parameters(**changes).check()
