"""The machine's state, out of folders laid out as the kernel's are."""

import shutil
import subprocess

import pytest

from quillrt.benchmarks.environment import checkout, describe, ended
from quillrt.benchmarks.moment import container, gpu_states, moment, on_battery, turbo, warnings

SMI = (
    "NVIDIA H100 80GB HBM3, 570.86.15, 1755, 2619, 1980, 312.54, 700.00, 61, 0x0000000000000000\n"
    "Orin (nvgpu), 540.4.0, [N/A], [N/A], [N/A], [N/A], [N/A], 48, 0x0000000000000044\n"
)


@pytest.fixture
def write(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


def test_gpus_as_nvidia_smi_tells_them():
    h100, orin = gpu_states(SMI)
    assert h100 == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "570.86.15",
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "max_sm_clock_mhz": 1980,
        "power_w": 312.54,
        "power_cap_w": 700,
        "temperature_c": 61,
        "throttle_reasons": [],
    }
    assert (orin["power_w"], orin["temperature_c"]) == (None, 48)
    assert orin["throttle_reasons"] == ["software power cap", "hardware thermal slowdown"]
    assert gpu_states("") == gpu_states("No devices were found\n") == []


def test_a_moment(write, tmp_path):
    write("proc/loadavg", "1.50 1.2 0.9 2/345 678\n")
    write("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2100.000\nprocessor\t: 1\ncpu MHz\t\t: 3400.123\n")
    write("sys/class/thermal/thermal_zone0/temp", "41000\n")
    write("sys/class/thermal/thermal_zone1/temp", "57500\n")
    found = moment(tmp_path, lambda command: SMI)
    assert (found["load_average"], found["cpu_mhz"], found["temperature_c"]) == (1.5, 3400.1, 57.5)
    assert len(found["gpus"]) == 2
    bare = moment(tmp_path / "none", lambda command: "")
    assert bare == {"load_average": None, "cpu_mhz": None, "temperature_c": None, "gpus": []}


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n", True),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n", False),
        ("sys/devices/system/cpu/cpufreq/boost", "0\n", False),
        ("sys/devices/system/cpu/cpufreq/boost", "1\n", True),
        ("elsewhere", "", None),
    ],
)
def test_turbo(write, tmp_path, path, text, expected):
    write(path, text)
    assert turbo(tmp_path) is expected


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, None),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}, False),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"hidpp": {"type": "Battery", "scope": "Device", "status": "Discharging"}}, None),
    ],
)
def test_battery(write, tmp_path, supplies, expected):
    for name, facts in supplies.items():
        for key, value in facts.items():
            write(f"sys/class/power_supply/{name}/{key}", value + "\n")
    assert on_battery(tmp_path) is expected


def test_limits_of_a_control_group_of_version_2(write, tmp_path):
    write("proc/self/cgroup", "0::/docker/abc\n")
    write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
    write("sys/fs/cgroup/docker/abc/cpu.max", "150000 100000\n")
    write("sys/fs/cgroup/docker/abc/memory.max", "max\n")
    assert container(tmp_path) == {"cgroup": 2, "cpu_limit_cores": 1.5, "memory_limit_bytes": None}


def test_limits_of_version_1_seen_from_inside_a_container(write, tmp_path):
    write("proc/self/cgroup", "4:memory:/outside/x\n3:cpu,cpuacct:/outside/x\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n")
    assert container(tmp_path) == {"cgroup": 1, "cpu_limit_cores": None, "memory_limit_bytes": 2**32}
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert container(tmp_path)["memory_limit_bytes"] is None


@pytest.fixture
def quiet():
    """A machine without a fault."""
    gpu = gpu_states(SMI)[0]
    state = {"load_average": 0.1, "cpu_mhz": None, "temperature_c": None, "gpus": [gpu]}
    return {
        "device": {"cores": 4},
        "on_battery": False,
        "governor": "performance",
        "container": {"cgroup": 2, "cpu_limit_cores": None, "memory_limit_bytes": None},
        "start": state,
        "end": state,
    }


def test_a_quiet_machine_has_no_warning(quiet):
    assert warnings(quiet, threads=2) == []
    assert warnings({**quiet, "on_battery": None, "governor": None, "end": None}, threads=2) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"on_battery": True}, "battery"),
        ({"governor": "powersave"}, "governor powersave"),
        ({"container": {"cpu_limit_cores": 1.0}}, "may use 1 cores for 2 threads"),
        ({"device": {"cores": 1}}, "2 threads per query on 1 cores"),
    ],
)
def test_each_fault_is_a_warning(quiet, change, said):
    (line,) = warnings({**quiet, **change}, threads=2)
    assert said in line


def test_neighbours_throttling_and_a_falling_clock_are_warnings(quiet):
    (busy,) = warnings({**quiet, "start": {**quiet["start"], "load_average": 3.0}}, threads=2)
    assert busy.startswith("busy neighbours: load average 3 on 4 cores")
    gpu = quiet["start"]["gpus"][0]
    hot = {**gpu, "throttle_reasons": ["hardware thermal slowdown"]}
    (throttled,) = warnings({**quiet, "end": {**quiet["end"], "gpus": [hot]}}, threads=2)
    assert throttled == "NVIDIA H100 80GB HBM3 is throttled at the end: hardware thermal slowdown"
    (slower,) = warnings({**quiet, "end": {**quiet["end"], "gpus": [{**gpu, "sm_clock_mhz": 900.0}]}}, threads=2)
    assert "SM clock 1755 MHz at the start, 900 at the end" in slower


def test_a_machine_is_described_at_start_and_end():
    environment = describe()
    assert environment["end"] is None
    assert ended(environment)["end"].keys() == environment["start"].keys()
    assert environment["affinity"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_is_its_commit_and_whether_it_was_changed(tmp_path):
    def git(*words):
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        done = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init")
    (tmp_path / "environment.py").write_text("")
    assert checkout(tmp_path) is None  # it lies in a checkout of something else
    git("add", ".")
    git("commit", "-m", "One")
    assert checkout(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "environment.py").write_text("# changed\n")
    assert checkout(tmp_path)["changed"]
