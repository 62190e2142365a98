"""A private view of the file system in which `/opt/ml` is the folder of one job.

Linux mount namespaces: whatever is mounted is seen by the calling process and its children alone,
and is gone with them; the machine's own `/opt/ml`, if it has one, is not touched. Standard library
only, and fit to run between fork and exec.
"""
# pathlib would be one more import between fork and exec:
# ruff: noqa: PTH102, PTH103, PTH110, PTH112, PTH115, PTH119, PTH208, PTH211

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

_CLONE_NEWNS = 0x0002_0000
_CLONE_NEWUTS = 0x0400_0000
_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000
_MS_RDONLY = 1
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_MOVE = 8192
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
_MS_RELATIME = 1 << 21
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
# flags that a mount inside a user namespace may not lose, by their bit in statvfs
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: _MS_RELATIME}


def enter_private_view(
    ml: str,
    *,
    channels: Mapping[str, str],
    scratch: str,
    hosts: str,
    opt: str = "/opt",
    model: str | None = None,
    folders: Mapping[str, str] = MappingProxyType({}),
    host: str = "",
) -> None:
    """Give this process, which must have one thread, a view of its own with `/opt/ml` in it.

    Channels appear as they are, and what is written into them stays in `scratch`; where the kernel
    cannot do that they are read-only. The originals cannot be changed either way.

    Parameters
    ----------
    ml
        The folder to be seen as `/opt/ml`; `input/data/NAME` in it has a place for each channel.
    channels
        The file or folder of each channel; of a file, `input/data/NAME` holds a file of its name.
    scratch
        A folder for what is written into channels.
    hosts
        A file to be seen as `/etc/hosts`.
    opt
        The folder in which `ml` appears.
    model
        A folder to be seen as `/opt/ml/model`, as channels are: it cannot be changed.
    folders
        Folders to be seen below `/opt/ml` in the same way, by their path there, where `ml` has a
        folder for each; none lies in another.
    host
        The name of the machine as the process sees it; the machine's own when empty.

    Raises
    ------
    OSError
        If the machine does not allow it. The process may then be in a half-made view: end it.
    """
    _unshare(_CLONE_NEWNS | (_CLONE_NEWUTS if host else 0))
    if host:
        _call("sethostname", os.fsencode(host), ctypes.c_size_t(len(os.fsencode(host))))
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    for name, source in channels.items():
        target = f"{ml}/input/data/{name}"
        if os.path.isdir(source):
            _mount_folder(source, target, scratch=f"{scratch}/{name}")
        else:
            _bind_read_only(source, f"{target}/{os.path.basename(source)}")
    if model is not None:
        _mount_folder(model, f"{ml}/model", scratch=f"{scratch}/.model")
    for number, (path, source) in enumerate(folders.items()):
        _mount_folder(source, f"{ml}/{path}", scratch=f"{scratch}/.folder-{number}")
    if os.path.exists("/etc/hosts"):
        _mount(hosts, "/etc/hosts", flags=_MS_BIND)
    if os.path.isdir(f"{opt}/ml"):
        _mount(ml, f"{opt}/ml", flags=_MS_BIND | _MS_REC)
        return
    # it cannot be made there for us alone, so all of the folder is rebuilt around it
    stage = f"{scratch}/.opt"
    os.makedirs(stage, exist_ok=True)
    _mount("tmpfs", stage, kind="tmpfs", data="mode=755")
    for entry in os.scandir(opt) if os.path.isdir(opt) else ():
        _show_again(entry, f"{stage}/{entry.name}")
    os.mkdir(f"{stage}/ml")
    _mount(ml, f"{stage}/ml", flags=_MS_BIND | _MS_REC)
    _mount(stage, opt, flags=_MS_MOVE)


def bubblewrap_command(
    program: str,
    ml: str,
    *,
    channels: Mapping[str, str],
    hosts: str,
    opt: str = "/opt",
    folders: Mapping[str, str] = MappingProxyType({}),
    host: str = "",
    is_isolated: bool = False,
) -> list[str]:
    """Return how `bwrap` gives a command the same view, its channels and folders read-only.

    Where only named programs may have namespaces of their own (Ubuntu since 24.04), bubblewrap is
    one of them.

    Parameters
    ----------
    host
        The name of the machine as the command sees it; the machine's own when empty.
    is_isolated
        Whether the command has no network but a loopback of its own.
    """
    words = [program, "--dev-bind", "/", "/"]
    if host:
        words += ["--unshare-uts", "--hostname", host]
    if is_isolated:
        words += ["--unshare-net"]
    if not os.path.isdir(f"{opt}/ml"):
        words += ["--tmpfs", opt]
        for name in sorted(os.listdir(opt)) if os.path.isdir(opt) else ():
            words += ["--dev-bind", f"{opt}/{name}", f"{opt}/{name}"]
    words += ["--bind", ml, f"{opt}/ml", "--ro-bind", hosts, "/etc/hosts"]
    for name, source in channels.items():
        target = f"{opt}/ml/input/data/{name}"
        if not os.path.isdir(source):
            target += f"/{os.path.basename(source)}"
        words += ["--ro-bind", source, target]
    for path, source in folders.items():
        words += ["--ro-bind", source, f"{opt}/ml/{path}"]
    return [*words, "--chdir", f"{opt}/ml/code", "--"]


def leave_network() -> None:
    """Give this process, which must have one thread, a network that has nothing but a loopback.

    Its children share it with it, and with each other.

    Raises
    ------
    OSError
        If the machine does not allow it.
    """
    import fcntl
    import socket
    import struct

    _unshare(_CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(asking, _SIOCSIFFLAGS, request)


def _unshare(kinds: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        try:
            _call("unshare", kinds)
        except PermissionError:
            # root of a container, without the right to mount
            pass
        else:
            return
    _call("unshare", kinds | _CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _mount_folder(source: str, target: str, *, scratch: str) -> None:
    upper, work = f"{scratch}/upper", f"{scratch}/kernel"
    if not any(sign in source + scratch for sign in ",:\\"):
        os.makedirs(upper, exist_ok=True)
        os.makedirs(work, exist_ok=True)
        plain = f"lowerdir={source},upperdir={upper},workdir={work}"
        # the kernel wants the second inside a user namespace and may not know it elsewhere
        for data in (plain, f"{plain},userxattr"):
            with suppress(OSError):
                _mount("overlay", target, kind="overlay", data=data)
                return
    _bind_read_only(source, target)


def _bind_read_only(source: str, target: str) -> None:
    _mount(source, target, flags=_MS_BIND | _MS_REC)
    had = os.statvfs(target).f_flag
    kept = sum(flag for bit, flag in _KEPT.items() if had & bit)
    _mount("none", target, flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def _show_again(entry: os.DirEntry[str], target: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    if entry.is_dir():
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(entry.path, target, flags=_MS_BIND | _MS_REC)


def _mount(source: str, target: str, *, kind: str = "", flags: int = 0, data: str = "") -> None:
    words: Sequence[bytes | None] = [
        os.fsencode(word) if word else None for word in (source, target, kind)
    ]
    _call("mount", *words, ctypes.c_ulong(flags), os.fsencode(data) if data else None)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        words = [each.decode() for each in arguments if isinstance(each, bytes)]
        raise OSError(number, f"{name}: {os.strerror(number)}", *words[1:2])


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
