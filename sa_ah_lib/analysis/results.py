"""What tables and figures need of runs, the same for the paper's printed numbers and for logs. Needs no torch.

A ``Family`` holds the runs of one source and one model that differ in method, alpha and length alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sa_ah_lib.analysis.rounding import ESTIMATED, rounded_to
from sa_ah_lib.analysis.stats import second_half
from sa_ah_lib.config import CONTROLS, METHOD_FIELDS, METHODS, RunConfig
from sa_ah_lib.train.run import MissingData, Run

FAMILY_FREE = (*METHOD_FIELDS, "steps", "eval_batch_size", "save_every")
"""Fields in which the members of one family may differ."""

LARGE_SCALES = ("micro-l", "qwen2.5-3b")
"""The scales in the place of the paper's 3B model; the others stand in for its 1.5B model."""


@rounded_to(ESTIMATED)
def variance(run: Run) -> float | None:
    """Variance of the mean reward over the second half of the steps (Table 2), or None."""
    rewards = run.curve("reward")[1]
    if run.source == "paper" or len(rewards) < 4:
        return run.printed.get("variance")
    return float(np.var(second_half(rewards)))


@rounded_to(ESTIMATED)
def mean_kl(run: Run) -> float | None:
    """Mean over steps of the per-token KL (nats), or None."""
    divergence = run.curve("kl")[1]
    if run.source == "paper" or not len(divergence):
        return run.printed.get("kl")
    return float(divergence.mean())


@dataclass(frozen=True)
class Family:
    """The results of one source, model, data set and seed."""

    results: tuple[Run, ...]
    suffix: str = ""

    @property
    def source(self) -> str:
        return self.results[0].source

    @property
    def scale(self) -> str:
        return self.results[0].config.scale

    @property
    def is_large(self) -> bool:
        """Whether the model stands in the place of the paper's 3B one."""
        return self.scale in LARGE_SCALES

    @property
    def name(self) -> str:
        """Directory-safe name, unique among the families that were loaded together."""
        return (f"paper-{self.scale}" if self.source == "paper" else self.scale) + self.suffix

    @property
    def model(self) -> str:
        """The model as a caption names it."""
        model = self.results[0].config.model
        if model.startswith("Qwen/Qwen2.5-"):
            return model.replace("Qwen/Qwen2.5-", "Qwen 2.5-")
        parameters = self.results[0].origin.get("parameters")
        return self.scale + (f" ({parameters / 1e6:.3g}M parameters with LoRA)" if parameters else "")

    @property
    def methods(self) -> dict[str, Run]:
        """{method: result} of the paper's methods at their own alpha, in its order; controls are notebook 06's."""
        found = {}
        for method in [name for name in METHODS if name not in CONTROLS]:
            members = [r for r in self._plain if r.config.method == method and r.config.steps]
            own = [r for r in members if r.config.alpha == METHODS[method]["alpha"]]
            if own or len(members) == 1:
                found[method] = (own or members)[0]
        return found

    @property
    def alphas(self) -> dict[float, Run]:
        """{alpha: result} of AH-GRPO at GRPO's length, or else at its longest; GRPO stands for 0; ascending."""
        members = self._swept
        lengths = [r.config.steps for r in members if not r.config.alpha] or [r.config.steps for r in members]
        alike = [r for r in members if r.config.steps == max(lengths)]
        return {r.config.alpha: r for r in sorted(alike, key=lambda r: r.config.alpha)}

    @property
    def other_lengths(self) -> list[Run]:
        """Results of AH-GRPO that ``alphas`` leaves out, because a shorter run's schedule ends elsewhere."""
        alike = self.alphas.values()
        return [r for r in self._swept if all(r is not other for other in alike)]

    @property
    def _swept(self):
        return [r for r in self._plain if r.config.method in ("grpo", "ah-grpo")]

    @property
    def _plain(self):
        """Without methods under another's rule, which are notebook 06's."""
        return [r for r in self.results if r.config.has_own_rule]

    @property
    def sweep(self) -> dict[float, Run]:
        """The evaluated runs of ``alphas``.

        Raises:
            MissingData: fewer than three.
        """
        evaluated = {alpha: r for alpha, r in self.alphas.items() if r.pass_at_1}
        if len(evaluated) < 3:
            raise MissingData(f"an alpha sweep of {self.model}: fewer than three values of alpha were run")
        return evaluated

    @property
    def base(self) -> float | None:
        """Zero-shot Pass@1 of the family's model, or None."""
        return next((r.base for r in self.results if r.base is not None), None)

    @property
    def problems(self) -> int:
        """How many problems an evaluation has."""
        return self.results[0].config.eval_examples

    @property
    def caption(self) -> str:
        """Source, model, data, seed, device and dates: what a picture says of itself."""
        first = self.results[0]
        days = sorted({day for r in self.results for day in [r.origin.get("date")] if day})
        span = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "date unknown"
        data = first.origin.get("data", first.config.dataset)
        devices = ", ".join(dict.fromkeys(d for r in self.results if (d := r.origin.get("device"))))
        parts = [f"{self.model} on {data}", f"seed {first.config.seed}", devices, span]
        return f"{self.source}: " + ", ".join(part for part in parts if part)

    def method(self, name: str) -> Run:
        """The result of one method.

        Raises:
            MissingData: the family has no such run.
        """
        if name not in self.methods:
            raise MissingData(f"no {name} run of {self.model} (seed {self.results[0].config.seed})")
        return self.methods[name]


def families(results: Iterable[Run]) -> list[Family]:
    """Group results into families: by source and problems, then by every field that is not a method's own.

    Larger families come first. Of two runs of one method, alpha and rule, that of the method's own length (Section
    4.3) is kept, else the longest.
    """
    groups = {}
    for result in results:
        values = {k: v for k, v in result.config.to_dict().items() if k not in FAMILY_FREE}
        # DATA is no field: one configuration on two files of problems is two families.
        key = (result.source, result.origin.get("data_sha256"), tuple(values.items()))
        groups.setdefault(key, []).append(result)
    order = list(METHODS)
    chosen = []
    for members in groups.values():
        members = sorted(members, key=lambda r: (order.index(r.config.method), r.config.alpha, -_preference(r)))
        kept = {_method(r): r for r in reversed(members)}
        chosen.append(tuple(r for r in members if kept[_method(r)] is r))
    chosen.sort(key=lambda members: (members[0].config.scale, -len(members), members[0].config.seed))
    names = [Family(members).name for members in chosen]
    return [
        Family(members, f"-{names[:i].count(names[i]) + 1}" if names[i] in names[:i] else "")
        for i, members in enumerate(chosen)
    ]


def _method(result):
    return tuple(getattr(result.config, name) for name in METHOD_FIELDS)


def peers(results: Iterable[Run], config: RunConfig) -> Family:
    """The family of the runs to compare with ``config``: another method or alpha, everything else alike.

    Where the run itself is among ``results``, those on other problems than its own are left out.

    Raises:
        MissingData: none of ``results`` is one.
    """
    members = [r for r in results if r.config == config.sibling(r.config.method, r.config.alpha)]
    problems = {r.origin.get("data_sha256") for r in members if r.config == config}
    members = [r for r in members if not problems or r.origin.get("data_sha256") in problems]
    if not members:
        raise MissingData(f"no finished run beside {config.run_id}")
    order = list(METHODS)
    return Family(tuple(sorted(members, key=lambda r: (order.index(r.config.method), r.config.alpha))))


def _preference(result):
    own = METHODS[result.config.method]["steps"]
    return 10**9 if result.config.steps == own else result.config.steps
