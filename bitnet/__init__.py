"""Phase 4: compress a causal language model to ternary (1.58-bit) weights and run it.

Once this package is imported, `AutoModelForCausalLM.from_pretrained` of transformers reads packed folders, and lm-eval
knows the model `bitnet`.
"""

from bitnet.integrations import announce

announce()
