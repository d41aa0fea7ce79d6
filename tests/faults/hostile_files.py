"""Untrusted files: a decoder in worker processes with limits, and changes of bytes."""

import os
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mmsearch.executors import processes
from mmsearch.indexing.encode import DecoderFactory, DecodeTask

KINDS = ("flip", "flip", "flip", "cut", "drop", "double")


@dataclass(frozen=True)
class Sizes:
    """Preprocessor that returns the sizes: these tests are about decoding."""

    edge_px: int

    def __call__(self, pixels):
        assert pixels.dtype == np.uint8
        return np.asarray(pixels.shape, dtype=np.int64)


@contextmanager
def decoding(modalities, prepare, limit_s, memory_mb):
    """Yield a function that decodes files in worker processes: the outcome of each path."""
    executor = processes.build(2, limit_s, memory_mb)
    make = DecoderFactory(modalities, prepare)

    def run(paths):
        tasks = []
        for path in paths:
            facts = path.stat()
            tasks.append(DecodeTask(os.fsencode(path), facts.st_size, facts.st_mtime_ns))
        return {task.path: outcome for task, outcome in executor.run(make, tasks)}

    yield run
    executor.close()


def flip_bytes(content, rng, kind):
    """Change some bytes of a file."""
    for _ in range(rng.choice([1, 3, 30])):
        content[rng.randrange(len(content))] = rng.randrange(256)


def mutate(content, rng, flip=flip_bytes, kinds=KINDS):
    """Flip bytes of a file, or cut it, or leave out or repeat a piece.

    Args:
        content: The file.
        rng: Chooses what is done, and where.
        flip: Changes bytes in place, for the kinds that are not cut, drop and double.
        kinds: Kinds of changes, each as often as it is to be chosen.
    """
    content = bytearray(content)
    at = rng.randrange(len(content))
    kind = rng.choice(kinds)
    if kind == "cut":
        del content[at:]
    elif kind == "drop":
        del content[at : at + rng.choice([1, 17, 300])]
    elif kind == "double":
        content[at:at] = content[at : at + 300]
    else:
        flip(content, rng, kind)
    return bytes(content)
