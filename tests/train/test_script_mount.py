from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopwright.train.script_mount import bubblewrap_command

SEE = """
import os, sys
from loopwright.train.script_mount import enter_private_view
root, ordinary = sys.argv[1], sys.argv[2] == "ordinary"
if ordinary:
    import loopwright.train.script_mount as mount
    call = mount._call
    def without_right(name, *arguments):
        if name == "unshare" and not arguments[0] & mount._CLONE_NEWUSER:
            raise PermissionError(1, "unshare")
        call(name, *arguments)
    mount._call = without_right
enter_private_view(root + "/ml", channels={"train": root + "/rows", "one": root + "/a.csv"},
                   scratch=root + "/scratch", hosts=root + "/hosts", opt=root + "/opt",
                   folders={"shown/deep": root + "/rows"})
print(sorted(os.listdir(root + "/opt")), sorted(os.listdir(root + "/opt/ml")))
print(open(root + "/opt/tool/x").read(), open("/etc/hosts").read())
print(os.listdir(root + "/opt/ml/input/data/train"), open(root + "/opt/ml/input/data/one/a.csv").read())
open(root + "/opt/ml/made", "w").write("made")
for path in ("train/r.csv", "train/new", "one/a.csv"):
    try:
        open(root + "/opt/ml/input/data/" + path, "w").write("spoilt")
    except OSError as error:
        print(path, error.strerror)
shown = root + "/opt/ml/shown/deep"
print("shown", os.listdir(shown))
try:
    open(shown + "/r.csv", "w").write("spoilt")
except OSError as error:
    print("shown", error.strerror)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "ml/input/data/train",
        "ml/input/data/one",
        "ml/shown/deep",
        "rows",
        "scratch",
        "opt/tool",
    ):
        (tmp_path / name).mkdir(parents=True)
    for name, text in {
        "ml/input/data/one/a.csv": "",
        "rows/r.csv": "row",
        "a.csv": "one",
        "hosts": "127.0.0.1 algo-1",
        "opt/tool/x": "tool",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "opt" / "link").symlink_to("tool")
    return tmp_path


def seen(root: Path, how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SEE, str(root), how],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    if "Operation not permitted" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this machine allows no namespaces")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("how", ["as the user is", "ordinary"])
@pytest.mark.parametrize("exists", [False, True], ids=["no /opt/ml here", "/opt/ml here"])
def test_one_process_sees_the_folder_of_its_job_and_the_machine_stays_as_it_is(
    root: Path, how: str, exists: bool
) -> None:
    if exists:
        (root / "opt" / "ml").mkdir()
        (root / "opt" / "ml" / "own").write_text("the machine's")

    lines = seen(root, how)

    assert lines[0] == "['link', 'ml', 'tool'] ['input', 'shown']"
    assert lines[1] == "tool 127.0.0.1 algo-1"
    assert lines[2] == "['r.csv'] one"
    assert "one/a.csv Read-only file system" in lines[3:]
    assert "shown ['r.csv']" in lines
    assert (root / "ml" / "made").read_text() == "made"
    assert [p.name for p in (root / "rows").iterdir()] == ["r.csv"]
    assert ((root / "rows" / "r.csv").read_text(), (root / "a.csv").read_text()) == ("row", "one")
    left = sorted(p.name for p in (root / "opt").iterdir())
    assert left == ["link", "ml", "tool"] if exists else left == ["link", "tool"]
    if exists:
        assert [p.name for p in (root / "opt" / "ml").iterdir()] == ["own"]


def test_bubblewrap_is_asked_for_the_same_view(root: Path) -> None:
    words = bubblewrap_command(
        "/usr/bin/bwrap",
        str(root / "ml"),
        channels={"train": str(root / "rows"), "one": str(root / "a.csv")},
        hosts=str(root / "hosts"),
        opt=str(root / "opt"),
        folders={"processing/input": str(root / "rows")},
    )

    text = " ".join(words)
    opt = f"{root}/opt"
    assert (
        f"--tmpfs {opt} --dev-bind {opt}/link {opt}/link --dev-bind {opt}/tool {opt}/tool" in text
    )
    assert f"--bind {root}/ml {opt}/ml --ro-bind {root}/hosts /etc/hosts" in text
    assert f"--ro-bind {root}/rows {opt}/ml/input/data/train" in text
    assert f"--ro-bind {root}/a.csv {opt}/ml/input/data/one/a.csv" in text
    assert f"--ro-bind {root}/rows {opt}/ml/processing/input" in text
    assert text.endswith(f"--chdir {opt}/ml/code --")


ALONE = """
import socket, sys
from loopwright.train.script_mount import leave_network
port = int(sys.argv[1])
socket.create_connection(("127.0.0.1", port), 5).close()
leave_network()
with socket.create_server(("127.70.1.2", 7777)):
    socket.create_connection(("127.70.1.2", 7777), 5).close()
try:
    socket.create_connection(("127.0.0.1", port), 5)
except OSError as error:
    print(error.strerror)
"""


def test_a_process_that_has_left_the_network_has_a_loopback_of_its_own() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, "-c", ALONE, str(port)], capture_output=True, text=True, timeout=30
        )

    assert (ran.stdout, ran.returncode) == ("Connection refused\n", 0), ran.stderr


def test_bubblewrap_gives_a_host_its_name_and_no_network() -> None:
    words = bubblewrap_command(
        "bwrap", "/j/ml", channels={}, hosts="/j/hosts", host="algo-2", is_isolated=True
    )

    assert words[4:8] == ["--unshare-uts", "--hostname", "algo-2", "--unshare-net"]
