"""Simplex: finality by a quorum, three message delays after a proposal. Messages in, effects out.

B. Chan and R. Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol", TCC 2023 (eprint 2023/463), in the
dialect that says *view* for the paper's iteration and knows three votes, *notarise*, *nullify* and *finalise*, where
the paper votes for a block, votes for the dummy block, and finalises. docs/consensus.md says what it promises, what
it assumes and where the dialect departs. The marks [P1] to [P5] are the five steps of an iteration, in the order in
which the paper describes them; [D] marks what the dialect or this house adds.

    [P1] leader proposal    the leader of view v proposes a block on a notarised parent p, where every view between
                            p's and v is nullified
    [P2] dummy blocks       whoever is still in v when its timer fires votes to nullify v
    [P3] notarising         the first proposal of v whose parent is notarised and whose gap is nullified gets one
                            notarise vote; [D] and only if the node holds, checked and stored its data
    [P4] next view          a notarisation or a nullification of v is passed on and leads into v + 1; whoever sees the
                            notarisation and did not vote to nullify v votes to finalise it
    [P5] final              a quorum of finalise votes for a block makes it and all its ancestors final

**Why it is safe.** Two quorums share an honest validator. An honest one notarises at most one block in a view, so at
most one block of a view is ever notarised. An honest one never both nullifies and finalises a view, so a view with a
final block is never nullified; hence every later block, whose gap must be nullified, has the final block among its
ancestors. Nothing here depends on time. The engine keeps three promises for it, across crashes too, because each vote
is a record on the disk before it is a message: one notarise vote in a view; never finalise and nullify in one view;
one proposal in a view that it leads (its proposal is its notarise vote).

**Why it goes on.** Nobody waits for anything but certificates and its own timer, never for payload: a certificate for
view v, of any kind, leads into v + 1 wherever the node was. One honest leader whose proposal reaches everybody in time
is enough for finality. Lost messages are made good by resending, late nodes by asking.

**Work.** Timers run and messages are resent only while there is work: the node says that it has some, a notarised
block is not final yet, somebody proposed in this view, or more than f validators want to leave it. Without work the
engine is silent.

**Epochs.** [D] The validators change between epochs and never inside one. Epoch e holds the heights up to its
``last_height``, and one engine serves one epoch:

    heights of epoch e                                                          heights of epoch e + 1
    ... --- last_height - 1 --- last_height                                     last_height + 1 --- ...
                                the boundary block \\                            / (on the boundary block)
                                                    closing --- closing --- ...
                                                    (empty; they vanish)

* Nothing of the next epoch begins before the boundary block is final: its first view is the one after the boundary
  block's, with the boundary block as its base, whatever views the old epoch went through meanwhile. Votes carry the
  epoch, so what was said of a view in the old epoch says nothing of that view in the new one.
* A boundary block that is notarised and not final yet is helped on by *closing* blocks: empty ones above it, in later
  views of the old epoch. One of them that becomes final makes the boundary block final, as any descendant does; then
  they have done their work and are no part of the chain. Hence at most one block per height above the boundary is ever
  executed for good, and it is one that the new validators agreed on.
* The engine hands the boundary block over with ``Finalised`` and then says ``EpochEnded``. From then on it signs
  nothing and only helps peers that are behind, with the certificate that ended the epoch. ``succeed`` makes the engine
  of the next epoch as soon as the node knows its validators (they have been fixed for a whole epoch by then). Messages
  of the next epoch that come too early wait for it, a bounded number from each sender.

Why that is safe: inside an epoch nothing changes. Two boundary blocks would both be final in one epoch. A new epoch
starts from one block that all its honest validators hold as final, like a network from its genesis.

    engine.py       Simplex: the rules, in the order of the paper
    rounds.py       what is known of the views above the final one
    tree.py         which blocks are known, handed over, and missing
    pace.py         how long to wait
    early.py        messages of the next epoch
    recovered.py    what a start needs
"""

from p2pledger.consensus.simplex.engine import Simplex
from p2pledger.consensus.simplex.recovered import Recovered

__all__ = ["Recovered", "Simplex"]
