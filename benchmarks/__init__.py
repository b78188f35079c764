"""What speed and memory cost, ours beside a peer, in one run: python -m benchmarks."""
