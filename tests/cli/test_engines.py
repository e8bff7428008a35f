"""Commands about stakes, delegates, forks, fees and validators, each on a small cluster of real processes."""

from pathlib import Path

from tests.cli.commands import Command

SHARE = "CNE100000007@CSDC"


def test_a_public_network_of_delegates(p2pledger: Command, tmp_path: Path) -> None:
    place = ("--directory", tmp_path / "ledger")
    up = p2pledger(
        "cluster", "up", "--detach", "--seed", 7, "--profile", "public", "--engine", "dpos", "--json", *place
    )
    assert up.code == 0, up.talk
    try:
        assert (up.values["profile"], up.values["engine"]) == ("public", "dpos")

        # A fee is due, and taken; less than it is refused.
        cheap = p2pledger("tx", "transfer", "broker-1", "broker-2", SHARE, 1, "--max-fee", 0, "--simulate", *place)
        assert (cheap.code, cheap.data.startswith("would be refused: fee_too_low")) == (1, True)
        voted = p2pledger("delegate", "broker-1", 5_000, "VENUE-A", "--json", *place)
        assert voted.code == 0, voted.talk
        shown = p2pledger("stake", "show", "broker-1", "--json", *place).values
        assert shown["free"] == {"broker-1": 10**9 - 5_000 - 1}
        stakes = {line["id"]: (line["amount"], line["node"]) for line in shown["stakes"]}
        assert stakes[voted.values["stake"]] == (5_000, "VENUE-A")
        assert sorted(amount for amount, _ in stakes.values()) == [5_000, 100_000]

        # Nobody takes back what is not his.
        stranger = p2pledger("undelegate", "broker-2", voted.values["stake"], "--simulate", *place)
        assert (stranger.code, "unknown_stake" in stranger.data) == (1, True)
        assert p2pledger("undelegate", "broker-1", voted.values["stake"], "--simulate", *place).code == 0
        assert p2pledger("undelegate", "broker-1", "abc", *place).code == 2
        assert p2pledger("stake", "add", "broker-1", 5, "VENUE-Q", *place).code == 2
        paid = p2pledger("tx", "pay", "broker-1", "VENUE-A", 10**9, "--simulate", *place)
        assert (paid.code, "insufficient_native" in paid.data) == (1, True)
        assert p2pledger("tx", "finality", SHARE, 3, "--simulate", *place).code == 0

        delegates = p2pledger("delegates", "show", "--json", *place)
        assert delegates.code == 0, delegates.talk
        assert sorted(delegates.values["order"]) == ["CCDC", "CSDC", "VENUE-A", "VENUE-B"]
        assert delegates.values["blocks_compared"] > 0
        assert delegates.values["blocks_out_of_order"] == []
        assert "as ordered" in p2pledger("delegates", "show", *place).data

        forks = p2pledger("fork", "show", "--node", "VENUE-B", "--json", *place).values
        assert (forks["node"], forks["engine"]) == ("VENUE-B", "dpos")
        assert forks["head"]["height"] >= forks["head"]["final_height"] > 0
        assert p2pledger("fork", "show", "--trades", *place).code == 0
        assert all(
            node["head"] >= node["height"] for node in p2pledger("cluster", "ps", "--json", *place).values["nodes"]
        )
        assert p2pledger("validators", "propose", tmp_path / "no.json", *place).code == 2
    finally:
        assert p2pledger("cluster", "down", *place).code == 0


def test_a_change_of_validators_from_its_proposal_to_the_ledger(p2pledger: Command, tmp_path: Path) -> None:
    place, file = ("--directory", tmp_path / "ledger"), tmp_path / "change.json"
    up = p2pledger("cluster", "up", "--detach", "--seed", 7, "--validators", 2, *place)
    assert up.code == 0, up.talk
    try:
        before = p2pledger("validators", "show", "--json", *place).values
        assert (before["epoch"], [each["from_epoch"] for each in before["sets"]]) == (0, [0])
        proposed = p2pledger("validators", "propose", file, "--weight", "CCDC=3", "--json", *place)
        assert proposed.code == 0, proposed.talk
        assert {seat["name"]: seat["weight"] for seat in proposed.values["seats"]} == {"CCDC": 3, "CSDC": 1}
        assert p2pledger("validators", "propose", file, *place).code == 2  # the file is there
        assert p2pledger("validators", "submit", file, *place).code == 2  # nobody has approved
        assert p2pledger("validators", "approve", file, "VENUE-A", *place).code == 2
        assert p2pledger("validators", "approve", file, "CCDC", *place).code == 0
        few = p2pledger("validators", "submit", file, "--simulate", "--json", *place)
        assert (few.code, few.values["reason"]) == (1, "too_few_approvals")
        assert len(p2pledger("validators", "approve", file, "CSDC", "--json", *place).values["approvals"]) == 2
        submitted = p2pledger("validators", "submit", file, *place)
        assert submitted.code == 0, submitted.talk
        after = p2pledger("validators", "show", "--json", *place).values
        assert [(each["from_epoch"], each["quorum"]) for each in after["sets"]] == [(0, 2), (2, 3)]
        assert "from epoch 2" in p2pledger("validators", "show", *place).data
        file.write_text("{}")
        assert p2pledger("validators", "submit", file, *place).code == 3
        assert p2pledger("delegates", "show", *place).code == 2
    finally:
        assert p2pledger("cluster", "down", *place).code == 0


def test_names_that_are_none(p2pledger: Command, tmp_path: Path) -> None:
    for options in (("--engine", "raft"), ("--profile", "club")):
        refused = p2pledger("cluster", "up", *options, "--directory", tmp_path / "none")
        assert (refused.code, "is not known" in refused.talk) == (2, True)
        assert p2pledger("demo", *options).code == 2
    assert p2pledger("demo", "--kill", "--partition").code == 2
    assert p2pledger("demo", "--partition", "-n", 1).code == 2
    assert not (tmp_path / "none").exists()
