"""Under every engine, blocks of everything: the ledger against the simulator's second ledger, row by row.

The second ledger was written from the protocol and shares no code with the first; whatever one of them forgets, rounds
or orders differently shows here as another row.
"""

import random
from dataclasses import replace

import msgpack
import pytest

from p2pledger.ledger.elections.dpos import Schedule
from p2pledger.ledger.queries import check_conservation, check_native
from p2pledger.ledger.securities import securities_root
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.genesis import ENGINES
from p2pledger.primitives.names import account_of_key, stake_id
from p2pledger.primitives.transactions import Operation
from p2pledger.primitives.validators import Validator
from p2pledger.primitives.votes import Vote, VoteKind
from p2pledger.sim.checkers.books import Books
from tests.ledger.engines import PRODUCERS, Chain, keys_of, network
from tests.ledger.small_market import BOND, account, key

PEOPLE = ("alice", "bob", "carol")


def votes_against(chain: Chain, name: str, epoch: int, view: int) -> tuple[bytes, bytes]:
    """Two votes of one validator for two blocks of one view."""
    seats = sorted(keys_of())
    signer = seats.index(key(name).public_key)
    one, other = (
        Vote.make(chain.spec.network_id, epoch, view, VoteKind.NOTARISE, block * 32, signer, key(name)).encode()
        for block in (b"a", b"b")
    )
    return one, other


def seals_against(chain: Chain, name: str, slot: int) -> tuple[bytes, bytes]:
    """Two sealed headers of one producer for one slot."""
    sealed = []
    for time_ms in (1, 2):
        header = chain.header(chain.slot + 1, key(name).public_key, time_ms=time_ms)
        header = replace(header, view=slot, epoch=0)
        sealed.append(msgpack.packb([header.values(), key(name).sign(b"p2pl.se1" + header.id)]))
    return sealed[0], sealed[1]


def something(chain: Chain, dice: random.Random, made: list[tuple[str, bytes]]) -> bytes:
    """One transaction of one to three operations: most of them possible, some not."""
    payer = dice.choice(PEOPLE)
    operations: list[Operation] = []
    signers = {payer, dice.choice(PEOPLE), dice.choice(("issuer", "alice"))}
    for _ in range(dice.choice((1, 1, 2, 3))):
        one, other = dice.choice(PEOPLE), dice.choice(PEOPLE)
        amount = dice.choice((0, 1, 70, 900, 40_000, 2**63))
        match dice.randrange(9):
            case 0:
                operations.append(tx.Transfer(account(one), account(other), BOND, dice.choice((1, 20, 500))))
            case 1:
                operations.append(tx.Issue(BOND, account(one), 50))
            case 2 | 3:
                operations.append(tx.Pay(account(one), account(other), amount))
            case 4:
                salt = dice.choice((b"s", b"t")) * 16 if dice.random() < 0.3 else dice.randbytes(16)
                made.append((one, stake_id(account(one), salt)))
                behind = key(dice.choice((*PRODUCERS, "candidate"))).public_key
                operations.append(tx.Stake(account(one), dice.choice((0, 5, 3_000)), salt, behind))
            case 5 if made:
                owner, name = dice.choice(made)
                operations.append(tx.Unstake(account(owner if dice.random() < 0.8 else one), name))
            case 6:
                operations.append(tx.SetFinality(BOND, dice.choice((0, 1, 12))))
            case 7:
                seats = [Validator(key(name).public_key, dice.randrange(1, 4), name) for name in (*PRODUCERS, "new")]
                epoch = chain.spec.epoch_of(chain.height + 1) + dice.choice((1, 2, 2, 2, 3))
                agreed = [key(name) for name in (*PRODUCERS, "new") if dice.random() < 0.8]
                operations.append(
                    tx.SetValidators.approved(
                        chain.spec.network_id, epoch, dice.sample(seats, 4), agreed or [key("new")]
                    )
                )
            case _:
                if dice.random() < 0.2:
                    name, view = dice.choice((*PRODUCERS, "candidate")), dice.choice((3, 4))
                    if chain.spec.engine == "simplex" and name != "candidate":
                        operations.append(tx.Report(*votes_against(chain, name, dice.randrange(4), view)))
                    elif chain.spec.engine in ("dpos", "poa"):
                        operations.append(tx.Report(*seals_against(chain, name, view)))
                    else:
                        operations.append(tx.Report(b"\x01", b"\x02"))
                else:
                    operations.append(tx.Pay(account(one), account(other), 1))
    return chain.signed(operations, payer, *sorted(signers - {payer}), max_fee=dice.choice((2, 10_000, 10_000)))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_second_ledger_has_the_same_rows(engine: str, seed: int) -> None:
    dice = random.Random(f"{engine} {seed}")
    chain = Chain(network(engine, epoch_blocks=12, delegates=3, epoch_rounds=3, difficulty_window=8, modifier_depth=5))
    books, made = Books(chain.genesis.encode()), list[tuple[str, bytes]]()
    titles: set[str] = set()
    defined = chain.signed(tx.Define(BOND, 0, 0, account("issuer"), "Bond"), "csdc", "issuer")
    for number in range(120):
        transactions = [something(chain, dice, made) for _ in range(dice.choice((0, 2, 6)))]
        transactions = [defined, *transactions] if number == 0 else transactions
        header = chain.header(chain.slot + dice.choice((1, 1, 1, 1, 2, 4, 30)))
        if engine == "pos" and header.proof == bytes(32):
            continue  # Everything behind this key was taken back.
        outcome = chain.outcome(transactions, header)
        receipts = books.execute_block(
            msgpack.unpackb(header.encode(), use_list=False),
            [msgpack.unpackb(transaction, use_list=False) for transaction in transactions],
        )
        assert [(one.id, one.code, one.operation) for one in outcome.receipts()] == receipts
        titles |= {receipt.reason.title for receipt in outcome.receipts()}
        if number % 10 == 9 or number < 5:
            for table, rows in enumerate(books.tables()):
                assert rows == chain.version.scan(table, limit=10_000), (number, table)
        assert books.root() == chain.version.root(), number
        assert check_native(chain.version) == []
    assert check_conservation(chain.version) == []
    assert {"ok", "same_account", "fee_too_low", "unauthorised", "insufficient_native"} <= titles
    if engine in ("pos", "dpos"):
        assert {"unknown_stake"} <= titles
    else:
        assert "wrong_engine" in titles


