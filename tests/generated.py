"""Runs in a process of its own, on the trainer that Unsloth generates, and prints one JSON report for test_seam.

Unsloth patches trl, transformers and torch for good, so it cannot share a process with the tests of stock TRL.
Nothing here imports trl or unsloth at module level: test_seam reads the cases without them.
"""

import json
import os
import sys
from itertools import product
from pathlib import Path

from sa_ah_lib.rulebook import DENOMINATORS, SCOPES

ALPHA, TOP_K = 0.7, 5
LAYOUTS = {"packed": {}, "padded": {"UNSLOTH_GRPO_SEQ_PACKING": "0"}, "chunks": {"UNSLOTH_GRPO_SEQ_PACKING": "0"}}
CASES = {
    f"{layout}, {'top-K' if top_k else 'exact'}, {scope}, {denominator}, beta {beta}, {'old' if old else 'fresh'}": (
        layout, top_k, scope, denominator, beta, old,
    )
    for layout in LAYOUTS
    for top_k in (None, TOP_K)
    for scope, denominator, beta, old in (
        ("negative", "group", 0.0, None), ("negative", "group", 0.04, 0.3),
        ("all", "batch", 0.04, None), ("none", "sequence", 0.0, 0.3),
    )
}  # fmt: skip
COMBINATIONS = {
    f"{scope}, {denominator}, {'top-K' if top_k else 'exact'}, beta {beta}, accumulation {steps}": (
        scope, denominator, top_k, beta, steps,
    )
    for top_k, scope, denominator, beta, steps in product((None, TOP_K), SCOPES, DENOMINATORS, (0.0, 0.04), (1, 2))
}  # fmt: skip


def main(*sections):
    """Print the report of the named sections (functions below), on the generated trainer."""
    generate()
    import tiny

    report = {name: globals()[name](tiny) for name in sections}
    print("REPORT" + json.dumps(report))


def generate():
    """Make ``trl.GRPOTrainer`` the class that Unsloth generates, without a GPU."""
    import unsloth  # noqa: F401
    from unsloth.models.rl import _patch_trl_rl_trainers

    _patch_trl_rl_trainers("grpo_trainer")


def build(tiny, policy, directory=None, config=None, **rule):
    """``tiny.trainer`` on the generated class, in float32."""
    policy.for_training, policy.for_inference = (lambda *a, **k: policy.train()), (lambda *a, **k: policy.eval())
    made = tiny.trainer(directory or Path.cwd(), policy, config=config, **{"reward_threshold": 0.0, **rule})
    # A float32 model is trained under autocast there; the comparison is in float32.
    made._autocast_enabled, made._autocast_dtype = False, None
    return made


def lineage(tiny):
    """The names of the classes from ours to the generated one, and where the switches it reads are known."""
    import trl

    from sa_ah_lib.trainer import sa_ah_trainer_class
    from sa_ah_lib.upstream.settings import UNSLOTH_SWITCHES

    modules = (trl.GRPOTrainer.__module__, "unsloth_zoo.rl_replacements")
    source = "".join(Path(sys.modules[name].__file__).read_text(encoding="utf-8") for name in modules)
    return {
        "bases": [c.__name__ for c in sa_ah_trainer_class().__mro__[1:4]],
        "switches": [name for name in UNSLOTH_SWITCHES if name in source],
    }


def layouts(tiny):
    """{case: worst error} and {case: shapes of the hidden states} of ``CASES``."""
    from sa_ah_lib.upstream.entropy_tap import EntropyTap

    shapes, states = [], EntropyTap._predicting_states

    def recording(tap, tokens, real):
        shapes.extend(list(part.shape[:2]) for part in tap._hidden)
        return states(tap, tokens, real)

    EntropyTap._predicting_states = recording
    report = {"errors": {}, "shapes": {}}
    for name, (layout, top_k, scope, denominator, beta, old) in CASES.items():
        os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
        os.environ.update(LAYOUTS[layout])
        rule = {"alpha": ALPHA, "scope": scope, "denominator": denominator}
        made = build(tiny, tiny.model(), config={"beta": beta}, entropy_top_k=top_k, **rule)
        made.args.unsloth_grpo_mini_batch = 4 if layout == "chunks" else 1
        batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), made.model, old_noise=old)
        wanted = tiny.reference(made.model, batch, top_k=top_k, beta=beta, **rule)
        shapes.clear()
        # Twice: the first packed forward is verified row by row, the second is trusted.
        found = [tiny.loss_and_gradients(made, tiny.in_unsloths_layout(batch)) for _ in range(2)]
        report["errors"][name] = max(tiny.worst_error(f, wanted) for f in found)
        report["shapes"][name] = [list(shape) for shape in shapes]
    os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
    EntropyTap._predicting_states = states
    return report


