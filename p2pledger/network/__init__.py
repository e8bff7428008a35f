"""Sessions, gossip, fetch and sync around a node, without I/O; transport.py alone moves bytes."""
