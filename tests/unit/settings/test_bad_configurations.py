"""Runs a command with configurations that cannot work: exit status 2, and one line that names the setting.

A panic of a library is text on the descriptor of stderr, which only `capfd` sees.
"""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from galerly_cdn import cli
from galerly_cdn.errors import SettingsError
from galerly_cdn.settings import load

ENDPOINT, REGION = "GALERLY_STORE_ENDPOINT", "AWS_REGION"
KEY_ID, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"}
BAD: list[tuple[str, dict[str, str], str]] = [
    *(
        ("s3://bucket", {ENDPOINT: endpoint}, ENDPOINT)
        for endpoint in (
            "localhost:9000", "127.0.0.1:1", "//host", "http://", "https://", "http:///x", "ftp://host",
            "HTTP://host", "http://[::1", "http://a b", "http://host:99999", "http://host:0", "http://host:port",
            "http:/host", "https//host", "s3.example.com", "é", " ", "http://user:secret@host", "http://host?x=1",
            "http://host#f", "http://host\n", "http://host//x", "http://ho\tst",
        )
    ),
    ("s3://bucket", {"AWS_ENDPOINT_URL": "localhost:9000"}, "AWS_ENDPOINT_URL"),
    ("s3://bucket", {"AWS_ENDPOINT_URL_S3": "s3.example.com"}, "AWS_ENDPOINT_URL_S3"),
    ("s3://bucket", {REGION: "us east"}, REGION),
    ("s3://bucket", {REGION: "us/east?x"}, REGION),
    ("s3://bucket", {REGION: "eu-central-1\n"}, REGION),
    ("s3://bucket", {"AWS_DEFAULT_REGION": "é"}, "AWS_DEFAULT_REGION"),
    ("s3://bucket", {KEY_ID: "secret\n"}, KEY_ID),
    ("s3://bucket", {KEY_ID: "é"}, KEY_ID),
    ("s3://bucket", {SECRET: "secret "}, SECRET),
    ("s3://bucket", {SECRET: ""}, SECRET),
    ("s3://bucket", {KEY_ID: ""}, KEY_ID),
    ("s3://bucket", {"AWS_SESSION_TOKEN": "secret\n"}, "AWS_SESSION_TOKEN"),
    ("s3://bucket", {"HTTPS_PROXY": "nonsense:::"}, "HTTPS_PROXY"),
    (
        "s3://bucket",
        {KEY_ID: "", SECRET: "", "AWS_WEB_IDENTITY_TOKEN_FILE": "/none", "AWS_ROLE_ARN": "x"},
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    ("s3://buc ket", {}, "store"),
    ("s3://bücket", {}, "store"),
    ("s3://user:secret@bucket", {}, "store"),
    ("s3://bucket:80", {}, "store"),
    ("s3://bucket%20", {}, "store"),
    ("s3://bucket//x", {}, "store"),
    ("s3://bucket/../x", {}, "store"),
    ("s3://bucket/x\n", {}, "store"),
    ("s3:///x", {}, "store"),
    ("s3://", {}, "store"),
    ("S3://bucket", {}, "store"),
    ("swift://bucket", {}, "store"),
    ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT": "/none"}, "GOOGLE_SERVICE_ACCOUNT"),
    ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}, "GOOGLE_SERVICE_ACCOUNT_KEY"),
    ("az://container", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
    ("az://container", {**AZURE, "AZURE_STORAGE_ACCOUNT_NAME": "a b"}, "AZURE_STORAGE_ACCOUNT_NAME"),
    ("az://container", {**AZURE, "AZURE_STORAGE_ACCOUNT_KEY": "%%%"}, "AZURE_STORAGE_ACCOUNT_KEY"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith(("GALERLY_", "AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in {KEY_ID: "tests", SECRET: "tests", REGION: "us-east-1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("store", "variables", "name"), BAD)
@pytest.mark.parametrize("command", [("ls",), ("warm", "a.jpg")])
def test_bad_configuration_is_one_line_that_names_the_setting(
    command: tuple[str, ...],
    store: str,
    variables: dict[str, str],
    name: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    result = CliRunner().invoke(cli.main, [*command, "--store", store], env=variables)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"galerly-cdn: {name}")
    assert "secret" not in line
    assert capfd.readouterr() == ("", "")


def test_endpoint_of_a_server_is_accepted() -> None:
    for endpoint in (
        "", "http://127.0.0.1:9000", "https://s3.example.com", "https://s3.example.com/", "http://[::1]:9000",
        "http://minio:9000/store", "https://account.r2.cloudflarestorage.com", "http://minio_1:65535",
    ):  # fmt: skip
        assert load.load_settings(environment={ENDPOINT: endpoint}).settings.store_endpoint == endpoint


def test_empty_variable_of_a_cloud_counts_as_unset() -> None:
    variables = {
        KEY_ID: "",
        SECRET: "",
        REGION: "",
        "AZURE_STORAGE_ACCOUNT_NAME": "",
        "OTHER": "",
        "AWS_X": "1",
    }
    load.prepare_cloud_variables("s3://bucket", variables)
    assert variables == {"OTHER": "", "AWS_X": "1"}


def test_variables_of_another_cloud_are_not_checked() -> None:
    load.prepare_cloud_variables("gs://bucket", {REGION: "us east", KEY_ID: "one"})
    with pytest.raises(SettingsError):
        load.prepare_cloud_variables("s3://bucket", {REGION: "us east"})
