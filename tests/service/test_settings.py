"""Settings come from WHYSERVE_* and options; what is unknown or malformed is named."""

from pathlib import Path

import pytest

from service.settings import BadSetting, Settings, load_settings


def test_defaults_are_the_contracts():
    settings = load_settings({})
    assert (settings.host, settings.port, settings.models, settings.device) == ("127.0.0.1", 8080, Path("models"), "auto")
    assert settings.max_body_bytes == 64 * 2**20
    assert (settings.max_pixels, settings.max_instances, settings.max_characters) == (24_000_000, 256, 100_000)
    assert (settings.max_steps, settings.timeout) == (1000, 60.0)


def test_environment_is_read_and_options_go_first():
    environment = {"WHYSERVE_PORT": "9000", "WHYSERVE_HOST": "0.0.0.0", "PATH": "/bin"}
    assert load_settings(environment).port == 9000
    assert load_settings(environment, port="9001").port == 9001
    assert load_settings(environment, port="9001").host == "0.0.0.0"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WHYSERVE_SERVICE_HOST", "10.0.0.1"),
        ("WHYSERVE_SERVICE_PORT", "8080"),
        ("WHYSERVE_SERVICE_PORT_HTTP", "8080"),
        ("WHYSERVE_PORT", "tcp://10.0.0.1:8080"),
        ("WHYSERVE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("WHYSERVE_PORT_8080_TCP_PROTO", "tcp"),
        ("WHYSERVE_PORT_8080_TCP_PORT", "8080"),
        ("WHYSERVE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("WHYSERVE_EXPLAINER_SERVICE_HOST", "10.0.0.2"),
        ("WHYSERVE_EXPLAINER_PORT", "tcp://10.0.0.2:80"),
    ],
)
def test_kubernetes_service_links_are_ignored(variable: str, value: str):
    assert load_settings({variable: value}) == load_settings({})


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("WHYSERVE_PROT", "1", "unknown setting WHYSERVE_PROT"),
        ("WHYSERVE_PORT", "http", "WHYSERVE_PORT (or --port)"),
        ("WHYSERVE_PORT", "70000", "70000"),
        ("WHYSERVE_DEVICE", "gpu", "auto, cpu, cuda or cuda:N"),
        ("WHYSERVE_TIMEOUT", "0", "WHYSERVE_TIMEOUT"),
        ("WHYSERVE_LOG_LEVEL", "loud", "WHYSERVE_LOG_LEVEL"),
    ],
)
def test_bad_settings_are_named(variable: str, value: str, words: str):
    with pytest.raises(BadSetting) as caught:
        load_settings({variable: value})
    assert words in str(caught.value)


def test_keys_come_from_the_variable_and_from_a_file(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("second\n\nthird\n")
    settings = load_settings({"WHYSERVE_API_KEYS": "first, second", "WHYSERVE_API_KEYS_FILE": str(file)})
    assert settings.keys() == {"first", "second", "third"}
    assert settings.administrators() == frozenset()


def test_a_missing_key_file_is_an_error_that_names_the_setting(tmp_path: Path):
    settings = load_settings({"WHYSERVE_ADMIN_KEYS_FILE": str(tmp_path / "none")})
    with pytest.raises(BadSetting, match="WHYSERVE_ADMIN_KEYS_FILE"):
        settings.administrators()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


URL = {"WHYSERVE_EXPLAINER_URL": "http://explainer:8080/"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WHYSERVE_ROLE": "predictor"}, "WHYSERVE_EXPLAINER_URL"),
        ({"WHYSERVE_ROLE": "predictor", "WHYSERVE_EXPLAINERS": "0"} | URL, "WHYSERVE_EXPLAINERS=0"),
        ({"WHYSERVE_ROLE": "explainer"} | URL, "the role is explainer"),
        (URL, "the role is all"),
        ({"WHYSERVE_ROLE": "explainer", "WHYSERVE_EXPLAINERS": "0"}, "WHYSERVE_EXPLAINERS=0"),
        ({"WHYSERVE_EXPLAINER_KEY": "k"}, "WHYSERVE_EXPLAINER_KEY"),
    ],
)
def test_settings_that_contradict_the_role_are_named(environment: dict[str, str], words: str):
    with pytest.raises(BadSetting, match=words):
        load_settings(environment).require_role()


@pytest.mark.parametrize("url", ["explainer:8080", "ftp://explainer", "http://", "http://h:99999", "http://user:pw@h", "http://h/?a=1"])
def test_an_explainers_url_is_http(url: str):
    with pytest.raises(BadSetting, match="WHYSERVE_EXPLAINER_URL"):
        load_settings({"WHYSERVE_EXPLAINER_URL": url})


def test_a_predictors_settings(tmp_path: Path):
    (tmp_path / "key").write_text("secret\n")
    settings = load_settings({"WHYSERVE_ROLE": "predictor", "WHYSERVE_EXPLAINER_KEY_FILE": str(tmp_path / "key")} | URL)
    settings.require_role()
    assert settings.explainer_url == "http://explainer:8080"
    assert settings.key_of_explainer() == "secret"
    (tmp_path / "key").write_text("one\ntwo\n")
    with pytest.raises(BadSetting, match="one key"):
        settings.key_of_explainer()
    load_settings({"WHYSERVE_ROLE": "predictor", "WHYSERVE_EXPLAINERS": "0"}).require_role()
