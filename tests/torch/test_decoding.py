"""A model that ships rules of its own: evaluation stays greedy, rollouts are drawn from the plain softmax."""

import json
import shutil

import pytest

pytest.importorskip("trl")

import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GenerationMixin

from sa_ah_lib.config import preset
from sa_ah_lib.train.evaluation import greedy
from sa_ah_lib.upstream import decoding

LIMIT = 12
GREEDY_RULES, EVERY_RULE = tiny.GREEDY_RULES, tiny.EVERY_RULE


@pytest.fixture
def shipping(tiny_model_dir, tmp_path):
    """A factory: the tiny model's directory with rules in its generation_config.json."""

    def make(**rules):
        place = tmp_path / "shipping"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tiny_model_dir, place)
        path = place / "generation_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **rules}))
        return place

    return make


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)


def prompts(tokenizer):
    return tokenizer(["1 + 2 =", "what is 12 + 34 + 5"], add_special_tokens=False)["input_ids"]


@torch.inference_mode()
def likeliest(model, prompt, ends, limit=LIMIT):
    """The greedy completion by its definition: one forward pass and one argmax a token."""
    made = []
    while len(made) < limit and (not made or made[-1] not in ends):
        made.append(model(torch.tensor([prompt + made])).logits[0, -1].argmax().item())
    return made


def with_an_end(model, tokenizer, place=4):
    """``model`` with a second end token, the fifth that it says, so that a rule on lengths has something to change."""
    spoken = likeliest(model, prompts(tokenizer)[0], [])
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, spoken[place]]
    return model


@pytest.mark.parametrize("rule", GREEDY_RULES)
def test_every_token_of_an_evaluation_is_the_likeliest(shipping, rule):
    """Qwen2.5 Instruct ships a repetition penalty: every Pass@1 would be of another decoding than the one reported."""
    model, tokenizer = load(shipping(**{rule: GREEDY_RULES[rule]}))
    with_an_end(model, tokenizer)
    ends, asked = decoding.end_tokens(model, tokenizer), prompts(tokenizer)
    wanted = [likeliest(model, prompt, ends) for prompt in asked]
    assert greedy(model, tokenizer, asked, LIMIT) == wanted
    assert getattr(model.generation_config, rule) is not None, "the model's own file must still say it"
    # The rule does something, or this test shows nothing.
    assert left_on(model, tokenizer, asked, ends) != wanted


def left_on(model, tokenizer, asked, ends):
    padded = tokenizer.pad({"input_ids": asked}, padding_side="left", return_tensors="pt")
    try:
        output = model.generate(**padded, max_new_tokens=LIMIT, do_sample=False, eos_token_id=ends)
    except (ValueError, TypeError) as error:
        return str(error)
    rows = output[:, padded["input_ids"].shape[1] :].tolist()
    return [next((r[: i + 1] for i, token in enumerate(r) if token in ends), r) for r in rows]


def test_all_rules_at_once_and_below_an_adapter(shipping):
    """PEFT hands the wrapper's configuration down to the model inside, after it was switched off there."""
    model, tokenizer = load(shipping(**EVERY_RULE))
    model = tiny.with_lora(model)
    ends, asked = decoding.end_tokens(model, tokenizer), prompts(tokenizer)
    before = model.generation_config.to_dict()
    assert greedy(model, tokenizer, asked, LIMIT) == [likeliest(model, prompt, ends) for prompt in asked]
    assert model.generation_config.to_dict() == before and before["top_k"] == 3


def test_the_rules_are_back_after_an_error(shipping):
    model, _ = load(shipping(repetition_penalty=1.1))
    with pytest.raises(KeyError), decoding.own_rules_off(model):
        assert model.generation_config.repetition_penalty is None
        raise KeyError
    assert model.generation_config.repetition_penalty == 1.1


# --- end tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [None, 5, [5, 2], [2]])
def test_rollouts_and_evaluation_end_at_the_same_tokens(tmp_path, own):
    """Qwen2.5 Instruct ends at two tokens; a completion that goes on after one of them is answered by nobody."""
    policy = tiny.model()
    policy.generation_config.eos_token_id = own
    made = tiny.trainer(tmp_path, policy)
    assert set(made.eos_token_ids) == set(decoding.end_tokens(made.model, tiny.tokenizer()))


def test_a_completion_ends_with_the_first_of_its_end_tokens(shipping):
    model, tokenizer = load(shipping())
    first = likeliest(model, prompts(tokenizer)[0], [])
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, first[2]]
    assert greedy(model, tokenizer, prompts(tokenizer), LIMIT)[0] == first[: first.index(first[2]) + 1]


