"""Ray, started for one sweep or joined: on loopback, without a dashboard, without reports to anybody."""

import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from mos_recbole.errors import InputError
from mos_recbole.progress import ProgressBar
from mos_recbole.sweep.session_folder import session_folder
from mos_recbole.sweep.sweep_file import Resources

_LOOPBACK = "127.0.0.1"

# How long to wait for an answer from a cluster, in seconds.
_TIMEOUT = 10.0

# Also set on other machines, where workers do not inherit the driver's environment.
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
    # loggers.py has ours.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Not Ray's own progress table; progress.py has ours.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray would end the sweep as if it were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A trial that an earlier session finished reports nothing but its end.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # How often Ray writes its own state, in seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "30",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def prepare_ray(address: str | None) -> None:
    """Sets the environment variables that Ray reads when it is imported; to be called before that.

    Args:
        address: as in `ClusterOptions`.

    Raises:
        InputError: the packages for sweeps are missing, or the address is of another kind.
    """
    if address is not None and (address == "local" or "://" in address):
        raise InputError(f"address {address!r}; expected host:port, or auto, or none to start Ray on this machine")
    missing = [name for name in ("ray", "optuna", "tensorboardX") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"sweeps need {', '.join(missing)}; expected the extra mos_recbole[sweep] to be installed")
    for key, value in (_ENVIRONMENT | _FOR_WORKERS).items():
        os.environ.setdefault(key, value)
    if address is None:
        # This makes Ray listen on loopback only.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Others on this machine reach loopback too, and whom Ray listens to can run code.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@dataclass(frozen=True)
class ClusterOptions:
    """Where a sweep runs.

    Attributes:
        address: of a running cluster, "auto" for the one on this machine, or None to start Ray here.
        storage: path or URI where runs are kept; None for the sweep's folder, which all machines then share.
        dashboard: whether a Ray that is started here has its dashboard, on loopback.
    """

    address: str | None = None
    storage: str | None = None
    dashboard: bool = False


def trials_at_a_time(machines: Sequence[Mapping[str, float]], resources: Resources) -> int:
    """Returns how many trials fit on machines, each given by its numbers of "CPU" and "GPU".

    Raises:
        InputError: no machine has what a trial needs.
    """
    cpus, gpus = resources.cpus_per_trial, resources.gpus_per_trial
    for name, kind, needed in (("cpus", "CPU", cpus), ("gpus", "GPU", gpus)):
        most = max((machine.get(kind, 0.0) for machine in machines), default=0.0)
        if needed > most:
            raise InputError(f"{name}_per_trial is {needed:g}, but no machine has more than {most:g} {kind}s")
    fits = sum(resources.fits(machine.get("CPU", 0.0), machine.get("GPU", 0.0)) for machine in machines)
    if not fits:
        raise InputError(f"no machine has {cpus} CPUs and {gpus:g} GPUs for a trial")
    return min(fits, resources.max_concurrent or fits)


@contextlib.contextmanager
def cluster(options: ClusterOptions) -> Iterator[list[dict[str, float]]]:
    """Gives the resources of each machine of a Ray cluster that is joined, or started on loopback and shut down later.

    Raises:
        InputError: nobody answers at the address.
    """
    import ray

    if ray.is_initialized():
        raise InputError("this process uses Ray already; expected a process of its own for a sweep")
    logging.getLogger("ray").setLevel(logging.ERROR)
    # progress.py shows how a trial failed, on one line and without its traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    address = options.address
    with contextlib.ExitStack() as stack:
        if address is None:
            folder = stack.enter_context(session_folder())
            own: dict[str, Any] = {"include_dashboard": options.dashboard, "object_store_memory": _OBJECT_STORE}
            own["_temp_dir"] = folder
        else:
            own = {"runtime_env": {"env_vars": {key: os.environ[key] for key in _FOR_WORKERS}}}
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupt))
        try:
            if address is not None:
                _require_answer(address)
            # Without "local", Ray would join a cluster that RAY_ADDRESS names.
            with ProgressBar("joining Ray" if address else "starting Ray"):
                ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except SystemExit as error:  # Ray's answer to a SIGTERM while it starts
            raise KeyboardInterrupt from error
        except Exception as error:  # a bare one where Ray took too long to start, on a busy machine
            raise InputError(f"Ray at {address or 'this machine'}: {str(error).splitlines()[0]}") from error
        stack.callback(ray.shutdown)
        if is_main:
            signal.signal(signal.SIGTERM, _interrupt)  # Ray has set its own
        nodes = ray.nodes()
        if address is None and any(node["NodeManagerAddress"] != _LOOPBACK for node in nodes):
            raise InputError("Ray was imported too early to keep it on loopback; expected a process of its own")
        yield [node["Resources"] for node in nodes if node["Alive"]]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends the process as Ctrl-C does."""
    raise KeyboardInterrupt


def _require_answer(address: str) -> None:
    """Raises ConnectionError or ValueError where nobody answers; Ray itself would exit this process."""
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is None:  # "auto" without a cluster, for which Ray has its own message
        return
    place = urlsplit(f"//{found}")
    try:
        socket.create_connection((place.hostname, place.port), timeout=_TIMEOUT).close()
    except OSError as error:
        raise ConnectionError(f"nobody answers at {found}") from error
