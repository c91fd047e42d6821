"""The microscope's pages: what is drawn and tabled is what was measured."""

import csv
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest

from sa_ah_lib.report import microscope_pages as pages

MEASURES = {"norm ratio": 1.2, "noise ratio": 0.9, "signal-to-noise ratio": 1.3, "cosine": 0.8, "signal_to_noise": 0.2,
            "step_cosine": 0.15}  # fmt: skip


def row(rule, measure, estimate, low=None, high=None, part="all tokens"):
    known = {"rule": rule, "part": part, "layers": "all layers", "measure": measure, "estimate": estimate}
    return {**known, "low": low, "high": high}


@pytest.fixture
def gradients():
    settings = {"scale": "micro-sum", "warm_start": 0, "adapter": "fresh", "prompts": 6, "rollouts": 48, "alpha": 0.5,
                "per_step": 8, "device": "cpu"}  # fmt: skip
    rows = [row("GRPO", name, 1.0, 1.0, 1.0) for name in MEASURES]
    rows += [row("SA-AH-GRPO", name, value, value - 0.3, value + 0.4) for name, value in MEASURES.items()]
    rows += [row("SA-AH-GRPO", "noise ratio", 0.1, part="failures"), row("Mirror (successes)", "cosine", None)]
    rows += [row("Mirror (successes)", name, 1.5, 1.0, 2.0) for name in MEASURES if name != "cosine"]
    return {"settings": settings, "rows": rows}


@pytest.fixture
def replay():
    def weights(rule, sign, by, number, weight):
        known = {"rule": rule, "sign": sign, "by": by, "bin": number, "tokens": 10}
        return {**known, "trained": 1.0, "below_1": 1.0, "weight": weight}

    rows = []
    for rule in pages.DRAWN:
        rows += [weights(rule, sign, "all", "", 0.5) for sign in ("successes", "failures")]
        rows += [weights(rule, "failures", by, k, 1 - k / 20) for by in ("position", "entropy") for k in range(1, 11)]
        rows += [{"rule": rule, "sign": "all rollouts", "by": "overlap", "bin": "SA-AH-GRPO", "overlap": 0.75}]
    return {"settings": {"scale": "micro-s", "alpha": 4.0, "groups": 3, "rollouts": 24}, "rows": rows}


def test_a_table_of_gradients_has_every_interval(gradients):
    table = pages.gradient_table(gradients, "t")
    assert [line[0] for line in table.rows] == ["GRPO", "SA-AH-GRPO", "Mirror (successes)"]
    named = dict(zip(table.header, table.rows[1], strict=True))
    assert named["noise / GRPO's"] == "0.90 [0.60, 1.30]" and named["step's cosine"] == "0.15 [-0.15, 0.55]"
    assert (
        table.rows[0][1] == "1.00" and dict(zip(table.header, table.rows[2], strict=True))["cosine with GRPO's"] == "—"
    )
    assert "6 prompts, 48 rollouts" in table.caption


def test_the_picture_of_gradients_is_drawn_as_measured(gradients):
    figure = pages.plot_gradients(gradients)
    for ax, measure in zip(figure.axes, pages.PANELS, strict=True):
        bars = [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
        value = MEASURES[measure]
        assert pytest.approx([value - 0.3, value + 0.4]) in bars
        points = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
        assert points[:2] == [1.0, value] and len(points) == (2 if measure == "cosine" else 3)
    assert "95% bootstrap intervals over prompts" in figure.get_suptitle().replace("\n", " ")
    plt.close(figure)


def test_tokens_are_drawn_by_position_and_entropy(replay):
    figure = pages.plot_tokens(replay)
    for ax in figure.axes:
        assert len(ax.lines) == len(pages.DRAWN)
        assert ax.lines[0].get_ydata().tolist() == pytest.approx([1 - k / 20 for k in range(1, 11)])
    table = pages.replay_table(replay, "t")
    assert table.rows[0] == ["SA-AH-GRPO", "1.00", "0.50", "1.00", "0.50", "—", "0.75"]
    plt.close(figure)


def test_every_study_is_saved_and_shown(gradients, replay, tmp_path):
    logs = tmp_path / "logs" / "microscope"
    logs.mkdir(parents=True)
    for name, study in (("gradients-a", gradients), ("replay-b", replay)):
        (logs / f"{name}.json").write_text(json.dumps(study), encoding="utf-8")
    paths = pages.save(logs, tmp_path / "out")
    assert len(paths) == 14 and all(path.stat().st_size for path in paths)
    saved = list(csv.DictReader((tmp_path / "out" / "gradients-a-rows.csv").open(encoding="utf-8")))
    assert len(saved) == len(gradients["rows"]) and float(saved[7]["estimate"]) == 0.9
    shown = pages.show(tmp_path / "logs")
    assert shown.count("<img") == 2 and "Mirror (successes)" in shown
    assert "python -m sa_ah_lib.microscope" in pages.show(tmp_path)
