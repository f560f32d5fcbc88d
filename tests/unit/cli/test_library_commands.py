"""Originals in and out by commands: on a store, or with a running CDN, they print the same and end alike."""

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
from galerly_cdn.errors import Unauthorized, UploadTooLarge
from galerly_cdn.links import Links
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.cdn_process import PROGRAM, environment, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Place(NamedTuple):
    """A store's folder, and how a command is told where it is."""

    folder: Path
    options: tuple[str, ...]

    def run(self, *arguments: str | Path, **options: str) -> Result:
        told = [*map(str, arguments), *self.options]
        return CliRunner().invoke(cli.main, told, **options)  # type: ignore[arg-type]  # `input` alone

    def values(self, *arguments: str | Path) -> list[dict[str, object]]:
        done = self.run(*arguments, "--json")
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A running CDN: its store, and its admin side's address."""
    folder = tmp_path_factory.mktemp("store")
    with running(folder) as address:
        yield folder, address


@pytest.fixture(params=["store", "admin"])
def place(request: pytest.FixtureRequest, cdn: tuple[Path, str]) -> Place:
    folder, address = cdn
    return Place(folder, ("--store", str(folder)) if request.param == "store" else ("--admin", address))


@pytest.fixture
def gallery() -> str:
    """One that no other test uses."""
    return f"g {uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_WORKERS", "2")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs to upload: two of them of one name."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "a.jpg").write_bytes(pictures.jpeg(300, 200, gps=True))
    (desk / "b.png").write_bytes(pictures.png(60, 40))
    (desk / "broken.jpg").write_bytes(pictures.truncated(pictures.jpeg(300, 200)))
    (desk / "note.txt").write_text("no photograph")
    (desk / "empty.jpg").touch()
    with (desk / "long.jpg").open("wb") as long:
        long.truncate(Settings().max_original_bytes + 1)
    (desk / "other").mkdir()
    (desk / "other" / "a.jpg").write_bytes(pictures.jpeg(310, 200))
    return desk


