"""A small model of Simplex, searched to its last state: safety only, for a few validators and a few views.

This is a second description of the protocol. It shares no code with ``p2pledger.consensus`` and knows nothing of
clocks, timers, messages on their way, disks or crashes; it holds only what safety rests on, inside one epoch.

**What is modelled.** The world is the set of votes that honest validators have cast. It only grows.

* A message that was sent may reach anybody at any time, or never. So whoever acts may act on any votes that exist, and
  a *quorum exists* as soon as its votes do.
* Faulty validators vote for everything: for every block, in every view, of every kind. So they need not be stored: a
  certificate exists once the honest votes for it reach what is missing to the quorum. Their leaders propose up to two
  different blocks in a view, each on any parent on which it can get an honest vote. With one faulty of four a third
  would change nothing: an honest vote for a block that never gets enough of them only binds whoever cast it, as one for
  the second block does.
* An honest validator that crashes and comes back remembers its votes, for each is on the disk before it is sent, and
  may have forgotten all else. So its votes are all there is to it: its *view* is the highest that they speak of. It
  moves on when it votes there: whoever enters a view and says nothing yet may still vote in the old one, as it may
  after a crash. Slowness and timeouts are the same thing: any vote may come late, and nobody is obliged to cast one.

**What an honest validator may do**, at any time:

    vote       in view v, if                                                                              rule
    notarise   v = 1 or a certificate of v - 1 exists; it has not voted in a later view;
               it has not notarised in v;                                                                 ONE_BLOCK
               the block's parent is notarised, or the genesis,                                           PARENT
               and every view between the parent's and v is nullified                                     GAP
    propose    the same, as leader of v who has neither proposed nor nullified in v: the vote makes the block
    nullify    v = 1 or a certificate of v - 1 exists; it has not voted in a later view; it has neither
               nullified nor finalised in v
    finalise   the block of v is notarised; it has neither finalised nor nullified in v                   EXCLUSIVE

(a finalise vote in v counts as a vote in v + 1 here: whoever casts it has seen the certificate that leads there)

and a certificate needs a quorum (QUORUM). Each rule can be left out, to see that the search then finds what it is for.

**What is checked**, in every state that can be reached:

    one-block       no two blocks of one view are notarised
    notarised       a final block is notarised
    exclusive       a view with a final block is not nullified
    descendants     every block notarised in a later view has every final block among its ancestors
    agreement       of two final blocks one is an ancestor of the other

**What keeps it small**, and why nothing is lost:

* *Symmetry.* Two states that differ by which honest validator is which, or by which of two blocks of a faulty leader
  is which, have the same future up to names. A leader is told from the others only while its proposal is still to
  come: that is a mark in its word, and goes with its words wherever they go. So of all states that become equal by
  renaming, one is kept: the honest words sorted, and the least over the exchanges of twin blocks.
* *Order of views.* Only votes in the newest voted view and the next one are explored. Nothing that a vote of view v
  needs (certificates of lower views, the notarisation of v) is made of votes of later views, and an own later vote can
  only forbid an earlier one. So every set of votes that can be cast at all can be cast view by view: sort the run by
  view, keeping the order inside a view, and every step is still allowed. ``in_order=False`` explores all orders; the
  sets of votes are the same, reached by more ways.
* *What is over* (``condensed=True``). In that order, views below the newest voted one get no more votes: all that the
  future and the checks can see of them is which certificates exist, and the parents of notarised blocks. So the votes
  of these views are replaced by their certificates, the same in every word. That leaves so little that many more views
  can be searched.

A state is one integer, the word of each honest validator side by side, then the parents of the blocks:

    word      for each view, 6 bits: notarised A, notarised B, nullified, finalised A, finalised B, may still lead it
    parents   for each view two fields, A and B: 0 not proposed, 1 on the genesis, 2 + i on block i, where blocks are
              counted from 0: 1A, 1B, 2A, ...

Which certificates exist is one word of the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product
from typing import Final, NamedTuple

__all__ = ["PROPERTIES", "Finding", "Model", "Rule", "Step", "Survey", "block_name", "choices", "describe", "survey"]

PROPERTIES: Final = ("one-block", "notarised", "exclusive", "descendants", "agreement")

_VIEW_BITS: Final = 6
_NOTARISE: Final = (1, 2)
_NULLIFY: Final = 4
_FINALISE: Final = (8, 16)
_LEADS: Final = 32
_ANY_NOTARISE: Final = 1 | 2
_ANY_FINALISE: Final = 8 | 16
_LEADS_ON: Final = _ANY_NOTARISE | _NULLIFY
_VOTES: Final = _ANY_NOTARISE | _NULLIFY | _ANY_FINALISE


class Rule(StrEnum):
    """What honest validators obey; see the table above."""

    ONE_BLOCK = "one-block"
    PARENT = "parent"
    GAP = "gap"
    EXCLUSIVE = "exclusive"
    QUORUM = "quorum"


class Step(NamedTuple):
    """One honest vote. ``block`` is 0 for A and 1 for B; ``parent`` is given by the vote that makes the block."""

    place: int
    """Which of the honest words of the state changes."""
    kind: str
    view: int
    block: int
    parent: int | None


class Model:
    """The transition system for one choice of faulty validators. Validator v mod n leads view v; views begin at 1."""

    def __init__(
        self,
        *,
        nodes: int = 4,
        views: int = 3,
        faulty: tuple[int, ...] = (),
        without: Rule | None = None,
        in_order: bool = True,
        condensed: bool = False,
    ) -> None:
        self.nodes = nodes
        self.views = views
        self.faulty = faulty
        self.honest = tuple(node for node in range(nodes) if node not in faulty)
        self.quorum = 2 * nodes // 3 + 1 - (without is Rule.QUORUM)
        self.missing = self.quorum - len(faulty)
        """Honest votes that make a certificate."""
        if self.missing < 1:
            raise ValueError("the faulty validators reach a quorum alone")
        if condensed and not in_order:
            raise ValueError("views can be condensed only in their order")
        self._without = without
        self._in_order = in_order
        self._condensed = condensed
        self._word_bits = views * _VIEW_BITS
        self._word = (1 << self._word_bits) - 1
        self._parent_bits = (2 * views + 1).bit_length()
        self._parent = (1 << self._parent_bits) - 1
        self._parents_at = len(self.honest) * self._word_bits
        self._all_votes = sum(_VOTES << (view * _VIEW_BITS) for view in range(views))
        self._twin_views = tuple(view for view in range(1, views + 1) if view % nodes in faulty)
        words = [0] * len(self.honest)
        for view in range(1, views + 1):
            if view % nodes in self.honest:
                words[self.honest.index(view % nodes)] |= _LEADS << self._at(view)
        self.start = self.pack(words, 0)

    # --- states -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _at(view: int) -> int:
        return (view - 1) * _VIEW_BITS

    def pack(self, words: list[int], parents: int) -> int:
        """The integer of a state."""
        state = parents
        for word in reversed(words):
            state = state << self._word_bits | word
        return state

    def words(self, state: int) -> list[int]:
        """The votes of each honest validator, in the order of ``honest`` as long as nothing was merged."""
        return [state >> at & self._word for at in range(0, self._parents_at, self._word_bits)]

    def parent_of(self, parents: int, block: int) -> int | None:
        """The parent (0 is the genesis) of block number 1, 2, ... (1A, 1B, ...); None while it is not proposed."""
        code = parents >> ((block - 1) * self._parent_bits) & self._parent
        return code - 1 if code else None

    def certificates(self, words: list[int]) -> int:
        """Which certificates exist, in the form of a word: bits that enough honest words share."""
        least = [self._all_votes] + [0] * self.missing
        for word in words:
            for count in range(self.missing, 0, -1):
                least[count] |= least[count - 1] & word
        return least[self.missing]

    def merged(self, state: int) -> int:
        """The one state that stands for all that differ from this one by names only."""
        words, parents = self.words(state), state >> self._parents_at
        least = self.pack(sorted(words), parents)
        twins = [view for view in self._twin_views if self.parent_of(parents, 2 * view) is not None]
        if not twins:
            return least
        for exchange in product((False, True), repeat=len(twins)):
            other_words, other_parents = words, parents
            for view, wanted in zip(twins, exchange, strict=True):
                if wanted:
                    other_words, other_parents = self._exchange(other_words, other_parents, view)
            least = min(least, self.pack(sorted(other_words), other_parents))
        return least

    def _exchange(self, words: list[int], parents: int, view: int) -> tuple[list[int], int]:
        """The blocks A and B of a view change names."""
        at = self._at(view)
        first, second = 1 << at | 8 << at, 2 << at | 16 << at
        words = [word & ~(first | second) | (word & first) << 1 | (word & second) >> 1 for word in words]
        a, b = 2 * view - 1, 2 * view
        names = {a: b, b: a}
        exchanged = 0
        for block in range(1, 2 * self.views + 1):
            parent = self.parent_of(parents, block)
            if parent is not None:
                place = (names.get(block, block) - 1) * self._parent_bits
                exchanged |= (names.get(parent, parent) + 1) << place
        return words, exchanged

    # --- moves ------------------------------------------------------------------------------------------------------

    def moves(self, state: int, *, alike: bool = True) -> list[tuple[Step, int]]:
        """Every honest vote that may be cast next, and the state after it (not merged).

        Without ``alike``, of neighbours whose words are equal only the first one moves.
        """
        words, parents = self.words(state), state >> self._parents_at
        certified = self.certificates(words)
        first, last = 1, self.views
        if self._in_order:
            first = self._newest(words)
            last = min(last, first + 1)
        steps: list[Step] = []
        for view in range(first, last + 1):
            at = self._at(view)
            entered = view == 1 or bool(certified >> (at - _VIEW_BITS) & _LEADS_ON)
            by_faulty = view % self.nodes in self.faulty
            proposed = [self.parent_of(parents, 2 * view - 1 + block) is not None for block in (0, 1)]
            permitted = self._permitted(certified, parents, view) if entered else []
            notarised = [block for block in (0, 1) if certified >> at & _NOTARISE[block]]
            for place, word in enumerate(words):
                if not alike and place and word == words[place - 1]:
                    continue
                votes = word >> at & _VOTES
                if entered and not votes & _ANY_FINALISE and not word >> (at + _VIEW_BITS) & self._all_votes:
                    if not votes & _ANY_NOTARISE or self._without is Rule.ONE_BLOCK:
                        for block in (0, 1):
                            if proposed[block]:
                                # Certificates never vanish: what was permitted when it was proposed still is.
                                if not votes & _NOTARISE[block]:
                                    steps.append(Step(place, "notarise", view, block, None))
                            elif (by_faulty and (block == 0 or proposed[0])) or (block == 0 and word >> at & _LEADS):
                                steps.extend(Step(place, "notarise", view, block, parent) for parent in permitted)
                    if not votes & _NULLIFY:
                        steps.append(Step(place, "nullify", view, 0, None))
                if not votes & _ANY_FINALISE and (not votes & _NULLIFY or self._without is Rule.EXCLUSIVE):
                    steps.extend(Step(place, "finalise", view, block, None) for block in notarised)
        return [(step, self._after(words, parents, certified, step)) for step in steps]

    def _newest(self, words: list[int]) -> int:
        """The newest view in which anybody has voted; 1 if nobody has."""
        union = 0
        for word in words:
            union |= word
        return max(1, -(-(union & self._all_votes).bit_length() // _VIEW_BITS))

    def _permitted(self, certified: int, parents: int, view: int) -> list[int]:
        """The numbers of the blocks on which a block of ``view`` may stand; 0 is the genesis."""
        found: list[int] = []
        for below in range(view - 1, 0, -1):
            held = certified >> self._at(below)
            for block in (0, 1):
                number = 2 * below - 1 + block
                if held & _NOTARISE[block] or (
                    self._without is Rule.PARENT and self.parent_of(parents, number) is not None
                ):
                    found.append(number)
            if not held & _NULLIFY and self._without is not Rule.GAP:
                return found
        return [*found, 0]

    def _after(self, words: list[int], parents: int, certified: int, step: Step) -> int:
        """The state after a step."""
        at = self._at(step.view)
        words = list(words)
        if self._in_order and not any(word >> at & _VOTES for word in words):
            # The first vote of a view: what lies below is over. Nobody leads there any more.
            below = (1 << at) - 1
            words = [word & ~(below & ~self._all_votes) for word in words]
            if self._condensed:
                words = [word & ~below | certified & below for word in words]
                if self._without is not Rule.PARENT:
                    for number in range(1, 2 * step.view - 1):
                        if not certified >> self._at((number + 1) // 2) & _NOTARISE[(number + 1) % 2]:
                            parents &= ~(self._parent << (number - 1) * self._parent_bits)
        bit = {"notarise": _NOTARISE[step.block], "nullify": _NULLIFY, "finalise": _FINALISE[step.block]}[step.kind]
        # With its vote it has moved on from the views below, and has used or lost its turn to lead this one.
        over = ((1 << (at + _VIEW_BITS)) - 1) & ~self._all_votes
        words[step.place] = words[step.place] & ~over | bit << at
        if step.parent is not None:
            parents |= (step.parent + 1) << (2 * step.view - 2 + step.block) * self._parent_bits
        return self.pack(words, parents)

    # --- what must hold ---------------------------------------------------------------------------------------------

    def outcome(self, state: int) -> tuple[int, int]:
        """All that the checks look at: which certificates exist, and the parents of the blocks."""
        return self.certificates(self.words(state)), state >> self._parents_at

    def broken(self, certified: int, parents: int) -> tuple[str, ...]:
        """Which of ``PROPERTIES`` do not hold where these certificates exist."""
        notarised: list[int] = []
        final: list[int] = []
        found: set[str] = set()
        for view in range(1, self.views + 1):
            held = certified >> self._at(view)
            if held & _ANY_NOTARISE == _ANY_NOTARISE:
                found.add("one-block")
            if held & _ANY_FINALISE and held & _NULLIFY:
                found.add("exclusive")
            for block in (0, 1):
                number = 2 * view - 1 + block
                if held & _NOTARISE[block]:
                    notarised.append(number)
                if held & _FINALISE[block]:
                    final.append(number)
                    if not held & _NOTARISE[block]:
                        found.add("notarised")
        for number in final:
            for later in notarised:
                if (later + 1) // 2 > (number + 1) // 2 and number not in self._ancestry(parents, later):
                    found.add("descendants")
            for other in final:
                if other not in self._ancestry(parents, number) and number not in self._ancestry(parents, other):
                    found.add("agreement")
        return tuple(name for name in PROPERTIES if name in found)

    def _ancestry(self, parents: int, block: int) -> list[int]:
        """A block and all below it, down to the genesis."""
        found = [block]
        while found[-1]:
            parent = self.parent_of(parents, found[-1])
            assert parent is not None, "a block stands on one that was never proposed"
            found.append(parent)
        return found


@dataclass(frozen=True, slots=True)
class Finding:
    """A property that does not hold, and a shortest run to where it breaks: one line a step."""

    property: str
    votes: int
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one search saw. ``complete`` is False where it ended early, because agreement was broken."""

    faulty: tuple[int, ...]
    states: int
    moves: int
    depth: int
    complete: bool
    findings: tuple[Finding, ...]


