"""The commands that deploy to AWS: they show what they would do, ask, do it, and try it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.aws import deployed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from galerly_cdn.aws.deploy.deployment import Deployment, DeploymentRequest, Package
    from galerly_cdn.aws.deploy.stack import StackState
    from galerly_cdn.settings.table import Settings

_ON_OFF = click.Choice(["on", "off"])
_PARAMETERS = {
    "bucket": "BucketName",
    "domain": "Domain",
    "certificate": "Certificate",
    "hosted_zone": "HostedZone",
    "prewarm": "Prewarm",
}
"""Options that are parameters of the template, which `--set` tells by their own names."""


def _settings(file: Path | None, private: tuple[str, ...], avif: str) -> Settings:
    from galerly_cdn.aws.deploy.deployment import without_avif

    settings = terminal.load_settings(file, private_prefixes=private or None).settings
    return settings if avif == "on" else without_avif(settings)


def _wanted(options: Mapping[str, Any]) -> DeploymentRequest:
    """Raises `UsageError`."""
    from galerly_cdn.aws.deploy.deployment import DeploymentRequest

    told = {name: options[option] for option, name in _PARAMETERS.items() if options[option] is not None}
    for pair in options["pairs"]:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: write NAME=VALUE.")
        told[name] = value
    return DeploymentRequest(
        stack=options["name"],
        parameters=told,
        code_bucket=options["code_bucket"] or "",
        role=options["role"] or "",
        takes_over=options["take_over"],
    )


@click.command(epilog="Example: galerly-cdn aws deploy --stack photographs --prewarm on")
@deployed.STACK
@click.option("--bucket", help="The bucket to make for originals and renditions. [STACK-ACCOUNT]")
@click.option("--take-over", is_flag=True, help="It exists: make it part of the stack, its keys as they are.")
@click.option("--domain", help="Host name of the CDN; needs --certificate.")
@click.option("--certificate", help="ARN of the Domain's certificate in us-east-1.")
@click.option("--hosted-zone", help="ID of the Route 53 zone to point the Domain from.")
@click.option(
    "--private", multiple=True, metavar="PREFIX", help="A private folder (the setting, again here)."
)
@click.option("--avif", type=_ON_OFF, default="on", show_default=True, help="off takes it out of `sizes`.")
@click.option("--prewarm", type=_ON_OFF, help="Make every picture of an upload at once.")
@click.option("--lambda-edge", type=_ON_OFF, default="off", show_default=True, help="See `aws template`.")
@click.option(
    "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Another parameter of the template."
)
@click.option(
    "--code-bucket", help="Bucket for the code, made if it is not there. [galerly-cdn-code-ACCOUNT]"
)
@click.option("--role", help="ARN of the role that CloudFormation acts by. [your own rights]")
@click.option("--dry-run", is_flag=True, help="Build and show; nothing is uploaded, made or changed.")
@click.option("--prepare", is_flag=True, help="Make and show the change set, for `aws execute` to execute.")
@deployed.YES
@terminal.CONFIG
def deploy(file: Path | None, *, dry_run: bool, prepare: bool, yes: bool, **options: Any) -> None:  # noqa: ANN401 - click's
    """Deploy to AWS, or change what is deployed: build, upload, show what would change, ask, do it, try it.

    What is not told stays as it is deployed; for a new stack it is the template's default. Settings (sizes,
    private prefixes, keys) are not remembered: they are those of --config and the environment, each time.
    """
    from galerly_cdn.aws.deploy import deployment as deployments

    tell = functools.partial(click.echo, err=prepare)
    settings = _settings(file, options["private"], options["avif"])
    wanted = deployments.checked_request(_wanted(options))
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-") as scratch:
        is_edge = options["lambda_edge"] == "on"
        package = deployments.package(settings, Path(scratch), with_lambda_edge=is_edge)
        tell(_package_lines(package))
        deployment = _deployment(wanted, package, tell, is_dry=dry_run)
        if deployment is None or dry_run:
            tell("Nothing was uploaded, made or changed.")
            return
        deployment.check()
        deployment.upload()
        proposed = deployment.propose()
        if proposed is None:
            tell("No changes: what is deployed is what was asked for.")
            return
        tell(proposed)
        opened = deployment.opened(settings)
        if prepare:
            tell(_opened_line(opened))
            click.echo(proposed.arn)
            return
        if not _agreed(opened, yes=yes):
            deployment.withdraw(proposed)
            raise click.Abort
        _try(deployment.execute(proposed), settings)


@click.command(epilog="Example: galerly-cdn aws execute arn:aws:cloudformation:us-east-1:…:changeSet/…")
@click.argument("change_set")
@click.option("--private", multiple=True, metavar="PREFIX", help="As it was told to `aws deploy`.")
@terminal.CONFIG
def execute(change_set: str, private: tuple[str, ...], file: Path | None) -> None:
    """Do what `aws deploy --prepare` has proposed: CHANGE_SET is the ARN it printed. Asks nothing.

    Then what is deployed is tried, as by `aws deploy`.
    """
    settings = terminal.load_settings(file, private_prefixes=private or None).settings
    stack = deployed.open_stack(change_set)
    proposed = stack.proposed(change_set)
    if proposed is None:
        click.echo("No changes: what is deployed is what was asked for.")
        return
    click.echo(f"{proposed}")
    _try(stack.execute(proposed), settings)


def _deployment(
    wanted: DeploymentRequest, package: Package, tell: Callable[[object], None], *, is_dry: bool
) -> Deployment | None:
    """None where nothing is to be done and the account cannot be asked."""
    from galerly_cdn.aws.deploy.deployment import Deployment
    from galerly_cdn.errors import AwsMissing, AwsRefused

    try:
        deployment = Deployment(wanted, package, deployed.open_stack(wanted.stack, tell))
        tell("\n".join(_deployment_lines(deployment)))
    except (AwsMissing, AwsRefused) as error:
        if not is_dry:
            raise
        tell(f"What the account has could not be asked: {error.detail or error.public}")
        return None
    return deployment


def _package_lines(package: Package) -> str:
    way = "by way of the code bucket" if package.is_by_address else "in the call"
    return (
        f"code      {terminal.format_bytes(package.code_bytes)}, {package.code_key}\n"
        f"template  {terminal.format_bytes(package.template_bytes)}, {way}"
    )


def _deployment_lines(deployment: Deployment) -> Iterator[str]:
    state = deployment.state
    yield f"stack     {state.status if state else 'new'}"
    yield f"bucket    {deployment.bucket.name} for the code"
    yield f"upload    {', '.join(deployment.uploads) or 'nothing: it is there'}"
    for name, value in deployment.parameters.items():
        yield f"          {name} = {'(as it is)' if value is None else value}"


def _opened_line(opened: Sequence[str]) -> str:
    return (
        f"ANYBODY will see what was private: {', '.join(opened)}" if opened else "Nothing private is opened."
    )


def _agreed(opened: Sequence[str], *, yes: bool) -> bool:
    """Whether it may be done. What was private is opened by a person alone, never by --yes.

    Who leaves (Ctrl-C, an end of input) has said no: what was proposed is then withdrawn.
    """
    if opened:
        terminal.print_error(_opened_line(opened))
        if yes:
            terminal.print_error("--yes does not answer that: run it on a terminal, or tell --private again.")
            return False
    try:
        return yes or click.confirm("Do it?", err=True)
    except click.Abort:
        return False


def _try(state: StackState, settings: Settings) -> None:
    """See whether it answers as it should, and tell its address; ends with 1 if it does not."""
    from galerly_cdn.aws.deploy import http_viewer, smoke_test, template

    guest = smoke_test.SmokeViewer(smoke_test.Deployed.of(state.outputs), http_viewer.fetch)
    click.echo(f"address   {state.outputs['Address']}")
    click.echo(f"store     GALERLY_STORE={state.outputs['Store']}")
    click.echo(f"purging   GALERLY_DISTRIBUTION={state.outputs['DistributionId']}")
    for key in template.keys(settings):
        file = f"{state.outputs.get(key.output, '')}.private.pem"
        click.echo(f"signing   by {key.id}.private.pem, copied to {file}: CloudFront names keys itself")
    deployed.print_checks(smoke_test.run(guest, settings), as_json=False)
