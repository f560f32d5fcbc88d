"""The commands: what they print, where they write, and how they end (0 done, 1 failed, 2 asked wrongly)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn import __version__, cli
from galerly_cdn.app import renderer, server
from galerly_cdn.aws.deploy import lambda_packages
from galerly_cdn.cli import about
from galerly_cdn.errors import BuildFailed, SettingsError
from galerly_cdn.model import Format, Rendered, Size, Target
from galerly_cdn.settings.table import DESCRIBED, Settings
from tests.support import pictures

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = [
    "serve",
    "demo",
    "render",
    "inspect",
    "upload",
    "link",
    "ls",
    "warm",
    "purge",
    "rm",
    "keys",
    "sign",
    "aws",
    "config",
    "version",
    "completion",
]


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli.main, [str(one) for one in arguments], env=env)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """As a shell runs it."""
    line = [sys.executable, "-c", "from galerly_cdn.cli import main; main(prog_name='galerly-cdn')"]
    return subprocess.run(
        [*line, *map(str, arguments)], capture_output=True, check=False, cwd=cwd, timeout=60
    )


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """300 × 200 px, with GPS."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(pictures.jpeg(300, 200, gps=True))
    return file


# help and usage


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert f"main {name} " in done.output
    assert re.search(f"Example: .*galerly-cdn {name}", done.output)


def test_help_names_every_command_and_teaches_by_example() -> None:
    done = run("-h")
    assert done.exit_code == 0
    assert all(f"  {name} " in done.output for name in COMMANDS)
    assert "\n    galerly-cdn serve ~/Pictures\n" in done.output
    assert "\\b" not in done.output
    assert sorted(cli.main.commands) == sorted(COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    heavy = {"msgspec", "pyvips", "uvicorn", "httpx", "asyncio", "galerly_cdn.settings.table"}
    script = (
        "import sys, click.testing, galerly_cdn.cli as cli; "
        "click.testing.CliRunner().invoke(cli.main, ['--help']); "
        f"print(*({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve"],
        ["serve", "/no/such/folder"],
        ["serve", ".", "--nope"],
        ["serve", ".", "--port", "x"],
        ["serve", ".", "--port", "-1"],
        ["serve", ".", "--workers", "1000"],
        ["render"],
        ["render", "/no/such/file", "--size", "tiny", "-o", "x"],
        ["inspect", "."],
        ["config", "extra"],
        ["completion", "tcsh"],
    ],
    ids=" ".join,
)
def test_what_is_asked_for_wrongly_ends_with_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["serve", "config", "render", "inspect"])
def test_an_unknown_setting_in_the_file_is_refused_by_every_command(
    name: str, tmp_path: Path, photograph: Path
) -> None:
    file = tmp_path / "galerly.toml"
    file.write_text("prot = 80\nport = -1\n")
    arguments: dict[str, list[str | Path]] = {
        "serve": [tmp_path],
        "config": [],
        "render": [photograph, "--size", "tiny", "-o", tmp_path / "out.jpg"],
        "inspect": [photograph],
    }
    done = run(name, *arguments[name], "--config", file)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"galerly-cdn: {file}: prot: there is no setting 'prot'; `galerly-cdn config` lists them all",
        f"galerly-cdn: {file}: port: expected `int` >= 0, got -1",
    ]


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "galerly.toml"
    file.write_text("port = 4711\n")
    done = run("config", "--json", env={"GALERLY_CONFIG": str(file)})
    assert json.loads(done.output)["port"] == {"value": 4711, "from": str(file)}


# config


def test_config_shows_every_value_and_where_it_came_from() -> None:
    done = run("config", "--json", env={"GALERLY_WORKERS": "4"})
    shown = json.loads(done.output)
    assert list(shown) == [setting.name for setting in DESCRIBED]
    assert shown["workers"] == {"value": 4, "from": "GALERLY_WORKERS"}
    assert shown["port"] == {"value": 8000, "from": "default"}


