from datetime import timedelta
from typing import Any, cast

import pytest

from streamproc import App, SettingsError
from streamproc.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("flags", "environment", "app", "expected"),
    [
        ({}, {}, {}, "1h"),
        ({}, {}, {"ahead": "2h"}, "2h"),
        ({}, {"STREAMPROC_AHEAD": "3h"}, {"ahead": "2h"}, "3h"),
        ({"ahead": "4h"}, {"STREAMPROC_AHEAD": "3h"}, {"ahead": "2h"}, "4h"),
        ({"ahead": None}, {"STREAMPROC_AHEAD": "3h"}, {"ahead": "2h"}, "3h"),
        ({}, {"AHEAD": "3h", "STREAMPROC_OTHER": "x"}, {}, "1h"),
    ],
)
def test_what_is_nearest_counts(flags: Any, environment: Any, app: Any, expected: str) -> None:
    """Flag before environment before app before default; what is not given counts nowhere."""
    assert load_settings(flags, environment, app).ahead == expected


@pytest.mark.parametrize("name", [name for name in Settings.__struct_fields__ if name != "kafka"])
def test_every_setting_can_be_set_everywhere(name: str) -> None:
    """`--x`, STREAMPROC_X and App(x=) take the same."""
    counts = dict.fromkeys(("epoch_records", "epoch_bytes", "cache_bytes", "fetch_bytes"), "7")
    text = {**counts, "guarantee": "at_least_once", "broker": "memory://"}.get(name, "7s")
    value = int(text) if text == "7" else text
    assert getattr(load_settings({name: value}, {}, {}), name) == value
    assert getattr(load_settings({}, {f"STREAMPROC_{name.upper()}": text}, {}), name) == value
    assert getattr(App("a", **cast("dict[str, Any]", {name: value})).settings({}, {}), name) == value


def test_settings_of_the_client_come_one_by_one() -> None:
    """`--kafka NAME=VALUE`, STREAMPROC_KAFKA_NAME and App(kafka={...}); each overrides the same one of the next."""
    app = {"kafka": {"client_id": "app", "sasl_mechanism": "PLAIN", "ssl_cafile": "ca.pem"}}
    environment = {"STREAMPROC_KAFKA_CLIENT_ID": "environment", "STREAMPROC_KAFKA_SASL_MECHANISM": "GSSAPI"}
    settings = load_settings({"kafka": ("client_id=flag",)}, environment, app)
    assert settings.kafka == {"client_id": "flag", "sasl_mechanism": "GSSAPI", "ssl_cafile": "ca.pem"}
    with pytest.raises(SettingsError, match=r"setting kafka is 'flag': write NAME=VALUE"):
        load_settings({"kafka": ("flag",)}, {}, {})


@pytest.mark.parametrize("text", ["never", "Never", "none", ""])
def test_idle_can_be_never(text: str) -> None:
    """None in Python, `never` on the command line."""
    assert load_settings({}, {"STREAMPROC_IDLE": text}, {}).idle is None
    assert load_settings({}, {}, {"idle": None}).idle is None
    assert load_settings({}, {}, {}).idle == "30s"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("EPOCH_INTERVALL", "EPOCH_INTERVAL"), ("GUARANTE", "GUARANTEE"), ("IDEL", "IDLE"), ("BROKERS", "BROKER")],
)
def test_a_misspelt_name_in_the_environment_is_an_error(name: str, meant: str) -> None:
    """Else it would count nowhere, and nobody would know; as an option or in App(...) it is refused too."""
    with pytest.raises(SettingsError, match=rf"no setting STREAMPROC_{name} .*did you mean STREAMPROC_{meant}\?"):
        load_settings({}, {f"STREAMPROC_{name}": "1s"}, {})


@pytest.mark.parametrize("name", ["TEST_BROKER", "REQUIRE_KAFKA", "SERVICE_HOST", "PORT_8080_TCP_ADDR", "HOME"])
def test_what_is_like_no_setting_is_left_alone(name: str) -> None:
    """The environment is not this program's alone."""
    assert load_settings({}, {f"STREAMPROC_{name}": "x"}, {}) == Settings()


def test_durations_may_be_timedeltas() -> None:
    """As everywhere."""
    assert load_settings({}, {}, {"drift": timedelta(seconds=5)}).drift == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epoch_intervall": "1s"}, "there is no setting 'epoch_intervall': settings are broker, state_dir"),
        ({"ahead": "soon"}, "setting ahead: "),
        ({"epoch_interval": "0s"}, "setting epoch_interval: "),
        ({"idle": "-1s"}, "setting idle: "),
        (
            {"guarantee": "at_most_once"},
            "setting guarantee is 'at_most_once': it is one of exactly_once, at_least_once",
        ),
        ({"epoch_records": 0}, "setting epoch_records is 0: it is a whole number, at least 1"),
        ({"cache_bytes": "much"}, "setting cache_bytes is 'much': it is a whole number"),
        ({"ahead": None}, "setting ahead"),
        ({"drift": 5.5}, "setting drift"),
        ({"epoch_records": None}, "setting epoch_records"),
        ({"epoch_records": 1.5}, "setting epoch_records"),
    ],
)
def test_a_wrong_setting_is_an_error_at_once(settings: Any, said: str) -> None:
    """An App refuses it where it is written."""
    with pytest.raises(SettingsError, match=said):
        App("wrong", **settings)
