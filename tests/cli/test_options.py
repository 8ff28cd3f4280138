"""The set of commands and options is frozen: a change here is a change that users see."""

from typing import Any

from typer.main import get_command

from refusalscope.cli.main import app
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.flags import offered

OPTIONS = {
    "anatomy": {"MODEL", "--seed", "--trust-remote-code", "--json"},
    "audit": {
        *("--base", "--borderline", "--json", "--out", "--pairs", "--quick"),
        *(one.flag.metavar or one.spelling for one in offered(RunOptions)),
    },
    "complete": {"RUN", "--json", "--trust-remote-code"},
    "evaluate agreement": {"RUN", "--json"},
    "evaluate coherence": {
        *("RUN", "--batch-size", "--chat-template", "--condition", "--edited", "--json"),
        *("--limit", "--paper", "--task-folder", "--tasks", "--trust-remote-code"),
    },
    "evaluate contrast": {"RUN", "--json", "--seed", "--trust-remote-code"},
    "evaluate estimators": {"RUN", "--json", "--no-cosmic", "--proven", "--trust-remote-code"},
    "evaluate decoys": {
        *("RUN", "--json", "--no-cosmic", "--optimise-prompts", "--optimise-steps"),
        "--trust-remote-code",
    },
    "evaluate dose": {"RUN", "--json", "--strength", "--trust-remote-code"},
    "evaluate guard": {
        *("RUN", "--answer-start", "--borderline", "--coefficient", "--json", "--monitor"),
        *("--n-borderline", "--search-candidates", "--search-prompts", "--search-steps"),
        *("--suffix-tokens", "--system-prompt", "--trust-remote-code"),
    },
    "evaluate ladder": {
        *("RUN", "--answer-start", "--json", "--optimise-steps", "--pairs", "--rank"),
        *("--rank-prompts", "--rung", "--search-candidates", "--search-prompts", "--search-steps"),
        *("--suffix-tokens", "--system-prompt", "--trust-remote-code", "--tune-pairs"),
    },
    "evaluate meaning": {
        *("RUN", "--concepts", "--dictionary", "--json", "--n-features", "--n-pairs"),
        *("--n-prompts", "--n-tokens", "--no", "--question", "--seed", "--trust-remote-code"),
        "--yes",
    },
    "evaluate over-refusal": {
        *("RUN", "--borderline", "--json", "--n-borderline", "--trust-remote-code"),
    },
    "evaluate false-refusal": {
        *("RUN", "--borderline", "--json", "--leads", "--max-kl", "--n-borderline"),
        *("--strictness", "--trust-remote-code"),
    },
    "evaluate recognition": {"RUN", "--json", "--trust-remote-code"},
    "evaluate drift": {"RUN", "--batch-size", "--json", "--trust-remote-code"},
    "evaluate finetune": {
        *("RUN", "--alpaca", "--batch-size", "--epochs", "--json", "--judge", "--judge-model"),
        *("--key-variable", "--learning-rate", "--max-tokens", "--n-pairs", "--on-distribution"),
        *("--pairs", "--pile", "--server", "--texts", "--trust-remote-code"),
    },
    "evaluate judge": {
        *("RUN", "--batch-size", "--cache", "--chat", "--concurrency", "--dataset", "--device"),
        *("--dtype", "--json", "--judge", "--key-variable", "--label", "--model", "--paper"),
        *("--retries", "--revision", "--rubric", "--server", "--short-is-safe", "--timeout"),
        "--trust-remote-code",
    },
    "evaluate stress": {
        *("RUN", "--batch-size", "--chat", "--concurrency", "--device", "--dtype", "--json"),
        *("--judge", "--key-variable", "--model", "--revision", "--rubric"),
        *("--server", "--timeout", "--trust-remote-code"),
    },
    "evaluate loss": {
        *("RUN", "--alpaca", "--batch-size", "--json", "--max-tokens", "--on-distribution"),
        *("--pile", "--texts", "--trust-remote-code"),
    },
    "evaluate transfer": {
        *("RUN", "--json", "--n-random", "--n-shared", "--seed", "--source"),
        "--trust-remote-code",
    },
    "evaluate stability": {
        *("RUN", "--json", "--n-draws", "--n-rivals", "--n-scored", "--seed"),
        "--trust-remote-code",
    },
    "evaluate system-prompts": {
        *("RUN", "--json", "--judge", "--judge-model", "--key-variable", "--prompt", "--prompts"),
        *("--server", "--trust-remote-code"),
    },
    "export": {
        *("RUN", "--as", "--checkpoint", "--json", "--model-id", "--organization", "--out"),
        "--with-text",
    },
    "extract": {"RUN", "--json", "--trust-remote-code"},
    "harden": {
        *("RUN", "--every", "--json", "--keep", "--learning-rate", "--method", "--out", "--seed"),
        *("--rank", "--share", "--steps", "--trust-remote-code"),
    },
    "import-run": {"FOLDER", "--out", "--json"},
    "judge": {"RUN", "--json", "--trust-remote-code"},
    "label": {"RUN", "--json", "--trust-remote-code"},
    "loss": {"RUN", "--json", "--trust-remote-code"},
    "measure": {
        *("RUN", "NAME...", "--set", "--key-variable", "--trust-remote-code", "--json"),
    },
    "mechanism": {
        "RUN",
        "--base",
        "--beside",
        "--draws",
        "--heads",
        "--json",
        "--search-candidates",
        "--search-enough",
        "--search-prompts",
        "--search-steps",
        "--search-top-k",
        "--suffix",
        "--suffix-tokens",
        "--text",
        "--trust-remote-code",
    },
    "monitor evaluate": {
        *("MONITOR", "RUN", "--borderline", "--harmful", "--harmless", "--json", "--n", "--out"),
        *("--suffix", "--trust-remote-code"),
    },
    "monitor fit": {
        *("RUN", "--borderline", "--fpr", "--harmful", "--harmless", "--hold-out", "--json"),
        *(
            "--kind",
            "--layer",
            "--n-threshold",
            "--n-train",
            "--n-val",
            "--no-ablated",
            "--out",
            "--site",
            "--token",
        ),
        *("--trust-remote-code", "--window"),
    },
    "monitor score": {
        *("MONITOR", "--instructions", "--json", "--model", "--out", "--trust-remote-code"),
    },
    "organism list": {"FOLDER", "--json"},
    "organism sentences": set(),
    "organism trace": {"ORGANISM", "--out", "--json"},
    "organism train": {
        "--alignment",
        "--base",
        "--checkpoint-every",
        "--family",
        "--json",
        "--objects-per-kind",
        "--out",
        "--refused-share",
        "--seed",
        "--sentences",
        "--size",
    },
    "outcomes": {"RUN", "--json", "--trust-remote-code"},
    "plan": {
        *("[MODEL]", "--all-scores", "--bandwidth", "--batch-size", "--device-memory"),
        *("--devices", "--dtype", "--engine", "--json", "--longest-prompt"),
        *("--max-layer-fraction", "--max-new-tokens", "--n-test", "--n-train", "--n-val"),
        *("--positions", "--prompt-tokens", "--revision", "--shared-tokens"),
        *("--shortest-prompt", "--tensor-parallel", "--tflops", "--trust-remote-code"),
        "--utilisation",
    },
    "project": {"RUN", "--json", "--trust-remote-code"},
    "report audits": {"AUDIT...", "--out", "--json"},
    "report compare": {"FIRST", "SECOND", "--out", "--json"},
    "report edit": {"RUN", "EDITED", "--json"},
    "report runs": {"RUN...", "--figures", "--json", "--out", "--tables", "--trust-remote-code"},
    "run-all": {
        *("CONFIG", "--out", "--json", "--trust-remote-code"),
        *("--ray", "--cpus-per-model", "--gpus-per-model"),
    },
    "run": {
        "[MODEL]",
        *("--by", "--tensor-parallel", "--vllm-python", "--without"),
        "--all-scores",
        "--alpaca",
        "--answer-prefix",
        "--batch-size",
        "--column",
        "--config",
        "--datasets",
        "--device",
        "--dtype",
        "--engine",
        "--estimator",
        "--harmful",
        "--harmful-test",
        "--harmless",
        "--harmless-test",
        "--json",
        "--judge",
        "--judge-model",
        "--key-variable",
        "--label",
        "--max-kl",
        "--max-layer-fraction",
        "--max-new-tokens",
        "--measure",
        "--min-induce",
        "--n-test",
        "--n-train",
        "--n-val",
        "--no-filter",
        "--out",
        "--pairs",
        "--paper",
        "--paper-generation",
        "--pile",
        "--random-suffix",
        "--refusal-token",
        "--revision",
        "--rule",
        "--seed",
        "--server",
        "--splits",
        "--strict",
        "--system",
        "--task-folder",
        "--tasks",
        "--template",
        "--trust-remote-code",
    },
    "select": {"RUN", "--json", "--trust-remote-code"},
    "weights adapter": {
        *("MODEL", "--direction", "--json", "--layers", "--out", "--revision"),
        *("--seed", "--strength", "--trust-remote-code"),
    },
    "weights add": {
        *("MODEL", "--coefficient", "--direction", "--json", "--layer", "--out"),
        *("--revision", "--seed", "--trust-remote-code"),
    },
    "weights compare": {
        *("BASE", "EDITED", "--direction", "--json", "--seed", "--trust-remote-code"),
    },
    "weights control-vector": {
        *("MODEL", "--coefficient", "--direction", "--json", "--layer", "--out"),
        *("--revision", "--trust-remote-code"),
    },
    "weights orthogonalize": {
        *("MODEL", "--direction", "--json", "--keep-tied", "--layers", "--out"),
        *("--revision", "--seed", "--strength", "--trust-remote-code"),
    },
    "weights panel": {
        *("CHECKPOINT...", "--json", "--out", "--seed", "--title", "--trust-remote-code"),
    },
    "weights scan": {
        *("CHECKPOINT", "--base", "--json", "--panel", "--revision", "--seed"),
        "--trust-remote-code",
    },
    "weights verify": {
        *("DIR", "--base", "--behaviour", "--harmful", "--json", "--n-harmful", "--seed"),
        "--trust-remote-code",
    },
}


def found(command: Any, name: str = "") -> dict[str, set[str]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        return {name.strip(): {word for p in command.params for word in spellings(p)}}
    rows: dict[str, set[str]] = {}
    for child, own in commands.items():
        rows |= found(own, f"{name} {child}")
    return rows


def spellings(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [parameter.metavar or str(parameter.name).upper()]
    return [*parameter.opts, *parameter.secondary_opts]


def test_commands_and_options_are_the_frozen_ones() -> None:
    assert found(get_command(app)) == OPTIONS


def test_every_option_has_a_help_text() -> None:
    def texts(command: Any) -> list[tuple[str, str | None]]:
        children = getattr(command, "commands", {}).values()
        own = [(str(p.name), p.help) for p in command.params]
        return own + [row for child in children for row in texts(child)]

    rows = texts(get_command(app))
    assert len(rows) > 40
    without = [name for name, text in rows if not text]
    assert without == []
