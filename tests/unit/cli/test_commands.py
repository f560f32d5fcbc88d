"""Tests the commands: output, files, and exit codes (0 success, 1 failure, 2 usage error)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn import __version__, cli
from galerly_cdn.app import renderer, server
from galerly_cdn.aws.deploy import lambda_packages
from galerly_cdn.aws.errors import BuildFailed
from galerly_cdn.cli import about
from galerly_cdn.errors import SettingsError, TooManyPixels, Undecodable, UnsupportedFormat
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
    "nginx",
    "warm",
    "purge",
    "rm",
    "store",
    "keys",
    "sign",
    "report",
    "aws",
    "cost",
    "doctor",
    "config",
    "version",
    "completion",
]


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli.main, [str(one) for one in arguments], env=env)


@pytest.fixture(autouse=True)
def _no_environment_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    line = [sys.executable, "-c", "from galerly_cdn.cli import main; main(prog_name='galerly-cdn')"]
    return subprocess.run(
        [*line, *map(str, arguments)], capture_output=True, check=False, cwd=cwd, timeout=60
    )


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A JPEG file of 300 × 200 px with GPS data."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(pictures.jpeg(300, 200, gps=True))
    return file


# help and usage


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"main {name} " in result.output
    assert re.search(f"Example: .*galerly-cdn {name}", result.output)


def test_help_lists_every_command_and_examples() -> None:
    result = run("-h")
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)
    assert "\n    galerly-cdn serve ~/Pictures\n" in result.output
    assert "\\b" not in result.output
    assert cli.main.list_commands(click.Context(cli.main)) == sorted(COMMANDS)


def test_command_run_imports_no_module_of_another_command() -> None:
    script = (
        "import sys, click.testing, galerly_cdn.cli as cli; "
        "click.testing.CliRunner().invoke(cli.main, ['version', '--help']); "
        "print(*(name for name in sys.modules if name.startswith('galerly_cdn.cli.')))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["galerly_cdn.cli.terminal", "galerly_cdn.cli.about"]


def test_help_imports_no_slow_module() -> None:
    slow = {"msgspec", "pyvips", "httptools", "httpx", "asyncio", "galerly_cdn.settings.table"}
    script = (
        "import sys, click.testing, galerly_cdn.cli as cli; "
        "click.testing.CliRunner().invoke(cli.main, ['--help']); "
        f"print(*({slow} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


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
def test_usage_error_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["serve", "config", "render", "inspect"])
def test_unknown_setting_in_the_file_exits_with_2(name: str, tmp_path: Path, photograph: Path) -> None:
    file = tmp_path / "galerly.toml"
    file.write_text("prot = 80\nport = -1\n")
    arguments: dict[str, list[str | Path]] = {
        "serve": [tmp_path],
        "config": [],
        "render": [photograph, "--size", "tiny", "-o", tmp_path / "out.jpg"],
        "inspect": [photograph],
    }
    result = run(name, *arguments[name], "--config", file)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"galerly-cdn: {file}: prot: there is no setting 'prot'; `galerly-cdn config` lists them all",
        f"galerly-cdn: {file}: port: expected `int` >= 0, got -1",
    ]


def test_config_file_can_be_set_by_an_environment_variable(tmp_path: Path) -> None:
    file = tmp_path / "galerly.toml"
    file.write_text("port = 4711\n")
    result = run("config", "--json", env={"GALERLY_CONFIG": str(file)})
    assert json.loads(result.output)["port"] == {"value": 4711, "from": str(file)}


# config


def test_config_prints_every_value_and_its_source() -> None:
    result = run("config", "--json", env={"GALERLY_WORKERS": "4"})
    settings = json.loads(result.output)
    assert list(settings) == [setting.name for setting in DESCRIBED]
    assert settings["workers"] == {"value": 4, "from": "GALERLY_WORKERS"}
    assert settings["port"] == {"value": 8000, "from": "default"}


def test_config_output_is_a_settings_file(tmp_path: Path) -> None:
    result = run("config", env={"GALERLY_RENDITIONS": 'a "b" \\ \U0001f600', "GALERLY_BROWSE": "true"})
    values = tomllib.loads(result.output)
    file = tmp_path / "galerly.toml"
    file.write_text(result.output, "utf-8")
    reloaded = json.loads(run("config", "--json", "--config", file).output)
    assert {name: setting["value"] for name, setting in reloaded.items()} == values
    assert {setting["from"] for setting in reloaded.values()} == {str(file)}
    assert values["renditions"] == 'a "b" \\ \U0001f600'


@given(st.text(st.characters(codec="utf-8")) | st.integers(-(2**60), 2**60) | st.booleans())
def test_config_values_are_valid_toml(value: object) -> None:
    assert tomllib.loads(f"x = {about._toml(value)}  # comment")["x"] == value


def test_config_prints_the_description_of_every_setting() -> None:
    output = run("config").output
    for setting in DESCRIBED:
        assert f"\n# {setting.description}\n{setting.name} = " in output


# render and inspect


def test_render_writes_the_rendition(photograph: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.webp"
    result = run("render", photograph, "--size", "tiny", "--format", "webp", "-o", out, "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert (value["format"], value["width_px"], value["height_px"]) == ("webp", 150, 100)
    assert value["length_bytes"] == out.stat().st_size
    assert out.read_bytes()[8:12] == b"WEBP"
    assert "gps" in value["lost"]


def test_render_prints_one_line(photograph: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.jpg"
    result = run("render", photograph, "--size", "150x150", "-o", out)
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{out}: jpeg, 150×100 px, {out.stat().st_size} bytes; lost: ")


def test_render_to_stdout_writes_only_the_picture(photograph: Path) -> None:
    result = command("render", photograph, "--size", "tiny", "-o", "-")
    assert result.returncode == 0, result.stderr
    assert result.stdout[:3] == b"\xff\xd8\xff"
    assert result.stdout[-2:] == b"\xff\xd9"
    assert result.stderr.decode().startswith("-: jpeg, 150×100 px")


@pytest.mark.parametrize("content", [b"", b"no picture", pictures.truncated(pictures.jpeg(300, 200))])
def test_failed_render_keeps_the_existing_file(tmp_path: Path, content: bytes) -> None:
    broken, out = tmp_path / "broken.jpg", tmp_path / "out.jpg"
    broken.write_bytes(content)
    out.write_bytes(b"precious")
    result = run("render", broken, "--size", "tiny", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("galerly-cdn: The photograph")
    assert out.read_bytes() == b"precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.jpg", "out.jpg"]


@pytest.fixture
def fake_render(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces rendering by a fixed result, without a worker."""
    rendered = Rendered(Target(Size(1, 1)), Format.JPEG, 1, 1, 7, "0" * 32)
    monkeypatch.setattr(renderer, "render_file", lambda *_: (rendered, b"picture"))


