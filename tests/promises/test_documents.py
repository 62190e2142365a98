"""The documents say what the program does: links, examples, commands and the generated reference."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from loopwright.cli.main import cli
from loopwright.loop import parse_loop_file
from loopwright.testing.algorithm_reference import algorithm_reference
from loopwright.testing.reference import field_meanings, loop_file_reference
from loopwright.testing.section import SECTIONS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "loop-file.md"
ALGORITHMS_PAGE = ROOT / "docs" / "reference" / "algorithms.md"
# made on each machine: environments, caches and stores
_LEFT_OUT = re.compile(r"\.(?!ci$|githooks$|gitignore$)|__pycache__$|.*\.egg-info$|build$|dist$")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"(?<!`)`(loopwright [^`]+)`(?!`)")


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Yield the files of the repository."""
    for path in sorted(folder.iterdir()):
        if _LEFT_OUT.match(path.name):
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


DOCUMENTS = {name_of(path): path.read_text() for path in files() if path.suffix == ".md"}


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(text) if language in languages]


def commands(text: str) -> list[str]:
    """Return every `loopwright ...` in the code of a document, cut where the shell would cut."""
    lines = "\n".join(blocks(text, "", "bash", "sh", "console")).replace("\\\n", " ")
    found = re.findall(r"(?:^|[\s/$])loopwright +(.+)", lines)
    inline = [each.removeprefix("loopwright ") for each in _INLINE.findall(text)]
    found += [each for each in inline if " " in each]  # a bare name is checked by itself
    return [re.split(r"\s+(?:#\s|&&|\|\||[|;>]|\d>)", each)[0].strip() for each in found]


def loop_files(text: str) -> list[str]:
    return [block for block in blocks(text, "yaml") if block.startswith("name:")]


def check_command(command: str) -> None:
    """Parse a command line as click would, without running it.

    Raises
    ------
    click.ClickException
        If the command, an option or an argument is not there.
    """
    group = click.Context(cli, info_name="loopwright")
    options, rest, _ = cli.make_parser(group).parse_args(shlex.split(command))
    if "help" in options or "version" in options:
        return
    found = cli.get_command(group, rest[0])
    if found is None:
        raise click.UsageError(f"loopwright has no command {rest[0]!r}")
    for token in rest[1:]:
        if re.fullmatch(r"[\w-]+\.\w+", token):
            Path(token).touch()  # click opens the files it is given
    found.make_context(rest[0], rest[1:], parent=group)


def test_the_reference_of_the_loop_file_is_what_the_code_says() -> None:
    assert REFERENCE.read_text() == loop_file_reference(), (
        "The code has changed. Write the reference again: "
        "python -m loopwright.testing.reference > docs/reference/loop-file.md"
    )


def test_the_reference_of_the_algorithms_is_what_the_code_says() -> None:
    assert ALGORITHMS_PAGE.read_text() == algorithm_reference(), (
        "The code has changed. Write the reference again: "
        "python -m loopwright.testing.algorithm_reference > docs/reference/algorithms.md"
    )


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.path)
def test_every_key_has_a_meaning_and_an_example_that_is_accepted(section) -> None:  # type: ignore[no-untyped-def]
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(section.struct)}

    meanings = field_meanings(section)

    assert all(meanings.values())
    for key, example in section.examples.items():
        msgspec.convert(yaml.safe_load(example)[key], kinds[key], strict=True)


def test_every_block_of_the_loop_file_has_a_section() -> None:
    from loopwright.loop import LoopFile
    from loopwright.loop.file import _structs_in

    def below(struct: type) -> set[type]:
        found = {
            kind for field in msgspec.structs.fields(struct) for kind in _structs_in(field.type)
        }
        return {struct}.union(*(below(each) for each in found))

    assert {section.struct for section in SECTIONS} == below(LoopFile)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    text = _FENCE.sub("", DOCUMENTS[name])
    links = [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]

    dead = []
    for link in links:
        place, _, heading = link.partition("#")
        target = (ROOT / name).parent / place if place else ROOT / name
        if not target.exists() or (heading and heading not in headings(target)):
            dead.append(link)

    assert dead == []


def headings(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in found}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name in DOCUMENTS for text in loop_files(DOCUMENTS[name])]
)
def test_every_loop_file_in_a_document_is_accepted(name: str, text: str) -> None:
    from loopwright.core.quantity import seconds
    from loopwright.data import check_plan
    from loopwright.deploy import checked_deploy
    from loopwright.problem import checked_problem
    from loopwright.problem.metric import METRICS
    from loopwright.train import checked_train

    loop = parse_loop_file(text.encode(), name=name)

    task = "regression"
    if loop.problem.criteria and (metric := METRICS.get(loop.problem.criteria[0].metric)):
        task = loop.problem.task or min(metric.tasks)
    checked_problem(loop.problem, task=task)
    check_plan(loop.data)
    checked_train(loop.train)
    loop.monitor.checked()
    assert loop.deploy is None or checked_deploy(loop.deploy)
    assert seconds(loop.retrain.cooldown, field="cooldown") > 0


def test_the_readme_shows_a_loop_file() -> None:
    assert len(loop_files(DOCUMENTS["README.md"])) == 1


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name in DOCUMENTS for command in dict.fromkeys(commands(DOCUMENTS[name]))],
)
def test_every_command_in_a_document_can_be_typed(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    try:
        check_command(command)
    except click.ClickException as error:
        pytest.fail(f"{name}: `loopwright {command}`: {error.format_message()}")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_mentioned_by_its_name_exists(name: str) -> None:
    mentioned = re.findall(r"`loopwright ([a-z-]+)`", DOCUMENTS[name])

    assert set(mentioned) <= set(cli.commands)


@pytest.mark.parametrize("command", ["rum", "run --refesh", "init a.csv b.csv", "status a b"])
def test_the_check_of_commands_sees_what_cannot_be_typed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.ClickException):
        check_command(command)


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    # spelled so that this file does not find itself
    places = ["/" + "work/", "/" + "root/", f"{ROOT}/", f"{Path.home()}/"]
    pattern = re.compile(
        rb"(?<![\w.~-])(?:" + b"|".join(re.escape(p.encode()) for p in places) + rb")"
    )

    found = {
        name_of(path): match[0].decode()
        for path in files()
        if (match := pattern.search(path.read_bytes()))
    }

    assert found == {}
