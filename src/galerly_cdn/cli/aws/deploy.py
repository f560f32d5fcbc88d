"""The commands `aws deploy` and `aws execute`: show a change set, ask, execute it, run the smoke test."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.aws import deployed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from galerly_cdn.aws.deploy.deployment import Deployment, DeploymentRequest, Package
    from galerly_cdn.aws.deploy.smoke_test import Check
    from galerly_cdn.aws.deploy.stack import StackState
    from galerly_cdn.settings.table import Settings

_ON_OFF = click.Choice(["on", "off"])
_PARAMETERS = {
    "bucket": "BucketName",
    "domain": "Domain",
    "certificate": "Certificate",
    "hosted_zone": "HostedZone",
    "prewarm": "Prewarm",
    "budget": "BudgetDollars",
    "alarm_email": "AlarmEmail",
    "waf": "Firewall",
}
"""Options that are parameters of the template; `--set` takes parameters by their own names."""

_NO_CHANGES = "No changes: the stack is as requested."


def _settings(file: Path | None, private: tuple[str, ...], avif: str) -> Settings:
    from galerly_cdn.aws.deploy.deployment import without_avif

    settings = terminal.load_settings(file, private_prefixes=private or None).settings
    return settings if avif == "on" else without_avif(settings)


def _request(options: Mapping[str, Any]) -> DeploymentRequest:
    """The request that the options make. Raises `UsageError`."""
    from galerly_cdn.aws.deploy.deployment import DeploymentRequest

    parameters = {
        name: str(options[option]) for option, name in _PARAMETERS.items() if options[option] is not None
    }
    for pair in options["pairs"]:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: write NAME=VALUE.")
        parameters[name] = value
    return DeploymentRequest(
        stack=options["name"],
        parameters=parameters,
        code_bucket=options["code_bucket"] or "",
        role=options["role"] or "",
        take_over=options["take_over"],
    )


@click.command(epilog="Example: galerly-cdn aws deploy --stack photographs --prewarm on")
@deployed.STACK
@click.option("--bucket", help="The bucket to create for originals and renditions. [STACK-ACCOUNT]")
@click.option(
    "--take-over",
    is_flag=True,
    help="The buckets exist: make them part of the stack, keep their objects, and replace their settings.",
)
@click.option("--domain", help="Host name of the CDN; needs --certificate.")
@click.option("--certificate", help="ARN of the domain's certificate in us-east-1.")
@click.option("--hosted-zone", help="ID of the Route 53 zone in which to make the domain's records.")
@click.option(
    "--private",
    multiple=True,
    metavar="PREFIX",
    help="A private folder, in place of the setting private_prefixes.",
)
@click.option("--avif", type=_ON_OFF, default="on", show_default=True, help="off removes AVIF from `sizes`.")
@click.option("--prewarm", type=_ON_OFF, help="Render the sizes of warm_sizes of an upload at once.")
@click.option(
    "--budget",
    type=click.IntRange(min=0),
    metavar="USD",
    help="Monthly cost of the account that is reported to --alarm-email; 0 for none.",
)
@click.option("--alarm-email", metavar="ADDRESS", help="Where alarms and the budget are reported.")
@click.option(
    "--waf",
    type=click.Choice(["off", "rate", "managed"]),
    help="AWS WAF: a limit of each address's requests; managed adds AWS's rules.",
)
@click.option("--lambda-edge", type=_ON_OFF, default="off", show_default=True, help="See `aws template`.")
@click.option(
    "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Another parameter of the template."
)
@click.option(
    "--code-bucket", help="Bucket for the code; created if it does not exist. [galerly-cdn-code-ACCOUNT]"
)
@click.option("--role", help="ARN of the role that CloudFormation assumes. [your own permissions]")
@click.option("--dry-run", is_flag=True, help="Build and show; upload, create and change nothing.")
@click.option("--prepare", is_flag=True, help="Create and show the change set, for `aws execute` to execute.")
@deployed.YES
@terminal.CONFIG
def deploy(file: Path | None, *, dry_run: bool, prepare: bool, yes: bool, **options: Any) -> None:  # noqa: ANN401 - the options' values
    """Deploy to AWS or change a deployed stack: build, upload, show the changes, ask, execute, test.

    Parameters that are not given keep their values; a new stack gets the template's defaults. Settings
    (sizes, private prefixes, keys) are not remembered: each deployment reads --config and the environment.
    """
    from galerly_cdn.aws.deploy import deployment as deployments

    echo = functools.partial(click.echo, err=prepare)
    settings = _settings(file, options["private"], options["avif"])
    request = deployments.check_request(_request(options))
    with tempfile.TemporaryDirectory(prefix="galerly-cdn-") as scratch:
        is_edge = options["lambda_edge"] == "on"
        progress = functools.partial(click.echo, err=True)
        package = deployments.package(settings, Path(scratch), with_lambda_edge=is_edge, progress=progress)
        echo(_package_lines(package))
        deployment = _deployment(request, package, echo, is_dry=dry_run)
        if deployment is None or dry_run:
            echo("Nothing was uploaded, created or changed.")
            return
        deployment.check()
        deployment.upload()
        change_set = deployment.create_change_set()
        if change_set is None:
            echo(_NO_CHANGES)
            return
        echo(change_set)
        newly_public = deployment.newly_public(settings)
        if outdated := deployment.outdated(settings):
            echo(_outdated_lines(outdated, request.stack))
        if prepare:
            echo(_newly_public_line(newly_public))
            click.echo(change_set.arn)
            return
        if not _is_confirmed(newly_public, yes=yes):
            deployment.delete_change_set(change_set)
            raise click.Abort
        state = deployment.execute(change_set)
        _test(_apply_settings(deployment) or state, settings, deployment.check_settings())


@click.command(epilog="Example: galerly-cdn aws execute arn:aws:cloudformation:us-east-1:…:changeSet/…")
@click.argument("arn", metavar="CHANGE_SET")
@click.option(
    "--private", multiple=True, metavar="PREFIX", help="The prefixes that were given to `aws deploy`."
)
@terminal.CONFIG
def execute(arn: str, private: tuple[str, ...], file: Path | None) -> None:
    """Execute the change set of `aws deploy --prepare`, whose ARN it printed, without asking.

    The deployed stack is tested afterwards, as by `aws deploy`.
    """
    settings = terminal.load_settings(file, private_prefixes=private or None).settings
    stack = deployed.open_stack(arn)
    change_set = stack.change_set(arn)
    if change_set is None:
        click.echo(_NO_CHANGES)
        return
    click.echo(f"{change_set}")
    state = stack.execute(change_set)
    if change_set.imports:
        click.echo("The imported buckets keep their settings until `aws deploy --take-over` is run again.")
    _test(state, settings)


def _apply_settings(deployment: Deployment) -> StackState | None:
    """Give imported buckets the template's settings, without a question: --take-over announces it."""
    if not deployment.imports:
        return None
    change_set = deployment.create_settings_change_set()
    if change_set is None:
        return None
    click.echo(f"The imported buckets get the template's settings:\n{change_set}")
    return deployment.execute(change_set)


