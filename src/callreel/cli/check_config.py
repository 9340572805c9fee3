"""``callreel check-config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callreel.cli.admin import DataOption, JsonOption, print_json

if TYPE_CHECKING:
    from callreel.server.checking import Checked
    from callreel.server.explanation import Explanation


def check_config(
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="CALLREEL_CONFIG", help="The server's TOML file."),
    ] = None,
    data: DataOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if there are warnings.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check the settings as **serve** would read them, and say what they mean.

    Nothing is changed, and the server need not run. Errors keep it from starting; warnings are what
    it does not do as is probably meant; notes may well be meant so. Exit status 0, 1 for warnings
    with `--strict`, 2 for errors.
    """
    from callreel.server.checking import check
    from callreel.server.problems import Severity

    checked = check(config, {"data": data})
    if json:
        print_json(_json(config, checked))
    else:
        for one in checked.problems:
            print(f"{one.severity.value}: {one.described(config)}")
        if checked.explanation is not None:
            _print_explanation(checked.explanation, after_more=bool(checked.problems))
    if checked.of(Severity.ERROR):
        raise typer.Exit(2)
    if strict and checked.of(Severity.WARNING):
        raise typer.Exit(1)


def _print_explanation(explanation: Explanation, *, after_more: bool) -> None:
    if after_more:
        print()
    print("Who may call")
    for line in explanation.who_may_call:
        print(f"  {line}")
    print("\nWhere calls go that come in: the first that fits")
    for number, line in enumerate(explanation.where_calls_go, 1):
        print(f"  {number}. {line}")
    print("\nWhat programs may call: the first that fits")
    for number, line in enumerate(explanation.what_programs_may_call, 1):
        print(f"  {number}. {line}")
    print("\nWhat is recorded")
    for line in explanation.what_is_recorded:
        print(f"  {line}")


def _json(config: Path | None, checked: Checked) -> dict[str, Any]:
    explanation = checked.explanation
    return {
        "config": None if config is None else str(config),
        "problems": [
            {
                "severity": one.severity.value,
                "setting": one.setting or None,
                "line": one.line,
                "message": one.message,
            }
            for one in checked.problems
        ],
        "who_may_call": [] if explanation is None else list(explanation.who_may_call),
        "where_calls_go": [] if explanation is None else list(explanation.where_calls_go),
        "what_programs_may_call": []
        if explanation is None
        else list(explanation.what_programs_may_call),
        "what_is_recorded": [] if explanation is None else list(explanation.what_is_recorded),
    }
