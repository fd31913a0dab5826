from dataclasses import asdict, fields

import pytest

from quillrt.runtime.errors import ConfigError
from quillrt.train.policies import POLICIES, Augmentation, policy


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_mirrors(name):
    assert policy(name).hflip == 0


def test_none_changes_nothing_and_each_policy_is_stronger_than_the_one_before():
    none, light, strong, photo = (asdict(policy(name)) for name in ("none", "light", "strong", "photo"))
    assert set(none.values()) == {0}
    for weaker, stronger in ((none, light), (light, strong), (strong, photo)):
        assert all(weaker[name] <= stronger[name] for name in weaker)
        assert weaker != stronger


def test_changes_are_made_in_turn_on_top_of_the_policy():
    found = policy("light", ["rotation=20", "crop=2", "noise=1e-2", "rotation=30"])
    assert asdict(found) == {**asdict(POLICIES["light"]), "rotation": 30, "crop": 2, "noise": 0.01}
    assert isinstance(found.crop, int)
    assert POLICIES["light"].rotation == 8


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
def test_every_amount_can_be_changed_and_has_bounds(name):
    assert asdict(policy("none", [f"{name}=1"]))[name] == 1
    for wrong in ("-1", "1000"):
        with pytest.raises(ConfigError, match=rf"as {name} of an augmentation 0\.\.\d+, found {wrong}"):
            policy("none", [f"{name}={wrong}"])


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("turn=3", "NAME=NUMBER with a name out of rotation, .*,"),
        ("=3", "NAME=NUMBER with a name out of rotation, .*,"),
        ("rotation", "rotation=NUMBER with a finite number,"),
        ("rotation=", "rotation=NUMBER with a finite number,"),
        ("rotation=a", "rotation=NUMBER with a finite number,"),
        ("rotation=nan", "rotation=NUMBER with a finite number,"),
        ("crop=1.5", "crop=NUMBER with a finite whole number,"),
    ],
)
def test_what_is_no_change_is_refused(change, wanted):
    with pytest.raises(ConfigError, match=rf"expected {wanted} found '{change}'"):
        policy("strong", [change])


def test_unknown_policies_are_refused():
    with pytest.raises(ConfigError, match="out of none, light, strong, photo, found 'wild'"):
        policy("wild")
