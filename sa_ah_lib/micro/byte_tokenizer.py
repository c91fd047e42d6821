"""The two first micro models' tokenizer: bytes, and the few phrases that would cost time as bytes."""

from __future__ import annotations

from typing import Any

from sa_ah_lib.micro.tokenizer import END, PAD, START, chat_tokenizer
from sa_ah_lib.rewards import TAGS

# One ordinary token each, like the tags: tokens are time. All other text is single bytes.
PHRASES = ("State the final answer to the following arithmetic problem: ", " + ", " - ", " =", "user\n", "assistant\n")


def build_tokenizer() -> Any:
    """A byte-level tokenizer of 269 tokens: bytes, chat marks, and the four tags and ``PHRASES`` as ordinary tokens.

    Every text round-trips. A ``PreTrainedTokenizerFast`` with left padding and a ChatML-like template.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    # No merges, so that a loader which puts Qwen2's own word splitting in its place changes nothing.
    vocabulary = [PAD, START, END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tok = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([PAD, START, END])
    tok.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*TAGS, *PHRASES)])
    return chat_tokenizer(tok)
