"""A run's configuration as TRL's ``GRPOConfig``: every hyperparameter of Table 1, and how generation is done."""

import os
from pathlib import Path
from typing import Any

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train import distributed
from sa_ah_lib.train.prompts import TEMPLATE
from sa_ah_lib.train.shipped import is_small
from sa_ah_lib.upstream import decoding, vllm
from sa_ah_lib.upstream.settings import known_by

REPORT_VARIABLE = "SA_AH_REPORT_TO"
"""Names trackers in the environment, for notebooks and commands that were told of none."""


def grpo_arguments(config: RunConfig, output_dir: str | Path, report_to: Any = None) -> Any:
    """``GRPOConfig`` with every hyperparameter of Table 1 said, because TRL's defaults differ on several.

    Raises:
        ValueError: the groups of a micro-batch cannot be dealt out evenly to the processes.
    """
    import trl

    _, precision = models.precision()
    return trl.GRPOConfig(
        output_dir=str(output_dir),
        per_device_train_batch_size=distributed.per_process(config.micro_batch_size, config.num_generations),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_generations=config.num_generations,
        max_completion_length=config.max_completion_tokens,
        temperature=config.temperature,
        generation_kwargs={},
        chat_template_kwargs=dict(TEMPLATE),
        beta=config.beta,
        epsilon=config.epsilon,
        max_steps=config.steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        gradient_checkpointing=not is_small(config.model),
        logging_steps=1,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        seed=config.seed,
        report_to=report_to or os.environ.get(REPORT_VARIABLE) or "none",
        run_name=config.run_id,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        **precision,
        **{**decoding.PLAIN_SAMPLING, **vllm.arguments(config.fast_inference)},
        **known_by(trl.GRPOConfig),
    )
