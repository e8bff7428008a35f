"""Sans-IO consensus engines: messages and timers in, votes and decisions out."""
