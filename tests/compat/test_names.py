"""Objects have all names of 1.2.4, public and private, except a list of removed ones."""

import pytest

from tests.compat.peers import Peers, describe
from tests.servers import Topology

#: removed private names by mechanism; no use in other projects was found
REMOVED: dict[str, set[str]] = {
    "indexed": {
        "_delete_schedules_after_migration",
        "_get_previous_time_schedules",
        "_is_first_run",
        "_parse_time_key",
        "_previous_schedule_source",
    },
}
#: names of taskiq's AsyncBroker
OF_TASKIQ = {"_register_task", "global_task_registry"}


@pytest.mark.parametrize("variant", ["async", "sync"])
def test_object_has_all_names_of_1_2_4(topology: Topology, peers: Peers, variant: str) -> None:
    old = peers["old"].call("names", where=describe(topology))
    ours = peers[variant].call("names", where=describe(topology))
    assert old.keys() == ours.keys()
    for mechanism, names in old.items():
        expected = REMOVED.get(mechanism, set())
        if variant == "sync":
            expected = expected | (OF_TASKIQ & names.keys())
        assert names.keys() - ours[mechanism].keys() == expected


@pytest.mark.parametrize("variant", ["async", "sync"])
def test_method_has_parameters_of_1_2_4(topology: Topology, peers: Peers, variant: str) -> None:
    old = peers["old"].call("names", where=describe(topology))
    ours = peers[variant].call("names", where=describe(topology))
    different = {
        (mechanism, name): (parameters, ours[mechanism][name])
        for mechanism, names in old.items()
        for name, parameters in names.items()
        if parameters is not None and name in ours[mechanism]
        if (ours[mechanism][name] or [])[: len(parameters)] != parameters
    }
    assert different == {}
