from pathlib import Path

import pytest

from mmsearch.core.errors import UnknownNameError, UsageError
from mmsearch.core.settings import Settings, load_settings, store_setting


@pytest.fixture
def variables(tmp_path):
    return {"MMSEARCH_CONFIG": str(tmp_path / "config" / "settings.toml")}


def write(variables, text):
    path = Path(variables["MMSEARCH_CONFIG"])
    path.parent.mkdir()
    path.write_text(text)


def test_flags_win_over_environment_over_file_over_defaults(variables):
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


def test_values_of_every_type_are_read(variables):
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
        ('modle = "x"', UnknownNameError, "'modle', which is no setting"),
        ('workers = "many"', UsageError, "'many' in .* is no value for the setting 'workers'"),
    ],
)
def test_a_wrong_file_is_named(variables, text, error, sentence):
    write(variables, text)
    with pytest.raises(error, match=sentence):
        load_settings(variables)


def test_a_wrong_variable_is_named(variables):
    with pytest.raises(UsageError, match=r"'maybe' in \$MMSEARCH_OFFLINE"):
        load_settings(variables | {"MMSEARCH_OFFLINE": "maybe"})


def test_storing_one_setting_keeps_the_rest(variables):
    store_setting("model", "starter", variables)
    path = Path(variables["MMSEARCH_CONFIG"])
    path.write_text("# mine\nworkers = 2 # few\n" + path.read_text())
    store_setting("model", 'odd "name"', variables)
    assert "# mine\nworkers = 2 # few\n" in path.read_text()
    assert load_settings(variables) == Settings(workers=2, model='odd "name"')


def test_home_is_the_indexes_folder_here_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path("x")).indexes_home() == Path("x")
    assert "mmsearch" in str(Settings().indexes_home())
    (tmp_path / "indexes").mkdir()
    assert Settings().indexes_home() == tmp_path / "indexes"
