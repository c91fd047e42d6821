"""Both trainers against the paper's loss in float64: loader, kernels, loss and gradients, on a GPU or a CPU.

    python tests/gpu/equalities.py prepare DIRECTORY
    python tests/gpu/equalities.py compare DIRECTORY cuda|cpu unsloth|trl

``prepare`` makes the model, the batches and the references with plain transformers; ``compare`` computes the same
losses and gradients by a trainer and takes two real steps. A process each, because Unsloth patches the model's classes
for good and its kernels take no float64.
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

ALPHA, TOP_K = 0.7, 5
CASES = {
    f"{'top-K' if top_k else 'exact'}, {scope}, {denominator}, beta {beta}, {'old' if old else 'fresh'}": (
        top_k, scope, denominator, beta, old,
    )
    for top_k in (None, TOP_K)
    for scope, denominator, beta, old in (
        ("negative", "group", 0.04, None), ("negative", "group", 0.0, 0.3), ("all", "batch", 0.04, None),
        ("none", "sequence", 0.0, 0.3),
    )
}  # fmt: skip
LAYOUTS = {"packed": "1", "padded": "0"}


def prepare(directory):
    """Write model/, adapter/ and cases.pt: {case: (batch, loss, gradients, the loss without the weights)}."""
    import tiny
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from sa_ah_lib.config import LORA_TARGETS

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=tiny.VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
        initializer_range=0.1, pad_token_id=tiny.PAD, eos_token_id=tiny.EOS, bos_token_id=None,
    )  # fmt: skip
    # bfloat16 numbers on every device: the reference then has the very weights that a GPU trains.
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(directory / "model")
    tiny.tokenizer().save_pretrained(directory / "model")
    base = Qwen2ForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=list(LORA_TARGETS), task_type="CAUSAL_LM")
    made = get_peft_model(base, lora)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    made.save_pretrained(directory / "adapter")
    tiny.tokenizer().save_pretrained(directory / "adapter")
    base = Qwen2ForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
    policy = PeftModel.from_pretrained(base, directory / "adapter", is_trainable=True)
    cases = {}
    for name, (top_k, scope, denominator, beta, old) in CASES.items():
        batch = tiny.with_logps(tiny.micro_batch(left=1, right=2, longest=24), policy, old_noise=old)
        rule = {"scope": scope, "denominator": denominator, "top_k": top_k, "beta": beta}
        unweighted = tiny.reference(policy, batch, alpha=0.0, **rule)
        cases[name] = batch, *tiny.reference(policy, batch, alpha=ALPHA, **rule), unweighted
    torch.save(cases, directory / "cases.pt")


def compare(directory, device, backend):
    """Print one JSON object: the trainer, {case: [worst error, the same without weights]}, and what two steps did."""
    os.chdir(directory)
    if device == "cpu":
        # The generated trainer on a machine without a GPU, uncompiled, as tests/unsloth/test_seam.py has it.
        os.environ.update(UNSLOTH_ALLOW_CPU="1", UNSLOTH_COMPILE_DISABLE="1", TORCHDYNAMO_DISABLE="1")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if backend == "unsloth":
        import unsloth  # noqa: F401
        from unsloth.models.rl import _patch_trl_rl_trainers
    import torch
    import trl
    import trl.trainer.utils

    if backend == "unsloth" and not trl.GRPOTrainer.__name__.startswith("Unsloth"):
        _patch_trl_rl_trainers("grpo_trainer")
    if backend == "trl" and device == "cpu":
        import tiny

        trl.trainer.utils._ChunkedLogProbFunction = tiny.PlainHead
    policy = _load(directory, device, backend)
    cases = torch.load(directory / "cases.pt")
    errors = {}
    for layout, packing in LAYOUTS.items() if backend == "unsloth" else [("padded", "")]:
        os.environ["UNSLOTH_GRPO_SEQ_PACKING"] = packing
        for name, (batch, loss, gradients, unweighted) in cases.items():
            found = _loss_and_gradients(policy, directory, CASES[name], batch, device, backend)
            errors[f"{layout}, {name}"] = [_worst(found, (loss, gradients)), _worst(found, unweighted)]
    os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING")
    report = {
        "trainer": trl.GRPOTrainer.__name__, "device": policy.device.type, "dtype": str(policy.dtype),
        "errors": errors, "training": _two_steps(_load(directory, device, backend), directory, device),
    }  # fmt: skip
    print("REPORT" + json.dumps(report))


def _load(directory, device, backend):
    """The adapter's model: by the library's own loader for Unsloth on a GPU, else by peft."""
    if device == "cuda" and backend == "unsloth":
        from sa_ah_lib.config import preset
        from sa_ah_lib.train import models

        config = preset("micro-s", "sa-ah-grpo", model=str(directory / "model"), lora_dropout=0.0)
        return models.load(config, directory / "adapter").model
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    dtype = "bfloat16" if device == "cuda" else "float32"
    base = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=dtype).to(device)
    policy = PeftModel.from_pretrained(base, directory / "adapter", is_trainable=True)
    policy.for_training, policy.for_inference = (lambda **k: policy.train()), (lambda **k: policy.eval())
    return policy


def _trainer(policy, directory, device, config, **rule):
    import tiny

    if "ref" in policy.peft_config:
        # Stock TRL copies the adapter for its reference, once a trainer.
        policy.delete_adapter("ref")
    flags = {"use_cpu": device == "cpu", "bf16": device == "cuda", "gradient_checkpointing": device == "cuda"}
    made = tiny.trainer(directory, policy, config={**flags, **config}, alpha=ALPHA, reward_threshold=0.0, **rule)
    if device == "cpu":
        # A float32 model is trained under autocast there; the comparison is in float32.
        made._autocast_enabled, made._autocast_dtype = False, None
    return made


def _loss_and_gradients(policy, directory, case, batch, device, backend):
    import tiny

    top_k, scope, denominator, beta, _ = case
    made = _trainer(
        policy, directory, device, {"beta": beta}, scope=scope, denominator=denominator, entropy_top_k=top_k
    )
    batch = tiny.in_unsloths_layout(batch) if backend == "unsloth" else batch
    batch = {key: value.to(device) for key, value in batch.items()}
    # Twice: the first packed forward is verified row by row, the second is trusted.
    for _ in range(2):
        made.model.zero_grad()
        with made.compute_loss_context_manager():
            loss = made.compute_loss(made.model, batch)
        loss.backward()
    return loss.item(), {name: gradient.cpu() for name, gradient in tiny.gradients(made.model).items()}


def _worst(found, wanted):
    import tiny

    return tiny.worst_error(found, wanted)


def _two_steps(policy, directory, device):
    """Two optimizer steps with real generation: which parameters moved, which could, and the last log line."""
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    made = _trainer(policy, directory, device, {"beta": 0.04, "max_steps": 2}, entropy_top_k=TOP_K)
    made.train()
    return {
        "moved": [n for n, p in made.model.named_parameters() if n in before and not before[n].equal(p)],
        "trainable": [n for n, p in made.model.named_parameters() if p.requires_grad],
        "logged": made.state.log_history[1],
    }


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]).resolve())
    else:
        compare(Path(sys.argv[2]).resolve(), *sys.argv[3:])