def test_producers_are_who_the_second_ledger_says() -> None:
    """The next two hundred slots after chains with gaps, from both schedules."""
    dice = random.Random(4)
    chain = Chain(network("dpos", delegates=7, epoch_rounds=2))
    books = Books(chain.genesis.encode())
    for _ in range(60):
        header = chain.header(chain.slot + dice.choice((1, 1, 2, 5, 40)))
        chain.block(at=header)
        books.execute_block(msgpack.unpackb(header.encode(), use_list=False), [])
        schedule = Schedule.read(chain.version, chain.spec.parameters)
        for slot in (chain.slot + 1, chain.slot + 9, chain.slot + 60, chain.slot + 200):
            producer = schedule.producer(slot)
            for name in keys_of():
                proof = chain.dpos_proof(schedule, name, slot)
                asked = msgpack.unpackb(replace(header, view=slot, proposer=name, proof=proof).encode())
                assert (books.election.fault(asked, books.view()) is None) is (name == producer)


def test_the_same_trades_have_the_same_securities_root_under_every_engine() -> None:
    """Whoever produces, in whatever slots and blocks, for whatever fees."""
    roots, whole = set(), set()
    for number, engine in enumerate(ENGINES):
        chain, dice = Chain(network(engine)), random.Random(engine)
        define = chain.signed(tx.Define(BOND, 0, 0, account("issuer"), "Bond"), "csdc", "issuer")
        issue = chain.signed(tx.Issue(BOND, account("alice"), 1_000), "issuer")
        trades = [chain.signed(tx.Transfer(account("alice"), account("bob"), BOND, n), "alice") for n in range(1, 9)]
        dice.shuffle(trades)
        assert chain.titles(define) == chain.titles(issue) == ["ok"]
        cut = number + 1
        assert chain.titles(*trades[:cut]) + chain.titles(*trades[cut:]) == ["ok"] * 8
        roots.add(securities_root(chain.version))
        whole.add(chain.version.root())
        proposer = account_of_key(chain.last.proposer)
        assert chain.version.get(9, proposer) is not None
    assert (len(roots), len(whole)) == (1, len(ENGINES))
