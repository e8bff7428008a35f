"""Blocks that bear rules, beside plain ones: the section ``rules`` of ``p2pledger bench core``.

The core executes plain transfers in bulk; whatever bears a rule (a standing offer, a transfer of an asset whose holders
need a claim) is executed by the rules in Python, and the bulk path resumes behind it. Here the same block is executed
with 1 % and 10 % of its transactions replaced by such, in turns with the plain one. Signatures are not checked, and
scanning is not part of it: the ledger alone is compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from p2pledger import core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.transition import Outcome, execute_block
from p2pledger.primitives.blocks import Header, sign_batch
from p2pledger.primitives.codec import encode
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.market.instruments import SetHolderRules
from p2pledger.primitives.market.offers import PlaceOffer
from p2pledger.primitives.market.parties import IssueClaim, TrustIssuer
from p2pledger.primitives.names import AssetKind, account_named, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction, Transfer
from p2pledger.primitives.validators import Validator

__all__ = ["Market", "Mix"]

_START_MS: Final = 1_772_409_600_000
_HOLDERS: Final = 256
_PLENTY: Final = 10**9
_FAR_MS: Final = _START_MS + 10**12
_PLAIN, _RULED, _CASH = asset_id("US0378331005@CSDC"), asset_id("DE0005140008@CSDC"), asset_id("CNY@ICBC")
_LIMITS: Final = core.Limits(1_000_000, 256, 16, 65_536, 1_000_000)

Mix = tuple[str, Callable[[], Outcome]]
"""What a block is made of, and its execution."""


class Market:
    """256 brokers who hold two shares; the holders of one of them need a claim. ``count`` transactions in a block."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._numbers = iter(range(2**62))
        self._names = tuple(f"broker-{i}" for i in range(_HOLDERS))
        self._keys = {name: Keypair.from_seed(sha256(name.encode()).digest()) for name in (*self._names, *_HOUSES)}
        self._maker = self._keys["csdc"]
        roles = dict.fromkeys(self._names, ("broker",)) | _HOUSES
        self.genesis = Genesis(
            name="bench",
            time_ms=_START_MS,
            validators=(Validator(self._maker.public_key, 1, "csdc"),),
            members=tuple(
                Member(name, Policy.of(self._keys[name].public_key), of_member) for name, of_member in roles.items()
            ),
            registers=(Register("CSDC", "csdc", "securities"), Register("ICBC", "icbc", "cash")),
            parameters=Parameters(replay_window=1_000_000),
        ).check()
        self._spec = Chainspec.of(self.genesis)
        self._height = 0
        self._version = genesis_state(self.genesis)
        self._open()

    def blocks(self) -> Iterator[Mix]:
        """The same number of transfers between the same brokers, with ever more that bear rules."""
        dice = random.Random(1)
        pairs = [dice.sample(self._names, 2) for _ in range(self.count)]
        offers = [self._offer(seller) for seller, _ in pairs]
        plain = [self._transfer(seller, buyer, _PLAIN) for seller, buyer in pairs]
        ruled = [self._transfer(seller, buyer, _RULED) for seller, buyer in pairs]
        for name, every, replaced in (
            ("plain transfers", 0, plain),
            ("1 % standing offers", 100, offers),
            ("10 % standing offers", 10, offers),
            ("1 % transfers of an asset with holder rules", 100, ruled),
            ("10 % transfers of an asset with holder rules", 10, ruled),
        ):
            chosen = [replaced[i] if every and i % every == 0 else plain[i] for i in range(self.count)]
            yield name, self._execution(chosen)

    def _execution(self, transactions: Sequence[bytes]) -> Callable[[], Outcome]:
        columns = [self._columns(transactions)]
        version, height = self._version, self._height + 1

        def run() -> Outcome:
            outcome = execute_block(version, columns, header=self._header(height), spec=self._spec)
            assert not any(outcome.codes), "a transaction of the benchmark was refused"
            outcome.version.release()
            return outcome

        return run

    # --- before it is measured --------------------------------------------------------------------------------------

    def _open(self) -> None:
        of = account_named
        self._block([Define(_PLAIN, AssetKind.SECURITY, 0, of("csdc"), "Plain share")], "csdc")
        self._block([Define(_RULED, AssetKind.SECURITY, 0, of("csdc"), "Share with rules")], "csdc")
        self._block([Define(_CASH, AssetKind.MONEY, 2, of("icbc"), "Renminbi")], "icbc")
        self._block([TrustIssuer(of("csdc"), "qualified", of("csdc"), True)], "csdc")
        self._block([SetHolderRules(of("csdc"), _RULED, required=("qualified",))], "csdc")
        for name in self._names:
            self._block([IssueClaim(of("csdc"), of(name), "qualified", "", _FAR_MS)], "csdc")
            self._block([Issue(asset, of(name), _PLENTY) for asset in (_PLAIN, _RULED)], "csdc")

    def _block(self, operations: Sequence[Operation], *signers: str) -> None:
        self._height += 1
        columns = [self._columns([self._signed(operations, *signers)])]
        outcome = execute_block(self._version, columns, header=self._header(self._height), spec=self._spec)
        assert not any(outcome.codes), (operations, outcome.receipt(0), outcome.rules)
        self._version = outcome.version

    def _header(self, height: int) -> Header:
        zero, time_ms = bytes(32), _START_MS + 1_000 * height
        return Header(
            self._spec.network_id, 0, height, height, zero, time_ms, self._maker.public_key, zero, zero, zero, zero
        )

    def _columns(self, transactions: Sequence[bytes]) -> core.Columns:
        unsigned = core.encode_batch(self._spec.network_id, self._maker.public_key, 0, self._height, transactions)
        return core.scan_batch(sign_batch(unsigned, self._maker), self._spec.network_id, _LIMITS)

    def _transfer(self, seller: str, buyer: str, asset: bytes) -> bytes:
        return self._signed([Transfer(account_named(seller), account_named(buyer), asset, 1)], seller)

    def _offer(self, seller: str) -> bytes:
        salt = next(self._numbers).to_bytes(16, "big")
        return self._signed([PlaceOffer(account_named(seller), salt, _PLAIN, 1, _CASH, 100, 1, _FAR_MS, b"")], seller)

    def _signed(self, operations: Sequence[Operation], *signers: str) -> bytes:
        """With signatures of zeros: who signed is what counts here."""
        body = Transaction(
            self._spec.network_id,
            self._height + 100_000,
            next(self._numbers).to_bytes(16, "big"),
            account_named(signers[0]),
            tuple(operations),
        ).encode()
        keys = sorted(self._keys[name].public_key for name in signers)
        return b"\x92" + body + encode([(key, bytes(64)) for key in keys])


_HOUSES: Final = {"csdc": ("depository", "operator", "issuer"), "icbc": ("bank",)}
