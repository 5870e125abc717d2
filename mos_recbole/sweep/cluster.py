"""Ray, started for one sweep or joined: on loopback, without a dashboard, without reports to anybody."""

import contextlib
import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from mos_recbole.errors import InputError
from mos_recbole.sweep.sweep_file import Resources

_LOOPBACK = "127.0.0.1"

# How long to wait for an answer from a cluster, in seconds.
_PATIENCE = 10.0

# Also on other machines, where workers do not inherit the driver's environment.
_FOR_WORKERS = {
    # A worker runs each trial in a new thread, and glibc gives threads arenas of their own, up to 8 for each core, none
    # of which shrinks: a worker grew by 45 MB a trial.
    "MALLOC_ARENA_MAX": "2",
    # As in cli.py.
    "GOMP_SPINCOUNT": "10000",
}

# The least that Ray takes; trials pass nothing through its object store.
_OBJECT_STORE = 100 * 2**20

_ENVIRONMENT = {
    # Nothing is sent to Ray's makers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Paths in settings are relative to where the user is, not to Ray's folder of the trial.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # TensorBoard's files are asked for by name; Ray's copies of our results in CSV and JSON are not.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ray's own progress table; ours is in progress.py.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray would end the sweep as if it were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A trial that another sitting finished reports nothing but its end.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # How often TensorBoard's files appear in the sweep's folder, in seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "30",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def prepare_ray(address: str | None) -> None:
    """Sets what Ray reads when it is imported; to be called before that.

    Args:
        address: as of `cluster`.

    Raises:
        InputError: the packages for sweeps are missing, or an address of another kind.
    """
    if address is not None and (address == "local" or "://" in address):
        raise InputError(f"address {address!r}; expected host:port, or auto, or none to start Ray on this machine")
    missing = [name for name in ("ray", "optuna", "rich", "tensorboardX") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"sweeps need {', '.join(missing)}; expected the extra mos_recbole[sweep] to be installed")
    for key, value in (_ENVIRONMENT | _FOR_WORKERS).items():
        os.environ.setdefault(key, value)
    if address is None:
        # By this, Ray takes loopback for the machine's address, and so for all that it listens on.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


@dataclass(frozen=True)
class Capacity:
    """What a cluster has room for.

    Attributes:
        trials_at_a_time: how many trials fit.
        gpus: how many GPUs there are, used or not.
    """

    trials_at_a_time: int
    gpus: float


@contextlib.contextmanager
def cluster(address: str | None, resources: Resources, *, dashboard: bool = False) -> Iterator[Capacity]:
    """Gives what there is room for; ends Ray afterwards if it was started here.

    A Ray that is started here listens on loopback only, and shows its dashboard there only if that is asked for.

    Args:
        address: of a running cluster, "auto" for the one on this machine, or None to start one.
        resources: of a trial.
        dashboard: whether a Ray that is started here has one.

    Raises:
        InputError: nobody answers at the address, or no machine has what a trial needs.
    """
    import ray

    if ray.is_initialized():
        raise InputError("this process uses Ray already; expected a process of its own for a sweep")
    logging.getLogger("ray").setLevel(logging.ERROR)
    # How a trial failed is told by progress.py, in one line and without its traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        if address is None:
            ray.init(
                "local",  # or it would join a cluster that RAY_ADDRESS names
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE,
            )
        else:
            _require_answer(address)
            for_workers = {key: os.environ[key] for key in _FOR_WORKERS}
            ray.init(
                address=address,
                runtime_env={"env_vars": for_workers},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise InputError(f"Ray at {address or 'this machine'}: {str(error).splitlines()[0]}") from error
    try:
        nodes = ray.nodes()
        if address is None and any(node["NodeManagerAddress"] != _LOOPBACK for node in nodes):
            raise InputError("Ray was imported too early to keep it on loopback; expected a process of its own")
        yield _capacity(nodes, resources)
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raises ConnectionError or ValueError where nobody answers: Ray would end this process."""
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is None:  # "auto", and no cluster, which Ray tells itself
        return
    place = urlsplit(f"//{found}")
    try:
        socket.create_connection((place.hostname, place.port), timeout=_PATIENCE).close()
    except OSError as error:
        raise ConnectionError(f"nobody answers at {found}") from error


def _capacity(nodes: list[dict], resources: Resources) -> Capacity:
    cpus, gpus = resources.cpus_per_trial, resources.gpus_per_trial
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    for name, kind, needed in (("cpus", "CPU", cpus), ("gpus", "GPU", gpus)):
        most = max((machine.get(kind, 0.0) for machine in machines), default=0.0)
        if needed > most:
            raise InputError(f"{name}_per_trial is {needed:g}, but the largest machine has {most:g} {kind}s")
    fits = sum(resources.fits(machine.get("CPU", 0.0), machine.get("GPU", 0.0)) for machine in machines)
    if not fits:
        raise InputError(f"no machine has {cpus} CPUs and {gpus:g} GPUs for a trial")
    return Capacity(min(fits, resources.max_concurrent or fits), sum(machine.get("GPU", 0.0) for machine in machines))
