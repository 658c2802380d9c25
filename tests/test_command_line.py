"""What all commands share: help, completion, quiet and verbose, colours, names."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from tests.commands import topdb
from topdb_tf import progress
from topdb_tf.cli import main
from topdb_tf.data.benchmarks import DATASETS
from topdb_tf.runs.folder import open_run
from topdb_tf.runs.recipes import flat_settings, read_recipe, recipes

# What these write is no measurement: a script, or the address of a page.
WITHOUT_JSON = {"topdb-tf completion", "topdb-tf index browse"}


def commands_of(group, above="topdb-tf"):
    """Yields the name and the command of each leaf."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


def groups_of(group, above="topdb-tf"):
    yield above, group
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from groups_of(command, f"{above} {name}")


COMMANDS = dict(commands_of(main))
GROUPS = dict(groups_of(main))


def examples_of(name, command):
    """Returns the lines of the help that begin with the command's own name."""
    lines = (line.strip() for line in (command.help or "").splitlines())
    return [line for line in lines if re.match(rf"{re.escape(name)}( |$)", line)]


def test_every_number_of_a_command_has_a_range_without_nan():
    ids = {"camids", "pids"}
    for name, command in COMMANDS.items():
        for option in command.params:
            kind = option.type
            if not isinstance(kind, click.INT.__class__ | click.FLOAT.__class__):
                continue
            if option.name not in ids:
                assert kind.min is not None, (name, option.name)
                assert kind.max is not None or not isinstance(kind, click.IntRange)
            for text in ("nan", "inf", "-inf", "1e400", "1" + 400 * "0", "-1", "true"):
                if option.name in ids and text in ("-1", "1" + 400 * "0"):
                    continue
                with pytest.raises(click.BadParameter):
                    kind.convert(text, option, None)


def test_a_character_that_standard_output_lacks_is_no_error(monkeypatch):
    monkeypatch.setitem(
        main.commands, "try-it", click.command()(lambda: click.echo("±–"))
    )
    answer = CliRunner(charset="latin-1").invoke(main, ["try-it"])
    assert (answer.exit_code, answer.stdout_bytes) == (0, b"\xb1\\u2013\n")


def test_a_rate_that_is_no_number_is_refused_before_anything_is_read():
    for options in (
        ("calibrate", "--false-match-rate", "nan"),
        ("match", "a.jpg", "b.jpg", "--false-match-rate", "0"),
        ("score", "a.npz", "--lambda", "nan"),
        ("score", "a.npz", "--k1", "0"),
        ("index", "query", "index", "a.jpg", "--max-distance", "inf"),
        ("embed", "people", "a.npz", "--timeout", "-1"),
    ):
        answer = topdb(*options)
        assert answer.exit_code == 2
        assert f"Invalid value for '{options[-2]}'" in answer.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name):
    command = COMMANDS[name]
    examples = examples_of(name, command)
    assert examples
    for line in examples:
        words = shlex.split(line, comments=True)[len(name.split()) :]
        words = words[: words.index(">")] if ">" in words else words
        command.make_context(name, words, resilient_parsing=False).close()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts
        else:  # an argument is explained in the help, by its name
            metavar = parameter.make_metavar(click.Context(main))
            for word in re.findall(r"\w+", metavar):
                assert word in COMMANDS[name].help.upper(), metavar


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_JSON))
def test_every_command_that_reports_can_do_it_as_json(name):
    options = [
        option for parameter in COMMANDS[name].params for option in parameter.opts
    ]
    assert "--json" in options


def test_an_option_means_the_same_in_all_commands():
    # Its Python name and whether it takes a value, by the option.
    meanings = {}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for option in parameter.opts:
                    kind = (parameter.is_flag, parameter.nargs)
                    meanings.setdefault(option, {}).setdefault(kind, []).append(name)
    several = {option: kinds for option, kinds in meanings.items() if len(kinds) > 1}
    assert not several


@pytest.mark.parametrize("name", GROUPS)
def test_an_unknown_command_or_option_names_the_nearest(name):
    words = name.split()[1:]
    first = sorted(GROUPS[name].commands)[0]
    answer = topdb(*words, f"{first}x")
    assert answer.exit_code == 2
    assert f"Did you mean '{first}'" in answer.stderr


@pytest.mark.parametrize("name", GROUPS)
def test_the_help_of_a_group_fits_on_a_terminal(name):
    answer = topdb(*name.split()[1:], "-h", terminal_width=80)
    assert answer.exit_code == 0
    listed = answer.stdout.partition("-h, --help")[2]
    assert set(GROUPS[name].commands) <= set(re.findall(r"^  (\w+) ", listed, re.M))
    assert "..." not in listed


