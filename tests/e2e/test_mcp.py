"""``mmsearch mcp``, called by the official MCP client over pipes and over HTTP."""

import base64
import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from tests.serve_process import run_serve

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "mmsearch", "mcp"]
SOUNDS = Path(__file__).parents[1] / "sounds"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "assistant.md"
TOKEN = "as-good-as-any"  # noqa: S105 - of the test's own server
MAX_RESULT_BYTES = 1_000_000
REPLY_TIMEOUT_S = 10.0


class McpClient:
    """Synchronous wrapper of the MCP client."""

    def __init__(self, portal, client):
        self._portal = portal
        self._client = client

    def tools(self):
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools).tools}

    def instructions(self):
        return self._client.instructions

    def call(self, tool, **arguments):
        result = self._portal.call(partial(self._client.call_tool, tool, arguments))
        assert len(result.model_dump_json()) < MAX_RESULT_BYTES
        return result

    def call_ok(self, tool, **arguments):
        result = self.call(tool, **arguments)
        assert not result.is_error, result
        return result

    def call_error(self, tool, **arguments):
        result = self.call(tool, **arguments)
        assert result.is_error, result
        (said,) = result.content
        return said.text


@contextmanager
def connect(transport, **options):
    with start_blocking_portal() as portal, ExitStack() as stack:
        client = Client(transport, **options)
        stack.enter_context(portal.wrap_async_context_manager(client))
        yield McpClient(portal, client)


@pytest.fixture(scope="module")
def assistant(environment, photo_index, tmp_path_factory):
    parameters = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "--home", str(photo_index)], env=environment
    )
    said = tmp_path_factory.mktemp("mcp") / "stderr"
    with said.open("w") as errors, connect(stdio_client(parameters, errors)) as assistant:
        yield assistant
    assert said.read_text() == ""


@pytest.fixture(scope="module")
def windmills(photos):
    """File names of the photographs of windmills."""
    with (photos / "manifest.csv").open(encoding="utf-8") as table:
        return {
            Path(row["path"]).name for row in csv.DictReader(table) if row["word"] == "windmill"
        }


def words(result):
    return "\n".join(block.text for block in result.content if block.type == "text")


def pictures(result):
    return [decode_image(block) for block in result.content if block.type == "image"]


def decode_image(block):
    content = base64.b64decode(block.data)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.get_format_mimetype() == block.mime_type
        return picture


def test_mcp_tools_have_descriptions_and_schemas(assistant):
    tools = assistant.tools()
    spoken = ["search_by_speech"] if find_spec("faster_whisper") else []
    assert list(tools) == [
        *("search_images", *spoken),
        *("similar_images", "get_image", "facets", "duplicates", "describe_index"),
    ]
    for tool in tools.values():
        assert tool.description
        assert tool.title
        assert tool.output_schema["type"] == "object"
        assert tool.annotations.read_only_hint
    search = tools["search_images"]
    assert search.input_schema["required"] == ["query"]
    named = set(search.input_schema["properties"])
    assert named >= {"limit", "without", "mode", "after", "before", "path", "camera", "tag"}
    assert "joined by + and -" in search.description
    assert "search_images" in assistant.instructions()