def test_what_config_prints_is_a_settings_file(tmp_path: Path) -> None:
    done = run("config", env={"GALERLY_RENDITIONS": 'a "b" \\ \U0001f600', "GALERLY_BROWSE": "true"})
    values = tomllib.loads(done.output)
    file = tmp_path / "galerly.toml"
    file.write_text(done.output, "utf-8")
    again = json.loads(run("config", "--json", "--config", file).output)
    assert {name: told["value"] for name, told in again.items()} == values
    assert {told["from"] for told in again.values()} == {str(file)}
    assert values["renditions"] == 'a "b" \\ \U0001f600'


@given(st.text(st.characters(codec="utf-8")) | st.integers(-(2**60), 2**60) | st.booleans())
def test_any_value_is_written_as_toml_reads_it(value: object) -> None:
    assert tomllib.loads(f"x = {about._toml(value)}  # comment")["x"] == value


def test_config_describes_every_setting() -> None:
    shown = run("config").output
    for setting in DESCRIBED:
        assert f"\n# {setting.description}\n{setting.name} = " in shown


# render and inspect


def test_render_writes_what_the_server_would_answer(photograph: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.webp"
    done = run("render", photograph, "--size", "tiny", "--format", "webp", "-o", out, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["format"], told["width_px"], told["height_px"]) == ("webp", 150, 100)
    assert told["length_bytes"] == out.stat().st_size
    assert out.read_bytes()[8:12] == b"WEBP"
    assert "gps" in told["lost"]


def test_render_tells_a_person_in_one_line(photograph: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.jpg"
    done = run("render", photograph, "--size", "150x150", "-o", out)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{out}: jpeg, 150×100 px, {out.stat().st_size} bytes; lost: ")


def test_render_to_stdout_writes_the_picture_alone(photograph: Path) -> None:
    done = command("render", photograph, "--size", "tiny", "-o", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout[:3] == b"\xff\xd8\xff"
    assert done.stdout[-2:] == b"\xff\xd9"
    assert done.stderr.decode().startswith("-: jpeg, 150×100 px")


@pytest.mark.parametrize("content", [b"", b"no picture", pictures.truncated(pictures.jpeg(300, 200))])
def test_a_render_that_fails_leaves_the_file_there_as_it_was(tmp_path: Path, content: bytes) -> None:
    broken, out = tmp_path / "broken.jpg", tmp_path / "out.jpg"
    broken.write_bytes(content)
    out.write_bytes(b"precious")
    done = run("render", broken, "--size", "tiny", "-o", out)
    assert done.exit_code == 1
    assert done.stderr.startswith("galerly-cdn: The photograph")
    assert out.read_bytes() == b"precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.jpg", "out.jpg"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renders without a worker."""
    rendered = Rendered(Target(Size(1, 1)), Format.JPEG, 1, 1, 7, "0" * 32)
    monkeypatch.setattr(renderer, "render_file", lambda *_: (rendered, b"picture"))


@pytest.mark.usefixtures("quick")
def test_a_file_is_replaced_whole_or_not_at_all(
    photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jpg"
    out.write_bytes(b"old")
    out.with_name("twin.jpg").hardlink_to(out)
    assert run("render", photograph, "--size", "tiny", "-o", out).exit_code == 0
    assert out.read_bytes() == b"picture"
    assert out.with_name("twin.jpg").read_bytes() == b"old"  # a new file took its name

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", str(out))

    monkeypatch.setattr(os, "replace", refuse)
    out.write_bytes(b"old")
    done = run("render", photograph, "--size", "tiny", "-o", out)
    assert (done.exit_code, done.stderr) == (1, f"galerly-cdn: {out}: No space left on device\n")
    assert out.read_bytes() == b"old"


@pytest.mark.usefixtures("quick")
def test_a_folder_that_is_not_there_is_named(photograph: Path, tmp_path: Path) -> None:
    done = run("render", photograph, "--size", "tiny", "-o", tmp_path / "none" / "out.jpg")
    assert done.exit_code == 1
    assert "none" in done.stderr
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize("spelling", ["photo.jpg", "./photo.jpg", "link.jpg"])
def test_the_photograph_is_never_overwritten(photograph: Path, spelling: str) -> None:
    before = photograph.read_bytes()
    photograph.with_name("link.jpg").symlink_to(photograph)
    done = run("render", photograph, "--size", "tiny", "-o", photograph.parent / spelling)
    assert done.exit_code == 2
    assert photograph.read_bytes() == before


@pytest.mark.parametrize(
    "extra", [["--size", "801x600"], ["--size", "huge"], ["--size", "tiny", "--format", "gif"]]
)
def test_a_size_outside_the_allow_list_is_asked_for_wrongly(
    photograph: Path, tmp_path: Path, extra: list[str]
) -> None:
    done = run("render", photograph, *extra, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "`galerly-cdn config` shows the allow-list" in done.stderr
    assert not (tmp_path / "out").exists()


def test_inspect_tells_what_a_photograph_is(photograph: Path) -> None:
    told = json.loads(run("inspect", photograph, "--json").stdout)
    assert (told["format"], told["width_px"], told["height_px"]) == ("jpeg", 300, 200)
    assert "gps" in told["loses"]
    lines = run("inspect", photograph).stdout
    assert "300 × 200 px upright (orientation 1)" in lines
    assert "renditions lose" in lines


def test_inspect_of_what_is_no_photograph_fails(tmp_path: Path) -> None:
    file = tmp_path / "note.jpg"
    file.write_text("a note")
    done = run("inspect", file)
    assert done.exit_code == 1
    assert done.stderr.startswith("galerly-cdn: The photograph's format is not supported.")


def test_version_tells_what_is_in_use() -> None:
    told = json.loads(run("version", "--json").stdout)
    assert told["galerly-cdn"] == __version__
    assert tuple(map(int, told["libvips"].split(".")[:2])) >= (8, 18)
    assert {"jpeg", "png", "webp"} <= set(told["decodes"].split())
    assert run("version").stdout.splitlines()[0] == f"galerly-cdn {__version__}"


# completion


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["galerly-cdn", "ve"], ["version"]),
        (["galerly-cdn", "completion", ""], ["bash", "zsh", "fish"]),
        (["galerly-cdn", "warm", "--ga"], ["--gallery"]),
    ],
)
def test_a_shell_is_offered_commands_and_options(words: list[str], offered: list[str]) -> None:
    env = {
        "_GALERLY_CDN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = CliRunner().invoke(cli.main, [], env=env, prog_name="galerly-cdn")
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_the_shell_evaluates(shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert f"_GALERLY_CDN_COMPLETE={shell}_complete" in done.stdout
    if shell == "bash":
        script = f"{done.stdout}\ncomplete -p galerly-cdn"
        told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert "galerly-cdn" in told.stdout


# serve


def test_serve_announces_and_ends_as_the_server_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Settings, str]] = []

    def serve(
        settings: Settings, photographs: str, announce: object, announce_admin: object, *_: object
    ) -> bool:
        served.append((settings, photographs))
        assert callable(announce)
        assert callable(announce_admin)
        announce("http://127.0.0.1:1/")
        announce_admin("http://127.0.0.1:2/")
        return settings.port == 1

    monkeypatch.setattr(server, "serve", serve)
    clean = run(
        "serve", tmp_path, "--port", "1", "--host", "::1", "--renditions", "r", "--workers", "3", "--browse"
    )
    assert clean.exit_code == 0
    assert clean.stdout.splitlines() == [
        "galerly-cdn serves http://127.0.0.1:1/",
        "galerly-cdn is administered at http://127.0.0.1:2/",
    ]
    settings = served[0][0]
    assert (settings.host, settings.renditions, settings.workers, settings.browse) == ("::1", "r", 3, True)
    assert run("serve", tmp_path, "--port", "2").exit_code == 1
    assert served[1] == (Settings(port=2), str(tmp_path))


def test_renditions_inside_the_photographs_are_refused(tmp_path: Path) -> None:
    done = run("serve", tmp_path, "--renditions", tmp_path / "r")
    assert done.exit_code == 2
    assert "renditions" in done.stderr


@pytest.mark.parametrize(
    ("raised", "exit_code", "line"),
    [
        (SettingsError(["one", "two"]), 2, "galerly-cdn: one\ngalerly-cdn: two\n"),
        (OSError(98, "Address already in use"), 1, "galerly-cdn: [Errno 98] Address already in use\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "galerly-cdn: x: Permission denied\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_told_in_lines_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, exit_code: int, line: str
) -> None:
    def serve(*_: object) -> bool:
        raise raised

    monkeypatch.setattr(server, "serve", serve)
    done = run("serve", tmp_path)
    assert (done.exit_code, done.stderr) == (exit_code, line)


def test_a_reader_that_leaves_is_no_error_worth_a_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from galerly_cdn.cli import main; main()", "config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as complaints:
        assert b"Traceback" not in complaints.read()
    assert process.wait(60) in {0, 1}


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [(["--help"], 0), (["nonsense"], 2), (["config"], 0), (["inspect", "broken"], 1)],
)
def test_a_shell_sees_the_exit_code(tmp_path: Path, arguments: list[str], exit_code: int) -> None:
    (tmp_path / "broken").write_bytes(b"x")
    assert command(*arguments, cwd=tmp_path).returncode == exit_code


# aws


@pytest.mark.parametrize("name", ["template", "build"])
def test_every_command_for_aws_explains_itself(name: str) -> None:
    done = run("aws", name, "--help")
    assert done.exit_code == 0
    assert f"Example: galerly-cdn aws {name}" in done.output


@pytest.mark.parametrize(
    ("edge", "kind"), [("off", "AWS::CloudFront::Function"), ("on", "AWS::Lambda::Version")]
)
def test_the_template_is_printed_with_the_settings_written_in(edge: str, kind: str) -> None:
    done = run("aws", "template", "--lambda-edge", edge, env={"GALERLY_SIZES": "panorama 3000x500 webp=80"})
    assert done.exit_code == 0
    assert "3000x500" in done.output
    assert "800x600" not in done.output
    assert kind in done.output


def test_a_template_that_cannot_be_is_asked_for_wrongly(tmp_path: Path) -> None:
    made = run("keys", "new", "--out", tmp_path / "keys")
    (tmp_path / "keys" / f"{made.output.strip()}.private.pem").unlink()
    env = {
        "GALERLY_PRIVATE_PREFIXES": "été",
        "GALERLY_PUBLIC_KEYS": str(tmp_path / "keys"),
        "GALERLY_PUBLIC_URLS": "https://cdn.example.com",
    }
    done = run("aws", "template", env=env)
    assert done.exit_code == 2
    assert "private_prefixes: CloudFront's path patterns cannot spell 'été'" in done.output


def test_a_build_tells_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_packages, "fetch", lambda *_: ())
    done = run("aws", "build", "--out", tmp_path / "out", "--json")
    told = json.loads(done.output)
    assert told["zip"] == str(tmp_path / "out" / "resizer.zip")
    assert run("aws", "build", "--out", tmp_path / "out").output.count(told["sha256"]) == 1


def test_a_build_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object) -> None:
        raise BuildFailed("pip download: ERROR: hashes do not match")

    monkeypatch.setattr(lambda_packages, "fetch", fetch)
    done = run("aws", "build", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert (
        done.output
        == "galerly-cdn: The package could not be built. (pip download: ERROR: hashes do not match)\n"
    )
