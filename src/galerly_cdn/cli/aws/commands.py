"""The command group `aws`, and its commands that only write files: `template` and `build`."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.aws import deploy, deployed, local, logs, verify, warm

_LAMBDA_EDGE = click.option(
    "--lambda-edge",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Run the viewer function as Lambda@Edge: slower, and six times the price.",
)


@click.group(epilog="Example: galerly-cdn aws template")
def aws() -> None:
    """Deploy to AWS (CloudFront, a viewer function, S3, Lambda for missing renditions), or run it locally."""


@aws.command(epilog="Example: galerly-cdn aws template --config galerly.toml")
@_LAMBDA_EDGE
@terminal.CONFIG
def template(file: Path | None, lambda_edge: str) -> None:
    """Print the CloudFormation template for the settings. It describes its parameters."""
    from galerly_cdn.aws.deploy import template as cloudformation

    settings = terminal.load_settings(file).settings
    click.echo(cloudformation.render(settings, with_lambda_edge=lambda_edge == "on"), nl=False)


@aws.command(epilog="Example: galerly-cdn aws build --out dist")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to."
)
@_LAMBDA_EDGE
@terminal.CONFIG
@terminal.JSON
def build(out: Path, file: Path | None, lambda_edge: str, *, as_json: bool) -> None:
    """Write resizer.zip, viewer.js and template.yaml, the files that are deployed.

    pip fetches the zip's packages for Lambda's machine, by version and hash.
    """
    from galerly_cdn.aws.deploy import build as package

    settings = terminal.load_settings(file).settings
    built = package.build(
        settings, out, with_lambda_edge=lambda_edge == "on", progress=functools.partial(click.echo, err=True)
    )
    text = f"{built.zip}: {built.zip_bytes} bytes, sha256 {built.sha256}\n{built.viewer}\n{built.template}"
    terminal.print_value(built, text, as_json=as_json)


for _command in (
    *(local.local, deploy.deploy, deploy.execute, deployed.destroy),
    *(verify.verify, warm.warm, logs.logs),
):
    aws.add_command(_command)
