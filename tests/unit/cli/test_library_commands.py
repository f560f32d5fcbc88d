"""Tests the commands on originals, with a store and with a running CDN: same output, same exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import unicodedata
import uuid
from typing import TYPE_CHECKING, NamedTuple

import click
import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.cli import originals, terminal
from galerly_cdn.errors import (
    CdnUnreachable,
    EmptyUpload,
    KeyNotHeld,
    MalformedKey,
    NoSuchOriginal,
    OriginalExists,
    QueueFull,
    RenderTimeout,
    Unauthorized,
    Undecodable,
    UnsupportedFormat,
    UploadTooLarge,
)
from galerly_cdn.library import StoreLibrary
from galerly_cdn.links import Links
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.cdn_process import PROGRAM, environment, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from galerly_cdn.library import Accepted


class CommandTarget(NamedTuple):
    """A store's folder, and the options that select it directly or through its CDN."""

    folder: Path
    options: tuple[str, ...]

    def run(self, *arguments: str | Path, **options: str) -> Result:
        line = [*map(str, arguments), *self.options]
        return CliRunner().invoke(cli.main, line, **options)  # type: ignore[arg-type]  # only `input` is used

    def values(self, *arguments: str | Path) -> list[dict[str, object]]:
        result = self.run(*arguments, "--json")
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The store of a running CDN, and the address of its admin API."""
    folder = tmp_path_factory.mktemp("store")
    with running(folder) as address:
        yield folder, address


@pytest.fixture(params=["store", "admin"])
def target(request: pytest.FixtureRequest, cdn: tuple[Path, str]) -> CommandTarget:
    folder, address = cdn
    return CommandTarget(
        folder, ("--store", str(folder)) if request.param == "store" else ("--admin", address)
    )


@pytest.fixture
def gallery() -> str:
    """A name that no other test uses."""
    return f"g {uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def _no_environment_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_WORKERS", "2")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to upload: photographs, two of them with the same name, and invalid files."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "a.jpg").write_bytes(pictures.jpeg(300, 200, gps=True))
    (folder / "b.png").write_bytes(pictures.png(60, 40))
    (folder / "broken.jpg").write_bytes(pictures.truncated(pictures.jpeg(300, 200)))
    (folder / "note.txt").write_text("no photograph")
    (folder / "empty.jpg").touch()
    with (folder / "long.jpg").open("wb") as long:
        long.truncate(Settings().max_original_bytes + 1)
    (folder / "other").mkdir()
    (folder / "other" / "a.jpg").write_bytes(pictures.jpeg(310, 200))
    return folder


LIFE_CYCLE = [
    # the command, its exit code, the lines on stdout in any order, the lines on stderr
    (
        "upload {photographs}/a.jpg {photographs}/b.png --gallery {g}",
        0,
        ["created    {g}/a.jpg  jpeg, 300×200 px, {a}", "created    {g}/b.png  png, 60×40 px, {b}"],
        [],
    ),
    (
        "upload {photographs}/a.jpg --gallery {g}",
        0,
        ["unchanged  {g}/a.jpg  jpeg, 300×200 px, {a}"],
        [],
    ),
    (
        "upload {photographs}/other/a.jpg {photographs}/b.png --gallery {g}",
        1,
        ["unchanged  {g}/b.png  png, 60×40 px, {b}"],
        [f"galerly-cdn: {{photographs}}/other/a.jpg: {OriginalExists.public}", "1 of 2 done."],
    ),
    (
        "upload {photographs}/other/a.jpg --gallery {g} --replace",
        0,
        ["replaced   {g}/a.jpg  jpeg, 310×200 px, {other}"],
        [],
    ),
    ("ls {g}/", 0, ["{listed} {g}/a.jpg", "{listed} {g}/b.png"], []),
    ("ls {g}/b", 0, ["{listed} {g}/b.png"], []),
    ("warm {g}/b.png", 0, ["warmed  {g}/b.png  {all} rendered, 0 already stored, {length}"], []),
    (
        "warm --gallery {g}",
        0,
        [
            "warmed  {g}/a.jpg  {all} rendered, 0 already stored, {length}",
            "warmed  {g}/b.png  0 rendered, {all} already stored, {length}",
        ],
        [],
    ),
    ("purge {g}/a.jpg", 0, ["purged  {g}/a.jpg  {all} renditions"], []),
    (
        "purge --gallery {g}",
        0,
        ["purged  {g}/a.jpg  0 renditions", "purged  {g}/b.png  {all} renditions"],
        [],
    ),
    ("rm {g}/a.jpg", 0, ["deleted  {g}/a.jpg  0 renditions"], []),
    (
        "rm {g}/a.jpg {g}/b.png",
        1,
        ["deleted  {g}/b.png  0 renditions"],
        [f"galerly-cdn: {{g}}/a.jpg: {NoSuchOriginal.public}", "1 of 2 done."],
    ),
    ("ls {g}/", 0, [], []),
    ("warm {g}/a.jpg", 1, [], [f"galerly-cdn: {{g}}/a.jpg: {NoSuchOriginal.public}"]),
    ("purge {g}/a.jpg", 1, [], [f"galerly-cdn: {{g}}/a.jpg: {NoSuchOriginal.public}"]),
    ("rm {g}/a.jpg", 1, [], [f"galerly-cdn: {{g}}/a.jpg: {NoSuchOriginal.public}"]),
    ("inspect {g}/a.jpg", 1, [], [f"galerly-cdn: {NoSuchOriginal.public}"]),
    ("purge --gallery {g}", 1, [], [f"galerly-cdn: {NoSuchOriginal.public}"]),
]


def test_gallery_is_uploaded_replaced_listed_warmed_purged_and_removed(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    values = {
        "photographs": str(photographs),
        "g": gallery,
        "a": terminal.format_bytes((photographs / "a.jpg").stat().st_size),
        "b": terminal.format_bytes((photographs / "b.png").stat().st_size),
        "other": terminal.format_bytes((photographs / "other" / "a.jpg").stat().st_size),
        "all": str(WARMED),
        "listed": LISTED,
        "length": LENGTH,
    }
    for line, exit_code, expected_output, expected_errors in LIFE_CYCLE:
        result = target.run(*(word.format(**values) for word in line.split()))
        errors = [re.sub(r"\. \(.*\)$", ".", one) for one in result.stderr.splitlines()]  # without details
        assert (result.exit_code, errors) == (exit_code, [one.format(**values) for one in expected_errors]), (
            line
        )
        assert normalised(result.stdout) == sorted(one.format(**values) for one in expected_output), line


LISTED, LENGTH = "<bytes and time>", "<length>"
WARMED = 4 * 3
"""The renditions of one original: every size in its own format, WebP and AVIF."""


def normalised(output: str) -> list[str]:
    """The sorted lines, with placeholders for times and lengths of encoded pictures."""
    timeless = re.sub(r"^ *\d+  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", LISTED, output, flags=re.MULTILINE)
    return sorted(
        re.sub(r"stored, [0-9.]+ \w+$", f"stored, {LENGTH}", timeless, flags=re.MULTILINE).splitlines()
    )


@pytest.mark.parametrize("existing", ["", "store", "store/other"])
@pytest.mark.parametrize(
    "line",
    ["ls", "inspect a.jpg", "link a.jpg", "warm a.jpg", "purge a.jpg", "rm a.jpg", "purge --gallery g"],
)
def test_command_on_a_mistyped_store_creates_nothing(tmp_path: Path, line: str, existing: str) -> None:
    (tmp_path / existing).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    store = str(tmp_path / "store")
    result = CliRunner().invoke(cli.main, [*line.split(), "--store", store])
    assert result.exit_code == 2
    assert (
        result.stderr == f"galerly-cdn: store: {store} has no folder originals; the first upload creates it\n"
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_ls_creates_nothing_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "originals" / "g").mkdir(parents=True)
    (tmp_path / "originals" / "g" / "a.jpg").write_bytes(b"photograph")
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(cli.main, ["ls", "--store", str(tmp_path)])
    assert (result.exit_code, result.stdout.split()[-1]) == (0, "g/a.jpg")
    assert sorted(tmp_path.rglob("*")) == before


# JSON


def test_link_prints_a_picture_with_the_right_sides(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    key = f"{gallery}/a.jpg"
    target.run("upload", photographs / "a.jpg", "--gallery", gallery)
    expected = Links("https://cdn.test").picture(key, 300, 200, "small", alt="A & B")
    options = ["--size", "small", "--alt", "A & B", "--url", "https://cdn.test"]
    assert target.run("link", key, *options).stdout == f"{expected}\n"
    (value,) = target.values("link", key, *options)
    assert (value["src"], value["width_px"], value["alt"]) == (expected.src, 300, "A & B")
    assert 'src="/resize/800x600/' in target.run("link", key).stdout
    assert target.run("link", key, "--size", "huge").exit_code == 2
    assert target.run("link", f"{gallery}/none").exit_code == 1


def test_json_output_has_one_value_a_line(target: CommandTarget, photographs: Path, gallery: str) -> None:
    key = f"{gallery}/a.jpg"
    (accepted,) = target.values("upload", photographs / "a.jpg", "--gallery", gallery)
    assert (accepted["key"], accepted["outcome"], accepted["width_px"]) == (key, "created", 300)
    (listed,) = target.values("ls", f"{gallery}/")
    assert (listed["key"], listed["length_bytes"]) == (key, accepted["length_bytes"])
    warmed = target.values("warm", key)
    assert len(warmed) == WARMED
    assert {one["key"] for one in warmed} == {key}
    (inspection,) = target.values("inspect", key)
    assert (inspection["key"], inspection["version"]) == (key, accepted["version"])
    renditions = inspection["renditions"]
    assert isinstance(renditions, list)
    assert len(renditions) == WARMED
    assert all(one["is_current"] and "gps" in one["lost"] for one in renditions)
    (purged,) = target.values("purge", key)
    removed = purged["removed"]
    assert isinstance(removed, list)
    assert sorted(removed) == sorted(one["target"] for one in renditions)
    assert target.values("rm", key) == [{"key": key, "existed": True, "removed": [], "refreshed": []}]
    (failed,) = target.values("warm", key)
    assert failed == {"failed": {"name": key, "code": "no-such-original", "message": NoSuchOriginal.public}}


def test_inspect_with_key_prints_stored_renditions_and_losses(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    key = f"{gallery}/a.jpg"
    target.run("upload", photographs / "a.jpg", "--gallery", gallery)
    assert "no rendition" in target.run("inspect", key).stdout
    target.run("warm", key)
    lines = target.run("inspect", key).stdout.splitlines()
    assert any(re.fullmatch(r" +key  " + re.escape(key), line) for line in lines)
    assert any(re.fullmatch(r" +stored  12 renditions", line) for line in lines)
    (stored,) = (line for line in lines if line.lstrip().startswith("150x150.webp "))
    assert re.search(r"webp, 150×100 px, [0-9.]+ \w+, current; lost: .*gps", stored)
    target.run("upload", photographs / "other" / "a.jpg", "--gallery", gallery, "--replace")
    assert "no rendition" in target.run("inspect", key).stdout


# failures


def test_upload_with_refused_photographs_uploads_the_others_and_prints_reasons(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    names = ["broken.jpg", "note.txt", "empty.jpg", "long.jpg", "a.jpg"]
    result = target.run("upload", *(photographs / one for one in names), "--gallery", gallery)
    assert result.exit_code == 1
    (created,) = result.stdout.splitlines()
    assert created.startswith(f"created    {gallery}/a.jpg  ")
    assert sorted(result.stderr.splitlines()) == sorted(
        [
            f"galerly-cdn: {photographs}/broken.jpg: {Undecodable.public}",
            f"galerly-cdn: {photographs}/note.txt: {UnsupportedFormat.public}",
            f"galerly-cdn: {photographs}/empty.jpg: {EmptyUpload.public}",
            f"galerly-cdn: {photographs}/long.jpg: {UploadTooLarge.public}",
            "1 of 5 done.",
        ]
    )
    assert [one["key"] for one in target.values("ls", f"{gallery}/")] == [f"{gallery}/a.jpg"]


def test_upload_of_a_folder_with_one_damaged_photograph_uploads_the_others(
    target: CommandTarget, photographs: Path, gallery: str, tmp_path: Path
) -> None:
    folder = tmp_path / "hundred"
    (folder / "day 2").mkdir(parents=True)
    for number in range(99):
        (folder / ("day 2" if number % 2 else ".") / f"{number:02}.png").hardlink_to(photographs / "b.png")
    (folder / "bad.jpg").hardlink_to(photographs / "broken.jpg")
    (folder / "notes.txt").touch()
    (folder / ".hidden.jpg").touch()
    result = target.run("upload", folder, "--gallery", gallery)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 99
    assert result.stderr.splitlines() == [
        f"galerly-cdn: {folder}/bad.jpg: {Undecodable.public}",
        "99 of 100 done.",
    ]
    keys = [one["key"] for one in target.values("ls", f"{gallery}/")]
    assert len(keys) == 99
    assert {f"{gallery}/00.png", f"{gallery}/day 2/01.png"} <= set(keys)


def test_upload_with_key_that_the_store_cannot_hold_fails(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    target.run("upload", photographs / "a.jpg", "--gallery", gallery)
    result = target.run("upload", photographs / "b.png", "--gallery", f"{gallery}/a.jpg")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith(f"{KeyNotHeld.public}\n")


def test_upload_uses_file_names_byte_for_byte(
    target: CommandTarget, photographs: Path, gallery: str, tmp_path: Path
) -> None:
    """The NFC and NFD forms of é (macOS may store NFD) are two keys."""
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).write_bytes((photographs / "b.png").read_bytes())
    assert len({file.name for file in tmp_path.iterdir()}) == 2
    assert target.run("upload", tmp_path, "--gallery", gallery).exit_code == 0
    assert {one["key"] for one in target.values("ls", f"{gallery}/")} == {
        f"{gallery}/{name}" for name in names
    }


def test_upload_of_file_names_that_are_not_utf_8_fails_with_printable_messages(
    target: CommandTarget, photographs: Path, gallery: str, tmp_path: Path
) -> None:
    for name in (b"\xff.png", b"\xfe.png", b"good.png"):
        (tmp_path / os.fsdecode(name)).write_bytes((photographs / "b.png").read_bytes())
    for option in ((), ("--json",)):
        result = target.run("upload", tmp_path, "--gallery", gallery, *option)
        assert result.exit_code == 1
        *errors, summary = result.stderr.splitlines()
        assert errors == [f"galerly-cdn: {tmp_path}/\ufffd.png: {MalformedKey.public}"] * 2
        assert summary == "1 of 3 done."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["upload", "{photographs}/a.jpg", "{photographs}/other/a.jpg", "--gallery", "g"],
            "have the same key, g/a.jpg",
        ),
        (
            ["upload", "{photographs}/a.jpg", "--gallery", "g/"],
            "no key can begin with g/: use a gallery such as wedding, or",
        ),
        (["purge", "--gallery", "../g"], "no key can begin with ../g: use a gallery such as wedding"),
        (["ls", "../g"], "no key can begin with ../g: use a prefix such as wedding/, or wedding/IMG_"),
        (["ls", "a//"], "no key can begin with a//"),
        (["upload", "{photographs}/a.jpg"], "Missing option '--gallery'"),
        (["upload", "{photographs}/none.jpg", "--gallery", "g"], "does not exist"),
        (["upload", "{empty}", "--gallery", "g"], "FILES contain no photograph"),
        (["purge"], "give either KEYS or --gallery"),
        (["warm", "a/b", "--gallery", "a"], "give either KEYS or --gallery"),
        (["rm"], "Missing argument 'KEYS...'"),
        (["ls", "--store", "/tmp", "--admin", "http://x"], "say one of the two"),
        (["ls", "--admin", "cdn.example.com"], "--admin: expected"),
        (["ls", "--store", "ftp://x"], "no store is known by this address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_error_exits_with_2(
    target: CommandTarget, photographs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    line = [one.format(photographs=photographs, empty=tmp_path) for one in arguments]
    if not {"--store", "--admin"} & set(line):
        line += target.options
    result = CliRunner().invoke(cli.main, line)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_command_without_store_and_admin_exits_with_2() -> None:
    result = CliRunner().invoke(cli.main, ["ls"])
    assert result.exit_code == 2
    assert "say where the originals are: --store ADDRESS or --admin URL" in result.stderr


def test_settings_can_name_the_store_or_the_cdn(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    target.run("upload", photographs / "a.jpg", "--gallery", gallery)
    option, value = target.options
    env = {f"GALERLY_{option[2:].upper()}": value}
    listed = CliRunner().invoke(cli.main, ["ls", f"{gallery}/"], env=env)
    assert listed.stdout.endswith(f"  {gallery}/a.jpg\n")
    key = CliRunner().invoke(cli.main, ["inspect", f"{gallery}/a.jpg"], env=env)
    assert f"key  {gallery}/a.jpg\n" in key.stdout
    file = CliRunner().invoke(cli.main, ["inspect", str(photographs / "a.jpg")], env=env)
    assert file.exit_code == 0
    assert "key  " not in file.stdout


def test_upload_to_unreachable_cdn_prints_one_error(photographs: Path) -> None:
    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        result = CliRunner().invoke(
            cli.main, ["upload", str(photographs), "--gallery", "g", "--admin", address]
        )
    assert (result.exit_code, result.stdout) == (1, "")
    progress, error = result.stderr.splitlines()
    assert progress == "0 of 6 done."
    assert error.startswith(f"galerly-cdn: {CdnUnreachable.public} ({address}: ")


def test_admin_token_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    tokens, settings = tmp_path / "tokens", tmp_path / "galerly.toml"
    tokens.write_text("a" * 32 + "\n")
    settings.write_text(f'admin_token_file = "{tokens}"')
    with running(tmp_path / "store", "--admin-token-file", str(tokens)) as address:

        def ls(*options: str, token: str = "") -> Result:
            env = {"GALERLY_ADMIN_TOKEN": token} if token else {}
            arguments = ["ls", "--admin", address, *options]
            return CliRunner().invoke(cli.main, arguments, env=env)

        assert ls(token="a" * 32).exit_code == 0
        assert ls("--config", str(settings)).exit_code == 0
        for refused in (ls(), ls(token="b" * 32), ls("--config", str(settings), token="b" * 32)):
            assert (refused.exit_code, refused.stdout) == (1, "")
            assert refused.stderr.startswith(f"galerly-cdn: {Unauthorized.public} (")
            assert "bbbb" not in refused.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")
def test_upload_memory_does_not_depend_on_the_length(
    target: CommandTarget, gallery: str, tmp_path: Path
) -> None:
    def peak_kib(length_bytes: int) -> int:
        file = tmp_path / f"{length_bytes}.jpg"
        with file.open("wb") as out:
            out.truncate(length_bytes)
        process = subprocess.Popen(
            [*PROGRAM, "upload", str(file), "--gallery", gallery, *target.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(GALERLY_WORKERS="1"),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 1  # zeros are not a photograph
        return usage.ru_maxrss

    assert peak_kib(60_000_000) < peak_kib(100_000) + 16 * 1024


# terminals and interruptions


def test_upload_on_a_busy_machine_is_repeated_and_says_so(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = StoreLibrary.upload
    busy = [RenderTimeout(), QueueFull()]

    async def refuse_twice(
        library: StoreLibrary,
        key: str,
        chunks: AsyncIterator[bytes],
        *,
        replaces: bool,
        digests: dict[str, bytes],
    ) -> Accepted:
        if busy:
            raise busy.pop()
        return await upload(library, key, chunks, replaces=replaces, digests=digests)

    monkeypatch.setattr(StoreLibrary, "upload", refuse_twice)
    for error in busy:
        monkeypatch.setattr(error, "retry_after_s", 0.001)
    file = photographs / "a.jpg"
    result = CliRunner().invoke(cli.main, ["upload", str(file), "--gallery", "g", "--store", str(tmp_path)])
    assert result.exit_code == 0
    assert result.stdout.startswith("created")
    lines = [f"{file}: {error.public} It is sent again in 0 s." for error in (QueueFull, RenderTimeout)]
    assert result.stderr.splitlines() == [f"galerly-cdn: {line}" for line in lines]


def test_upload_on_a_terminal_prints_a_counter(
    target: CommandTarget, photographs: Path, gallery: str
) -> None:
    controller, terminal_fd = pty.openpty()
    files = [str(photographs / "a.jpg"), str(photographs / "b.png")]
    process = subprocess.Popen(
        [*PROGRAM, "upload", *files, "--gallery", gallery, *target.options],
        stdout=subprocess.PIPE,
        stderr=terminal_fd,
        env=environment(),
        text=True,
    )
    os.close(terminal_fd)
    output, _ = process.communicate(timeout=60)
    shown = os.read(controller, 10_000).decode()
    os.close(controller)
    assert [line.split()[0] for line in output.splitlines()] == ["created"] * 2
    assert [one for one in re.split(r"\r|\x1b\[K", shown) if one.strip()] == [
        "0 of 2 ",
        "1 of 2 ",
        "2 of 2 ",
        "2 of 2 done.",
    ]


def test_rm_on_a_terminal_asks_for_confirmation(
    target: CommandTarget, photographs: Path, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"{gallery}/a.jpg"
    target.run("upload", photographs / "a.jpg", "--gallery", gallery)
    questions: list[str] = []

    def confirm(text: str, **_: object) -> None:
        questions.append(text)
        raise click.Abort

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr(originals, "_is_terminal", lambda: True)
    result = target.run("rm", key)
    assert result.exit_code == 1
    assert questions == [f"Delete {key}, original and renditions?"]
    assert target.values("ls", f"{gallery}/")
    assert target.run("rm", key, "--yes").exit_code == 0
    assert len(questions) == 1
    assert not target.values("ls", f"{gallery}/")


def test_interrupted_upload_continues_when_repeated(
    target: CommandTarget, photographs: Path, gallery: str, tmp_path: Path
) -> None:
    """The last file is a pipe without data, so the command waits for it until it is interrupted."""
    for number in range(20):
        (tmp_path / f"{number:02}.png").write_bytes((photographs / "b.png").read_bytes())
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    files = [str(one) for one in sorted(tmp_path.iterdir())]
    line = [*PROGRAM, "upload", *files, "--gallery", gallery, *target.options]
    writer = os.open(pipe, os.O_RDWR)
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout
    assert process.stderr
    try:
        for _ in range(20):
            assert process.stdout.readline().startswith("created    ")
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "20 of 21 done.\n"
    finally:
        os.close(writer)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (1, "", "\nAborted!\n")
    pipe.unlink()
    pipe.write_bytes((photographs / "a.jpg").read_bytes())
    repeated = target.run("upload", *files, "--gallery", gallery)
    assert repeated.exit_code == 0
    assert sorted(line.split()[0] for line in repeated.stdout.splitlines()) == [
        "created",
        *["unchanged"] * 20,
    ]
    assert not list(target.folder.rglob("incoming-*"))
