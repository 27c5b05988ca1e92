"""`stormcast <verb>`: compose the config, validate it, call the recipe of that name; nothing else."""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from stormcast_train.base.errors import FailedError, RequestError, StormcastError, nearest
from stormcast_train.base.files import plain
from stormcast_train.base.quiet import hide_library_warnings
from stormcast_train.recipes import HELP, KEYS_ONLY

USAGE = "stormcast <verb> [word] [group=choice ...] [key=value ...] [--dry-run] [--json] [--config-dir DIR]"
SWITCHES = {
    "--verify": "verify=true",
    "--clock": "clock=true",
}  # flags of the interface that are keys of their verb
_NO_RIGHT = "get the right to write (or read) there, or choose another folder"
ADVICE = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "this file system can only be read: choose another folder",
}


@dataclass(frozen=True)
class CommandLine:
    """The words of a command line, sorted by kind."""

    verb: str
    positional: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: Path | None
    as_json: bool
    dry_run: bool
    help: bool


def recipe(verb: str) -> ModuleType:
    """The module that carries out `verb`."""
    return importlib.import_module(f"stormcast_train.recipes.{verb}")


def parse(words: Sequence[str]) -> CommandLine:
    """Sort the words; those with `=` are overrides, those that begin with `--` flags, the rest positional."""
    flags: list[str] = []
    positional: list[str] = []
    overrides: list[str] = []
    config_dir: Path | None = None
    rest = iter(words)
    for word in rest:
        if word == "--config-dir":
            config_dir = Path(next(rest, ""))
        elif word.startswith("--config-dir="):
            config_dir = Path(word.split("=", 1)[1])
        elif word in SWITCHES:
            overrides.append(SWITCHES[word])
        elif word.startswith("-") and "=" not in word:
            flags.append(word)
        elif "=" in word or word.startswith("~"):
            overrides.append(word)
        else:
            positional.append(word)
    known = {"--help", "-h", "--json", "--dry-run", "--version"}
    for flag in flags:
        if flag not in known:
            raise RequestError(
                f"the flag {flag} does not exist.{nearest(flag, [*known, *SWITCHES, '--config-dir'])}"
            )
    helped = "--help" in flags or "-h" in flags
    verb = positional.pop(0) if positional else ("--version" if "--version" in flags else "")
    return CommandLine(
        verb, tuple(positional), tuple(overrides), config_dir, "--json" in flags, "--dry-run" in flags, helped
    )


def overview() -> str:
    """What `stormcast` and `stormcast --help` print."""
    lines = [USAGE, "", "Verbs:"]
    lines += [f"  {name:<12}{text}" for name, text in HELP.items()]
    return "\n".join(
        [
            *lines,
            "",
            "`stormcast <verb> --help` shows a verb's keys with their defaults and one example; with a choice "
            "(`source=knmi --help`) that choice's keys, explained.",
        ]
    )


def verb_help(verb: str, config_dir: Path | None, words: Sequence[str] = ()) -> str:
    """A verb's keys with defaults (its primary config is the manual), the groups with their choices, one
    example. words: choices of groups, whose keys are shown and explained instead of the defaults'.
    """
    from stormcast_train.base.config import search_path
    from stormcast_train.base.manual import lines_of_groups

    module = recipe(verb)
    primary = next(
        (f / f"{verb}.yaml" for f in search_path(config_dir) if (f / f"{verb}.yaml").is_file()), None
    )
    body = primary.read_text() if primary else ""
    keys = [line for line in body.splitlines() if line.strip() and not line.startswith(("defaults:", "  - "))]
    positional = " ".join(name.upper() for name in module.POSITIONAL)
    lines = [
        HELP[verb],
        "",
        f"stormcast {verb} {positional} [key=value ...]".replace("  ", " "),
        "",
        "Keys (??? must be given):",
    ]
    lines += [f"  {line}" for line in keys]
    lines += ["", *lines_of_groups(verb, module.Config.model_fields, module.EXAMPLE, config_dir, words)]
    return "\n".join([*lines, "", "Example:", f"  {module.EXAMPLE}"])