def test_the_commands_of_the_program_are_listed_in_groups():
    listed = topdb("--help").stdout.partition("-h, --help")[2]
    titles = re.findall(r"^(\w+):$", listed, re.M)
    assert titles == ["Data", "Train", "Look", "Search", "Serve", "Shell"]


def test_a_command_by_another_tools_name_is_pointed_at():
    for word, ours in (("train", "fit"), ("test", "evaluate"), ("predict", "embed")):
        answer = topdb(word, "--data", "x")
        assert answer.exit_code == 2
        assert f"Did you mean '{ours}'?" in answer.stderr
    assert "'evaluate'" in topdb("val").stderr
    assert "'index query'" in topdb("search").stderr


def test_python_runs_the_package():
    command = [sys.executable, "-m", "topdb_tf", "evaluate", "-h"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("Usage: topdb-tf evaluate [OPTIONS]")


def test_every_setting_is_told_with_its_value_and_what_it_may_be():
    told = json.loads(topdb("settings", "--recipe", "light", "--json").stdout)
    settings = {one["key"]: one for one in told}
    config = read_recipe("light")
    assert {key: one["value"] for key, one in settings.items()} == json.loads(
        json.dumps(flat_settings(config))
    )
    assert all(one["may_be"] and one["meaning"] for one in told)
    assert settings["train.schedule"]["may_be"] == "steps or cosine"
    assert settings["train.epochs"]["may_be"] == "a whole number in [1, 99999]"
    assert settings["train.margin"]["may_be"] == "soft or a number in [0, 1e12]"
    assert settings["data.root"]["may_be"] == "a text or null"
    lines = topdb("settings", "--set", "train.epochs=20").stdout.splitlines()
    assert len(lines) == len(told)
    epochs = "train.epochs=20  (a whole number in [1, 99999])  Passes over the training"
    assert any(line.startswith(epochs) for line in lines)
    for line in lines:  # what is shown can be given
        read_recipe("paper", [line.partition("  ")[0]])


def test_the_recipes_are_told_by_the_heads_of_their_files():
    told = json.loads(topdb("recipes", "--json").stdout)
    assert [one["name"] for one in told] == list(recipes())
    for one, line in zip(told, topdb("recipes").stdout.splitlines(), strict=True):
        assert one["text"].startswith(one["title"])
        assert "Ours:" in one["text"]
        assert line.split(maxsplit=1) == [one["name"], one["title"]]


def test_three_settings_have_options_of_their_own(tmp_path, monkeypatch):
    seen = []

    def fit(config, run_dir, *, say):
        seen.append(config)

    monkeypatch.setattr("topdb_tf.fit.fit.fit", fit)
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", 40, "--batch-size", 32, "--lr", "2e-3"]
    answer = topdb("fit", "--dataset", "synthetic", *options)
    assert answer.exit_code == 0
    assert seen[0].train.decay_epochs == (20, 30)
    assert (seen[0].data.batch_size, seen[0].train.learning_rate) == (32, 2e-3)
    assert "train.decay_epochs=[20, 30] in proportion" in answer.stderr
    beside = topdb("fit", "--resume", "runs/x", "--plugin", "mine")
    assert "Leave out --plugin" in beside.stderr


def test_an_unknown_option_or_name_names_the_nearest(tmp_path):
    assert "'--dataset'" in topdb("evaluate", "--dataste", "x").stderr
    assert "Did you mean `paper`" in topdb("fit", "--recipe", "papr").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_the_program(shell):
    answer = topdb("completion", shell)
    assert answer.exit_code == 0
    assert "_TOPDB_TF_COMPLETE" in answer.stdout
    if shutil.which(shell):
        syntax = [shell, "--no-execute" if shell == "fish" else "-n"]
        subprocess.run(syntax, input=answer.stdout, text=True, check=True)


def completed(*words, incomplete=""):
    complete = ShellComplete(main, {}, "topdb-tf", "_TOPDB_TF_COMPLETE")
    return {item.value for item in complete.get_completions(list(words), incomplete)}


def test_names_are_completed(tmp_path, monkeypatch):
    for name in ("one", "many/seed-1", "many/seed-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert completed("fit", "--dataset") == set(DATASETS)
    cuhk03 = {"cuhk03-labeled", "cuhk03-detected"}
    assert completed("evaluate", "--dataset", incomplete="cuhk") == cuhk03
    assert completed("fit", "--recipe") == set(recipes())
    runs = {"runs/one", "runs/many/seed-1", "runs/many/seed-2"}
    assert completed("evaluate") == runs
    assert completed("info", incomplete="runs/m") == runs - {"runs/one"}
    assert {"fit", "figure"} <= completed(incomplete="fi")


def test_quiet_leaves_results_and_errors_alone(small_run, small_data_root, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    usual = topdb("evaluate", tmp_path / "run", "--json")
    assert "on synthetic" in usual.stderr
    quiet = topdb("--quiet", "evaluate", tmp_path / "run", "--json")
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout)["mean_ap"] == json.loads(usual.stdout)["mean_ap"]
    refused = topdb("-q", "evaluate", tmp_path / "none")
    assert refused.stderr.startswith("Error: ")
    assert progress.verbosity() == progress.Verbosity.NORMAL  # of this process again


def test_verbose_tells_versions_settings_and_times(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    answer = topdb("--verbose", "evaluate", tmp_path / "run", "--json")
    for word in ("tensorflow 2", "image_height: 32", "s in all"):
        assert word in answer.stderr
    assert json.loads(answer.stdout)["num_valid_queries"] == 6
    again = topdb("evaluate", tmp_path / "run", "--json")
    assert "image_height" not in again.stderr


def test_verbose_lets_the_libraries_speak(capfd, monkeypatch):
    from topdb_tf.runs.machine import without_notes

    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with progress.telling(progress.Verbosity.VERBOSE), without_notes():
        os.write(2, b"note")
    assert capfd.readouterr().err == "note"


def test_quiet_drops_the_progress_of_libraries(capsys):
    with progress.telling(progress.Verbosity.QUIET), progress.quieted():
        sys.stderr.write("50 %")
    assert capsys.readouterr().err == ""
    with progress.quieted():
        sys.stderr.write("50 %")
    assert capsys.readouterr().err == "50 %"


def test_quiet_and_verbose_exclude_each_other(features):
    assert "exclude" in topdb("-q", "-v", "score", features).stderr


def test_the_versions_of_libraries_are_told_on_request():
    import keras

    assert topdb("--version").stdout.count("\n") == 1
    assert f"keras {keras.__version__}" in topdb("--verbose", "--version").stdout


def on_terminal(*arguments, **environment):
    """Returns what a command writes to a terminal of standard error."""
    code = "import sys; from topdb_tf.cli import main; main(sys.argv[1:])"
    ours, theirs = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", **environment}
    settings = {key: value for key, value in settings.items() if value is not None}
    subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env=settings,
        check=True,
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux's answer at the end of a terminal
            break
        if not part:
            break
        text += part
    os.close(ours)
    return text.decode()


COLOR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_colours_are_for_terminals_and_heed_no_color(features):
    assert COLOR.search(on_terminal("score", features, NO_COLOR=None))
    plain = COLOR.findall(on_terminal("score", features, NO_COLOR="1"))
    assert all(re.fullmatch(r"\x1b\[[0-9;]*m", code) for code in plain)
    assert not any(re.search(r"\[(3|9)\d|38;", code) for code in plain)
    assert on_terminal("--quiet", "score", features, NO_COLOR=None) == ""
    assert not COLOR.search(topdb("score", features).stderr)


def test_no_color_stops_bars_of_keras(monkeypatch):
    monkeypatch.setattr(
        sys, "stderr", type("Terminal", (), {"isatty": lambda _: True})()
    )
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert progress.draws_on_terminal()
    with progress.telling(progress.Verbosity.QUIET):
        assert not progress.draws_on_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not progress.draws_on_terminal()


def test_the_seeds_of_a_run_are_found_and_named(tmp_path):
    for name, seconds in (("one", 10), ("many/seed-1", 20), ("many/seed-2", 30)):
        config = tmp_path / "runs" / name / "config.yaml"
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (seconds, seconds))
    newest = open_run(None, runs=tmp_path / "runs")
    assert newest.path == tmp_path / "runs" / "many" / "seed-2"
    with pytest.raises(FileNotFoundError, match="Name one of those in it: .*seed-1"):
        open_run(tmp_path / "runs" / "many")


def test_the_help_names_every_data_set(monkeypatch):
    monkeypatch.setitem(DATASETS, "made-up", None)
    words = topdb("fit", "--help").stdout.replace(",", " ").split()
    assert set(DATASETS) <= set(words)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell of POSIX")
def test_a_closed_standard_error_takes_no_result(features):
    script = 'exec "$0" -m topdb_tf.cli score "$1" 2>&-'
    ran = subprocess.run(
        ["sh", "-c", script, sys.executable, features], capture_output=True, text=True
    )
    assert ran.returncode == 0
    assert "mAP" in ran.stdout


@pytest.mark.parametrize("option", ["--dataset", "--data-root", "--layout"])
def test_an_empty_name_is_none_that_was_not_given(option, tmp_path):
    # As "$DATA" where it is not set: neither the run's own nor the current folder.
    result = topdb("fit", "--recipe", "demo", option, "", "--run-dir", tmp_path / "r")
    assert result.exit_code != 0
    assert "empty" in result.output or "`data.layout`" in result.output
    assert not (tmp_path / "r").exists()
