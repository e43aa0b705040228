"""Subjects that decode what they packed, through a model in transformers; each has at most one defect."""

import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.opponents.products import dense
from tests.suites.folder_subjects import FolderSubject


class Decoder:
    """A model in transformers and the tokens that it has read; it reads them all anew each time."""

    backend = "made up"

    def __init__(self, model, defect):
        self.model, self.defect, self.seen = model, defect, []

    def reset(self):
        self.seen = []

    def forward(self, tokens):
        logits = self.logits(tokens)[-1]
        return torch.full_like(logits, torch.nan) if self.defect == "logits that are not finite" else logits

    @torch.no_grad()
    def logits(self, tokens):
        size = self.model.config.vocab_size
        if self.defect == "tokens not checked":
            tokens = [max(0, min(token, size - 1)) for token in tokens] or [0]
        if not tokens or min(tokens) < 0 or max(tokens) >= size:
            raise ValueError("no such token")
        if self.defect == "sequence forgotten":
            self.seen = []
        self.seen += tokens
        found = self.model(torch.tensor([self.seen])).logits[0, -len(tokens) :]
        if self.defect == "predictions a little sharper":
            found = found * 1.1
        return found.flip(1) if self.defect == "another model" else found


class DecodingSubject(FolderSubject):
    """Decodes the packed artefact of a compression, and writes packed artefacts of given weights."""

    def open_decoder(self, path):
        if (path / "given.pt").is_file():
            model = LlamaForCausalLM(LlamaConfig(**json.loads((path / "config.json").read_text())))
            model.load_state_dict(torch.load(path / "given.pt"), strict=False)
            return Decoder(model.eval(), self.defect)
        if self.defect != "damage not noticed" or not path.is_dir():
            self.quantized_weights(path)
        source = path.parent / "plain"
        if not source.is_dir() and self.defect == "damage not noticed":
            return Decoder(None, self.defect)
        if not source.is_dir():
            raise ValueError("not a packed folder")
        return Decoder(self.load_packed(path)[0], self.defect)

    def quantized_weights(self, path):
        try:
            return super().quantized_weights(path)
        except Exception as error:
            raise ValueError("a damaged file") from error

    def write_packed(self, config, weights, out):
        out.mkdir()
        with torch.device("meta"):
            parameters = dict(LlamaForCausalLM(LlamaConfig(**config)).named_parameters())
        tensors = {}
        for name, parameter in parameters.items():
            layer, shape = name.removesuffix(".weight"), tuple(parameter.shape)
            if len(shape) == 1:
                tensors[name] = weights.vector(layer, shape[0])
            elif layer.endswith("_proj"):
                tensors[name] = dense(weights.ternary(layer, shape))
            else:
                tensors[name] = weights.table(layer, shape)
        torch.save(tensors, out / "given.pt")
        (out / "config.json").write_text(json.dumps(dict(config)))
