"""What survives a crash: block log, vote log, snapshots and the query index."""
