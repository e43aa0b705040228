"""Phase 4: compress a causal language model to ternary (1.58-bit) weights and run it."""
