from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loopwright.data import (
    DataPlan,
    DynamoDbSource,
    FileSource,
    ImageSource,
    MongoDbSource,
    PluginSource,
    RedisSource,
    SqlSource,
)
from loopwright.data.spec import without_password


def test_the_kind_tells_the_sources_of_a_loop_file_apart():
    plans = [
        msgspec.convert({"source": source}, DataPlan)
        for source in (
            {"kind": "file", "path": "a.csv"},
            {"kind": "sql", "url": "sqlite:///a.db", "table": "t"},
            {"kind": "redis", "url": "env:URL", "pattern": "row:*", "fields": ["a"]},
            {"kind": "dynamodb", "table": "t", "values": {":least": 1}},
            {"kind": "mongodb", "url": "env:URL", "database": "d", "collection": "c"},
            {"kind": "images", "path": "photos"},
            {"kind": "plugin", "name": "crm", "options": {"table": "t"}},
        )
    ]

    assert [type(plan.source) for plan in plans] == [
        FileSource,
        SqlSource,
        RedisSource,
        DynamoDbSource,
        MongoDbSource,
        ImageSource,
        PluginSource,
    ]


def test_an_unknown_key_or_kind_is_refused():
    for source in ({"kind": "file", "paht": "a.csv"}, {"kind": "ftp", "path": "a.csv"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"source": source}, DataPlan)


def test_neither_the_repr_nor_the_record_of_a_source_shows_its_password():
    spec = SqlSource(url="postgresql://ann:p@ss:word@db/sales", table="sales")

    assert "p@ss" not in repr(spec)
    assert "word" not in repr(msgspec.to_builtins(spec.redacted()))
    assert spec.redacted().url == "postgresql://ann:***@db/sales"


def test_what_is_left_at_its_default_stands_in_no_record():
    spec = FileSource(path="a.csv")

    assert msgspec.to_builtins(spec) == {"kind": "file", "path": "a.csv"}


def test_the_options_of_a_plugin_are_not_shown():
    spec = PluginSource(name="crm", options={"token": "hunter2secret"})

    assert repr(spec) == "PluginSource(name='crm', options={token})"


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://db/sales", "env:URL"])
def test_a_url_without_password_stays_as_it_is(url: str):
    assert without_password(url) == url


def test_importing_the_package_loads_no_heavy_library(tmp_path: Path):
    import subprocess
    import sys

    code = (
        "import sys, loopwright.data, loopwright.explore;"
        "print([m for m in ('polars','numpy','sqlalchemy','jinja2','redis','obstore','boto3','pymongo','PIL') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
