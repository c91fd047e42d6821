"""Real optimizer steps in one place: generation, scoring, an evaluation after each, and the adapter kept."""

import os
from types import SimpleNamespace

from cases import ALPHA
from places import load, trainer


def training(directory, place):
    """Optimizer steps with real generation, an evaluation after each, and the adapter saved and loaded again."""
    import torch

    os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
    policy = load(directory / "flat", place)
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    # A GradScaler begins too high and leaves out its first steps.
    steps = 8 if place.device == "cuda" and place.dtype == "float16" else 2
    short = {"max_completion_length": 4, "num_generations": 2, "per_device_train_batch_size": 4}
    config = {"beta": 0.04, "max_steps": steps, **(short if place.device == "interpreter" else {})}
    made = trainer(policy, directory, place, config, alpha=ALPHA["flat"], entropy_top_k=5)
    evaluated = _evaluate_after_each_step(made)
    made.train()
    _save(policy, made.processing_class, directory / "saved", place)
    loaded = load(directory / "flat", place, directory / "saved")
    # Else the one computes in 16 bits, as it was trained, and the other in the type of its weights.
    made.accelerator.unwrap_model(made.model, keep_fp32_wrapper=False)
    trained = {n: p.detach() for n, p in policy.named_parameters() if p.requires_grad and ".ref." not in n}
    again = dict(loaded.named_parameters())
    prompt = torch.arange(4, 12, device=policy.device)[None]
    return {
        "moved": [n for n, p in made.model.named_parameters() if n in before and not before[n].equal(p)],
        "trainable": [n for n, p in made.model.named_parameters() if p.requires_grad],
        "first": made.state.log_history[0],
        "logged": made.state.log_history[-2],
        "evaluated": evaluated,
        "loaded_apart": max((p - again[n]).abs().max().item() for n, p in trained.items()),
        "logits_apart": (_logits(policy, prompt) - _logits(loaded, prompt)).abs().max().item(),
    }


def _evaluate_after_each_step(made):
    """A list that gets (answers, whether the model trains afterwards) after each step."""
    from transformers import TrainerCallback

    from sa_ah_lib.config import preset
    from sa_ah_lib.train.data import Problem
    from sa_ah_lib.train.evaluation import evaluate

    config = preset("micro-s", "sa-ah-grpo", max_completion_tokens=3, eval_batch_size=2, system_prompt="none")
    problems, seen = [Problem("1+2=", "3"), Problem("what is 10+20?", "30")], []

    class Evaluation(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            rows = evaluate(made.model, made.processing_class, problems, config, state.global_step, progress=False)
            seen.append([len(rows), made.model.training])

    made.add_callback(Evaluation())
    return seen


def _save(policy, tokenizer, directory, place):
    if place.backend == "unsloth":
        from sa_ah_lib.train import models

        models.save_adapter(SimpleNamespace(model=policy, tokenizer=tokenizer), directory)
    else:
        policy.save_pretrained(directory)


def _logits(policy, ids):
    import torch

    policy.for_inference()
    with torch.inference_mode():
        return policy(input_ids=ids).logits.float()
