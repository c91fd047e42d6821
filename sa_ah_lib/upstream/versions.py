"""Which sets of package versions were run, when, and what held: the one table that notebook 00 and the tests read."""

from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

MISSING = "not installed"
"""What stands for the version of a package that is not there."""

PACKAGES = ("unsloth", "unsloth_zoo", "trl", "transformers", "torch")
"""The packages whose versions together decide whether the weights reach the loss."""

COMPANIONS = {"peft": "0.21.2", "datasets": "4.8.5", "accelerate": "1.15.0"}
"""What else is pinned beside the newest set; no seam goes through these."""


class UpstreamChangedError(RuntimeError):
    """TRL or Unsloth renamed or reshaped something that this library overrides, sets or reads."""


@dataclass(frozen=True)
class VersionSet:
    """One set that was run: its versions, the date, what was run on it, and what held."""

    unsloth: str
    unsloth_zoo: str
    trl: str
    transformers: str
    torch: str
    date: str
    ran: str
    holds: bool
    found: str

    @property
    def versions(self) -> dict[str, str]:
        """{package: version} of ``PACKAGES``."""
        return {package: getattr(self, package) for package in PACKAGES}

    def __str__(self):
        return ", ".join(f"{package} {version}" for package, version in self.versions.items())


SETS = (
    VersionSet(
        "2026.10.9", "2026.10.9", "1.15.0", "5.17.0", "2.13.0",
        date="2026-11-23",
        ran="the whole test suite, every notebook and every published log",
        holds=True,
        found="stock TRL and the generated trainer equal the reference; the loss makes no (B, T, V) tensor",
    ),
    VersionSet(
        MISSING, MISSING, "1.16.0", "5.17.0", "2.13.0",
        date="2026-11-24",
        ran="the tests of the trainer, both entrances, the rules, the guide, weights and their export, on stock TRL",
        holds=True,
        found="stock TRL equals the reference by both entrances; Unsloth 2026.10.9 does not allow this TRL",
    ),
    VersionSet(
        "2026.10.7", "2026.10.7", "1.13.0", "5.17.0", "2.13.0",
        date="2026-11-24",
        ran="make test-older: the tests of the seam, the trainer, the guide and the weights",
        holds=True,
        found="both trainers equal the reference; this Unsloth needs a GPU outside the tests, and stock TRL before "
        "1.14 makes (B, T, V) logits itself",
    ),
    VersionSet(
        "2026.10.1", "2026.10.1", "1.13.0", "5.17.0", "2.13.0",
        date="2026-11-23",
        ran="the tests of the seam and the trainer",
        holds=False,
        found="stock TRL holds; Unsloth before 2026.10.7 never calls the hook, so the first loss raises "
        "HookNotCalledError",
    ),
    VersionSet(
        "2026.9.14", "2026.9.9", "0.24.0", "5.5.0", "2.12.1",
        date="2026-11-23",
        ran="the tests of the seam and the trainer",
        holds=False,
        found="TRL 0.24 has no use_bias_correction_kl, and its stock trainer does not import beside transformers 5",
    ),
)  # fmt: skip
"""Every set that was run, the pinned one first; a set that failed stays, with what failed."""

PINNED = SETS[0]


def installed() -> dict[str, str]:
    """{package: version as installed, without its build tag, or "not installed"} of ``PACKAGES``."""
    return {package: version_of(package) for package in PACKAGES}


def version_of(package: str) -> str:
    """The installed version without its build tag ("2.13.0", not "2.13.0+cpu"), or "not installed"."""
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return MISSING


def asked(package: str, of: str) -> SpecifierSet:
    """The versions of ``of`` that an installed ``package`` asks for in its metadata; any where it asks for none."""
    try:
        found = [Requirement(text) for text in metadata.requires(package) or ()]
    except metadata.PackageNotFoundError:
        return SpecifierSet()
    plain = (r for r in found if r.name == of and (r.marker is None or r.marker.evaluate({"extra": ""})))
    return next((r.specifier for r in plain), SpecifierSet())


def known_set(versions: dict[str, str] | None = None) -> VersionSet | None:
    """The ``VersionSet`` of these versions (the installed ones by default), or None where it was never run."""
    versions = installed() if versions is None else versions
    return next((known for known in SETS if known.versions == versions), None)


def remedy() -> str:
    """One sentence for an error: what is installed, what is known of it, and what to install instead."""
    versions = installed()
    known = known_set(versions)
    verdict = f"run on {known.date}: {known.found}" if known else "never run by this project"
    here = ", ".join(f"{package} {version}" for package, version in versions.items())
    pins = " ".join(f"{package}=={version}" for package, version in PINNED.versions.items())
    return f"Installed: {here} ({verdict}). Remedy: pip install {pins} (unsloth and unsloth_zoo with --no-deps)."
