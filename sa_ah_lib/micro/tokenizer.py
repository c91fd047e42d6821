"""The micro models' tokenizer: printable ASCII, and the phrases of the tasks as one token each."""

from __future__ import annotations

from typing import Any

from reasoning_gym.arithmetic.leg_counting import ANIMALS

from sa_ah_lib.micro.writer import ENDINGS, OPENERS
from sa_ah_lib.rewards import TAGS

PAD, START, END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"
CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# One ordinary token each, like the tags: tokens are time.
PHRASES = (
    "State the final answer to the following arithmetic problem: ",
    "Your task is to count how many legs there are in total when given a list of animals.\n\n"
    "Now, how many legs are there in total if you have ",
    "user\n", "assistant\n", " + ", " - ", " * ", " = ", " =",
    *(text for text in (*OPENERS, *ENDINGS) if len(text) > 1),
    *(f"{name}{ending}" for name in ANIMALS for ending in ("", " ")),
)  # fmt: skip


def build_tokenizer() -> Any:
    """A tokenizer of about 190 tokens: printable ASCII, chat marks, the four tags and ``PHRASES``.

    Every text of printable ASCII and line feeds round-trips; other characters become ``UNKNOWN``.
    A ``PreTrainedTokenizerFast`` with left padding and a ChatML-like template.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = [byte_level.pre_tokenize_str(chr(code))[0][0] for code in (10, *range(32, 127))]
    # No merges, so that a loader which puts Qwen2's own word splitting in its place changes nothing.
    vocabulary = [PAD, START, END, UNKNOWN, *letters]
    tok = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, [], unk_token=UNKNOWN))
    tok.pre_tokenizer, tok.decoder = byte_level, decoders.ByteLevel()
    tok.add_special_tokens([PAD, START, END, UNKNOWN])
    tok.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*TAGS, *PHRASES)])
    return chat_tokenizer(tok, unk_token=UNKNOWN)


def chat_tokenizer(tok: Any, **marks: str) -> Any:
    """A ``tokenizers.Tokenizer`` as the ``PreTrainedTokenizerFast`` of a micro model; ``marks`` are further tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tok,
        pad_token=PAD,
        eos_token=END,
        **marks,
        padding_side="left",
        model_max_length=CONTEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def prompt_text(tokenizer: Any, question: str) -> str:
    """The rendered chat prompt of one question, up to where the assistant's text starts."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
