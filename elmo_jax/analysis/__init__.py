"""Looking at runs: learning curves."""
