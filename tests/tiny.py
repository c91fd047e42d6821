"""A tiny random Qwen2, its tokenizer, trainers on it and made-up micro-batches: what the equivalence tests share.

Everything is made offline in a second. ``reference`` scores rows one by one, without padding and in float64, so
that it shares neither code nor layout with what is tested.
"""

import copy
import math
import shutil

import torch
from datasets import Dataset
from reference_loss import reference_loss
from rules_by_loops import LOOPS, on_columns, rollouts_of, some_grams
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from sa_ah_lib import rulebook
from sa_ah_lib.trainer import GROUP_KEY, REWARD_KEY, sa_ah_trainer_class
from sa_ah_lib.upstream.hooks import SEAM_ARGUMENTS

SPECIALS = ("<pad>", "<eos>", "<user>", "<bot>")
CHARACTERS = "0123456789+-*/=() abcdefghijklmnopqrstuvwxyz.?"
PAD, EOS = 0, 1
VOCABULARY = len(SPECIALS) + len(CHARACTERS)
TEMPLATE = (
    "{% for message in messages %}{{ '<user>' if message['role'] == 'user' else '<bot>' }}{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)
QUESTIONS = ("1+2=", "what is 10+20?", "7*8", "add 3 and 4 please")


TOKENS = list(range(4, 240))
# What a generation_config.json may hold that changes completions of do_sample=False; 4 to 239 are ordinary tokens.
GREEDY_RULES = {
    "repetition_penalty": 3.0, "no_repeat_ngram_size": 1, "suppress_tokens": TOKENS, "begin_suppress_tokens": TOKENS,
    "bad_words_ids": [[token] for token in TOKENS], "forced_eos_token_id": 3,
    "sequence_bias": [[[token], -50.0] for token in TOKENS], "num_beams": 4, "encoder_repetition_penalty": 5.0,
    "encoder_no_repeat_ngram_size": 1, "exponential_decay_length_penalty": [1, 9.0], "guidance_scale": 8.0,
    "watermarking_config": {"bias": 50.0}, "min_new_tokens": 12, "min_length": 60, "penalty_alpha": 0.6,
    "stop_strings": ["1"], "max_time": 0.0,
}  # fmt: skip
SAMPLING_RULES = {
    "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.2, "typical_p": 0.5, "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.01,
}  # fmt: skip
# The first of these apply to prompts of one token, to sampling or to beams only.
EVERY_RULE = {
    "forced_bos_token_id": 3, "num_return_sequences": 2, "length_penalty": 2.0, "do_sample": True, **SAMPLING_RULES,
    **GREEDY_RULES,
}  # fmt: skip


class PlainHead:
    """The fused LM head of TRL in plain PyTorch: TRL 1.15's own is a Triton kernel and does not run on a CPU."""

    @staticmethod
    def apply(hidden, weight, bias, labels, temperature, chunk_size, softcap=None, logit_scale=1.0, outputs=()):
        logits = torch.nn.functional.linear(hidden, weight, bias).float() * logit_scale / temperature  # (N, V)
        table = torch.log_softmax(logits, -1)
        return table.gather(1, labels[:, None])[:, 0], -(table.exp() * table).sum(1), None, None, None


class ChunkedHead:
    """``PlainHead`` 256 rows at a time, as the fused heads work: no tensor of all tokens by the whole vocabulary."""

    @staticmethod
    def apply(hidden, weight, bias, labels, *rest):
        parts = [
            PlainHead.apply(rows, weight, bias, wanted, *rest)[:2]
            for rows, wanted in zip(hidden.split(256), labels.split(256), strict=True)
        ]
        return *(torch.cat(values) for values in zip(*parts, strict=True)), None, None, None


def tokenizer():
    """One token a character, four special ones, and a chat template."""
    words = {word: i for i, word in enumerate([*SPECIALS, *CHARACTERS])}
    core = Tokenizer(models.WordLevel(words, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="?",
        additional_special_tokens=["<user>", "<bot>"], padding_side="left",
    )  # fmt: skip
    made.chat_template = TEMPLATE
    return made


def model(seed=0, tied=False):
    """Two layers of 32 units in float32, no dropout, weights wide enough that entropies differ between tokens."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, attention_dropout=0.0, initializer_range=0.3,
        tie_word_embeddings=tied, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).float()


def with_lora(base, seed=0, std=0.1):
    """``base`` under LoRA without dropout; B matrices of ``std`` above 0 give every adapter weight a gradient."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    wrapped = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj", "up_proj"])
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    return wrapped


