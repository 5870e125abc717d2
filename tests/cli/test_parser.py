"""The parser: every option of every command in both spellings, and what is a setting."""

import argparse
import gc
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mos_recbole.cli import ls, main, make_parser
from mos_recbole.cli.parser import Parser


def commands() -> dict[str, Parser]:
    """Returns the parsers of the commands by their names."""
    (action,) = (one for one in make_parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def value_of(action: argparse.Action) -> str:
    """Returns something that an option or a positional argument accepts."""
    if action.choices:
        return str(list(action.choices)[-1])
    return "7" if action.type in (int, float) else "some value"


def required(command: str, but: argparse.Action | None = None) -> list[str]:
    """Returns the arguments without which a command is refused, but for one of them."""
    parts = []
    for action in commands()[command]._actions:
        if action is but or (but is not None and action.dest == but.dest):
            continue
        if not action.option_strings and action.nargs not in ("?", "*"):
            parts.append(value_of(action))
        elif action.option_strings and action.required:
            parts.append(f"{action.option_strings[-1]}={value_of(action)}")
    for group in commands()[command]._mutually_exclusive_groups:
        if group.required and (but is None or but.dest not in [one.dest for one in group._group_actions]):
            (flag,) = [one.option_strings[0] for one in group._group_actions if one.nargs == 0]
            parts.append(flag)
    return parts


OPTIONS = [
    pytest.param(command, action, id=f"{command} {action.option_strings[-1]}")
    for command, parser in commands().items()
    for action in parser._actions
    if action.option_strings and action.dest not in ("help", "settings")
]
RESULTS = Path(__file__).parents[2] / "results"
WITH_SETTINGS = ["run", "sweep", "prepare"]


READERS = ("table", "compare", "slice", "report", "spectrum")


@pytest.mark.parametrize("name", ["--results", "--output", "--metrics"])
def test_options_of_one_name_are_one_option(name: str) -> None:
    """Whatever reads finished runs takes the same values under the same name; spectra have no metrics."""
    there = {command: commands()[command]._option_string_actions.get(name) for command in READERS}
    found = {(one.dest, one.type, one.metavar, one.nargs) for one in there.values() if one is not None}
    assert len(found) == 1
    assert [command for command, one in there.items() if one is None] == ["spectrum"] * (name == "--metrics")


@pytest.mark.parametrize("command", ["table", "report"])
def test_folders_stand_alone_or_behind_results(command: str) -> None:
    """Each is the same list; without any, it is the default."""
    expected = [Path("a"), Path("b")]
    for arguments in (["a", "b"], ["--results", "a", "b"], ["a", "--results", "b"]):
        assert parsed(command, *arguments)["results"] == expected
    assert parsed(command)["results"] == [Path("results")]


def parsed(command: str, *arguments: str) -> dict[str, Any]:
    return vars(make_parser().parse_args([command, *arguments]))


@pytest.mark.parametrize(("command", "action"), OPTIONS)
def test_every_option_in_both_spellings(command: str, action: argparse.Action) -> None:
    """`--key value` and `--key=value` are the same option, before and after the others, and no setting."""
    name, others = action.option_strings[0], required(command, action)
    if action.nargs == 0:
        found = [parsed(command, *others, name), parsed(command, name, *others)]
        assert found[0][action.dest] is True
    else:
        value = value_of(action)
        found = [parsed(command, *others, name, value), parsed(command, *others, f"{name}={value}")]
        found.append(parsed(command, f"{name}={value}", *others))
        kind = action.type or str
        one = found[0][action.dest]
        assert (one[0] if isinstance(one, list) else one) == kind(value)  # type: ignore[operator]
    assert all(one == found[0] for one in found)
    assert found[0].get("settings", []) == []


@pytest.mark.parametrize(("command", "action"), [one for one in OPTIONS if one.values[1].nargs == "+"])
def test_every_list_in_all_spellings(command: str, action: argparse.Action) -> None:
    """Values in one place, one at a time, or mixed with settings are the same list; none is lost."""
    (name,), others = action.option_strings, required(command, action)
    values = ["3", "1", "3"]
    found = parsed(command, *others, name, *values)
    assert [str(value) for value in found[action.dest]] == values
    assert parsed(command, *others, *(f"{name}={value}" for value in values)) == found
    assert parsed(command, *others, f"{name}=3", name, "1", "3") == found


@pytest.mark.parametrize("command", WITH_SETTINGS)
@pytest.mark.parametrize(
    "value",
    [
        "0.1",
        "1e-3",
        "-1",
        "-0.5",
        "-inf",
        "[1, 2]",
        "[5, inf)",
        "{max_norm: 5, norm_type: 2}",
        "a=b",
        "True",
        "two words",
    ],
)
def test_settings_in_both_spellings(command: str, value: str) -> None:
    """A setting goes on as `--key=value`, wherever it stands; numbers may be negative, values have spaces."""
    others = required(command)
    for written in ([f"--key={value}"], ["--key", value]):
        for arguments in ([*others, *written], [*written, *others]):
            found = parsed(command, *arguments)
            assert found["settings"] == [f"--key={value}"]
            assert {**found, "settings": []} == parsed(command, *others)


def test_an_empty_value_is_a_value() -> None:
    """`--key=` sets the empty string."""
    assert parsed("run", "--model=Pop", "--wandb_project=")["settings"] == ["--wandb_project="]


def test_a_setting_has_the_name_that_another_command_has_as_an_option() -> None:
    """`metrics` is RecBole's key in `run`, an option of `compare`; `seed` an option of `synth`."""
    found = parsed("run", "--model", "Pop", "--metrics=[NDCG]", "--seed", "3", "--queries=4")
    assert found["settings"] == ["--metrics=[NDCG]", "--seed=3", "--queries=4"]


def test_a_setting_ends_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes after a setting is no value of the list before it."""
    with pytest.raises(SystemExit):
        parsed("run", "--model", "Pop", "--epochs=1", "BPR")
    assert "'BPR'" in capsys.readouterr().err
    assert parsed("sweep", "--seeds", "1", "2", "--epochs", "3", "file.yaml")["seeds"] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["run", "--model", "Pop", "--epochs"], ["'--epochs'", "no value"]),
        (["run", "--model", "Pop", "--epochs", "--quiet"], ["'--epochs'", "no value"]),
        (["run", "--model", "Pop", "--quiet=True"], ["--quiet", "True"]),
        (["run", "--mode", "Pop", "--mode"], ["'--mode'", "did you mean --model?"]),
        (["run", "--model", "Pop", "--learning rate=3"], ["'--learning rate=3'"]),
        (["run", "--model", "Pop", "-x"], ["'-x'"]),
        (["sweep", "file.yaml", "--topk", "5", "10"], ["'10'", "'--key=[1, 2]'"]),
        (["compare", "A", "B", "--epochs=3"], ["'--epochs=3'", "mos-recbole compare takes no settings"]),
        (["compare", "A", "B", "--metric=NDCG@10"], ["did you mean --metrics?"]),
        (["table", "--proto", "x"], ["'--proto'"]),
        (["recommend", "A", "B", "--all-users"], ["'B'"]),
    ],
)
def test_what_is_neither_is_refused(
    arguments: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, one message with the argument and what could be meant; options are never abbreviated."""
    with pytest.raises(SystemExit) as stop:
        make_parser().parse_args(arguments)
    message = capsys.readouterr().err.partition("error: ")[2]
    assert stop.value.code == 2
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize("command", commands())
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option has a text in the help, which is wide as a screen of 120 characters at most. The first line says
    what the command does; options stand in groups of ten at most; examples parse."""
    for action in commands()[command]._actions:
        assert action.help, action
    with pytest.raises(SystemExit):
        make_parser().parse_args([command, "--help"])
    text = capsys.readouterr().out
    assert all(len(line) <= 120 for line in text.splitlines())
    first, gap = (commands()[command].description or "").split("\n")[:2]
    assert first.endswith(".")
    assert not gap
    assert all(len(group._group_actions) <= 10 for group in commands()[command]._action_groups)
    shown = text.partition("examples:")[2].splitlines()
    lines = [line.strip() for line in shown if line.startswith("    ")]
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "mos-recbole"
        assert make_parser().parse_args(words).command == command
    assert "None" not in text


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["ls", "{results}"]])
def test_neither_help_nor_ls_waits_for_pytorch(arguments: list[str]) -> None:
    """PyTorch and RecBole take seconds to import."""
    program = (
        "import sys; from mos_recbole.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "print([name for name in ('torch', 'recbole', 'ray', 'matplotlib') if name in sys.modules], file=sys.stderr)"
    )
    given = [argument.format(results=RESULTS) for argument in arguments]
    done = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "[]")


def test_what_commands_load_is_there() -> None:
    """Of the commands that load something, most do; the sweep says itself what it loads, and lists need nothing."""
    loads = {name: parser.get_default("loads") for name, parser in commands().items()}
    assert {name for name, room in loads.items() if room is None} == {"sweep", "synth", "ls", "rm", "doctor"}
    assert all(importlib.util.find_spec(room) for room in loads.values() if room)


@pytest.mark.parametrize(("room", "status"), [("this", 0), ("nosuchpackage", 2)])
def test_garbage_is_collected_again_after_loading(room: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr(ls, "LOADS", room, raising=False)
    monkeypatch.setattr(ls, "call", lambda options: 0 if gc.isenabled() else 1)
    gc.unfreeze()
    assert main(["ls"]) == status
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