@pytest.mark.usefixtures("fake_render")
def test_render_replaces_the_file_atomically(
    photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jpg"
    out.write_bytes(b"old")
    out.with_name("hardlink.jpg").hardlink_to(out)
    assert run("render", photograph, "--size", "tiny", "-o", out).exit_code == 0
    assert out.read_bytes() == b"picture"
    assert out.with_name("hardlink.jpg").read_bytes() == b"old"  # the output is a new file

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(out))

    monkeypatch.setattr(os, "replace", fail)
    out.write_bytes(b"old")
    result = run("render", photograph, "--size", "tiny", "-o", out)
    assert (result.exit_code, result.stderr) == (1, f"galerly-cdn: {out}: No space left on device\n")
    assert out.read_bytes() == b"old"


@pytest.mark.usefixtures("fake_render")
def test_render_to_missing_folder_prints_its_name(photograph: Path, tmp_path: Path) -> None:
    result = run("render", photograph, "--size", "tiny", "-o", tmp_path / "none" / "out.jpg")
    assert result.exit_code == 1
    assert "none" in result.stderr
    assert "No such file or directory" in result.stderr


@pytest.mark.parametrize("name", ["photo.jpg", "./photo.jpg", "link.jpg"])
def test_render_does_not_overwrite_the_photograph(photograph: Path, name: str) -> None:
    before = photograph.read_bytes()
    photograph.with_name("link.jpg").symlink_to(photograph)
    result = run("render", photograph, "--size", "tiny", "-o", photograph.parent / name)
    assert result.exit_code == 2
    assert photograph.read_bytes() == before


