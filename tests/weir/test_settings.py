"""Settings: what loads, and what is told about what does not."""

import contextlib
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import settings_file
from weir.settings import OwnThresholds, PostfixInstance, Settings, Thresholds
from weir.settings_checks import CHECKS
from weir.settings_file import SettingsError

NAME = "weir.toml"


def errors(text: str) -> list[str]:
    """What is told about a file, without its name."""
    with pytest.raises(SettingsError) as raised:
        settings_file.parse(text, NAME)
    found = raised.value.errors
    assert all(one.startswith(f"{NAME}: ") and "\n" not in one for one in found)
    return [one.removeprefix(f"{NAME}: ") for one in found]


def test_an_empty_file_is_the_defaults() -> None:
    assert settings_file.parse("", NAME) == Settings()


def test_the_reference_is_the_defaults() -> None:
    assert settings_file.parse(settings_file.reference(), NAME) == Settings()


def test_the_reference_names_and_explains_every_key() -> None:
    reference = settings_file.reference()
    for struct in CHECKS:
        for field in msgspec.structs.fields(struct):
            assert field.name in reference
    assert "# Where Postfix asks: `unix:PATH` or `HOST:PORT`." in reference
    assert 'socket_mode = "0666"  # a string' in reference


def test_every_field_has_a_check_and_every_default_passes() -> None:
    def walk(value: msgspec.Struct) -> None:
        for field in msgspec.structs.fields(value):
            below = getattr(value, field.name)
            if isinstance(below, msgspec.Struct):
                walk(below)
            elif not isinstance(below, dict):
                given_ = str(below) if isinstance(below, Path) else below
                assert CHECKS[type(value)][field.name](given_) == ""

    walk(Settings())
    assert set(CHECKS[OwnThresholds]) == set(OwnThresholds.__struct_fields__)


def test_a_table_given_in_part_keeps_its_other_defaults() -> None:
    burst = settings_file.parse("[detectors.burst.client]\nmessages_per_minute = 7", NAME).detectors.burst
    assert burst.client == Thresholds(
        messages_per_minute=7, recipients_per_minute=800, messages_per_hour=2000, recipients_per_hour=6000
    )
    assert burst.account == Thresholds()


