"""thinc architectures, from docs to scores, with backprop."""
