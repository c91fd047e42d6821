"""Fixtures shared by the tests; nothing here reaches a hub."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Small models on a busy machine: threads that wait for each other take many times longer than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory):
    """A random Qwen2 of some 20,000 parameters with the micro models' tokenizer, saved as a model directory."""
    torch = pytest.importorskip("torch")
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from sa_ah_lib.micro.byte_tokenizer import build_tokenizer

    directory = tmp_path_factory.mktemp("tiny-qwen2")
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def small_cases(tmp_path_factory):
    """The models and float64 references of tests/gpu/cases.py, small enough for kernels that are interpreted."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parent / "gpu"))
    from reports import prepared

    return prepared(tmp_path_factory.mktemp("small-cases"), "small")


@pytest.fixture
def plain_head(monkeypatch):
    """Stock TRL's fused LM head in plain PyTorch, for a CPU. Older TRL has no such head."""
    pytest.importorskip("trl")
    import tiny
    import trl.trainer.utils

    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", tiny.PlainHead, raising=False)
