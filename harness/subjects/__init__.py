"""Subjects that come with the auditor: this project's own implementation and adapters for other people's libraries."""

BUILTIN_SUBJECTS = {
    "bitlinear": "harness.subjects.bitlinear:Bitlinear",
    "bitlinear-pytorch": "harness.subjects.bitlinear_pytorch:BitlinearPytorch",
    "bitnet": "harness.subjects.bitnet:BitnetSubject",
    "bitnet-v3": "harness.subjects.bitnet_v3:BitnetV3",
    "gguf-tq1_0": "harness.subjects.gguf_ternary:Tq1",
    "gguf-tq2_0": "harness.subjects.gguf_ternary:Tq2",
    "onebitllms": "harness.subjects.onebitllms:Onebitllms",
    "torchao": "harness.subjects.torchao_bitnet:Torchao",
    "transformers-autobitlinear": "harness.subjects.transformers_bitnet:AutoBitLinear",
    "transformers-bitlinear": "harness.subjects.transformers_bitnet:BitLinear",
}
"""Where the class of each built-in subject is, by name; its library is imported when the subject is made."""
