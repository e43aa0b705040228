"""Text generation from packed models of the Llama family and Qwen2, one native call per batch of tokens.

    runtime = Runtime.open("packed/")
    for piece in runtime.generate("Once upon a time", max_new_tokens=100):
        print(piece, end="", flush=True)

Other architectures, float activations and machines without native kernels run through transformers
(`bitnet.generation`); `Runtime.open` refuses them in one sentence.

Arithmetic: RMSNorm, rotary embedding, attention, SwiGLU and the output head in float32; quantized layers as
`bitnet.kernels` defines them. Against transformers on the same packed model, logits differ by float rounding, and where
that moves an activation across a rounding boundary by one step of its int8 code. In a deep model one such step
spreads to most codes behind it, as it does between two runs of transformers whose embeddings differ by 1e-6, so
perplexities agree over many tokens and not token by token.
"""

from bitnet.runtime.description import Description, UnsupportedError
from bitnet.runtime.runtime import Runtime

__all__ = ["Description", "Runtime", "UnsupportedError"]
