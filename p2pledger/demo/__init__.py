"""The demonstration: a joint bond ledger of two depositories settles trades, and proves that it did.

world.py says which assets there are, generator.py and tape.py where trades come from, orders.py what is signed for
them, load.py sends them in time and follows each to its end, books.py recounts all holdings on its own, run.py leads
the whole, live.py and report.py show it.
"""