def digit_share(completions, **kwargs):
    """Share of digits among a completion's characters."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in texts]


def first_letter(completions, **kwargs):
    """1 where a completion starts with a letter, else 0."""
    return [float(completion[0]["content"][:1].isalpha()) for completion in completions]


def dataset(questions=QUESTIONS):
    return Dataset.from_list([{"prompt": [{"role": "user", "content": question}]} for question in questions])


def arguments(directory, **changes):
    """``GRPOConfig`` for a CPU: two groups of four a micro-batch, 12 new tokens."""
    import trl

    # A random model says <pad>, which Unsloth then takes for padding; a trained one does not.
    values = {
        **SEAM_ARGUMENTS, "output_dir": str(directory), "use_cpu": True, "bf16": False, "report_to": "none",
        "per_device_train_batch_size": 8, "num_generations": 4, "gradient_accumulation_steps": 1,
        "max_completion_length": 12, "temperature": 1.0, "beta": 0.0, "epsilon": 0.2, "learning_rate": 1e-2,
        "max_steps": 1, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "seed": 0,
        "dataloader_pin_memory": False, "optim": "adamw_torch",
        "generation_kwargs": {"suppress_tokens": [PAD]}, **changes,
    }  # fmt: skip
    return trl.GRPOConfig(**values)


def trainer(
    directory, policy=None, base=None, reward_funcs=(digit_share, first_letter), train_dataset=None, config=None, **rule
):
    """A token-weighted trainer on a tiny model.

    Args:
        directory: where the model is saved, so that TRL can load its reference copy, and where outputs go.
        policy: the model; a fresh one when None. base: the trainer class to extend; ``trl.GRPOTrainer`` when None.
        config: changes to ``arguments``. rule: arguments of ``TokenWeighted``.
    """
    policy = model() if policy is None else policy
    if not hasattr(policy, "peft_config"):
        policy.save_pretrained(directory / "model")
        policy.config._name_or_path = str(directory / "model")
    made = sa_ah_trainer_class(base)(
        model=policy,
        processing_class=tokenizer(),
        reward_funcs=list(reward_funcs),
        args=arguments(directory, **(config or {})),
        train_dataset=dataset() if train_dataset is None else train_dataset,
        **rule,
    )
    made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps
    made.model.train()
    return made


def micro_batch(groups=2, size=4, seed=0, left=0, right=0, shortest=1, longest=9):
    """Rollouts of unequal length, ``size`` for each of ``groups`` prompts, laid out as TRL does.

    Args:
        left, right: columns of padding beyond what unequal lengths need.
        shortest, longest: bounds of completion lengths.

    Returns:
        dict of ``prompt_ids``, ``prompt_mask`` (padded left), ``completion_ids``, ``completion_mask`` (padded right),
        ``advantages`` (both signs and zeros), ``num_items_in_batch``, ``rollout_group``, ``rollout_reward``.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high, count=1: torch.randint(low, high + 1, (count,), generator=generator)  # noqa: E731
    prompts = [draw(len(SPECIALS), VOCABULARY - 1, 3 + 2 * g) for g in range(groups)]
    lengths = draw(shortest, longest, groups * size).tolist()
    completions = [draw(len(SPECIALS), VOCABULARY - 1, length) for length in lengths]
    rows = [prompts[i // size] for i in range(groups * size)]
    prompt_ids, prompt_mask = _padded(rows, left, from_left=True)
    completion_ids, completion_mask = _padded(completions, right, from_left=False)
    advantages = torch.randn(groups * size, generator=generator)
    advantages[0], advantages[1], advantages[2] = 0.0, -1.25, 0.75
    return {
        "prompt_ids": prompt_ids, "prompt_mask": prompt_mask,
        "completion_ids": completion_ids, "completion_mask": completion_mask,
        "advantages": advantages, "num_items_in_batch": completion_mask.sum(),
        GROUP_KEY: torch.arange(groups * size) // size,
        REWARD_KEY: torch.rand(groups * size, generator=generator),
    }  # fmt: skip


def with_logps(batch, policy, ref_noise=0.3, old_noise=None, temperature=1.0, seed=5):
    """``batch`` with reference and, on request, old log-probabilities: the policy's own plus noise."""
    with torch.no_grad():
        log_probs, _ = scores(twin(policy), batch, None, temperature)
    generator = torch.Generator().manual_seed(seed)
    noise = lambda scale: scale * torch.randn(log_probs.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    ref = (log_probs + noise(ref_noise)).float() * batch["completion_mask"]
    old = (
        {"old_per_token_logps": (log_probs + noise(old_noise)).float() * batch["completion_mask"]} if old_noise else {}
    )
    return {**batch, "ref_per_token_logps": ref, **old}


def in_unsloths_layout(batch):
    """``batch`` with its log-probabilities where Unsloth expects them: rows shifted left over the prompt's padding."""
    left = (batch["prompt_mask"] == 0).sum(1)
    most, width = int(left.max()), batch["completion_ids"].shape[1]
    moved = dict(batch)
    for key in ("ref_per_token_logps", "old_per_token_logps"):
        if key in batch:
            moved[key] = torch.zeros(len(left), width + most)
            for row, start in enumerate((most - left).tolist()):
                moved[key][row, start : start + width] = batch[key][row]
    return moved


def scores(policy, batch, top_k=None, temperature=1.0):
    """Log-probabilities and normalised entropies (B, T), each row scored alone and without padding."""
    log_probs, entropies = [], []
    width = batch["completion_ids"].shape[1]
    for row in range(len(batch["completion_ids"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        kept = batch["completion_mask"][row].bool()
        completion = batch["completion_ids"][row][kept]
        ids = torch.cat([prompt, completion])
        logits = policy(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1] / temperature  # (|o_i|, V)
        table = torch.log_softmax(logits, -1)
        log_probs.append(_spread(table.gather(1, completion[:, None])[:, 0], kept, width))
        entropy = torch.tensor([_entropy(line, top_k) for line in table.detach().tolist()], dtype=torch.float64)
        entropies.append(_spread(entropy, kept, width))
    return torch.stack(log_probs), torch.stack(entropies)


def twin(policy):
    """A float64 copy with clean gradients and the model class's own forward, whatever a trainer patched in."""
    double = copy.deepcopy(policy).double()
    # TRL's patched forward is still bound to the original.
    for module in double.modules():
        module.__dict__.pop("forward", None)
    double.zero_grad()
    return double


class Reference:
    """``reference_loss`` of a float64 copy of ``policy`` on one batch, for any number of rules at one forward pass."""

    def __init__(self, policy, batch, top_k=None, temperature=1.0):
        self.batch = batch
        double = twin(policy)
        self.parameters = {n: p for n, p in double.named_parameters() if p.requires_grad}
        self.log_probs, self.entropy = scores(double, batch, top_k, temperature)

    def __call__(self, *, alpha=0.0, scope="none", denominator="group", beta=0.0, epsilon=0.2, weights=None):
        """The loss as a float and {parameter name: float64 gradient}."""
        batch, current = self.batch, self.log_probs.detach()
        loss = reference_loss(
            self.log_probs, batch.get("old_per_token_logps", current), batch.get("ref_per_token_logps", current),
            self.entropy, batch["completion_mask"], batch["advantages"], batch[GROUP_KEY],
            alpha=alpha, scope=scope, denominator=denominator, epsilon=epsilon, beta=beta, weights=weights,
        )  # fmt: skip
        found = torch.autograd.grad(loss, list(self.parameters.values()), retain_graph=True, allow_unused=True)
        pairs = zip(self.parameters.items(), found, strict=True)
        return loss.item(), {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def reference(policy, batch, *, top_k=None, temperature=1.0, **rule):
    """One rule's ``Reference``: the loss as a float and {parameter name: float64 gradient}."""
    return Reference(policy, batch, top_k, temperature)(**rule)


def rule_case(build, name, old_noise=None):
    """A trainer under a published rule, a micro-batch, and the loss and gradients that plain loops give its rule.

    Args:
        build: called with ``trainer``'s arguments but the directory; name: of a rule in ``rules_by_loops.LOOPS``.
    """
    batch = micro_batch(left=1, right=2)
    # Successes and failures of a group must share some tokens, or the rules that look for them find none.
    batch["completion_ids"][:, :2] = torch.where(batch["completion_mask"][:, :2] > 0, 7, PAD)
    ids, mask, record = batch["completion_ids"], batch["completion_mask"], rulebook.get(name)
    # A random model is unsure everywhere: at their defaults these two give every token the same weight.
    given = {
        "hicra": {"grams": some_grams(ids, mask)}, "tr_grpo": {"temperature": 0.02},
        "gtpo_conflict": {"entropy_limit": 9.0},
    }.get(name, {})  # fmt: skip
    made = build(
        rule=name, rule_parameters=given, denominator=record.denominator, entropy_top_k=None, config={"beta": 0.04}
    )
    batch = with_logps(batch, made.model, old_noise=old_noise)
    reference = Reference(made.model, batch)
    rollouts = rollouts_of(
        reference.entropy, mask, batch["advantages"].double(), batch[GROUP_KEY], math.log(VOCABULARY), ids,
        reference.log_probs.detach(),
    )  # fmt: skip
    weights = on_columns(LOOPS[name](rollouts, **given), mask)
    assert weights[mask.bool()].std() > 1e-3, "a case that the rule does not change"
    return made, batch, reference(denominator=record.denominator, beta=0.04, weights=weights)


def mean(pairs):
    """The mean of (loss, gradients) pairs: what gradient accumulation over as many micro-batches must give."""
    return (
        sum(loss for loss, _ in pairs) / len(pairs),
        {name: sum(found[name] for _, found in pairs) / len(pairs) for name in pairs[0][1]},
    )


def loss_and_gradients(made, batch):
    """The trainer's own loss on ``batch`` as a float and {parameter name: float64 gradient}."""
    made.model.zero_grad()
    loss = made.compute_loss(made.model, batch)
    loss.backward()
    return loss.item(), gradients(made.model)


def gradients(policy):
    return {
        n: torch.zeros_like(p).double() if p.grad is None else p.grad.double()
        for n, p in policy.named_parameters()
        if p.requires_grad
    }


def worst_error(found, wanted):
    """Largest relative difference of two (loss, gradients) pairs: of the loss, and of any parameter's gradient in norm.

    What float32 cannot resolve gets a floor: a loss that cancels to less than 0.1 is compared with 0.1, a gradient that
    is almost zero beside the others with a thousandth of the largest one.
    """
    assert found[1].keys() == wanted[1].keys() and wanted[1], "the two models must have the same parameters"
    norms = {name: gradient.norm().item() for name, gradient in wanted[1].items()}
    floor = 1e-3 * max(norms.values()) or 1.0
    errors = [(found[1][name] - wanted[1][name]).norm().item() / max(norms[name], floor) for name in norms]
    return max(abs(found[0] - wanted[0]) / max(abs(wanted[0]), 0.1), *errors)


def script_rollouts(policy, seed=0, longest=9):
    """Let ``policy.generate`` answer with made-up completions of unequal length, the same in any trainer."""
    generator = torch.Generator().manual_seed(seed)

    def generate(input_ids=None, **kwargs):
        lengths = torch.randint(1, longest + 1, (len(input_ids), 1), generator=generator)
        made = torch.randint(len(SPECIALS), VOCABULARY, (len(input_ids), longest + 1), generator=generator)
        column = torch.arange(longest + 1)
        made = torch.where(column < lengths, made, torch.where(column == lengths, EOS, PAD))
        return torch.cat([input_ids, made[:, : int(lengths.max()) + 1]], 1)

    policy.generate = generate
    return policy


def divergences(policy, batch):
    """k3 from the adapter-free model in float64: its mean over tokens, and over rollouts of each rollout's mean."""
    double, mask = twin(policy), batch["completion_mask"].double()
    with torch.no_grad():
        log_probs, _ = scores(double, batch)
        with double.disable_adapter():
            gap = (scores(double, batch)[0] - log_probs) * mask
    k3 = (gap.exp() - gap - 1) * mask
    return (k3.sum() / mask.sum()).item(), (k3.sum(1) / mask.sum(1)).mean().item()


def scripted_run(directory, build, steps=3):
    """Whole training steps on scripted rollouts, two micro-batches each.

    Args:
        build: called with the policy and ``trainer``'s other arguments, as ``trainer`` without a directory.

    Returns:
        One dict a step: everything logged, and ``kl of tokens`` and ``kl of rollouts`` by hand.
    """
    # B = 0, as every run starts: TRL's reference is a copy of the first adapter, Unsloth's is no adapter at all.
    # Plain gradient descent: Adam divides rounding by rounding where a gradient is almost zero. Unsloth has defaults of
    # its own for what is said here.
    policy = script_rollouts(with_lora(model(), std=0.0))
    config = {
        "beta": 0.04, "max_steps": steps, "gradient_accumulation_steps": 2, "optim": "sgd", "learning_rate": 0.3,
        "lr_scheduler_type": "linear", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0,
    }  # fmt: skip
    made = build(policy, config=config, reward_threshold=0.15, alpha=0.7, entropy_top_k=5)
    loss, seen = made.compute_loss, []

    def watched(model, inputs, **kwargs):
        seen.append(divergences(made.model, inputs))
        return loss(model, inputs, **kwargs)

    made.compute_loss = watched
    made.train()
    halves = [seen[2 * step : 2 * step + 2] for step in range(steps)]
    return [
        {**log, "kl of tokens": sum(a for a, _ in pair) / 2, "kl of rollouts": sum(b for _, b in pair) / 2}
        for log, pair in zip(made.state.log_history, halves, strict=False)
    ]


def resumed_runs(directory, build, steps=8, every=3):
    """A run with Adam and sampled rollouts, and the same gone on with from each of its checkpoints.

    Args:
        build: as in ``scripted_run``.

    Returns:
        {0: the unbroken run, K: the one resumed after step K}, each a dict of "steps", what each step logged,
        "adapter", the sum of its weights, and "trained", the number of steps it did itself.
    """
    from transformers import set_seed

    from sa_ah_lib.train.restore import RestoreCallback

    config = {"beta": 0.04, "max_steps": steps, "save_strategy": "steps", "save_steps": every, "save_only_model": False}

    def run(checkpoint=None):
        # Another adapter and another random state to start with: a run that restored nothing ends elsewhere.
        seed = 5 if checkpoint else 0
        set_seed(seed)
        made = build(with_lora(model(), seed, std=0.0), config=config, alpha=0.7, reward_threshold=0.0)
        made.add_callback(RestoreCallback(checkpoint))
        losses, step = [], made.training_step
        made.training_step = lambda *a, **k: losses.append(step(*a, **k)) or losses[-1]
        made.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        logged = [{k: v for k, v in row.items() if k != "step_time"} for row in made.state.log_history if "loss" in row]
        adapter = sum(p.double().abs().sum().item() for p in made.model.parameters() if p.requires_grad)
        return {"steps": logged, "adapter": adapter, "trained": len(losses)}

    found = {0: run()}
    for step in range(every, steps, every):
        # Checkpoints of a resumed run take the names of the unbroken one's.
        shutil.copytree(directory / f"checkpoint-{step}", directory / f"kept-{step}")
    for step in range(every, steps, every):
        found[step] = run(directory / f"kept-{step}")
    return found


def second_trainer(build):
    """A trained policy given to a second trainer: what its first loss and its reference are.

    Args:
        build: as in ``scripted_run``.

    Returns:
        dict: "error" of the second trainer's loss against the formula, "kl" that its first step logged, and "moved",
        how far the first trainer moved any of the adapter's numbers.
    """
    policy = with_lora(model(), std=0.0)
    first = build(policy, config={"beta": 0.04, "max_steps": 3}, reward_threshold=0.0)
    before = [p.detach().clone() for p in policy.parameters() if p.requires_grad]
    first.train()
    after = [p for p in policy.parameters() if p.requires_grad]
    moved = max((a - b).abs().max().item() for a, b in zip(after, before, strict=True))
    made = build(policy, config={"beta": 0.04}, alpha=0.7, entropy_top_k=5, reward_threshold=0.0)
    # A model of its own: a trained one's copy is bound to the original by what the trainers patched in.
    fresh = with_lora(model())
    fresh.load_state_dict({name: value for name, value in policy.state_dict().items() if ".ref." not in name})
    batch = with_logps(micro_batch(left=1, right=2), fresh)
    wanted = reference(fresh, batch, top_k=5, beta=0.04, alpha=0.7, scope="negative")
    error = worst_error(loss_and_gradients(made, in_unsloths_layout(batch) if _is_unsloths(made) else batch), wanted)
    # Of this loss nothing may be left in what the first step logs.
    made._metrics["train"].clear()
    made.train()
    return {"error": error, "kl": made.state.log_history[0]["kl"], "moved": moved}


def _is_unsloths(made):
    return any(base.__name__.startswith("Unsloth") for base in type(made).__mro__)


def wide_model(vocabulary=32768):
    """One narrow layer under a vocabulary so wide that logits of all tokens outweigh everything else."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, initializer_range=0.3, tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).float()


def peaked_model(vocabulary=32768, units=64):
    """A model whose logits are a language model's: a wide vocabulary, and a mean normalised entropy of 0.02 to 0.03.

    The head scores the two tokens after the current one highest. In bfloat16, logits rounded to bfloat16 move its
    entropies by 3 % of their mean, as they do SmolLM2's.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=units, intermediate_size=2 * units, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.1,
        tie_word_embeddings=False, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
    )  # fmt: skip
    made = Qwen2ForCausalLM(config)
    with torch.no_grad():
        tokens = torch.randn(vocabulary, units)
        made.get_input_embeddings().weight.copy_(tokens)
        made.get_output_embeddings().weight.copy_((tokens.roll(1, 0) + 0.9 * tokens.roll(2, 0)) * 8 / units**0.5)
    return made


def largest_of_a_loss(made, tokens=128):
    """Elements of the largest tensor that one loss and its backward pass made, and B * T * V.

    Args:
        made: a trainer on ``wide_model``; its micro-batch is 8 rollouts of about ``tokens`` tokens.
    """
    batch = micro_batch(shortest=tokens - 8, longest=tokens)
    with Largest() as seen:
        made.compute_loss(made.model, batch).backward()
    return {"largest": seen.elements, "logits": batch["completion_ids"].numel() * made.model.config.vocab_size}


class Largest(TorchDispatchMode):
    """Inside the block: ``elements``, the size of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


def _entropy(line, top_k):
    ordered = sorted(line, reverse=True)[:top_k]
    return -sum(math.exp(x) * x for x in ordered) / math.log(len(line))


def _padded(rows, extra, from_left):
    width = max(len(row) for row in rows) + extra
    ids = torch.full((len(rows), width), PAD)
    for i, row in enumerate(rows):
        if from_left:
            ids[i, width - len(row) :] = row
        else:
            ids[i, : len(row)] = row
    return ids, (ids != PAD).long()


def _spread(values, kept, width):
    return torch.zeros(width, dtype=values.dtype).masked_scatter(kept, values)