@pytest.mark.parametrize(
    "extra", [["--size", "801x600"], ["--size", "huge"], ["--size", "tiny", "--format", "gif"]]
)
def test_render_with_size_outside_the_allow_list_exits_with_2(
    photograph: Path, tmp_path: Path, extra: list[str]
) -> None:
    result = run("render", photograph, *extra, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "`galerly-cdn config` shows the allow-list" in result.stderr
    assert not (tmp_path / "out").exists()


def test_inspect_prints_the_facts_of_a_photograph(photograph: Path) -> None:
    value = json.loads(run("inspect", photograph, "--json").stdout)
    assert (value["format"], value["width_px"], value["height_px"]) == ("jpeg", 300, 200)
    assert "gps" in value["loses"]
    lines = run("inspect", photograph).stdout
    assert "300 × 200 px upright (orientation 1)" in lines
    assert "renditions lose" in lines


def test_inspect_of_other_file_fails(tmp_path: Path) -> None:
    file = tmp_path / "note.jpg"
    file.write_text("a note")
    result = run("inspect", file)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"galerly-cdn: {UnsupportedFormat.public}")


def test_inspect_of_a_damaged_photograph_prints_facts_and_reason_and_exits_with_1(tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    file.write_bytes(pictures.truncated(pictures.jpeg(3000, 2000)))
    result = run("inspect", file, "--json")
    value = json.loads(result.stdout)
    assert (result.exit_code, value["verdict"], value["width_px"]) == (1, "refused", 3000)
    assert value["refused"] == {"code": "undecodable", "message": Undecodable.public}
    assert result.stderr == f"galerly-cdn: {Undecodable.public}\n"
    lines = run("inspect", file).stdout.splitlines()
    assert [line.split() for line in lines if "verdict" in line] == [["verdict", "refused"]]


def test_inspect_of_a_photograph_over_a_limit_exits_with_1(photograph: Path) -> None:
    huge = photograph.with_name("huge.png")
    huge.write_bytes(pictures.huge_header_png())
    result = run("inspect", huge)
    assert (result.exit_code, result.stderr) == (1, f"galerly-cdn: {TooManyPixels.public}\n")
    assert "verdict  refused" in result.stdout
    assert "verdict  good" in run("inspect", photograph).stdout


def test_version_prints_the_versions_and_formats() -> None:
    value = json.loads(run("version", "--json").stdout)
    assert value["galerly-cdn"] == __version__
    assert tuple(map(int, value["libvips"].split(".")[:2])) >= (8, 18)
    assert {"jpeg", "png", "webp"} <= set(value["decodes"].split())
    assert run("version").stdout.splitlines()[0] == f"galerly-cdn {__version__}"


# completion


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        (["galerly-cdn", "ve"], ["version"]),
        (["galerly-cdn", "completion", ""], ["bash", "zsh", "fish"]),
        (["galerly-cdn", "warm", "--ga"], ["--gallery"]),
    ],
)
def test_completion_offers_commands_and_options(words: list[str], candidates: list[str]) -> None:
    env = {
        "_GALERLY_CDN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(cli.main, [], env=env, prog_name="galerly-cdn")
    assert [line.partition(",")[2] for line in result.stdout.splitlines()] == candidates


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_shell_script(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_GALERLY_CDN_COMPLETE={shell}_complete" in result.stdout
    if shell == "bash":
        script = f"{result.stdout}\ncomplete -p galerly-cdn"
        completed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert "galerly-cdn" in completed.stdout


# serve


def test_serve_prints_addresses_and_exits_as_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Settings, str]] = []

    def serve(
        settings: Settings, photographs: str, announce: object, *, announce_admin: object, **_: object
    ) -> bool:
        calls.append((settings, photographs))
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
    settings = calls[0][0]
    assert (settings.host, settings.renditions, settings.workers, settings.browse) == ("::1", "r", 3, True)
    assert run("serve", tmp_path, "--port", "2").exit_code == 1
    assert calls[1] == (Settings(port=2), str(tmp_path))