def test_values_of_each_type_load() -> None:
    loaded = settings_file.parse(
        """
        default_realm = "example.org"
        trusted = ["192.0.2.0/24", "2001:db8::1"]
        agent.spool = "/srv/spool"
        detectors.burst.shadow = true
        brake.share = 1
        [detectors.burst.own."News@example.org"]
        messages_per_hour = 9000
        [queue.instances.postfix-out]
        config_directory = "/etc/postfix-out"
        """,
        NAME,
    )
    assert loaded.agent.spool == Path("/srv/spool")
    assert loaded.brake.share == 1.0
    assert loaded.detectors.burst.shadow
    assert loaded.detectors.burst.own == {"News@example.org": OwnThresholds(messages_per_hour=9000)}
    assert loaded.queue.instances == {
        "postfix": PostfixInstance(),
        "postfix-out": PostfixInstance(config_directory=Path("/etc/postfix-out")),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[agent]\nspol = 1", "line 2: unknown key agent.spol: did you mean agent.spool?"),
        ("[agnt]\nspool = 1", "line 1: unknown key agnt: did you mean agent?"),
        (
            "[detectors.burst.acount]",
            "line 1: unknown key detectors.burst.acount: did you mean detectors.burst.account?",
        ),
        ('spool = "/x"', "line 1: unknown key spool: did you mean agent.spool?"),
        ("[rules]\nfile = []", "line 2: unknown key rules.file: did you mean rules.files?"),
        ("[rules.own.X]\nlimit = 'host'", "line 2: unknown key rules.own.X.limit: did you mean rules.own.X.limits?"),
        ("[brake]\ncolour = 1", "line 2: unknown key brake.colour: expected one of blocks, share"),
        (
            '[detectors.burst.own."a@b"]\nmessages = 1',
            'line 2: unknown key detectors.burst.own."a@b".messages: did you mean '
            'detectors.burst.own."a@b".messages_per_hour?',
        ),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(text: str, expected: str) -> None:
    assert errors(text) == [expected]


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("kafka.sasl_password", "WEIR_KAFKA_SASL_PASSWORD"),
        ("kafka.password", "WEIR_KAFKA_SASL_PASSWORD"),
        ("kafka.ssl_key_password", "WEIR_KAFKA_SSL_KEY_PASSWORD"),
        ("kafka.token", "WEIR_GRAFANA_TOKEN"),
        ("kafka.clickhouse_password", "WEIR_GRAFANA_CLICKHOUSE_PASSWORD"),
        ("history.password", "WEIR_CLICKHOUSE_PASSWORD"),
        ("grafana.password", "WEIR_GRAFANA_CLICKHOUSE_PASSWORD"),
        ("grafana.token", "WEIR_GRAFANA_TOKEN"),
        ("agent.password", "WEIR_KAFKA_SASL_PASSWORD"),
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(key: str, variable: str) -> None:
    (told,) = errors(f'{key} = "hunter2"')
    assert told.startswith(f"line 1: unknown key {key}: ")
    assert told.endswith(f" {variable}")
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default_realm = 1", "line 1: default_realm: expected a string, got 1"),
        ('trusted = "10.0.0.0/8"', 'line 1: trusted: expected an array of strings, got "10.0.0.0/8"'),
        ("log.ignore_uids = ['vmail']", 'line 1: log.ignore_uids: expected an array of integers, got ["vmail"]'),
        ("trusted = [1]", "line 1: trusted: expected an array of strings, got [1]"),
        ("agent = 3", "line 1: agent: expected a table, got 3"),
        ("agent.spool = 3", "line 1: agent.spool: expected a string, got 3"),
        ("detectors.burst.block_seconds = 1.5", "line 1: detectors.burst.block_seconds: expected an integer, got 1.5"),
        (
            "detectors.burst.block_seconds = true",
            "line 1: detectors.burst.block_seconds: expected an integer, got true",
        ),
        ("detectors.burst.shadow = 1", "line 1: detectors.burst.shadow: expected a boolean, got 1"),
        ('brake.share = "1"', 'line 1: brake.share: expected a float, got "1"'),
        ("detectors.burst.own = []", "line 1: detectors.burst.own: expected a table, got []"),
        ("detectors.burst.own.x = 1", "line 1: detectors.burst.own.x: expected a table, got 1"),
        ("[streams.metrics]", "line 1: streams.metrics: expected a string, got a table"),
        ("default_realm = 1979-05-27", 'line 1: default_realm: expected a string, got "1979-05-27"'),
    ],
)
def test_a_wrong_type_is_told(text: str, expected: str) -> None:
    assert errors(text) == [expected]


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("default_realm", "@example.org", "a domain"),
    ("trusted", ["10.0.0.1/8"], "networks such as"),
    ("trusted", ["home"], "networks such as"),
    ("log.files", ["mail.log"], "absolute paths"),
    ("log.filters", ["filter.example.org"], "addresses such as 192.0.2.1"),
    ("log.ignore_uids", [-1], "numbers of users"),
    ("log.ignore_uids", [2**32], "numbers of users"),
    ("kafka.bootstrap_servers", "kafka", "HOST:PORT"),
    ("kafka.bootstrap_servers", "k1:9092,k2", "HOST:PORT"),
    ("kafka.security_protocol", "TLS", "one of PLAINTEXT, SSL"),
    ("kafka.sasl_mechanism", "GSSAPI", "one of PLAIN, SCRAM"),
    ("kafka.replication_factor", 0, "a number from 1"),
    ("kafka.min_insync_replicas", -1, "a number from 1"),
    ("agent.host", "mx 1", "letters"),
    ("agent.listen", ["unix:run/socket"], "unix:/PATH"),
    ("agent.listen", ["unix:/" + "x" * 107], "unix:/PATH"),
    ("agent.listen", ["127.0.0.1"], "unix:/PATH"),
    ("agent.listen", ["127.0.0.1:0"], "unix:/PATH"),
    ("agent.listen", ["127.0.0.1:65536"], "unix:/PATH"),
    ("agent.socket_mode", "0888", "a mode in octal"),
    ("agent.spool", "spool", "an absolute path"),
    ("agent.spool_max_bytes", 1000, "1048576 or more"),
    ("agent.metrics", "9640", "HOST:PORT, or empty"),
    ("rules.files", ["rules.cf"], "absolute paths"),
    ("rules.files", "/etc/weir/rules.cf", "an array of strings"),
    ("rules.limits", "all", "one of fleet, host"),
    ("rules.own.NEWSLETTER.limits", "all", "one of fleet, host"),
    ("rules.scores", ["REJECT"], "5.0=REJECT"),
    ("rules.resolver", "dns.example.org:53", "ADDRESS:PORT, or empty"),
    ("rules.dns_timeout_seconds", 61, "a number from 0 to 60"),
    ("queue.socket", "run/queue.sock", "an absolute path"),
    ("queue.socket", "/" + "x" * 107, "an absolute path of at most 107 bytes"),
    ("queue.user", "", "a user's name"),
    ("queue.held", "held", "an absolute path"),
    ("queue.submit_table", "table", "an absolute path"),
    ("queue.instances.postfix.config_directory", "postfix", "an absolute path"),
    ("streams.name", "worker/1", "letters"),
    ("streams.group", "", "letters"),
    ("streams.metrics", ":9641", "HOST:PORT, or empty"),
    ("grafana.url", "127.0.0.1:3000", "http://HOST:PORT"),
    ("grafana.url", "http://user@host", "http://HOST:PORT"),
    ("grafana.url", "https://host/a b", "http://HOST:PORT"),
    ("grafana.clickhouse", "clickhouse", "HOST:PORT"),
    ("grafana.clickhouse_protocol", "tcp", "one of native, http"),
    ("grafana.clickhouse_user", "", "a name without spaces"),
    ("detectors.burst.account.messages_per_minute", -1, "0 or more"),
    ("detectors.burst.own.alice.messages_per_minute", -1, "0 or more"),
    ("detectors.burst.block_seconds", 0, "a number from 1 to 2592000"),
    ("detectors.burst.block_seconds", 2592001, "a number from 1 to 2592000"),
    ("detectors.burst.text", "", "1 to 200 printable ASCII"),
    ("detectors.burst.text", "x" * 201, "1 to 200 printable ASCII"),
    ("detectors.burst.text", "zu viel für uns", "1 to 200 printable ASCII"),
    ("detectors.burst.text", "two\nlines", "1 to 200 printable ASCII"),
    ("brake.blocks", 0, "1 or more"),
    ("brake.share", 1.01, "a number from 0 to 1"),
    ("brake.share", -0.1, "a number from 0 to 1"),
]