def _deployment(
    request: DeploymentRequest, package: Package, echo: Callable[[object], None], *, is_dry: bool
) -> Deployment | None:
    """The deployment; None for a dry run whose credentials cannot read the account."""
    from galerly_cdn.aws.deploy.deployment import Deployment
    from galerly_cdn.aws.errors import AwsRefused

    try:
        deployment = Deployment(request, package, deployed.open_stack(request.stack, echo))
        echo("\n".join(_deployment_lines(deployment)))
    except AwsRefused as error:
        if not is_dry:
            raise
        echo(f"The state of the account cannot be read: {error.detail or error.public}")
        return None
    return deployment


def _package_lines(package: Package) -> str:
    return (
        f"code      {terminal.format_bytes(package.code_bytes)}, {package.code_key}\n"
        f"template  {terminal.format_bytes(package.template_bytes)}, {package.template_key}"
    )


def _deployment_lines(deployment: Deployment) -> Iterator[str]:
    state = deployment.state
    yield f"stack     {state.status if state else 'new'}"
    yield f"bucket    {deployment.bucket.name} for the code"
    yield f"upload    {', '.join(deployment.uploads) or 'nothing: the bucket has it'}"
    for name, value in deployment.parameters.items():
        yield f"          {name} = {'(unchanged)' if value is None else value}"
    before, after = deployment.reservations()
    if deployment.concurrency is not None and not after:
        limit = deployment.concurrency
        yield f"renders   the account's limit is {limit.account} at once; {limit.advice(before)}"


def _outdated_lines(targets: Sequence[str], stack: str) -> str:
    return (
        f"outdated  stored renditions of {len(targets)} targets: {', '.join(targets)}\n"
        f"          S3 still serves them. galerly-cdn aws warm --stack {stack} --all makes them anew, and "
        "shows the price first"
    )


def _newly_public_line(prefixes: Sequence[str]) -> str:
    if not prefixes:
        return "No private folder becomes public."
    return f"These private folders become PUBLIC: {', '.join(prefixes)}"


def _is_confirmed(newly_public: Sequence[str], *, yes: bool) -> bool:
    """Whether to execute the change set. --yes does not confirm that a private folder becomes public.

    Ctrl-C and an end of input count as a no, so that the change set is deleted.
    """
    if newly_public:
        terminal.print_error(_newly_public_line(newly_public))
        if yes:
            terminal.print_error(
                "--yes does not confirm that: run it on a terminal, or give --private again."
            )
            return False
    try:
        return yes or click.confirm("Execute these changes?", err=True)
    except click.Abort:
        return False


def _test(state: StackState, settings: Settings, more: Iterable[Check] = ()) -> None:
    """Print the addresses, run the smoke test and `more` checks. Exits with 1 if one fails."""
    from galerly_cdn.aws.deploy import http_viewer, smoke_test, template

    viewer = smoke_test.SmokeViewer(smoke_test.Deployed.from_outputs(state.outputs), http_viewer.fetch)
    click.echo(f"address   {state.outputs['Address']}")
    click.echo(f"store     GALERLY_STORE={state.outputs['Store']}")
    click.echo(f"purging   GALERLY_DISTRIBUTION={state.outputs['DistributionId']}")
    for key in template.keys(settings):
        file = f"{state.outputs.get(key.output, '')}.private.pem"
        click.echo(
            f"signing   with {key.id}.private.pem, copied to {file}: CloudFront gives keys its own IDs"
        )
    deployed.print_checks(itertools.chain(smoke_test.run(viewer, settings), more), as_json=False)
