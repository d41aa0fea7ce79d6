from pathlib import Path

import pytest

from mmsearch.core.errors import UnknownNameError, UsageError
from mmsearch.core.settings import Settings, load_settings, save_setting


@pytest.fixture
def variables(tmp_path):
    return {"MMSEARCH_CONFIG": str(tmp_path / "config" / "settings.toml")}


def write(variables, text):
    path = Path(variables["MMSEARCH_CONFIG"])
    path.parent.mkdir()
    path.write_text(text)


def test_settings_precedence_is_flags_environment_file_defaults(variables):
    assert load_settings(variables).model == "auto"
    write(variables, 'model = "starter"\nworkers = 3\ndevice = "cpu"\n')
    variables |= {"MMSEARCH_MODEL": "open_clip:x/y", "MMSEARCH_MAX_PIXELS": "99"}
    settings = load_settings(variables).with_flags(max_pixels=7, device=None)
    assert (settings.model, settings.workers, settings.max_pixels, settings.device) == (
        "open_clip:x/y",
        3,
        7,
        "cpu",
    )


def test_load_settings_environment_values_are_parsed_by_type(variables):
    variables |= {
        "MMSEARCH_HOME": "~/indexes",
        "MMSEARCH_OFFLINE": "true",
        "MMSEARCH_DECODE_TIMEOUT_S": "1.5",
    }
    settings = load_settings(variables)
    assert settings.home == Path("~/indexes").expanduser()
    assert settings.offline is True
    assert settings.decode_timeout_s == 1.5


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("model = ", UsageError, "is not TOML"),
        ('modle = "x"', UnknownNameError, "'modle', which is not a setting"),
        ('workers = "many"', UsageError, "'many' in .* is not a value for the setting 'workers'"),
    ],
)
def test_load_settings_invalid_file_raises_error_naming_cause(variables, text, error, sentence):
    write(variables, text)
    with pytest.raises(error, match=sentence):
        load_settings(variables)


def test_load_settings_invalid_variable_raises_error_naming_variable(variables):
    with pytest.raises(UsageError, match=r"'maybe' in \$MMSEARCH_OFFLINE"):
        load_settings(variables | {"MMSEARCH_OFFLINE": "maybe"})


def test_save_setting_keeps_comments_and_other_settings(variables):
    save_setting("model", "starter", variables)
    path = Path(variables["MMSEARCH_CONFIG"])
    path.write_text("# mine\nworkers = 2 # few\n" + path.read_text())
    save_setting("model", 'odd "name"', variables)
    assert "# mine\nworkers = 2 # few\n" in path.read_text()
    assert load_settings(variables) == Settings(workers=2, model='odd "name"')


def test_indexes_home_uses_indexes_folder_in_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path("x")).indexes_home() == Path("x")
    assert "mmsearch" in str(Settings().indexes_home())
    (tmp_path / "indexes").mkdir()
    assert Settings().indexes_home() == tmp_path / "indexes"


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"workers = " + DIGITS.encode(), "is not TOML: Exceeds the limit"),
        (b"workers = " + b"[" * 100_000, "is larger than 10,000 bytes"),
        (b"workers = " + b"[" * 9_000, "is not TOML"),
        (b"workers = " + b"{a=" * 3_000, "is not TOML"),
        (b"a." * 4_000 + b"a = 1", "is not TOML|is not a setting"),
        (b"#" * 10**8, "is larger than 10,000 bytes"),
        (b'model = "\xff"', "is not TOML"),
        (b"\0", "is not TOML"),
        (b"workers = 0x" + b"f" * 5000, "A number that is too long in .* is not a value"),
        (b"workers = [1]", r"\[1\] in .* is not a value .* It takes a whole number from 0\."),
        (b"workers = -1", "-1 in .* is not a value"),
        (b"workers = 1.5", "1.5 in .* is not a value"),
        (b"workers = true", "True in .* is not a value"),
        (b"workers = 1e400", "inf in .* is not a value"),
        (b"workers = 1979-05-27", "is not a value"),
        (b"decode_timeout_s = nan", "nan in .* is not a value .* It takes a number from 0"),
        (b"decode_timeout_s = inf", "inf in .* is not a value"),
        (b"decode_timeout_s = 1e300", "is not a value"),
        (b"decode_timeout_s = {}", "is not a value"),
        (b"offline = 2", "2 in .* is not a value .* It takes true or false"),
        (b"model = 1", "1 in .* is not a value .* It takes a string"),
        (b"model = []", "is not a value"),
        (b'model = "a\\u0000b"', "is not a value"),
        (b'home = "a\\u0000b"', "is not a value"),
        (b"home = {a = 1}", "is not a value"),
        (b'model = ["' + b"a" * 9_000 + b'"]', r"a\.\.\. in .* is not a value"),
        (b"a" * 1000 + b" = 1", "which is not a setting"),
        (b'"\\u001b[31m" = 1', r"'\\x1b\[31m', which is not a setting"),
    ],
)
def test_load_settings_hostile_file_raises_short_one_line_error(variables, content, sentence):
    path = Path(variables["MMSEARCH_CONFIG"])
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises((UsageError, UnknownNameError), match=sentence) as caught:
        load_settings(variables)
    assert len(caught.value.message) < 500
    assert "\n" not in str(caught.value)


def test_settings_path_that_is_folder_raises_usage_error(variables, tmp_path):
    (tmp_path / "config" / "settings.toml").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot be read: not a regular file\."):
        load_settings(variables)
    with pytest.raises(UsageError, match=r"cannot be read: not a regular file\."):
        save_setting("model", "starter", variables)


def test_save_setting_invalid_toml_file_is_not_overwritten(variables):
    write(variables, "workers = " + DIGITS)
    with pytest.raises(UsageError, match="is not TOML"):
        save_setting("model", "starter", variables)
    assert Path(variables["MMSEARCH_CONFIG"]).read_text() == "workers = " + DIGITS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", DIGITS),
        ("WORKERS", "1e400"),
        ("WORKERS", "-1"),
        ("WORKERS", "nan"),
        ("WORKERS", "[" * 100_000),
        ("MAX_PIXELS", "9" * 30),
        ("DECODE_TIMEOUT_S", "nan"),
        ("DECODE_TIMEOUT_S", "1e400"),
        ("DECODE_TIMEOUT_S", "-0.1"),
        ("DECODE_MEMORY_MB", "\udcff"),
        ("OFFLINE", DIGITS),
        ("MODEL", "a\0b"),
    ],
)
def test_load_settings_hostile_variable_raises_short_error(variables, name, value):
    with pytest.raises(UsageError, match=rf"in \$MMSEARCH_{name} is not a value") as caught:
        load_settings(variables | {f"MMSEARCH_{name}": value})
    assert len(caught.value.message) < 200
    caught.value.message.encode()