EXISTS = "There is another photograph of this name already; set replace to overwrite it."
LIFE = [
    # what is asked, how it ends, the lines on stdout in any order, those on stderr
    (
        "upload {desk}/a.jpg {desk}/b.png --gallery {g}",
        0,
        ["created    {g}/a.jpg  jpeg, 300×200 px, {a}", "created    {g}/b.png  png, 60×40 px, {b}"],
        [],
    ),
    (
        "upload {desk}/a.jpg --gallery {g}",
        0,
        ["unchanged  {g}/a.jpg  jpeg, 300×200 px, {a}"],
        [],
    ),
    (
        "upload {desk}/other/a.jpg {desk}/b.png --gallery {g}",
        1,
        ["unchanged  {g}/b.png  png, 60×40 px, {b}"],
        [f"galerly-cdn: {{desk}}/other/a.jpg: {EXISTS}", "1 of 2 done."],
    ),
    (
        "upload {desk}/other/a.jpg --gallery {g} --replace",
        0,
        ["replaced   {g}/a.jpg  jpeg, 310×200 px, {other}"],
        [],
    ),
    ("ls {g}/", 0, ["{listed} {g}/a.jpg", "{listed} {g}/b.png"], []),
    ("ls {g}/b", 0, ["{listed} {g}/b.png"], []),
    ("warm {g}/b.png", 0, ["warmed  {g}/b.png  {all} made, 0 were there, {length}"], []),
    (
        "warm --gallery {g}",
        0,
        [
            "warmed  {g}/a.jpg  {all} made, 0 were there, {length}",
            "warmed  {g}/b.png  0 made, {all} were there, {length}",
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
        0,
        ["absent   {g}/a.jpg  0 renditions", "deleted  {g}/b.png  0 renditions"],
        [],
    ),
    ("ls {g}/", 0, [], []),
    ("warm {g}/a.jpg", 1, [], ["galerly-cdn: {g}/a.jpg: There is no photograph of this name."]),
    ("purge {g}/a.jpg", 0, ["purged  {g}/a.jpg  0 renditions"], []),
    ("inspect {g}/a.jpg", 1, [], ["galerly-cdn: There is no photograph of this name."]),
    ("purge --gallery {g}", 1, [], ["galerly-cdn: There is no photograph of this name."]),
]


def test_a_gallery_is_uploaded_replaced_listed_warmed_purged_and_removed(
    place: Place, desk: Path, gallery: str
) -> None:
    told = {
        "desk": str(desk),
        "g": gallery,
        "a": terminal.format_bytes((desk / "a.jpg").stat().st_size),
        "b": terminal.format_bytes((desk / "b.png").stat().st_size),
        "other": terminal.format_bytes((desk / "other" / "a.jpg").stat().st_size),
        "all": str(WARMED),
        "listed": LISTED,
        "length": LENGTH,
    }
    for line, exit_code, printed, complaints in LIFE:
        done = place.run(*(word.format(**told) for word in line.split()))
        complained = [re.sub(r"\. \(.*\)$", ".", one) for one in done.stderr.splitlines()]  # details differ
        assert (done.exit_code, complained) == (exit_code, [one.format(**told) for one in complaints]), line
        assert plain(done.stdout) == sorted(one.format(**told) for one in printed), line


LISTED, LENGTH = "<bytes and time>", "<length>"
WARMED = 4 * 3
"""Every size in the original's own format, WebP and AVIF."""


def plain(output: str) -> list[str]:
    """Lines without what no table can say: times, and the lengths of encoded pictures."""
    timeless = re.sub(r"^ *\d+  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", LISTED, output, flags=re.MULTILINE)
    return sorted(
        re.sub(r"there, [0-9.]+ \w+$", f"there, {LENGTH}", timeless, flags=re.MULTILINE).splitlines()
    )


# JSON


def test_link_writes_a_picture_of_the_right_sides(place: Place, desk: Path, gallery: str) -> None:
    key = f"{gallery}/a.jpg"
    place.run("upload", desk / "a.jpg", "--gallery", gallery)
    expected = Links("https://cdn.test").picture(key, 300, 200, "small", alt="A & B")
    options = ["--size", "small", "--alt", "A & B", "--url", "https://cdn.test"]
    assert place.run("link", key, *options).stdout == f"{expected}\n"
    (told,) = place.values("link", key, *options)
    assert (told["src"], told["width_px"], told["alt"]) == (expected.src, 300, "A & B")
    assert 'src="/resize/800x600/' in place.run("link", key).stdout
    assert place.run("link", key, "--size", "huge").exit_code == 2
    assert place.run("link", f"{gallery}/none").exit_code == 1


def test_json_is_one_value_on_a_line(place: Place, desk: Path, gallery: str) -> None:
    key = f"{gallery}/a.jpg"
    (accepted,) = place.values("upload", desk / "a.jpg", "--gallery", gallery)
    assert (accepted["key"], accepted["outcome"], accepted["width_px"]) == (key, "created", 300)
    (listed,) = place.values("ls", f"{gallery}/")
    assert (listed["key"], listed["length_bytes"]) == (key, accepted["length_bytes"])
    warmed = place.values("warm", key)
    assert len(warmed) == WARMED
    assert {one["key"] for one in warmed} == {key}
    (found,) = place.values("inspect", key)
    assert (found["key"], found["version"]) == (key, accepted["version"])
    renditions = found["renditions"]
    assert isinstance(renditions, list)
    assert len(renditions) == WARMED
    assert all(one["is_current"] and "gps" in one["lost"] for one in renditions)
    (purged,) = place.values("purge", key)
    removed = purged["removed"]
    assert isinstance(removed, list)
    assert sorted(removed) == sorted(one["target"] for one in renditions)
    assert place.values("rm", key) == [{"key": key, "existed": True, "removed": []}]
    (failed,) = place.values("warm", key)
    assert failed == {
        "failed": {"name": key, "code": "no-such-original", "message": "There is no photograph of this name."}
    }


def test_inspect_of_a_key_tells_what_is_stored_and_what_it_lost(
    place: Place, desk: Path, gallery: str
) -> None:
    key = f"{gallery}/a.jpg"
    place.run("upload", desk / "a.jpg", "--gallery", gallery)
    assert "no rendition" in place.run("inspect", key).stdout
    place.run("warm", key)
    lines = place.run("inspect", key).stdout.splitlines()
    assert any(re.fullmatch(r" +key  " + re.escape(key), line) for line in lines)
    assert any(re.fullmatch(r" +stored  12 renditions", line) for line in lines)
    (stored,) = (line for line in lines if line.lstrip().startswith("150x150.webp "))
    assert re.search(r"webp, 150×100 px, [0-9.]+ \w+, current; lost: .*gps", stored)
    place.run("upload", desk / "other" / "a.jpg", "--gallery", gallery, "--replace")
    assert "no rendition" in place.run("inspect", key).stdout


# what fails


def test_a_refused_photograph_stops_no_other_and_is_told_with_its_reason(
    place: Place, desk: Path, gallery: str
) -> None:
    names = ["broken.jpg", "note.txt", "empty.jpg", "long.jpg", "a.jpg"]
    done = place.run("upload", *(desk / one for one in names), "--gallery", gallery)
    assert done.exit_code == 1
    (created,) = done.stdout.splitlines()
    assert created.startswith(f"created    {gallery}/a.jpg  ")
    assert sorted(done.stderr.splitlines()) == sorted(
        [
            f"galerly-cdn: {desk}/broken.jpg: The photograph is damaged or incomplete.",
            f"galerly-cdn: {desk}/note.txt: The photograph's format is not supported.",
            f"galerly-cdn: {desk}/empty.jpg: The upload is empty.",
            f"galerly-cdn: {desk}/long.jpg: {UploadTooLarge.public}",
            "1 of 5 done.",
        ]
    )
    assert [one["key"] for one in place.values("ls", f"{gallery}/")] == [f"{gallery}/a.jpg"]


def test_of_a_hundred_photographs_one_that_is_bad_costs_none_of_the_others(
    place: Place, desk: Path, gallery: str, tmp_path: Path
) -> None:
    folder = tmp_path / "hundred"
    (folder / "day 2").mkdir(parents=True)
    for number in range(99):
        (folder / ("day 2" if number % 2 else ".") / f"{number:02}.png").hardlink_to(desk / "b.png")
    (folder / "bad.jpg").hardlink_to(desk / "broken.jpg")
    (folder / "notes.txt").touch()
    (folder / ".hidden.jpg").touch()
    done = place.run("upload", folder, "--gallery", gallery)
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 99
    assert done.stderr.splitlines() == [
        f"galerly-cdn: {folder}/bad.jpg: The photograph is damaged or incomplete.",
        "99 of 100 done.",
    ]
    keys = [one["key"] for one in place.values("ls", f"{gallery}/")]
    assert len(keys) == 99
    assert {f"{gallery}/00.png", f"{gallery}/day 2/01.png"} <= set(keys)


def test_a_key_the_store_cannot_hold_is_refused(place: Place, desk: Path, gallery: str) -> None:
    place.run("upload", desk / "a.jpg", "--gallery", gallery)
    done = place.run("upload", desk / "b.png", "--gallery", f"{gallery}/a.jpg")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("The store cannot hold a photograph with exactly this name.\n")


def test_a_key_is_the_files_name_byte_for_byte(
    place: Place, desk: Path, gallery: str, tmp_path: Path
) -> None:
    """macOS writes é as two characters where a link's author types one: two names, two photographs."""
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).write_bytes((desk / "b.png").read_bytes())
    assert len({file.name for file in tmp_path.iterdir()}) == 2
    assert place.run("upload", tmp_path, "--gallery", gallery).exit_code == 0
    assert {one["key"] for one in place.values("ls", f"{gallery}/")} == {
        f"{gallery}/{name}" for name in names
    }


