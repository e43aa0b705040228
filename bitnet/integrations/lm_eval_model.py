"""The model `bitnet` of lm-eval: `--model bitnet --model_args path=out/packed`."""

from typing import Any

from lm_eval.models.huggingface import HFLM

from bitnet.models import check_weights, load_model


class BitnetLM(HFLM):  # type: ignore[misc]
    """Any model that `bitnet eval` takes, packed ones on their packed codes, in float32."""

    def __init__(self, path: str, **options: Any) -> None:
        """Load the model `path`; `options` are those of lm-eval's Hugging Face models, such as `max_length`.

        Raises:
            BitnetError: as `load_model`, and for weights that are not finite.
        """
        loaded = load_model(path)
        check_weights(loaded.model)
        super().__init__(pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", **options)
