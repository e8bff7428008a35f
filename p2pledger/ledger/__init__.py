"""The securities ledger: a pure state transition over a state tree."""
