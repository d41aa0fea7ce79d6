"""Every example of the HTTP API page runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_http import serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here"),
]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


def test_http_api_page_examples_run_without_error(environment, photo_index, photos, tmp_path):
    examples = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 8
    shutil.copy(min(photos.rglob("*.jpg")), tmp_path / "picture.jpg")
    shutil.copy(photos.parent / "sounds" / "panda.ogg", tmp_path / "question.webm")
    # Some examples write.
    home = shutil.copytree(photo_index, tmp_path / "home")
    with serving(environment, home) as server:
        for example in examples:
            # A problem document counts as a failure, too.
            script = (
                'curl() { command curl --fail-with-body "$@" || return 1; echo; }\nset -e\n'
                + example
            )
            done = subprocess.run(
                ["sh", "-c", script.replace("http://127.0.0.1:7788", server.url)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (example, done.stdout, done.stderr)
            assert '"detail"' not in done.stdout
    assert (tmp_path / "small.webp").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "original").stat().st_size > 1000