def combinations(tiny):
    """{combination: worst error} of ``COMBINATIONS``: accumulation 2 sums two micro-batches of unequal size."""
    parts = [tiny.micro_batch(seed=seed, left=1, right=2, longest=longest) for seed, longest in ((0, 9), (1, 5))]
    prepared = {}
    for top_k in (None, TOP_K):
        made = build(tiny, tiny.model(), config={"beta": 0.04}, alpha=ALPHA, entropy_top_k=top_k)
        batches = [tiny.with_logps(part, made.model) for part in parts]
        prepared[top_k] = made, batches, [tiny.Reference(made.model, batch, top_k) for batch in batches]
    report = {}
    for name, (scope, denominator, top_k, beta, steps) in COMBINATIONS.items():
        made, batches, references = prepared[top_k]
        made.scope, made.denominator, made.beta = scope, denominator, beta
        made.current_gradient_accumulation_steps = steps
        wanted = tiny.mean(
            [r(alpha=ALPHA, scope=scope, denominator=denominator, beta=beta) for r in references[:steps]]
        )
        found = [tiny.loss_and_gradients(made, tiny.in_unsloths_layout(batch)) for batch in batches[:steps]]
        loss, gradients = tiny.mean(found)
        summed = loss * steps, {key: value * steps for key, value in gradients.items()}
        report[name] = tiny.worst_error(summed, wanted)
    return report


def rules(tiny):
    """{rule: worst error} under every published rule, against plain loops; log-probabilities in every layout."""
    from rules_by_loops import LOOPS

    from sa_ah_lib import rulebook

    report = {}
    for name in LOOPS:
        asks = "log_probs" in rulebook.get(name).inputs
        for layout in LAYOUTS if asks else ("packed",):
            os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
            os.environ.update(LAYOUTS[layout])
            make = lambda layout=layout, **rest: build(tiny, tiny.model(), **rest)  # noqa: E731
            made, batch, wanted = tiny.rule_case(make, name, old_noise=0.3)
            made.args.unsloth_grpo_mini_batch = 4 if layout == "chunks" else 1
            found = [tiny.loss_and_gradients(made, tiny.in_unsloths_layout(batch)) for _ in range(2)]
            report[f"{name}, {layout}"] = max(tiny.worst_error(f, wanted) for f in found)
    os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
    return report


def entrances(tiny):
    """{case: worst error} of ``CASES`` by the second entrance, of two published rules in every layout, and of LoRA."""
    report, second = {}, {"entrance": "advantages"}
    for name, (layout, top_k, scope, denominator, beta, old) in CASES.items():
        os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
        os.environ.update(LAYOUTS[layout])
        rule = {"alpha": ALPHA, "scope": scope, "denominator": denominator}
        made = build(tiny, tiny.model(), config={"beta": beta}, entropy_top_k=top_k, **rule, **second)
        made.args.unsloth_grpo_mini_batch = 4 if layout == "chunks" else 1
        batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), made.model, old_noise=old)
        wanted = tiny.reference(made.model, batch, top_k=top_k, beta=beta, **rule)
        found = [tiny.loss_and_gradients(made, tiny.in_unsloths_layout(batch)) for _ in range(2)]
        report[name] = max(tiny.worst_error(f, wanted) for f in found)
    os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
    for name in ("gtpo", "advantage_reweighting"):
        make = lambda **rest: build(tiny, tiny.model(), **rest, **second)  # noqa: E731
        made, batch, wanted = tiny.rule_case(make, name, old_noise=0.3)
        report[name] = tiny.worst_error(tiny.loss_and_gradients(made, tiny.in_unsloths_layout(batch)), wanted)
    made = build(tiny, tiny.with_lora(tiny.model()), config={"max_steps": 2, "beta": 0.04}, alpha=ALPHA, **second)
    made.train()
    return {"errors": report, "steps": [row["sa_ah/entropy"] for row in made.state.log_history if "reward" in row]}


