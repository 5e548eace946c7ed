"""What the bridge costs and carries, beside its peers: one file a question, `make bench` runs them all."""
