"""The command ``raydub``, without the service.

Exit status: 0 for success; 1 if an input failed, while the others are done; 2 for wrong usage or configuration;
130 if interrupted.
"""

from __future__ import annotations

import typer

from cluster.cli import ab, analyze, doctor, dub, jobs, kpi, models, plan, store, submit, voices
from cluster.cli.options import ConfigName, ProfileName, Set, run_app

DUB, CLUSTER, ANALYSIS, MACHINE = "Dub", "Dub on a cluster", "Look at finished dubs", "This machine"

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Dub video and audio with models that you host."
)
config_app = typer.Typer(no_args_is_help=True, help="Show the configuration.")
app.command("dub", rich_help_panel=DUB)(dub.dub)
app.command("demo", rich_help_panel=DUB)(dub.demo)
app.command("ab", rich_help_panel=DUB)(ab.ab)
app.command("submit", rich_help_panel=CLUSTER)(submit.submit)
app.add_typer(jobs.app, name="jobs", rich_help_panel=CLUSTER)
app.command("analyze", rich_help_panel=ANALYSIS)(analyze.analyze)
app.command("kpi", rich_help_panel=ANALYSIS)(kpi.kpi)
app.command("plan", rich_help_panel=ANALYSIS)(plan.plan)
app.command("doctor", rich_help_panel=MACHINE)(doctor.doctor)
app.add_typer(config_app, name="config", rich_help_panel=MACHINE)
app.add_typer(models.app, name="models", rich_help_panel=MACHINE)
app.add_typer(store.app, name="store", rich_help_panel=MACHINE)
app.add_typer(voices.app, name="voices", rich_help_panel=MACHINE)


@config_app.command("show")
def show_config(config: ConfigName = "offline", profile: ProfileName = None, assignments: Set = None) -> None:
    """Print the resolved configuration as YAML."""
    from cluster.config.load import dump_yaml, load_config

    typer.echo(dump_yaml(load_config(config, assignments or (), profile)), nl=False)


def main() -> None:
    run_app(app, "raydub")


if __name__ == "__main__":
    main()
