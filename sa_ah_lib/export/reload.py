"""What a saved model would say, asked in a process that never imported Unsloth: what a user of the files gets.

python -m sa_ah_lib.export.reload DIRECTORY QUESTIONS.json ANSWERS.json
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch


@torch.inference_mode()
def next_tokens(model: Any, rows: list[tuple[list[int], list[int]]]) -> list[list[int]]:
    """The token that ``model`` finds likeliest at every place of every completion, given what stands before it.

    Args:
        rows: (prompt ids, completion ids) pairs, no padding.

    Returns:
        A list of ids for each row, as long as its completion. Equal to the completion everywhere means that the model's
        own greedy completion is the same.
    """
    answers = []
    for prompt, completion in rows:
        ids = torch.tensor([prompt + completion], device=model.device)
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]  # (|o|, V)
        answers.append(logits.argmax(-1).tolist())
    return answers


def reloaded_next_tokens(
    directory: str | Path, rows: list[tuple[list[int], list[int]]], device: Any = "cpu"
) -> list[list[int]]:
    """``next_tokens`` of the model saved in ``directory`` (safetensors, or one .gguf), by plain transformers.

    Raises:
        RuntimeError: the files cannot be loaded, with the end of what transformers said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        questions, answers = Path(scratch) / "questions.json", Path(scratch) / "answers.json"
        questions.write_text(json.dumps({"rows": rows, "device": str(device)}), encoding="utf-8")
        arguments = [str(path) for path in (Path(directory).resolve(), questions, answers)]
        command = [sys.executable, "-m", "sa_ah_lib.export.reload", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
        if done.returncode:
            raise RuntimeError(f"plain transformers could not load {directory}: {done.stderr[-2000:]}")
        return json.loads(answers.read_text(encoding="utf-8"))


def main() -> None:
    from transformers import AutoModelForCausalLM

    directory, questions, answers = (Path(argument) for argument in sys.argv[1:])
    asked = json.loads(questions.read_text(encoding="utf-8"))
    gguf = next((path.name for path in directory.glob("*.gguf")), None)
    model = AutoModelForCausalLM.from_pretrained(directory, gguf_file=gguf).to(asked["device"]).eval()
    answers.write_text(json.dumps(next_tokens(model, asked["rows"])), encoding="utf-8")


if __name__ == "__main__":
    main()