def build_config(module: ModuleType, request: CommandLine) -> Any:
    """The frozen config of this verb from the words of the request."""
    from stormcast_train.base.typed import typed

    composed = _composed(module, request)
    words = {word.partition("=")[0].lstrip("+") for word in request.overrides}
    for key, value in zip(module.POSITIONAL, request.positional, strict=False):
        if key in words:
            raise RequestError(f"'{value}' stands for {key}=, which is given too: give it once")
        composed[key] = value
    fields = module.Config.model_fields
    values = {key: value for key, value in composed.items() if key in fields and value != "???"}
    for key, value in values.items():
        if value is None and fields[key].is_required():
            raise RequestError(f"'{key}=' is needed and was not given.{_known_choices(key, request)}")
    if "overrides" in fields:
        values["overrides"] = request.overrides
    if "config_dir" in fields:
        values["config_dir"] = request.config_dir and str(request.config_dir)
    try:
        return typed(module.Config, values)
    except RequestError as error:
        raise _with_its_file(error, request) from error


def _with_its_file(error: RequestError, request: CommandLine) -> RequestError:
    """The error with the file that gives the wrong key, unless a word does."""
    from stormcast_train.base.config import file_with, quoted

    key = str(error.facts.get("key", ""))
    words = [quoted(word) for word in request.overrides]
    path = file_with(key.split("."), request.verb, words, request.config_dir) if key else None
    return error if path is None else RequestError(f"{path}: {error}", **error.facts)


def _composed(module: ModuleType, request: CommandLine) -> dict[str, Any]:
    """The verb's keys with their values; none where it reads no group and no key is given, for then the
    defaults of its Config are all there is, and Hydra's 0.4 s are spared.
    """
    spare = len(request.positional) > len(module.POSITIONAL)
    if request.verb in KEYS_ONLY and not (request.overrides or request.config_dir or spare):
        return {}
    from stormcast_train.base.config import compose, known_keys, quoted, search_path

    if spare:
        extra = request.positional[len(module.POSITIONAL)]
        raise RequestError(
            f"'{request.verb}' does not know what to do with '{extra}': write key=value."
            f"{nearest(extra, known_keys(module.Config, search_path(request.config_dir)))}"
        )
    words = [quoted(word) for word in request.overrides]
    return compose(request.verb, words, request.config_dir, module.Config)


def _known_choices(key: str, request: CommandLine) -> str:
    from stormcast_train.base.config import choices

    known = choices(key, request.config_dir)
    return f" Known: {', '.join(known)}" if known else ""


def execute(request: CommandLine) -> dict[str, Any]:
    """Run (or only plan) the request and give its result."""
    from stormcast_train.base.console import Console

    if request.verb not in HELP:
        raise RequestError(
            f"no verb is called '{request.verb}'.{nearest(request.verb, HELP)} Known: {', '.join(HELP)}"
        )
    module = recipe(request.verb)
    config = build_config(module, request)
    console = Console(json=request.as_json)
    if not request.dry_run:
        result: dict[str, Any] = module.run(config, console)
        return result
    planned: dict[str, Any] = module.plan(config)
    for sentence in planned.get("would", []):
        console.show(sentence)
    return planned


def main(words: Sequence[str] | None = None) -> int:
    """Carry out the words of a command line, this process's by default; returns the exit code (0 done,
    1 failed, 2 wrong request, 75 resumable).
    """
    words = list(sys.argv[1:] if words is None else words)
    try:
        request = parse(words)
        if request.verb == "--version":
            from stormcast_train.base.provenance import version

            print(version())
        elif not request.verb or (request.help and request.verb not in HELP):
            print(overview())
        elif request.help:
            print(verb_help(request.verb, request.config_dir, request.overrides))
        else:
            result = execute(request)
            if request.as_json:
                print(json.dumps(result, default=plain, ensure_ascii=False))
        return 0
    except StormcastError as error:
        return _report(error, "--json" in words)
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _report(
            FailedError(f"{os.strerror(error.errno or 0)}{where}: {ADVICE[error.errno]}, then repeat"),
            "--json" in words,
        )
    except KeyboardInterrupt:
        return _report(FailedError("interrupted; the same command resumes"), False) and 130
    except BrokenPipeError:
        return 1
    except Exception:  # a defect of ours: everything that helps to find it
        traceback.print_exc()
        return 1


def _report(error: StormcastError, as_json: bool) -> int:
    print(f"stormcast: {error}", file=sys.stderr)
    if as_json:
        print(
            json.dumps(
                {"error": str(error), "exit_code": error.exit_code, **error.facts},
                default=plain,
                ensure_ascii=False,
            )
        )
    return error.exit_code


def command() -> int:
    """`main` in a process of its own: the entry point of the console script.

    PhysicsNeMo's imports leave a million objects that stay to the end. Looking for garbage among them takes
    time at the start and seconds at exit (decision 55), so it is done rarely, and not at exit. pydantic would
    look through all installed packages for plugins, of which none is used here.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(100_000)
    hide_library_warnings()
    try:
        return main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(command())
