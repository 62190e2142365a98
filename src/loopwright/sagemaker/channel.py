"""The channels of a training job: which objects they hold, and how each host finds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopwright.sagemaker.cluster import parts
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.staging import channel_entries, stage
from loopwright.train.script_host import Host
from loopwright.train.script_pipe import plan

AUGMENTED = "AugmentedManifestFile"
_LARGEST_MANIFEST = 256 << 20
_REFERENCE = "-ref"

Found = tuple[str, str, Any]
Row = list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a host sees of the channels: folders, and the plans of those that are streamed."""

    channels: dict[str, str] = field(default_factory=dict)
    pipes: dict[str, dict[str, Any]] = field(default_factory=dict)


def mode_of(channel: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return how a channel is read: `File`, `FastFile` or `Pipe`."""
    mode: str = channel.get("InputMode") or given["AlgorithmSpecification"]["TrainingInputMode"]
    return mode


def check_channels(desk: Desk, given: Mapping[str, Any], hosts: Sequence[Host]) -> None:
    """Refuse channels that cannot be had.

    Raises
    ------
    ApiError
        If a source is of a kind that is not there, or holds nothing.
    """
    channels = given.get("InputDataConfig", ())
    names = [each["ChannelName"] for each in channels]
    if len(set(names)) < len(names):
        raise validation("Channel names must be unique within a training job.")
    for channel in channels:
        source = channel["DataSource"].get("S3DataSource", {})
        if "FileSystemDataSource" in channel["DataSource"]:
            raise validation(
                f"The channel {channel['ChannelName']} has a FileSystemDataSource (EFS or FSx), "
                "which loopwright does not have. Put the data into S3."
            )
        if source.get("S3DataType") == AUGMENTED:
            _check_augmented(channel, source, mode_of(channel, given))
            if not any(_rows(desk, source)):
                raise validation(f"The manifest {source['S3Uri']} has no lines.")
        else:
            channel_entries(desk, channel)
        parts((), source, hosts, seed=None)


def _check_augmented(channel: Mapping[str, Any], source: Mapping[str, Any], mode: str) -> None:
    if mode != "Pipe":
        raise validation(
            f"{AUGMENTED} can only be used with the input mode Pipe; the channel "
            f"{channel['ChannelName']} has {mode}."
        )
    if not source.get("AttributeNames"):
        raise validation(f"{AUGMENTED} needs AttributeNames.")


def about_channels(given: Mapping[str, Any], *, is_plain: bool) -> dict[str, dict[str, str]]:
    """Return what `inputdataconfig.json` says of each channel.

    Parameters
    ----------
    is_plain
        Whether an algorithm of ours reads them, which reads files in any case.
    """
    found = {}
    for each in given.get("InputDataConfig", ()):
        source = each["DataSource"].get("S3DataSource", {})
        about = {
            "TrainingInputMode": "File" if is_plain else mode_of(each, given),
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": each.get("RecordWrapperType", "None"),
        }
        if "ContentType" in each:
            about["ContentType"] = each["ContentType"]
        found[each["ChannelName"]] = about
    return found


def staged_channels(
    desk: Desk,
    given: Mapping[str, Any],
    folder: Path,
    *,
    hosts: Sequence[Host],
    is_plain: bool,
) -> tuple[Shown, dict[str, Shown]]:
    """Put the data of the channels into a folder; return what all hosts see, and what each does.

    Raises
    ------
    ApiError
        If an object is missing, or cannot be a file.
    """
    common, own = Shown(), {each.name: Shown() for each in hosts}
    for channel in given.get("InputDataConfig", ()):
        name = channel["ChannelName"]
        source = channel["DataSource"]["S3DataSource"]
        is_piped = mode_of(channel, given) == "Pipe" and not is_plain
        place = _Place(desk=desk, channel=channel, folder=folder, is_piped=is_piped)
        found = (
            _augmented(desk, source, folder / "references" / name)
            if source["S3DataType"] == AUGMENTED
            else list(channel_entries(desk, channel))
        )
        seed = channel.get("ShuffleConfig", {}).get("Seed")
        divided = None if is_plain else parts(found, source, hosts, seed=seed)
        if divided is None:
            place.show(common, found, "channels")
        else:
            for host, entries in divided.items():
                place.show(own[host], entries, f"shards/{host}")
    return common, own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A channel that is put below the folder of a job."""

    desk: Desk
    channel: Mapping[str, Any]
    folder: Path
    is_piped: bool

    def show(self, shown: Shown, found: Sequence[Any], below: str) -> None:
        """Put what was found there, and let it be shown."""
        name = self.channel["ChannelName"]
        place = self.folder / below / name
        is_augmented = bool(found) and isinstance(found[0], list)
        if not is_augmented:
            stage(self.desk, found, place)
        if not self.is_piped:
            shown.channels[name] = str(place)
            return
        rows: Iterable[Row] = (
            found if is_augmented else ([{"file": str(place / inner)}] for _, inner, _ in found)
        )
        path = self.folder / "pipes" / below / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
        shown.pipes[name] = plan(
            path,
            is_wrapped=self.channel.get("RecordWrapperType") == "RecordIO",
            is_packed=self.channel.get("CompressionType") == "Gzip",
            seed=self.channel.get("ShuffleConfig", {}).get("Seed"),
        )


def _rows(desk: Desk, source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of an augmented manifest; `ApiError` for one that is none."""
    bucket, key = split_uri(source["S3Uri"])
    text = desk.objects.read(bucket, key, limit=_LARGEST_MANIFEST).decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            missing = [each for each in source["AttributeNames"] if each not in row]
        except (ValueError, TypeError) as error:
            raise validation(f"Line {number} of {source['S3Uri']} is no JSON object.") from error
        if missing:
            raise validation(f"Line {number} of {source['S3Uri']} has no attribute {missing[0]!r}.")
        yield row


def _augmented(desk: Desk, source: Mapping[str, Any], folder: Path) -> list[Row]:
    """Return what is streamed for each line of a manifest, with the objects it names in a folder."""
    found: list[Row] = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(_rows(desk, source)):
        pieces: Row = []
        for place, name in enumerate(source["AttributeNames"]):
            value = row[name]
            if not name.endswith(_REFERENCE):
                pieces.append({"text": value if isinstance(value, str) else json.dumps(value)})
                continue
            bucket, key = split_uri(str(value))
            target = folder / f"{number}-{place}"
            desk.objects.link(desk.objects.get(bucket, key), target)
            pieces.append({"file": str(target)})
        found.append(pieces)
    return found
