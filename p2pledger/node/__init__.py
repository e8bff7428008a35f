"""Ledger, engine, mempool, batches and chain behind one door."""