@pytest.mark.parametrize(("key", "value", "expected"), BAD_VALUES)
def test_a_value_out_of_range_or_form_is_told(key: str, value: Any, expected: str) -> None:
    (told,) = errors(f"{key} = {msgspec.json.encode(value).decode()}")
    assert told.startswith(f"line 1: {key}: expected ")
    assert expected in told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agent.listen", []),
        ("agent.listen", ["[::1]:10040", "mx1.example.org:10040", "unix:/" + "x" * 106]),
        ("agent.metrics", ""),
        ("agent.socket_mode", "660"),
        ("rules.files", ["/etc/weir/one.cf", "/etc/weir/two.cf"]),
        ("rules.limits", "host"),
        ("rules.resolver", "[::1]:53"),
        ("rules.scores", ["-1=DUNNO", "4.5=REJECT opt high"]),
        ("detectors.burst.account.messages_per_minute", 0),
        ("detectors.burst.block_seconds", 2592000),
        ("brake.share", 0),
        ("kafka.bootstrap_servers", "k1:9092,k2:9092"),
        ("grafana.url", "https://[::1]:3000/monitoring/grafana/"),
        ("grafana.clickhouse", "[::1]:9440"),
    ],
)
def test_a_value_at_the_edge_loads(key: str, value: Any) -> None:
    loaded: Any = settings_file.parse(f"{key} = {msgspec.json.encode(value).decode()}", NAME)
    for name in key.split("."):
        loaded = getattr(loaded, name)
    assert loaded == value