def test_serve_with_renditions_inside_the_photographs_exits_with_2(tmp_path: Path) -> None:
    result = run("serve", tmp_path, "--renditions", tmp_path / "r")
    assert result.exit_code == 2
    assert "renditions" in result.stderr


@pytest.mark.parametrize(
    ("raised", "exit_code", "line"),
    [
        (SettingsError(["one", "two"]), 2, "galerly-cdn: one\ngalerly-cdn: two\n"),
        (OSError(98, "Address already in use"), 1, "galerly-cdn: [Errno 98] Address already in use\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "galerly-cdn: x: Permission denied\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_is_printed_in_lines_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, exit_code: int, line: str
) -> None:
    def serve(*_: object, **_options: object) -> bool:
        raise raised

    monkeypatch.setattr(server, "serve", serve)
    result = run("serve", tmp_path)
    assert (result.exit_code, result.stderr) == (exit_code, line)


def test_closed_stdout_prints_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from galerly_cdn.cli import main; main()", "config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as errors:
        assert b"Traceback" not in errors.read()
    assert process.wait(60) in {0, 1}


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [(["--help"], 0), (["nonsense"], 2), (["config"], 0), (["inspect", "broken"], 1)],
)
def test_process_has_the_exit_code(tmp_path: Path, arguments: list[str], exit_code: int) -> None:
    (tmp_path / "broken").write_bytes(b"x")
    assert command(*arguments, cwd=tmp_path).returncode == exit_code


# aws


@pytest.mark.parametrize("name", ["template", "build"])
def test_help_of_aws_commands_has_an_example(name: str) -> None:
    result = run("aws", name, "--help")
    assert result.exit_code == 0
    assert f"Example: galerly-cdn aws {name}" in result.output


@pytest.mark.parametrize(
    ("edge", "resource_type"), [("off", "AWS::CloudFront::Function"), ("on", "AWS::Lambda::Version")]
)
def test_aws_template_contains_the_settings(edge: str, resource_type: str) -> None:
    result = run("aws", "template", "--lambda-edge", edge, env={"GALERLY_SIZES": "panorama 3000x500 webp=80"})
    assert result.exit_code == 0
    assert "3000x500" in result.output
    assert "800x600" not in result.output
    assert resource_type in result.output


def test_aws_template_with_unsupported_prefix_exits_with_2(tmp_path: Path) -> None:
    key_pair = run("keys", "new", "--out", tmp_path / "keys")
    (tmp_path / "keys" / f"{key_pair.output.strip()}.private.pem").unlink()
    env = {
        "GALERLY_PRIVATE_PREFIXES": "été",
        "GALERLY_PUBLIC_KEYS": str(tmp_path / "keys"),
        "GALERLY_PUBLIC_URLS": "https://cdn.example.com",
    }
    result = run("aws", "template", env=env)
    assert result.exit_code == 2
    assert "private_prefixes: CloudFront's path patterns cannot contain 'été'" in result.output


def test_aws_build_prints_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_packages, "fetch", lambda *_: ())
    result = run("aws", "build", "--out", tmp_path / "out", "--json")
    value = json.loads(result.stdout)
    assert result.stderr == "packing resizer.zip\n"
    assert value["zip"] == str(tmp_path / "out" / "resizer.zip")
    assert run("aws", "build", "--out", tmp_path / "out").output.count(value["sha256"]) == 1


def test_failed_aws_build_prints_the_reason_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise BuildFailed("pip download: ERROR: hashes do not match")

    monkeypatch.setattr(lambda_packages, "fetch", fetch)
    result = run("aws", "build", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert (
        result.output
        == "galerly-cdn: The package could not be built. (pip download: ERROR: hashes do not match)\n"
    )