def survey(model: Model, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Visits every state that can be reached, those with fewer votes first; ends early if agreement is broken.

    ``progress`` is told the number of votes and of states so far, once for each number of votes.
    """
    came_from: dict[int, int] = {model.start: -1}
    verdicts: dict[tuple[int, int], tuple[str, ...]] = {}
    broken: dict[str, tuple[int, int]] = {}
    frontier = [model.start]
    moves = depth = 0
    while frontier and "agreement" not in broken:
        depth += 1
        found: list[int] = []
        for state in frontier:
            for _, after in model.moves(state, alike=False):
                moves += 1
                after = model.merged(after)
                if after in came_from:
                    continue
                came_from[after] = state
                found.append(after)
                outcome = model.outcome(after)
                if outcome not in verdicts:
                    verdicts[outcome] = model.broken(*outcome)
                for name in verdicts[outcome]:
                    broken.setdefault(name, (depth, after))
        frontier = found
        if progress is not None:
            progress(depth, len(came_from))
    findings = []
    for name in PROPERTIES:
        if name in broken:
            votes, state = broken[name]
            findings.append(Finding(name, votes, tuple(_trace(model, came_from, state))))
    return Survey(
        model.faulty, len(came_from), moves, depth - (not frontier), "agreement" not in broken, tuple(findings)
    )


def _trace(model: Model, came_from: dict[int, int], state: int) -> Iterator[str]:
    """A run to a state, in words. Merged states name nobody, so the way is walked again with names."""
    way = []
    while state != model.start:
        way.append(state)
        state = came_from[state]
    for target in reversed(way):
        for step, after in model.moves(state):
            if model.merged(after) == target:
                yield from describe(model, state, step, after)
                state = after
                break
        else:
            raise AssertionError("a merged state has a way that no state with names has")


def block_name(number: int) -> str:
    """``1A`` is the first block of view 1; 0 is the genesis."""
    return "the genesis" if number == 0 else f"{(number + 1) // 2}{'AB'[(number + 1) % 2]}"


def describe(model: Model, state: int, step: Step, after: int) -> Iterator[str]:
    """One vote in words, and which certificates exist since."""
    name = block_name(2 * step.view - 1 + step.block)
    voter = f"node-{model.honest[step.place]}"
    leader = step.view % model.nodes
    if step.parent is not None:
        if leader in model.faulty:
            yield f"node-{leader} (faulty) proposes {name} on {block_name(step.parent)}"
        else:
            yield f"{voter} proposes {name} on {block_name(step.parent)}, and notarises it"
    if step.parent is None or leader in model.faulty:
        yield f"{voter} {step.kind[:-1]}{'ies' if step.kind == 'nullify' else 'es'} " + (
            f"view {step.view}" if step.kind == "nullify" else name
        )
    new = model.outcome(after)[0] & ~model.outcome(state)[0]
    for view in range(1, model.views + 1):
        held = new >> (view - 1) * _VIEW_BITS
        for block in (0, 1):
            if held & _NOTARISE[block]:
                yield f"    {block_name(2 * view - 1 + block)} is notarised"
        if held & _NULLIFY:
            yield f"    view {view} is nullified"
        for block in (0, 1):
            if held & _FINALISE[block]:
                yield f"    {block_name(2 * view - 1 + block)} is final"


def choices(nodes: int, faulty: int) -> list[tuple[int, ...]]:
    """Every choice of that many faulty validators: they lead different views, so each is a search of its own."""
    return list(combinations(range(nodes), faulty))
