"""Possible disk contents after a power cut, derived from the system calls of a writer.

`record` runs a program under strace; `Disk` replays its calls and can be cut at any of them:

- ``all``: everything reached the disk, as when only the process is killed.
- ``strict``: only synced data: content by fsync of the file, names by fsync of the folder.
- ``random``: synced data, random pieces of 4 KiB and a random prefix of the name changes.
"""

import ast
import os
import re
import subprocess
from dataclasses import dataclass, field

TRACED_CALLS = (
    "openat,open,creat,write,pwrite64,ftruncate,fallocate,lseek,rename,renameat,renameat2,unlink,"
    "unlinkat,fsync,fdatasync,close,mkdir,mkdirat,rmdir"
)
BLOCK_BYTES = 4096
STRACE = ("strace", "-f", "-y", "-xx", "-s", "20000000")


@dataclass
class SystemCall:
    name: str
    arguments: str
    result: int


def record(command, log, **options):
    """Run a program; return its calls on files in order of completion."""
    process = subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-xx",
            "-s",
            "20000000",
            "-e",
            f"trace={TRACED_CALLS}",
            "-o",
            log,
            *command,
        ],
        capture_output=True,
        check=False,
        **options,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return list(parse(log.read_text()))


LINE = re.compile(r"(\d+) +(.*)")
COMPLETE_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)")


def parse(text):
    unfinished = {}
    for line in text.splitlines():
        pid, event = LINE.fullmatch(line).groups()
        if event.endswith("<unfinished ...>"):
            unfinished[pid] = event.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", event)
        if resumed:
            event = unfinished.pop(pid) + resumed[1]
        call = COMPLETE_CALL.match(event)
        if call and call[3] != "?" and not call[3].startswith("-"):
            yield SystemCall(call[1], call[2], int(call[3]))


def decode_string(quoted):
    return ast.literal_eval("b" + quoted)


STRING = re.compile(r'"(?:\\x[0-9a-f]{2})*"')
DESCRIPTOR = re.compile(r"(\d+)<([^>]*)>")


@dataclass
class Inode:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    pending: list = field(default_factory=list)


class Disk:
    """The files below a folder, as the program sees them and as they are on the disk."""

    def __init__(self, root):
        self.root = os.fsencode(root)
        self.names = {}
        self.synced_names = {}
        self.changes = []
        self.offsets = {}
        self.acknowledged = []

    def apply(self, call):
        """Apply a call; return True if the disk may have changed."""
        return bool(getattr(self, f"_{call.name}", lambda call: False)(call))

    def state_after_cut(self, model, rng):
        """Return the content of each path after the power is back."""
        if model == "all":
            return {name: bytes(inode.content) for name, inode in self.names.items()}
        names = dict(self.synced_names)
        if model == "random":
            for change in self.changes[: rng.randint(0, len(self.changes))]:
                rename(names, *change)
        files = {}
        for name, inode in names.items():
            content = bytearray(inode.synced)
            if model == "random":
                for offset, piece in inode.pending:
                    if rng.random() < 0.5:
                        grow(content, offset + len(piece))
                        content[offset : offset + len(piece)] = piece
            files[name] = bytes(content)
        return files

    # --- calls ---

    def _path(self, call, argument_index=0):
        path = os.path.normpath(decode_string(STRING.findall(call.arguments)[argument_index]))
        is_traced = path.startswith(self.root + b"/") and not path.endswith((b"-shm", b"lock"))
        return path if is_traced else None

    def _file(self, call):
        number, shown = DESCRIPTOR.search(call.arguments).groups()
        path = decode_string(f'"{shown}"') if "\\x" in shown else shown.encode()
        path = path.removesuffix(b" (deleted)")
        return int(number), path

    def _openat(self, call):
        path = self._path(call)
        if path is None:
            return False
        if "O_CREAT" in call.arguments and path not in self.names:
            self._change(path, Inode())
        if path in self.names and "O_TRUNC" in call.arguments:
            self._truncate(self.names[path], 0)
        self.offsets[path] = 0
        return "O_CREAT" in call.arguments

    _open = _creat = _openat

    def _write(self, call):
        if call.arguments.startswith("1<"):
            line = decode_string(STRING.search(call.arguments)[0])
            if line.startswith(b"ACK "):
                self.acknowledged.append(line[4:])
            return False
        _, path = self._file(call)
        if path not in self.names:
            return False
        data = decode_string(STRING.search(call.arguments)[0])
        self._write_at(self.names[path], self.offsets.get(path, 0), data)
        self.offsets[path] = self.offsets.get(path, 0) + len(data)
        return True

    def _pwrite64(self, call):
        _, path = self._file(call)
        if path not in self.names:
            return False
        data = decode_string(STRING.search(call.arguments)[0])
        self._write_at(self.names[path], int(call.arguments.rsplit(",", 1)[1]), data)
        return True

    def _lseek(self, call):
        _, path = self._file(call)
        self.offsets[path] = call.result
        return False

    def _ftruncate(self, call):
        _, path = self._file(call)
        if path in self.names:
            self._truncate(self.names[path], int(call.arguments.rsplit(",", 1)[1]))
        return path in self.names

    def _rename(self, call):
        old, new = self._path(call), self._path(call, 1)
        if old in self.names and new is not None:
            inode = self.names.pop(old)
            self.names[new] = inode
            self.changes.append(("rename", old, new, inode))
            return True
        return False

    _renameat = _renameat2 = _rename

    def _unlink(self, call):
        path = self._path(call)
        if path in self.names:
            inode = self.names.pop(path)
            self.changes.append(("unlink", path, None, inode))
            return True
        return False

    _unlinkat = _unlink

    def _fsync(self, call):
        _, path = self._file(call)
        inode = self.names.get(path)
        if inode is not None:
            inode.synced, inode.pending = bytes(inode.content), []
            return True
        # The path is a folder: sync all name changes in it.
        folder_changes = [c for c in self.changes if os.path.dirname(c[2] or c[1]) == path]
        for change in folder_changes:
            rename(self.synced_names, *change)
        self.changes = [change for change in self.changes if change not in folder_changes]
        return bool(folder_changes)

    _fdatasync = _fsync

    # --- effects of the calls ---

    def _change(self, path, inode):
        self.names[path] = inode
        self.changes.append(("create", path, None, inode))

    def _write_at(self, inode, offset, data):
        grow(inode.content, offset + len(data))
        inode.content[offset : offset + len(data)] = data
        for start in range(0, len(data), BLOCK_BYTES):
            inode.pending.append((offset + start, data[start : start + BLOCK_BYTES]))

    def _truncate(self, inode, size):
        grow(inode.content, size)
        del inode.content[size:]
        inode.pending = [(o, piece[: size - o]) for o, piece in inode.pending if o < size]


def grow(content, size):
    content.extend(b"\0" * (size - len(content)))


def rename(names, kind, old, new, inode):
    if kind == "create":
        names[old] = inode
    elif kind == "unlink":
        names.pop(old, None)
    else:
        names.pop(old, None)
        names[new] = inode