def test_search_images_returns_ranked_hits_with_previews(assistant, windmills):
    result = assistant.call_ok("search_images", query="a windmill")
    hits = result.structured_content["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert Path(hits[0]["path"]).name in windmills
    assert f"1. id {hits[0]['id']}, score {hits[0]['score']:.3f}, weak match" in words(result)
    dogs = assistant.call_ok("search_images", query="a dog", limit=1)
    (dog,) = dogs.structured_content["hits"]
    assert dog["band"] in ("likely", "possible")
    assert f"1. id {dog['id']}, score {dog['score']:.3f}, {dog['band']}" in words(dogs)
    assert hits[0]["path"] in words(result)
    # Each preview follows the text about it.
    assert [block.type for block in result.content] == ["text", *["text", "image"] * 8]
    assert {max(picture.size) for picture in pictures(result)} == {160}


def test_search_images_without_good_match_is_marked_unlikely(assistant):
    result = assistant.call_ok("search_images", query="the square root of minus one", limit=3)
    assert result.content[0].text.startswith("No good matches. Closest results:\n")
    assert result.structured_content["match"] == "unlikely"
    assert len(pictures(result)) == 3


def test_search_images_limit_30_returns_30_hits_and_12_previews(assistant):
    result = assistant.call_ok("search_images", query="people", limit=30)
    assert len(result.structured_content["hits"]) == 30
    assert len(pictures(result)) == 12


def test_search_images_filter_arguments_restrict_hits(assistant):
    wide = assistant.call_ok("search_images", query="a dog", orientation="landscape", limit=5)
    assert all(hit["width"] > hit["height"] for hit in wide.structured_content["hits"])
    some = assistant.call_ok("search_images", query="a dog", path="6*", limit=30)
    names = [Path(hit["path"]).name for hit in some.structured_content["hits"]]
    assert some.structured_content["passed"] == len(names) == 11
    assert all(name.startswith("6") for name in names)
    none = assistant.call_ok("search_images", query="a dog", camera=["Obscura"], after="1850")
    assert words(none) == "No picture passes the filters.\n0 of 212 pictures."


def test_search_images_without_argument_changes_best_hit(assistant):
    first = assistant.call_ok("search_images", query="a windmill", limit=1)
    taken = assistant.call_ok("search_images", query="a field", without=["a windmill"], limit=1)
    (mill,), (other,) = (each.structured_content["hits"] for each in (first, taken))
    assert mill["id"] != other["id"]


@pytest.mark.skipif(find_spec("faster_whisper") is None, reason="no extra speech")
def test_search_by_speech_finds_what_is_spoken_and_says_what_it_heard(assistant):
    audio = base64.b64encode((SOUNDS / "panda.ogg").read_bytes()).decode()
    result = assistant.call_ok("search_by_speech", audio=audio, limit=3)
    answer = result.structured_content
    assert (answer["heard"], answer["language"]) == ("A black and white panda", "en")
    assert words(result).startswith('Heard: "A black and white panda"\n3 of 212 pictures.')
    typed = assistant.call_ok("search_images", query="A black and white panda", limit=3)
    assert [hit["id"] for hit in answer["hits"]] == [
        hit["id"] for hit in typed.structured_content["hits"]
    ]
    assert "not a recording" in assistant.call_error("search_by_speech", audio="aGVsbG8=")


def test_get_image_size_sets_longest_side(assistant):
    found = assistant.call_ok("search_images", query="a windmill", limit=1)
    (hit,) = found.structured_content["hits"]
    sides = {}
    for size in ("small", "medium", "large"):
        result = assistant.call_ok("get_image", image_id=hit["id"], size=size)
        assert result.structured_content["path"] == hit["path"]
        (picture,) = pictures(result)
        sides[size] = max(picture.size)
    longest = max(hit["width"], hit["height"])
    assert sides == {"small": 160, "medium": min(400, longest), "large": min(1280, longest)}


def test_similar_images_exclude_given_picture(assistant):
    found = assistant.call_ok("search_images", query="a windmill", limit=1)
    (hit,) = found.structured_content["hits"]
    result = assistant.call_ok("similar_images", image_id=hit["id"], limit=5)
    ids = [other["id"] for other in result.structured_content["hits"]]
    assert len(ids) == 5
    assert hit["id"] not in ids
    assert len(pictures(result)) == 5


def test_facets_count_pictures_by_format(assistant):
    result = assistant.call_ok("facets", by=["format", "year"], limit=5, fold=False)
    formats, years = result.structured_content["facets"]
    assert formats["values"] == [{"value": "JPEG", "count": 212, "filter": {"format": ["JPEG"]}}]
    assert (years["values"], years["missing"]) == ([], 212)
    assert "JPEG: 212 (format=['JPEG'])" in words(result)


def test_duplicates_are_groups_with_what_to_keep(assistant):
    result = assistant.call_ok("duplicates", kind="near", limit=5)
    found = result.structured_content
    assert set(found["counts"]) == {"near"}
    assert found["counts"]["near"] >= len(found["groups"])
    assert "Nothing was deleted." in words(result)
    assert assistant.call("duplicates", kind="same").is_error


def test_describe_index_returns_count_and_folders(assistant, photos):
    result = assistant.call_ok("describe_index")
    assert result.structured_content["pictures"] == 212
    assert result.structured_content["folders"] == [str(photos)]
    assert "212 pictures" in words(result)


REFUSED = {
    "empty": ("search_images", {"query": " "}, "The query is empty."),
    "a path": ("search_images", {"query": "/etc/passwd"}, "searches for words only"),
    "a URL": ("search_images", {"query": "image:http://127.0.0.1/"}, "searches for words only"),
    "no date": ("search_images", {"query": "dog", "after": "yesterday"}, "yesterday"),
    "too many": (
        "search_images",
        {"query": "dog", "limit": 1000},
        "limit must be at most 30, got 1000. ",
    ),
    "no such argument": ("search_images", {"query": "dog", "colour": "red"}, "colour is unknown. "),
    "nothing": ("search_images", {}, "query is missing. The tool search_images takes query, "),
    "no picture": ("get_image", {"image_id": 10**9}, "has no picture 1000000000."),
    "no such size": ("get_image", {"image_id": 1, "size": "huge"}, "size must be "),
    "nothing to resemble": ("similar_images", {"image_id": 10**9}, "has no picture"),
    "no tool": ("delete_everything", {}, "There is no tool 'delete_everything'."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mcp_tool_invalid_call_returns_one_line_error(assistant, case):
    tool, arguments, expected = REFUSED[case]
    said = assistant.call_error(tool, **arguments)
    assert expected in said
    assert "\n" not in said
    assert "Traceback" not in said


def test_mcp_missing_index_exits_2(environment, tmp_path):
    done = subprocess.run(
        [*COMMAND, "--index", "nothere", "--home", tmp_path],
        env=environment,
        input=b"",
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Error: ")
    assert b"nothere" in done.stderr


def test_mcp_port_without_http_option_exits_2(environment):
    done = subprocess.run(
        [*COMMAND, "--port", "7000"], env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert b"--http" in done.stderr


def test_mcp_without_package_exits_1_with_install_command(environment):
    program = (
        "import sys; sys.modules['mcp'] = None\n"
        "from mmsearch.cli.main import main; sys.argv = ['mmsearch', 'mcp']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.decode().endswith("pip install '.[mcp]'\n")


def start_stdio_server(environment, home):
    return subprocess.Popen(
        [*COMMAND, "--home", home],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def send_request(process, number, method, **params):
    request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    process.stdin.write(json.dumps(request) + "\n")
    return json.loads(process.stdout.readline())


def initialize(process):
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}}
    answer = send_request(
        process, 1, "initialize", **hello, clientInfo={"name": "t", "version": "1"}
    )
    assert answer["result"]["serverInfo"]["name"] == "mmsearch"
    process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')


def test_mcp_stdio_session_writes_only_protocol_messages(environment, photo_index):
    with start_stdio_server(environment, photo_index) as process:
        initialize(process)
        found = send_request(
            process, 2, "tools/call", name="search_images", arguments={"query": "dog", "limit": 1}
        )
        assert len(found["result"]["content"]) == 3
        assert send_request(process, 3, "tools/list")["id"] == 3
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_mcp_stdio_interrupted_while_waiting_exits_130(environment, photo_index):
    with start_stdio_server(environment, photo_index) as process:
        initialize(process)
        process.send_signal(signal.SIGINT)
        # Its input stays open, as an assistant keeps it.
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "Interrupted.\n"


def test_assistant_page_examples_are_valid_and_run(environment, photo_index, windmills):
    page = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        assert list(json.loads(block)) == ["mcpServers"]
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = 'command="mmsearch", args=["mcp"]'
    assert example in program
    arguments = [*COMMAND[1:], "--home", str(photo_index)]
    own = f"command={COMMAND[0]!r}, args={arguments!r}, env={environment!r}"
    done = subprocess.run(
        [sys.executable, "-c", program.replace(example, own)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    first, *others = done.stdout.splitlines()
    assert first.startswith("1 ")
    assert Path(first.split(maxsplit=2)[2]).name in windmills
    assert len(others) == 2


@contextmanager
def run_http_server(environment, home, *options, stop_signal=signal.SIGTERM, code=0):
    command = [*COMMAND, "--http", "--port", "0", "--home", home, *options]
    with run_serve(command, environment, stop_signal, code) as server:
        line = server.line()
        url = re.fullmatch(r"Index 'default' is open for assistants at (\S+); Ctrl-C .*\n", line)
        assert url, line
        yield url[1]


def make_search_body(**arguments):
    call = {"name": "search_images", "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()


LINES = {
    "no JSON": b"\xff\xfe no JSON",
    "nothing": b"",
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "a long number": b'{"jsonrpc": "2.0", "method": "ping", "id": %s}' % (b"9" * 5000),
    "an unknown method": b'{"jsonrpc": "2.0", "method": "eval", "id": 1}',
    "an empty batch": b"[]",
    "half a surrogate": make_search_body(query="\ud800"),
    "a query that is a number": make_search_body(query=5),
    "a long query": make_search_body(query="x" * 5_000_000),
    "a limit of 400 digits": make_search_body(query="a dog", limit=10**400),
    "a file": make_search_body(query="image:/etc/passwd"),
    "stars": make_search_body(query="a dog", path="*" * 60 + "!"),
}


@pytest.fixture(scope="module")
def piped(environment, photo_index):
    """A stdio server after the initialize handshake."""
    command = [*COMMAND, "--home", str(photo_index)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        about = {"protocolVersion": "2025-06-18", "capabilities": {}}
        about["clientInfo"] = {"name": "test", "version": "1"}
        greeting = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about}
        send(process, json.dumps(greeting).encode())
        assert read_response(process, 0)["result"]["serverInfo"]["name"] == "mmsearch"
        send(process, b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        yield process
        process.stdin.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def send(process, line):
    process.stdin.write(line + b"\n")
    process.stdin.flush()


def read_response(process, number):
    """Return the answer to a request; skip answers to others."""
    while True:
        answer = json.loads(process.stdout.readline())
        if answer.get("id") == number:
            return answer


@pytest.mark.parametrize("line", LINES)
def test_mcp_stdio_after_hostile_line_answers_next_request(piped, line):
    send(piped, LINES[line])
    began = time.monotonic()
    send(piped, b'{"jsonrpc": "2.0", "id": 2, "method": "ping"}')
    assert read_response(piped, 2)["result"] == {}
    assert time.monotonic() - began < REPLY_TIMEOUT_S


@pytest.fixture(scope="module")
def address(environment, photo_index):
    with run_http_server(environment, photo_index, "--token", TOKEN) as url:
        yield url


@asynccontextmanager
async def over_http(address, token):
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as client,
        streamable_http_client(address, http_client=client) as streams,
    ):
        yield streams


@pytest.mark.enable_socket
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_mcp_http_returns_same_results_as_stdio(assistant, address, mode):
    with connect(over_http(address, TOKEN), mode=mode) as elsewhere:
        assert list(elsewhere.tools()) == list(assistant.tools())
        there = elsewhere.call_ok("search_images", query="a windmill", limit=2)
        here = assistant.call_ok("search_images", query="a windmill", limit=2)
        assert there.structured_content == here.structured_content
        assert there.content == here.content
        assert "no picture" in elsewhere.call_error("get_image", image_id=10**9)


def post(address, **headers):
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accepted = {"Accept": "application/json, text/event-stream"}
    return httpx2.post(address, json=request, headers=accepted | headers, timeout=60)


@pytest.mark.enable_socket
@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer"])
def test_mcp_http_missing_or_wrong_token_gets_401(address, given):
    answer = post(address, **({} if given is None else {"Authorization": given}))
    assert answer.status_code == 401
    assert answer.json()["detail"] == "This server requires a token."
    assert post(address, Authorization=f"Bearer {TOKEN}").status_code == 200


@pytest.mark.enable_socket
def test_mcp_http_client_with_wrong_token_raises_error(address):
    with pytest.raises(ExceptionGroup) as failed, connect(over_http(address, "wrong")):
        pass
    assert failed.group_contains(MCPError)


@pytest.mark.enable_socket
def test_mcp_http_foreign_origin_or_host_is_refused(environment, photo_index):
    options = ("--root-path", "/photos")
    with run_http_server(
        environment, photo_index, *options, stop_signal=signal.SIGINT, code=130
    ) as url:
        assert url.endswith("/photos/mcp")
        # Through a proxy that passes the path on, and through one that removes it.
        assert post(url).status_code == 200
        assert post(url.replace("/photos", "")).status_code == 200
        assert post(url, Origin="https://elsewhere.example").status_code == 403
        # A foreign name that was made to resolve to this server: DNS rebinding.
        assert post(url, Host="elsewhere.example").status_code == 421