def accumulation(tiny):
    """Worst error of two micro-batches of two groups against one of four, at the group denominator.

    The halves carry the whole's ``num_items_in_batch``, as where other processes hold the other groups.
    """
    made = build(tiny, tiny.model(), alpha=ALPHA, entropy_top_k=TOP_K)
    whole = tiny.micro_batch(groups=4)
    halves = [{k: v if v.ndim == 0 else v[part] for k, v in whole.items()} for part in (slice(0, 8), slice(8, 16))]
    at_once = tiny.loss_and_gradients(made, whole)
    made.current_gradient_accumulation_steps = 2
    first, second = (tiny.loss_and_gradients(made, half) for half in halves)
    return tiny.worst_error((first[0] + second[0], {n: first[1][n] + second[1][n] for n in first[1]}), at_once)


def training(tiny):
    """Two optimizer steps with real generation and LoRA: what moved, what was logged."""
    made = build(
        tiny, tiny.with_lora(tiny.model()), config={"beta": 0.04, "max_steps": 2}, alpha=ALPHA, entropy_top_k=TOP_K
    )
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    made.train()
    moved = [n for n, p in made.model.named_parameters() if not before[n].equal(p)]
    rows = made.last_rollouts
    mask = rows["mask"].bool()
    return {
        "moved": moved,
        "trainable": [n for n, p in made.model.named_parameters() if p.requires_grad],
        "logged": made.state.log_history[1],
        "weight": rows["weights"][mask].mean().item(),
        "entropy": rows["entropy"][mask].mean().item(),
        "tokens": [int(mask.sum()), int(rows["completion_mask"].sum())],
    }


def three_steps(tiny):
    """``tiny.scripted_run`` on the generated trainer."""
    directory = Path.cwd()
    return tiny.scripted_run(directory, lambda policy, **rest: build(tiny, policy, directory, **rest))


def resumed(tiny):
    """``tiny.resumed_runs`` on the generated trainer."""
    directory = Path.cwd() / "resumed"
    directory.mkdir()
    return tiny.resumed_runs(directory, lambda policy, **rest: build(tiny, policy, directory, **rest))


def sampling(tiny):
    """Names of the logits processors of a rollout whose model ships rules of its own, and how its padding is judged."""
    from transformers import GenerationMixin

    made = build(tiny, tiny.with_lora(tiny.model()), config={"generation_kwargs": {}})
    built, kept = [], GenerationMixin._get_logits_processor

    def watched(self, *args, **more):
        built.append(kept(self, *args, **more))
        return built[-1]

    made._policy.generation_config.update(repetition_penalty=1.1, no_repeat_ngram_size=2, top_k=20, top_p=0.8)
    GenerationMixin._get_logits_processor = watched
    made._generate_and_score_completions([{"prompt": row["prompt"]} for row in tiny.dataset() for _ in range(4)][:8])
    GenerationMixin._get_logits_processor = kept
    padding = tiny.model()
    padding.generation_config.eos_token_id = [tiny.EOS, tiny.PAD]
    try:
        build(tiny, padding, Path.cwd() / "padding")
        refused = ""
    except ValueError as error:
        refused = str(error)
    return {"processors": [[type(p).__name__ for p in found] for found in built], "refused": refused}


def second(tiny):
    """``tiny.second_trainer`` on the generated trainer."""
    return tiny.second_trainer(lambda policy, **rest: build(tiny, policy, **rest))


def canaries(tiny):
    """{way of breaking the hook: what the first loss raised}."""
    import unsloth_zoo.rl_replacements as zoo

    def raised(action):
        try:
            action()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    made, batch = build(tiny, tiny.model(), alpha=ALPHA), tiny.micro_batch()
    made.compute_loss(made.model, batch)
    made.args.top_entropy_quantile = 1.0
    report = {"switched off": raised(lambda: made.compute_loss(made.model, batch))}
    made.args.top_entropy_quantile = 0.5
    asked, zoo.grpo_high_entropy_mask = zoo.grpo_high_entropy_mask, lambda trainer, entropies, *rest, **more: entropies
    report["answered by Unsloth itself"] = raised(lambda: made.compute_loss(made.model, batch))
    zoo.grpo_high_entropy_mask = asked
    report["restored"] = raised(lambda: made.compute_loss(made.model, batch))
    return report


def memory(tiny):
    """Elements of the largest tensor that a loss at K = 500 and its backward pass made, and B * T * V."""
    return tiny.largest_of_a_loss(build(tiny, tiny.wide_model(), alpha=ALPHA, entropy_top_k=500))


def guide(tiny):
    """What the docs' own rule does under Unsloth."""
    from guide import run_the_example

    policy = tiny.model()
    policy.for_training, policy.for_inference = (lambda *a, **k: policy.train()), (lambda *a, **k: policy.eval())
    return run_the_example(Path.cwd(), policy)
