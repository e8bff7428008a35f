"""The securities market: parties, instruments, instructions, money, orders of authority. One noun a file.

All of it stands on three mechanisms: *buckets* (``buckets.py``, ``movement.py``: each unit of a holding is in exactly
one, and moves by one function), *guards* (``guards.py``: what may stop a movement), and *due work* (``due.py``,
``agenda.py``: what the ledger does by itself when a time has come).
"""
