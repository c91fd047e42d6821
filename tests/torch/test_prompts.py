"""Prompts against max_prompt_tokens: refused in evaluation, left out in training, with the number that would do."""

import copy

import pytest

pytest.importorskip("torch")

from transformers import AutoTokenizer

from sa_ah_lib.config import preset
from sa_ah_lib.train import data, prompts

SHORT, LONG = data.Problem("1 + 2 =", "3"), data.Problem("1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 =", "45")


@pytest.fixture
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def config(tokenizer, over=0, **changes):
    """A limit that the long problem is ``over`` tokens above."""
    longest = len(prompts.encode_prompts([LONG], tokenizer, preset("micro-s", "grpo"))[0])
    return preset("micro-s", "grpo", prompts_per_step=2, max_prompt_tokens=longest - over, **changes)


def splits(train, evaluation=(SHORT,)):
    return data.Splits(list(train), list(evaluation), "made up")


def test_a_prompt_of_exactly_the_limit_fits(tokenizer, capsys):
    whole = splits([SHORT, LONG], [LONG])
    assert prompts.fitting(whole, tokenizer, config(tokenizer)) == whole and not capsys.readouterr().out


def test_a_training_prompt_above_the_limit_is_left_out_and_counted(tokenizer, capsys):
    """TRL does not shorten prompts: a limit that limits nothing would be part of the run's id."""
    limited = config(tokenizer, over=1)
    kept = prompts.fitting(splits([SHORT, LONG, SHORT]), tokenizer, limited)
    assert (kept.train, kept.evaluation) == ([SHORT, SHORT], [SHORT])
    limit = limited.max_prompt_tokens
    assert capsys.readouterr().out == (
        f"left out 1 of 3 training problems: prompts above {limit} tokens. "
        f"Raise max_prompt_tokens (now {limit}) to at least {limit + 1}.\n"
    )


def test_an_evaluation_prompt_above_the_limit_is_refused(tokenizer):
    """Left out, Pass@1 would be of another N and of other problems than the paper's."""
    limited = config(tokenizer, over=1)
    wanted = f"Got 1 of 2 that do not. Raise max_prompt_tokens .now {limited.max_prompt_tokens}. to at least"
    with pytest.raises(ValueError, match=wanted):
        prompts.fitting(splits([SHORT, SHORT], [SHORT, LONG]), tokenizer, limited)


def test_a_prompt_that_holds_the_padding_token_is_refused(tokenizer):
    """The loss drops it, and would score another sequence than the one that was sampled."""
    padded = copy.deepcopy(tokenizer)
    padded.pad_token_id = prompts.encode_prompts([SHORT], tokenizer, config(tokenizer))[0][-1]
    with pytest.raises(ValueError, match="no prompt may hold the padding token.*give the tokenizer a pad_token"):
        prompts.fitting(splits([SHORT]), padded, config(tokenizer))


def test_too_few_training_prompts_for_a_step_are_refused(tokenizer):
    """TRL would train on nothing and end."""
    with pytest.raises(ValueError, match="at least 2 training prompts.*Got 1 of 2. Raise max_prompt_tokens"):
        prompts.fitting(splits([SHORT, LONG]), tokenizer, config(tokenizer, over=1))


@pytest.mark.parametrize("scale", ["micro-s", "micro-l"])
def test_the_micro_scales_leave_nothing_out(scale, capsys):
    """The published runs trained on every problem."""
    from sa_ah_lib.train.shipped import shipped_path

    limited = preset(scale, "grpo")
    whole = data.load(limited)
    assert prompts.fitting(whole, AutoTokenizer.from_pretrained(shipped_path(scale)), limited) == whole
