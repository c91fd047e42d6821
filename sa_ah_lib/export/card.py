"""The model card of an export: what was trained, on which data, with which seeds, and what was measured."""

import json
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sa_ah_lib.analysis.stats import wilson_interval
from sa_ah_lib.train.run import Run

TEMPLATE = """---
{{ card_data }}
---

# {{ model_name }}

{{ method }} on {{ dataset }}, from `{{ base }}`. Format: {{ format }}.

Made with sa-ah-grpo, an open implementation of token-weighted GRPO under Unsloth. The run itself measured the numbers
below, greedy, one completion a problem, on held-out problems of the same data set; they are one seed's.

## Measured

| step | correct | Pass@1 | 95% Wilson interval |
|---|---|---|---|
{% for row in scores %}| {{ row | join(" | ") }} |
{% endfor %}
## The files against the trained adapter

{{ verified }}

## Data and seeds

- data: {{ dataset }}, SHA-256 of the problems `{{ sha256 }}`
- seed {{ seed }}, data seed {{ data_seed }}
- versions: {{ versions }}
- device: {{ device }}; git: {{ git }}

## Configuration

```json
{{ config }}
```
"""


def write(run: Run, directory: Path, form: str, verified: str) -> ModelCard:
    """Write ``README.md`` into an export's directory.

    Args:
        run: a ``run.Run``.
        form: the export's format, a word.
        verified: one sentence on how the files were checked, with its numbers.

    Returns:
        The ``huggingface_hub.ModelCard``.
    """
    environment, config = run.environment, run.config
    data = environment.get("data", {})
    scores = [
        [step, f"{right}/{total}", f"{right / total:.3f}", "[{:.3f}, {:.3f}]".format(*wilson_interval(right, total))]
        for step, (right, total) in run.evaluations.items()
    ]
    # A template variable each; jinja would take a dataclass of its own for metadata only.
    card = ModelCard.from_template(
        _metadata(run), template_str=TEMPLATE, model_name=config.run_id, method=config.label,
        dataset=config.dataset, base=config.model, format=form, scores=scores, verified=verified,
        sha256=data.get("sha256", "not recorded"), seed=config.seed, data_seed=config.data_seed,
        versions=", ".join(f"{k} {v}" for k, v in environment.get("packages", {}).items() if v),
        device=environment.get("device", "not recorded"), git=environment.get("git") or "not recorded",
        config=json.dumps(config.to_dict(), indent=2),
    )  # fmt: skip
    card.save(directory / "README.md")
    return card


def _metadata(run):
    config, scores = run.config, run.evaluations
    results = []
    if scores:
        right, total = scores[max(scores)]
        results = [
            EvalResult(
                task_type="text-generation", dataset_type=config.dataset, dataset_name=config.dataset,
                metric_type="pass@1", metric_name=f"greedy Pass@1 on {total} held-out problems",
                metric_value=round(right / total, 4),
            )
        ]  # fmt: skip
    # The hub refuses metadata that names a model or data set by anything but its id.
    named = {"base_model": config.model, "datasets": config.dataset}
    on_hub = {key: name for key, name in named.items() if re.fullmatch(r"[\w.-]+/[\w.-]+", name)}
    other_rule = [] if config.has_own_rule else [config.rule]
    return ModelCardData(
        model_name=config.run_id, library_name="transformers", pipeline_tag="text-generation", language="en",
        tags=["grpo", config.method, *other_rule, "trl", "unsloth"], eval_results=results, **on_hub,
    )  # fmt: skip
