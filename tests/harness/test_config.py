"""Settings: what a project asks for once, what wins, what is refused."""

import pytest
from equiharness.harness.config import Settings, read_settings
from equiharness.harness.errors import UsageError
from equiharness.harness.precisions import DTYPES, TIMED


def project(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_project_without_settings_has_the_defaults(tmp_path):
    assert read_settings(tmp_path) == Settings()
    assert read_settings(project(tmp_path, "[project]\nname = 'x'\n")) == Settings()


def test_settings_are_read_and_later_ones_win(tmp_path):
    text = "[tool.equiharness]\nprofile = 'nightly'\nseed = 7\ndtype = ['float64']\nstrict = true\n"
    settings = read_settings(project(tmp_path, text)).merged({"seed": "3", "dtype": None, "device": "cuda"})
    assert (settings.profile, settings.seed, settings.dtype) == ("nightly", 3, ("float64",))
    assert (settings.strict, settings.device) == (True, "cuda")


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_of_a_setting_is_one_of_a_run(tmp_path, name):
    from equiharness.cli.run import requested

    settings = read_settings(project(tmp_path, f"[tool.equiharness]\ndtype = '{name}'\n"))
    assert requested(None, None, settings.dtype, "*", settings, 1).dtypes == (name,)
    assert name in TIMED


def test_profiles_say_how_often_a_check_is_made():
    assert (Settings().precisions, Settings().seeds) == ((None,), (0,))
    nightly = Settings(profile="nightly", seed=2)
    assert (nightly.precisions, nightly.seeds) == (("float32", "float64"), (2, 3, 4, 5, 6))
    assert Settings(profile="nightly", dtype=("bfloat16",)).precisions == ("bfloat16",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.equiharness]\nprofle = 'ci'\n", "Did you mean profile"),
        ("[tool.equiharness]\nprofile = 'weekly'\n", "Known: ci, nightly"),
        ("[tool.equiharness]\ndtype = 'float23'\n", "Did you mean float32"),
        ("[tool.equiharness]\nseed = 'three'\n", "seed is a whole number"),
        ("[tool.equiharness]\nstrict = 'maybe'\n", "strict is true or false"),
        ("[tool.equiharness\n", "Cannot read"),
    ],
)
def test_wrong_settings_are_refused_with_advice(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_settings(project(tmp_path, text))
