"""What a view of Simplex costs: with 30 and with 100 validators, finality takes three network delays."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from p2pledger.cli.sim import app
from p2pledger.sim.views import measure_views


@pytest.mark.parametrize(("validators", "views"), [(4, 20), (30, 12), (100, 3)])
def test_finality_takes_three_delays_with_any_number_of_validators(validators: int, views: int) -> None:
    found = measure_views(validators, views)
    assert set(found.delays) == {3.0}
    assert views - 1 <= len(found.delays) <= views
    assert found.quorum == 2 * validators // 3 + 1
    # A proposal, and from everybody else a notarise vote, from everybody a finalise vote; the last view is cut off.
    each = validators - 1
    assert found.messages_per_view <= 2 * validators * each
    assert found.messages_per_view >= 2 * validators * each * (views - 1) / views
    assert found.cpu_us_per_view > 0
    if validators >= 30:
        assert found.certificate_batch_us < found.certificate_single_us


def test_the_delay_of_the_network_does_not_matter() -> None:
    assert set(measure_views(4, 6, delay_ms=500).delays) == {3.0}


def test_one_validator_needs_nobody() -> None:
    found = measure_views(1, 5)
    assert set(found.delays) == {0.0}
    assert found.messages_per_view == 0


def test_the_command_prints_one_object() -> None:
    done = CliRunner().invoke(app, ["views", "--validators", "4", "--views", "5", "--json"])
    assert done.exit_code == 0
    values = json.loads(done.output)
    assert values["schema"] == "p2pledger.sim.views/1"
    assert values["delays_max"] == 3.0
    assert CliRunner().invoke(app, ["views", "--views", "2"]).exit_code != 0


def test_impossible_measurements_are_refused() -> None:
    for validators, views in ((0, 5), (4, 2)):
        with pytest.raises(ValueError):
            measure_views(validators, views)
