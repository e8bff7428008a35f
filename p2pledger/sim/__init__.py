"""A seeded world that drives the same peers as the server does: clock, links, disks, villains, checkers."""
