"""Long runs, on demand: `make soak`. pytest collects these files only when they are named."""
