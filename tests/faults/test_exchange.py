"""An export or import that is killed leaves a sound state, and the next one completes it."""

import subprocess

import pytest

from mmsearch.storage.failpoints import FailPoint
from tests.faults.conftest import TOYS, content_of, same, verify

IMPORT_KILLS = [
    *((FailPoint.FILE_RENAMED, visit) for visit in (1, 2, 3, 4)),
    *((FailPoint.FILE_PUBLISHED, visit) for visit in (2, 3, 4)),
    *((FailPoint.TRANSACTION_READY, visit) for visit in range(1, 8)),
    *((FailPoint.TRANSACTION_COMMITTED, visit) for visit in range(1, 8)),
    (FailPoint.CATALOG_CLOSED, 1),
]


@pytest.fixture(scope="session")
def run_command(forked_command, environment):
    def run(*arguments, **variables):
        return subprocess.run(
            [forked_command, *map(str, arguments)],
            env=environment | TOYS | variables,
            capture_output=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def toy_export(toy_folder, run_indexer, run_command, tmp_path_factory):
    """Folder of an export of the toys."""
    home = tmp_path_factory.mktemp("exported")
    assert run_indexer(toy_folder, home, **TOYS).returncode == 3
    done = run_command("export", home / "export", "--home", home, "--format", "npy")
    assert done.returncode == 0, done.stderr
    return home / "export"


@pytest.fixture
def readable_toys(undisturbed_toys):
    return {path: row for path, row in undisturbed_toys.items() if row[1] is None}


@pytest.mark.parametrize(("point", "visit"), IMPORT_KILLS)
def test_import_killed_at_a_step_leaves_sound_index_and_next_import_completes_it(
    point, visit, toy_export, few_toys, run_command, readable_toys, tmp_path
):
    fault = {"MMSEARCH_FAULT": f"{point}:{visit}"}
    killed = run_command("import", toy_export, "--home", tmp_path, **fault)
    assert killed.returncode == -9, killed.stderr
    assert verify(tmp_path, readable_toys) in (0, len(readable_toys))
    done = run_command("import", toy_export, "--home", tmp_path)
    assert done.returncode == 0, done.stderr
    verify(tmp_path, readable_toys)
    assert same(content_of(tmp_path), readable_toys)


def test_folder_of_imported_toys_is_indexed_without_encoding(
    toy_export, few_toys, run_command, run_indexer, undisturbed_toys, tmp_path
):
    run_command("import", toy_export, "--home", tmp_path)
    done = run_indexer(few_toys, tmp_path, **TOYS)
    assert b"unchanged" in done.stdout
    assert b"pictures/s" not in done.stdout
    assert same(content_of(tmp_path), undisturbed_toys)
