"""Every name that an object of 1.2.4 has, public or not, is here or known to be gone."""

import pytest

from tests.compat.members import Peers, where
from tests.servers import Topology

#: what nobody was found to use, by mechanism: how the old class did its work
GONE: dict[str, set[str]] = {
    "indexed": {
        "_delete_schedules_after_migration",
        "_get_previous_time_schedules",
        "_is_first_run",
        "_parse_time_key",
        "_previous_schedule_source",
    },
}
#: what taskiq's AsyncBroker has for itself
OF_TASKIQ = {"_register_task", "global_task_registry"}


@pytest.mark.parametrize("member", ["async", "sync"])
def test_an_object_has_all_names_of_1_2_4(topology: Topology, peers: Peers, member: str) -> None:
    old = peers["old"].call("names", where=where(topology))
    ours = peers[member].call("names", where=where(topology))
    assert old.keys() == ours.keys()
    for mechanism, names in old.items():
        expected = GONE.get(mechanism, set())
        if member == "sync":
            expected = expected | (OF_TASKIQ & names.keys())
        assert names.keys() - ours[mechanism].keys() == expected


@pytest.mark.parametrize("member", ["async", "sync"])
def test_a_method_has_the_parameters_of_1_2_4(
    topology: Topology, peers: Peers, member: str
) -> None:
    old = peers["old"].call("names", where=where(topology))
    ours = peers[member].call("names", where=where(topology))
    different = {
        (mechanism, name): (parameters, ours[mechanism][name])
        for mechanism, names in old.items()
        for name, parameters in names.items()
        if parameters is not None and name in ours[mechanism]
        if (ours[mechanism][name] or [])[: len(parameters)] != parameters
    }
    assert different == {}
