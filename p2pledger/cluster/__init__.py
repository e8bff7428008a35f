"""A consortium on this machine: one process per validator, and a client for each member.

consortium.py says who takes part and with which keys, opening.py what a fresh ledger needs before anybody can trade,
directory.py what lies on the disk and who uses it, processes.py runs one node, local.py runs them all (``Cluster``),
supervisor.py lets other terminals talk to whoever does, remote.py connects from those.
"""
