from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.config import Phase4Config, allowed_values
from bitnet.errors import BitnetError
from bitnet.size_settings import RECIPES, WITHIN_MINUTES, size_class

fields = st.fixed_dictionaries(
    {},
    optional={
        "rule": st.sampled_from(["threshold", "absmean", "optimal"]),
        "group_size": st.integers(1, 10_000),
        "sparsity_threshold": st.none() | st.floats(0, 1),
        "compression_target": st.none() | st.floats(1, 100),
        "activation_bits": st.sampled_from([8, None]),
        "calibration_text": st.none() | st.from_regex(r"[a-z~#: é]{1,12}", fullmatch=True).map(Path),
        "fine_tune_lr": st.floats(1e-12, 1),
        "fine_tune_budget": st.none() | st.floats(1, 1e20),
        "seed": st.integers(0, 2**32 - 1),
    },
)


def test_defaults_are_the_documented_parameters() -> None:
    config = Phase4Config()
    documented = {
        "quantization_bits": 1.58,
        "rule": "optimal",
        "granularity": "channel",
        "group_size": 128,
        "codec": "2bit",
        "embedding_dtype": "float16",
        "activation_bits": 8,
        "calibration_samples": 1000,
        "max_accuracy_drop": 0.10,
        "fine_tune_trigger": 0.05,
        "fine_tune_lr": 1e-5,
        "fine_tune_steps": 100,
        "fine_tune_budget": 2.5e13,
        "grokfast_lambda": 2.0,
        "grokfast_alpha": 0.98,
        "sparsity_threshold": None,
        "compression_target": None,
    }
    assert {name: getattr(config, name) for name in documented} == documented
    assert config.model_fields_set == set()


@pytest.mark.parametrize(("parameters", "tau", "target"), [(1, 0.05, 6.0), (10**8, 0.10, 8.0), (10**10, 0.20, 12.0)])
def test_resolving_fills_what_was_left_open(parameters: int, tau: float, target: float) -> None:
    resolved = Phase4Config(seed=3).resolved(parameters)
    assert (resolved.sparsity_threshold, resolved.compression_target) == (tau, target)
    assert resolved.model_fields_set == {"seed"}


def test_resolving_never_overwrites_the_user() -> None:
    config = Phase4Config(sparsity_threshold=0.0)
    resolved = config.resolved(10**10)
    assert (resolved.sparsity_threshold, resolved.compression_target) == (0.0, 12.0)
    assert resolved.resolved(10**10) == resolved
    assert config.compression_target is None


def test_a_model_above_tiny_is_compensated_where_no_rule_was_chosen() -> None:
    resolved = Phase4Config().resolved(10**8)
    assert (resolved.compensation, resolved.planes, resolved.codec) == ("sequential", 3, "base3")
    assert (resolved.granularity, resolved.group_size, resolved.smoothing) == ("group", 192, 0.25)
    assert Phase4Config(granularity="channel").resolved(10**8).granularity == "channel"
    assert Phase4Config(max_minutes=10.0).resolved(10**8).planes == 1
    assert Phase4Config(starting_bits=4.5).resolved(10**8).planes == 1
    chosen = Phase4Config(planes=1, codec="2bit").resolved(10**8)
    assert (chosen.compensation, chosen.planes, chosen.codec) == ("sequential", 1, "2bit")
    for config in (Phase4Config(rule="absmean").resolved(10**8), Phase4Config().resolved(10**6)):
        assert (config.compensation, config.planes, config.codec) == ("none", 1, "2bit")


def test_a_limit_of_time_decides_where_to_begin_and_how_long_to_recover() -> None:
    hour = Phase4Config(max_minutes=60.0).resolved(10**8)
    assert {name: getattr(hour, name) for name in WITHIN_MINUTES} == WITHIN_MINUTES
    assert hour.fine_tune_budget == pytest.approx(1.44e14)
    assert hour.resolved(10**8) == hour
    assert Phase4Config(max_minutes=60.0).resolved(10**6).starting_bits is None
    assert Phase4Config(max_minutes=60.0, planes=1).resolved(10**8).starting_bits is None
    chosen = Phase4Config(max_minutes=60.0, starting_bits=3.5, fine_tune_budget=None, fine_tune_lr=1e-3).resolved(10**8)
    assert (chosen.starting_bits, chosen.fine_tune_budget, chosen.fine_tune_lr) == (3.5, None, 1e-3)
    assert (Phase4Config().resolved(10**8).starting_bits, Phase4Config().resolved(10**8).compensation_samples) == (
        None,
        16,
    )


def test_a_limit_of_time_leaves_the_audits_own_recipe_as_it_is() -> None:
    audit = Phase4Config(max_minutes=60.0, recovery_recipe="audit").resolved(10**8)
    assert (audit.fine_tune_lr, audit.fine_tune_steps, audit.fine_tune_batch_size) == (1e-5, 100, 4)
    assert audit.starting_bits == WITHIN_MINUTES["starting_bits"]


def test_yaml_keeps_open_what_a_limit_of_time_decides() -> None:
    hour = Phase4Config(max_minutes=60.0)
    assert not WITHIN_MINUTES.keys() & yaml.safe_load(hour.to_yaml()).keys()


def test_open_settings_of_recovery_come_from_the_recipe_of_the_size() -> None:
    for parameters in (10**6, 10**9):
        recipe = RECIPES[size_class(parameters)]
        resolved = Phase4Config(warmup_steps=3, fine_tune_steps=7).resolved(parameters)
        given = {"warmup_steps": 3, "fine_tune_steps": 7}
        assert {name: getattr(resolved, name) for name in recipe | given} == recipe | given
        audit = Phase4Config(recovery_recipe="audit").resolved(parameters)
        assert (audit.fine_tune_lr, audit.grokfast_lambda, audit.distillation) == (1e-5, 2.0, 0.0)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Phase4Config().seed = 1  # type: ignore[misc]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(values=fields)
