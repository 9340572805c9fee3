"""``callreel doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from callreel.cli.admin import ConfigOption, DataOption, JsonOption, print_json


def doctor(
    config: ConfigOption = None,
    data: DataOption = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Tell what is not as it should be alone.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Look whether this machine is fit to serve, and say what to do where it is not.

    Nothing is changed; the server may run or not. Run it as the server's user, with the server's
    settings. Exit status 0, or 1 if something will not work; what is only a warning is no failure.
    """
    from callreel.server.doctor.examination import examine
    from callreel.server.doctor.finding import Verdict
    from callreel.server.settings import load_settings

    settings = load_settings(config, {"data": data})
    found = []
    for one in examine(settings):
        found.append(one)
        if json or (quiet and one.verdict is Verdict.OK):
            continue
        print(f"{one.verdict.value:<4}  {one.name}: {one.text}")
        if one.advice:
            print(f"      {one.advice}")
    if json:
        print_json(
            [
                {
                    "name": one.name,
                    "verdict": one.verdict.value,
                    "text": one.text,
                    "advice": one.advice or None,
                }
                for one in found
            ]
        )
    if any(one.verdict is Verdict.FAIL for one in found):
        raise typer.Exit(1)