def test_a_name_that_is_no_text_is_refused_and_printable(
    place: Place, desk: Path, gallery: str, tmp_path: Path
) -> None:
    for name in (b"\xff.png", b"\xfe.png", b"good.png"):
        (tmp_path / os.fsdecode(name)).write_bytes((desk / "b.png").read_bytes())
    for option in ((), ("--json",)):
        done = place.run("upload", tmp_path, "--gallery", gallery, *option)
        assert done.exit_code == 1
        *complaints, summary = done.stderr.splitlines()
        assert (
            complaints
            == [f"galerly-cdn: {tmp_path}/\ufffd.png: The picture's name in the address is malformed."] * 2
        )
        assert summary == "1 of 3 done."


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["upload", "{desk}/a.jpg", "{desk}/other/a.jpg", "--gallery", "g"], "would both be g/a.jpg"),
        (["upload", "{desk}/a.jpg", "--gallery", "g/"], "no key begins with g/: write wedding, or"),
        (["purge", "--gallery", "../g"], "no key begins with ../g: write wedding"),
        (["ls", "../g"], "no key begins with ../g: write wedding/, or wedding/IMG_"),
        (["ls", "a//"], "no key begins with a//"),
        (["upload", "{desk}/a.jpg"], "Missing option '--gallery'"),
        (["upload", "{desk}/none.jpg", "--gallery", "g"], "does not exist"),
        (["upload", "{empty}", "--gallery", "g"], "there is no photograph in what was named"),
        (["purge"], "say which: KEYS or --gallery"),
        (["warm", "a/b", "--gallery", "a"], "say which: KEYS or --gallery"),
        (["rm"], "Missing argument 'KEYS...'"),
        (["ls", "--store", "/tmp", "--admin", "http://x"], "say one of the two"),
        (["ls", "--admin", "cdn.example.com"], "--admin: expected"),
        (["ls", "--store", "ftp://x"], "no store is known by this address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_wrongly_ends_with_2(
    place: Place, desk: Path, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    words = [one.format(desk=desk, empty=tmp_path) for one in arguments]
    asked = words if {"--store", "--admin"} & set(words) else [*words, *place.options]
    done = CliRunner().invoke(cli.main, asked)
    assert (done.exit_code, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_without_a_place_a_command_asks_for_one() -> None:
    done = CliRunner().invoke(cli.main, ["ls"])
    assert done.exit_code == 2
    assert "say where the originals are: --store ADDRESS or --admin URL" in done.stderr


def test_a_setting_may_say_where(place: Place, desk: Path, gallery: str) -> None:
    place.run("upload", desk / "a.jpg", "--gallery", gallery)
    option, value = place.options
    env = {f"GALERLY_{option[2:].upper()}": value}
    listed = CliRunner().invoke(cli.main, ["ls", f"{gallery}/"], env=env)
    assert listed.stdout.endswith(f"  {gallery}/a.jpg\n")
    key = CliRunner().invoke(cli.main, ["inspect", f"{gallery}/a.jpg"], env=env)
    assert f"key  {gallery}/a.jpg\n" in key.stdout
    file = CliRunner().invoke(cli.main, ["inspect", str(desk / "a.jpg")], env=env)
    assert file.exit_code == 0
    assert "key  " not in file.stdout


def test_nobody_at_the_address_is_told_once_however_many_were_to_go(desk: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: refused for as long as the test runs
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(cli.main, ["upload", str(desk), "--gallery", "g", "--admin", address])
    assert (done.exit_code, done.stdout) == (1, "")
    progress, complaint = done.stderr.splitlines()
    assert progress == "0 of 6 done."
    assert complaint.startswith(f"galerly-cdn: The admin API cannot be reached. ({address}: ")


def test_an_admin_side_wants_its_token_from_the_environment_or_a_file(tmp_path: Path) -> None:
    tokens, settings = tmp_path / "tokens", tmp_path / "galerly.toml"
    tokens.write_text("a" * 32 + "\n")
    settings.write_text(f'admin_token_file = "{tokens}"')
    with running(tmp_path / "store", "--admin-token-file", str(tokens)) as address:

        def ask(*options: str, token: str = "") -> Result:
            env = {"GALERLY_ADMIN_TOKEN": token} if token else {}
            arguments = ["ls", "--admin", address, *options]
            return CliRunner().invoke(cli.main, arguments, env=env)

        assert ask(token="a" * 32).exit_code == 0
        assert ask("--config", str(settings)).exit_code == 0
        for refused in (ask(), ask(token="b" * 32), ask("--config", str(settings), token="b" * 32)):
            assert (refused.exit_code, refused.stdout) == (1, "")
            assert refused.stderr.startswith(f"galerly-cdn: {Unauthorized.public} (")
            assert "bbbb" not in refused.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")
def test_memory_is_the_same_whatever_the_length_of_an_upload(
    place: Place, gallery: str, tmp_path: Path
) -> None:
    def peak_kib(length_bytes: int) -> int:
        file = tmp_path / f"{length_bytes}.jpg"
        with file.open("wb") as out:
            out.truncate(length_bytes)
        process = subprocess.Popen(
            [*PROGRAM, "upload", str(file), "--gallery", gallery, *place.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(GALERLY_WORKERS="1"),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 1  # zeros are no photograph
        return usage.ru_maxrss

    assert peak_kib(60_000_000) < peak_kib(100_000) + 16 * 1024


# on a terminal, and cut off


def test_on_a_terminal_a_counter_tells_how_far_it_is(place: Place, desk: Path, gallery: str) -> None:
    ours, theirs = pty.openpty()
    files = [str(desk / "a.jpg"), str(desk / "b.png")]
    process = subprocess.Popen(
        [*PROGRAM, "upload", *files, "--gallery", gallery, *place.options],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(),
        text=True,
    )
    os.close(theirs)
    output, _ = process.communicate(timeout=60)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert [line.split()[0] for line in output.splitlines()] == ["created"] * 2
    assert [one for one in re.split(r"\r|\x1b\[K", shown) if one.strip()] == [
        "0 of 2 ",
        "1 of 2 ",
        "2 of 2 ",
        "2 of 2 done.",
    ]


def test_rm_asks_on_a_terminal(
    place: Place, desk: Path, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"{gallery}/a.jpg"
    place.run("upload", desk / "a.jpg", "--gallery", gallery)
    asked: list[str] = []

    def confirm(text: str, **_: object) -> None:
        asked.append(text)
        raise click.Abort

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr(originals, "_is_terminal", lambda: True)
    done = place.run("rm", key)
    assert done.exit_code == 1
    assert asked == [f"Delete {key}, original and renditions?"]
    assert place.values("ls", f"{gallery}/")
    assert place.run("rm", key, "--yes").exit_code == 0
    assert len(asked) == 1
    assert not place.values("ls", f"{gallery}/")


def test_an_upload_that_is_interrupted_goes_on_when_run_again(
    place: Place, desk: Path, gallery: str, tmp_path: Path
) -> None:
    """The last photograph never comes: its file is a pipe that nobody writes to."""
    for number in range(20):
        (tmp_path / f"{number:02}.png").write_bytes((desk / "b.png").read_bytes())
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    files = [str(one) for one in sorted(tmp_path.iterdir())]
    line = [*PROGRAM, "upload", *files, "--gallery", gallery, *place.options]
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
    output, complaints = process.communicate(timeout=60)
    assert (process.returncode, output, complaints) == (1, "", "\nAborted!\n")
    pipe.unlink()
    pipe.write_bytes((desk / "a.jpg").read_bytes())
    again = place.run("upload", *files, "--gallery", gallery)
    assert again.exit_code == 0
    assert sorted(line.split()[0] for line in again.stdout.splitlines()) == ["created", *["unchanged"] * 20]
    assert not list(place.folder.rglob("incoming-*"))
