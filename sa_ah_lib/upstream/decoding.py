"""What decoding takes from the model's own generation_config.json: the tokens that end a completion, nothing else.

transformers fills every setting that the caller leaves open from the model's own file, also where it is given a whole
``GenerationConfig``. Qwen2.5 Instruct ships a repetition penalty there: greedy completions would not be greedy, and
rollouts would be sampled from another distribution than the one whose log-probabilities the loss takes.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import GenerationConfig

from sa_ah_lib.config import RunConfig

# All that GRPOConfig can say of sampling but the temperature: no token is ruled out, none is favoured.
PLAIN_SAMPLING = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a completion, ascending: the tokenizer's, and those of the model's generation_config.

    TRL ends rollouts at the same ones, and vLLM, too. Qwen2.5 Instruct has two: <|im_end|> and <|endoftext|>.
    """
    own: Any = model.generation_config.eos_token_id
    own = [] if own is None else [own] if isinstance(own, int) else own
    return sorted({tokenizer.eos_token_id, *own})


@contextmanager
def own_rules_off(model: nn.Module) -> Generator[None]:
    """Inside the block ``model.generate`` finds nothing in the model's own generation_config but its special tokens.

    The file's own rules are back after the block, so that a saved model still ships them.
    """
    own = model.generation_config
    ids = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # PEFT hands a wrapper's configuration down to the model inside, so every holder gets the plain one.
    holders: list[tuple[Any, Any]] = [
        (part, part.generation_config) for part in model.modules() if "generation_config" in vars(part)
    ]
    for part, _ in holders:
        part.generation_config = GenerationConfig(**ids)
    try:
        yield
    finally:
        for part, kept in holders:
            part.generation_config = kept


def keep_whole(tokenizer: Any) -> None:
    """Let TRL reward the whole text of a completion, as an evaluation does.

    Where a tokenizer brings a template of responses, TRL parses by it, and rewards see no thought and no call.
    """
    for name in ("response_template", "response_schema"):
        if getattr(tokenizer, name, None) is not None:
            setattr(tokenizer, name, None)


def separate_padding(model: nn.Module, tokenizer: Any) -> None:
    """Give ``tokenizer`` a pad token that ends no completion, where its own does, as Qwen2.5's <|endoftext|>.

    Unsloth's loss takes every pad token for padding, and with it the end of such a completion.

    Raises:
        ValueError: the tokenizer has no other pad token.
    """
    ends = end_tokens(model, tokenizer)
    if tokenizer.pad_token_id not in ends:
        return
    spare = _spare_pad_token(model, tokenizer, ends)
    if spare is None:
        raise ValueError(
            f"the tokenizer's pad token must not end completions. Got {tokenizer.pad_token!r}, and no other special "
            "token has 'pad' in its name; set pad_token in the model's tokenizer_config.json to one that is not used."
        )
    tokenizer.pad_token = spare


def check_padding(trainer: Any) -> None:
    """Raise ValueError where Unsloth's trainer would drop the end of a completion from the loss as padding."""
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    model = trainer.accelerator.unwrap_model(trainer.model)
    ends = end_tokens(model, tokenizer)
    if tokenizer.pad_token_id in ends and any(base.__name__.startswith("Unsloth") for base in type(trainer).__mro__):
        spare = _spare_pad_token(model, tokenizer, ends) or "a special token that is not used"
        raise ValueError(
            "the pad token must not end completions: Unsloth's loss would drop their last token as padding. "
            f"Got {tokenizer.pad_token!r}; set tokenizer.pad_token = {spare!r} before the trainer is built."
        )


def _spare_pad_token(model, tokenizer, ends):
    """The first added token, by id, that is called a pad token, ends nothing and has an embedding; or None."""
    rows = model.get_input_embeddings().weight.shape[0]
    added = sorted(tokenizer.added_tokens_decoder.items())
    return next((str(t) for i, t in added if "pad" in str(t).lower() and i not in ends and i < rows), None)


def described(model: nn.Module, tokenizer: Any, config: RunConfig) -> dict:
    """How a run makes its completions, for environment.json; end tokens and limit are the same for both kinds."""
    ends = tokenizer.convert_ids_to_tokens(end_tokens(model, tokenizer))
    shared = {"max_new_tokens": config.max_completion_tokens, "end_tokens": ends, "own_generation_config": False}
    return {
        "evaluation": {"do_sample": False, **shared},
        "rollouts": {"do_sample": True, "temperature": config.temperature, **PLAIN_SAMPLING, **shared},
    }
