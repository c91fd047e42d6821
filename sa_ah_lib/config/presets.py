"""The methods and scales that runs are made of: what each changes from the defaults, and what they are called."""

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

CONTROLS = {
    "control-position": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "position"},
    "control-shuffled": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "shuffled"},
    "control-scalar": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "scalar"},
    "control-mirror": {"scope": "positive", "alpha": 0.5, "steps": 180},
    "control-local": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "local"},
    "control-inverse": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "inverse"},
    "control-top-entropy": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "top_entropy"},
}
"""SA-AH-GRPO with one part of its rule taken away, see ``rules.cumulative``; the mirror discounts successes."""

METHODS = {
    "zero-shot": {"scope": "none", "alpha": 0.0, "steps": 0},
    "grpo": {"scope": "none", "alpha": 0.0, "steps": 150},
    "ah-grpo": {"scope": "all", "alpha": 0.5, "steps": 150},
    "sa-ah-grpo": {"scope": "negative", "alpha": 0.5, "steps": 180},
    **CONTROLS,
}
"""The paper's base row and three methods (Section 4.3): which rollouts are discounted, how strongly, how long; and
this project's controls."""

METHOD_FIELDS = ("method", "scope", "alpha", "rule", "rule_parameters")
"""What makes a method; all else is the setting it was run in."""

METHOD_LABELS = {
    "zero-shot": "Base (zero-shot)", "grpo": "GRPO", "ah-grpo": "AH-GRPO", "sa-ah-grpo": "SA-AH-GRPO",
    "control-position": "Position decay", "control-shuffled": "Shuffled entropy", "control-scalar": "One scalar",
    "control-mirror": "Mirror (successes)", "control-local": "Entropy, not cumulative",
    "control-inverse": "Inverse entropy", "control-top-entropy": "Top-entropy mask",
}  # fmt: skip

BATCH_READINGS = {"table": 4, "log": 2}
"""Prompts per optimizer step: Table 1 read literally, or 8 completions a step, likelier by the rewards that the paper
logged (Table 6)."""

_MICRO = {
    "dataset": "micro",
    "learning_rate": 2e-4,
    "prompts_per_step": 8,
    "num_generations": 8,
    "gradient_accumulation_steps": 1,
    "max_prompt_tokens": 64,
    "max_completion_tokens": 96,
    "eval_batch_size": 250,
    "system_prompt": "none",
}
# Dropout would be a fifth of a step on a CPU, and noise between arms that have the same rollouts.
_WORKED = {**_MICRO, "max_completion_tokens": 112, "eval_every": 10, "lora_dropout": 0.0}
SCALES = {
    "micro-s": {**_MICRO, "model": "micro-s"},
    "micro-l": {**_MICRO, "model": "micro-l"},
    "micro-sum": {**_WORKED, "model": "micro-sum", "dataset": "micro-sum", "learning_rate": 1.2e-3},
    "micro-legs": {**_WORKED, "model": "micro-legs", "dataset": "micro-legs", "learning_rate": 4e-4},
    "smollm2": {
        "model": "smollm2",
        "dataset": "arithmetic",
        "data_seed": 2026,
        "learning_rate": 5e-4,
        "gradient_accumulation_steps": 1,
        "max_prompt_tokens": 96,
        "max_completion_tokens": 40,
        "eval_every": 10,
        "eval_examples": 200,
        "eval_batch_size": 50,
        "system_prompt": "none",
        "lora_dropout": 0.0,
    },
    "qwen2.5-1.5b": {"model": "Qwen/Qwen2.5-1.5B-Instruct"},
    "qwen2.5-3b": {"model": "Qwen/Qwen2.5-3B-Instruct"},
}
"""What each scale changes from Table 1. Every difference is shown beside the results (``differences``)."""

SHORT_QUESTIONS = ("simple", "arithmetic")
"""The data sets that the preset of SmolLM2 is for."""
OTHER_DATA = {"smollm2": {"model": "smollm2", "max_completion_tokens": 256, "eval_batch_size": 16}}
"""{scale: the same for any other data set}: short completions and a high learning rate are those of short questions."""