# --- rollouts --------------------------------------------------------------------------------------------------------


def processors(monkeypatch, scored):
    """Names of the logits processors that ``generate`` builds in ``scored()``, and its final configuration."""
    built, kept = [], GenerationMixin._get_logits_processor

    def watched(self, generation_config, *rest, **more):
        found = kept(self, generation_config, *rest, **more)
        built.append(([type(processor).__name__ for processor in found], generation_config))
        return found

    monkeypatch.setattr(GenerationMixin, "_get_logits_processor", watched)
    scored()
    monkeypatch.undo()
    (only,) = built
    return only


@pytest.mark.parametrize(("temperature", "wanted"), [(1.0, []), (0.8, ["TemperatureLogitsWarper"])])
@pytest.mark.parametrize("lora", [False, True])
def test_rollouts_are_drawn_from_the_plain_softmax(tmp_path, monkeypatch, temperature, wanted, lora):
    """The loss takes log-probabilities of the softmax at this temperature: anything else is off-policy in silence."""
    policy = tiny.with_lora(tiny.model()) if lora else tiny.model()
    config = {"generation_kwargs": {}, "temperature": temperature, **decoding.PLAIN_SAMPLING}
    made = tiny.trainer(tmp_path, policy, config=config)
    for rule, value in EVERY_RULE.items():
        setattr(made._policy.generation_config, rule, value)
    asked = [{"prompt": row["prompt"]} for row in tiny.dataset() for _ in range(4)][:8]
    names, used = processors(monkeypatch, lambda: made._generate_and_score_completions(asked))
    assert names == wanted
    assert used.do_sample and (used.num_beams, used.num_return_sequences, used.max_new_tokens) == (1, 1, 12)
    assert used.penalty_alpha is used.min_new_tokens is used.stop_strings is used.max_time is None
    # What TRL alone would have done.
    base = type(made).__mro__[3]._generate_and_score_completions
    inside = made._policy.get_base_model() if lora else made._policy
    inside.generation_config = GenerationConfig(suppress_tokens=[9], no_repeat_ngram_size=2, eos_token_id=1)
    names, _ = processors(monkeypatch, lambda: base(made, asked))
    assert {"NoRepeatNGramLogitsProcessor", "SuppressTokensLogitsProcessor"} <= set(names)


def test_every_sampling_setting_of_trl_is_said(tmp_path):
    """A default that changes with TRL's or Unsloth's version would change the rollouts."""
    pytest.importorskip("unsloth")
    from sa_ah_lib.train import arguments

    args = arguments.grpo_arguments(preset("qwen2.5-1.5b", "grpo", temperature=0.9), tmp_path)
    said = {"temperature": 0.9, "generation_kwargs": {}, **decoding.PLAIN_SAMPLING}
    assert {name: getattr(args, name) for name in said} == said


# --- padding ---------------------------------------------------------------------------------------------------------


def qwens(tokenizer):
    """Qwen2.5's arrangement: padding with one of two end tokens, and a spare pad token among the added ones."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<box>", "<vision_pad>", "<fim_pad>"]})
    return tokenizer


def test_padding_is_moved_off_an_end_token(shipping):
    """Unsloth's loss takes the end of a completion that ends with the pad token for padding."""
    model, tokenizer = load(shipping())
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    qwens(tokenizer)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    decoding.separate_padding(model, tokenizer)
    assert tokenizer.pad_token == "<vision_pad>"
    decoding.separate_padding(model, tokenizer)
    assert tokenizer.pad_token == "<vision_pad>"


def test_padding_that_ends_nothing_stays(shipping):
    model, tokenizer = load(shipping())
    before = tokenizer.pad_token
    decoding.separate_padding(model, qwens(tokenizer))
    assert tokenizer.pad_token == before


def test_without_a_spare_pad_token_loading_says_what_to_do(shipping):
    """A token beyond the embedding's rows is none."""
    model, tokenizer = load(shipping())
    qwens(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    model.resize_token_embeddings(tokenizer.convert_tokens_to_ids("<vision_pad>"), mean_resizing=False)
    spare = [str(t) for i, t in tokenizer.added_tokens_decoder.items() if "pad" in str(t)]
    ends = [*decoding.end_tokens(model, tokenizer), *tokenizer.convert_tokens_to_ids(spare[:1])]
    model.generation_config.eos_token_id = ends
    with pytest.raises(ValueError, match="must not end completions. Got .*tokenizer_config.json"):
        decoding.separate_padding(model, tokenizer)
