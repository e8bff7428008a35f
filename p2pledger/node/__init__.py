"""Ledger, engine, mempool and chain behind one door."""