def test_yaml_round_trip(values: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("config") / "phase4.yaml"
    config = Phase4Config(**values)
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert Phase4Config.from_yaml(path) == config


@settings(derandomize=True, max_examples=60, deadline=None)
@given(values=fields)
def test_overrides_say_the_same_as_keywords(values: dict[str, object]) -> None:
    written = yaml.safe_load(Phase4Config(**values).to_yaml())
    lines = [f"{name}={yaml.safe_dump([written[name]])[2:].strip()}" for name in values]
    config = Phase4Config().with_overrides(lines)
    assert config == Phase4Config(**values)
    assert config.model_fields_set == set(values)


def test_overrides_read_yaml_scalars() -> None:
    config = Phase4Config(sparsity_threshold=0.5).with_overrides(
        ["fine_tune_lr=1e-4", " codec = base3", "activation_bits=null", "sparsity_threshold=", "seed=1", "seed=2"]
    )
    assert config.fine_tune_lr == 1e-4
    assert config.codec == "base3"
    assert config.activation_bits is None
    assert config.sparsity_threshold is None
    assert config.seed == 2


@pytest.mark.parametrize("name", ["~", "12", "1e5", "null", "a: b", "it's", "ein Löwe", "x " * 60 + "y"])
def test_a_file_with_an_awkward_name_stays_a_name(name: str, tmp_path: Path) -> None:
    config = Phase4Config(calibration_text=name, activation_bits=None)
    assert Phase4Config().with_overrides(config.overrides()) == config
    (tmp_path / "phase4.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert Phase4Config.from_yaml(tmp_path / "phase4.yaml") == config


def test_overrides_name_what_the_user_set_and_nothing_else() -> None:
    assert Phase4Config().overrides() == []
    config = Phase4Config(seed=0, fine_tune_budget=None, codec="base3", fine_tune_lr=1e-5).resolved(1000)
    assert config.overrides() == ["codec=base3", "fine_tune_budget=null", "fine_tune_lr=1.0e-05", "seed=0"]


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing set\n", encoding="utf-8")
    assert Phase4Config.from_yaml(str(tmp_path / "empty.yaml")) == Phase4Config()


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("quantization_bits", 2.0, "1.58"),
        ("quantization_bits", float("nan"), "1.58"),
        ("rule", "median", "one of threshold, absmean, optimal"),
        ("granularity", "block", "one of tensor, channel, group"),
        ("codec", "3bit", "one of int8, 2bit, base3"),
        ("group_size", 0, "a whole number from 1"),
        ("group_size", True, "a whole number from 1"),
        ("group_size", 64.5, "a whole number from 1"),
        ("sparsity_threshold", 1.01, "a number from 0.0 to 1.0 or null"),
        ("sparsity_threshold", float("inf"), "a number from 0.0 to 1.0 or null"),
        ("compression_target", 0.5, "a number from 1.0 or null"),
        ("activation_bits", 4, "8 or null"),
        ("fine_tune_lr", 0.0, "a number above 0.0 to 1.0"),
        ("grokfast_alpha", 1.0, "a number from 0.0 below 1.0"),
        ("calibration_text", 3, "the path of a file or null"),
        ("registry", 3, "a text or null"),
        ("fine_tune_dropout", "perhaps", "true or false"),
        ("seed", -1, "a whole number from 0 to 4294967295"),
        ("seed", "1", "a whole number from 0 to 4294967295"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, value: object, allowed: str) -> None:
    with pytest.raises(BitnetError) as caught:
        Phase4Config(**{name: value})
    assert str(caught.value) == f"{name} = {value!r} is not allowed, it takes {allowed}."


def test_every_setting_can_say_what_it_allows() -> None:
    described = {name: allowed_values(name) for name in Phase4Config.model_fields}
    assert all(described.values())


def test_an_unknown_setting_suggests_the_nearest() -> None:
    with pytest.raises(BitnetError, match=r"^unknown setting 'fine_tune_rl', the nearest is 'fine_tune_lr'\.$"):
        Phase4Config().with_overrides(["fine_tune_rl=1e-4"])


def test_two_mistakes_are_told_together() -> None:
    with pytest.raises(BitnetError) as caught:
        Phase4Config(seed=-1, kodec="2bit")
    assert "seed = -1" in str(caught.value)
    assert "'codec'" in str(caught.value)


@pytest.mark.parametrize("override", ["codec", "=2bit", "seed=[1", "seed=\x00"])
def test_a_malformed_override_is_an_error(override: str) -> None:
    with pytest.raises(BitnetError, match=r"key=value|not valid YAML"):
        Phase4Config().with_overrides([override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "is not a mapping"),
        (b"3: 4\n", "is not a mapping"),
        (b"seed: 1\nseed: 2\n", "'seed' appears twice"),
        (b"seed: [\n", "not valid YAML"),
        (b"\xff\xfe\xfa", "not UTF-8"),
        (b"!!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_an_unusable_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(BitnetError, match=message) as caught:
        Phase4Config.from_yaml(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match=r"absent\.yaml cannot be read"):
        Phase4Config.from_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize("parameters", [1_000_000, 135_000_000, 3_000_000_000])
def test_a_written_configuration_leaves_to_the_size_what_the_user_left_to_it(parameters, tmp_path):
    config, file = Phase4Config(seed=3), tmp_path / "phase4.yaml"
    file.write_text(config.to_yaml())
    assert Phase4Config.from_yaml(file).resolved(parameters) == config.resolved(parameters)