def test_not_a_number_is_no_share() -> None:
    assert errors("brake.share = nan") == ["line 1: brake.share: expected a number from 0 to 1, got NaN"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[kafka]\nreplication_factor = 1",
            "kafka.min_insync_replicas: expected at most kafka.replication_factor (1), got 2",
        ),
        ('[kafka]\nsecurity_protocol = "SASL_SSL"', "kafka.sasl_username: expected a name for SASL_SSL, got nothing"),
        ('[kafka]\nssl_key_location = "/k"', "kafka.ssl_key_location: expected kafka.ssl_certificate_location with it"),
        ('[kafka]\nssl_certificate_location = "/k"', "kafka.ssl_certificate_location: expected kafka.ssl_key_location"),
        ('[detectors.burst.own."client_address:x"]', "detectors.burst.own: expected an IPv4 or IPv6 address"),
        ("[detectors.burst.own.alice]\n[detectors.burst.own.ALICE]", "detectors.burst.own: expected each subject once"),
    ],
)
def test_values_that_do_not_go_together_are_told(text: str, expected: str) -> None:
    (told,) = errors(text)
    assert expected in told


def test_all_errors_are_told_at_once_in_the_files_order() -> None:
    told = errors('a = 1\n\n[brake]\n# here\nshare = 2\nblocks = "x"\n[agent]\nlisten = [\n  "nowhere",\n]\n')
    assert [one.split(": ")[0] for one in told] == ["line 1", "line 5", "line 6", "line 8"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[agent]\nhost = mx1", "line 2: "),
        ("host", "line 1: "),
        ("[agent]\n[agent]", "line 2: "),
        ('a = 1\nx = "', "line 2: "),
    ],
)
def test_a_syntax_error_is_told_with_its_line(text: str, expected: str) -> None:
    (told,) = errors(text)
    assert expected in told


def test_a_key_in_a_value_of_several_lines_is_no_key() -> None:
    text = '[detectors.burst]\ntext = """\nshadow = 1\n"""\nshadow = 1\n'
    assert [one.split(": ")[:2] for one in errors(text)] == [
        ["line 2", "detectors.burst.text"],
        ["line 5", "detectors.burst.shadow"],
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
        max_leaves=10,
    ),
    st.sampled_from(["agent", "kafka", "detectors", "brake", "trusted", "default_realm", "nothing"]),
)
def test_nothing_else_is_raised_for_any_value(value: object, key: str) -> None:
    text = f"{key} = {_toml(value)}\n"
    with contextlib.suppress(SettingsError):
        settings_file.parse(text, NAME)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return str(value)
    return msgspec.json.encode(value if value is not None else "").decode()


@given(st.text(max_size=200))
def test_nothing_else_is_raised_for_any_text(text: str) -> None:
    with contextlib.suppress(SettingsError):
        settings_file.parse(text, NAME)


class TestChoice:
    """Which file is read."""

    def test_the_named_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEIR_CONFIG", str(tmp_path / "other.toml"))
        path = tmp_path / NAME
        path.write_text('default_realm = "example.org"')
        assert settings_file.load(path).default_realm == "example.org"

    def test_else_the_environments(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / NAME
        path.write_text('default_realm = "example.org"')
        monkeypatch.setenv("WEIR_CONFIG", str(path))
        assert settings_file.load(None).default_realm == "example.org"

    def test_else_the_default_one_if_it_is_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WEIR_CONFIG", raising=False)
        monkeypatch.setattr(settings_file, "DEFAULT", tmp_path / NAME)
        assert settings_file.load(None) == Settings()
        (tmp_path / NAME).write_text('default_realm = "example.org"')
        assert settings_file.load(None).default_realm == "example.org"

    def test_a_named_one_that_is_missing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"none\.toml: No such file or directory"):
            settings_file.load(tmp_path / "none.toml")

    def test_a_folder_is_an_error(self, tmp_path: Path) -> None:
        assert stat.S_ISDIR(tmp_path.stat().st_mode)
        with pytest.raises(SettingsError, match="Is a directory"):
            settings_file.load(tmp_path)

    def test_what_is_no_utf_8_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / NAME
        path.write_bytes(b"default_realm = '\xff'")
        with pytest.raises(SettingsError, match="expected text in UTF-8"):
            settings_file.load(path)
