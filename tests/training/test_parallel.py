"""Several processes that train one model, on CPUs: the numbers of one process, or one message and an end."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from built import CPU, FIELDS, L, flat, redraw
from hypothesis import given, settings
from hypothesis import strategies as st

from mos_recbole import RunResult
from mos_recbole.cli import main
from mos_recbole.data import SequenceDataset
from mos_recbole.data.splits.leave_one_out import leave_one_out
from mos_recbole.errors import InputError
from mos_recbole.evaluation import EvaluationProtocol, ScoreIsNaN
from mos_recbole.experiment import load_settings
from mos_recbole.models import HEADS
from mos_recbole.results import find_records
from mos_recbole.training import (
    Processes,
    evaluate_model,
    join_processes,
    make_query_set,
    make_train_loader,
    make_trainer,
)
from mos_recbole.training.loaders import PrefixLoader, WindowLoader
from mos_recbole.training.prefixes import PrefixGatherer

WORKER = Path(__file__).parents[1] / "processes_worker.py"
SMALL = ["--embedding_size=8", "--hidden_size=12", "--MAX_ITEM_LIST_LENGTH=10", "--train_batch_size=64", "--epochs=5"]
SMALL += ["--device", "cpu", "--eval_batch_size=8", "--metrics=[Recall,NDCG,ItemCoverage]", "--learning_rate=0.02"]
SMALL += ["--lr_schedule=linear", "--warmup=0.2"]
MIXTURE = ["--model", "GRU4RecMoS", "--mos_heads=2", *SMALL]
CERTAIN = ["--dropout_prob=0.0"]
CLIPPED = ["--clip_grad_norm={max_norm: 0.05}"]
# Refused by several processes, with a part of what they say.
REFUSED = [
    (["--model", "GRU4Rec"], "it is RecBole's own"),
    (["--model", "GRU4RecDOC"], "DOCHead adds a penalty"),
    (["--model", "GRU4RecSoftmax", "--negative_sampling=in_batch"], "expected negative_sampling none"),
    (["--model", "GRU4RecSoftmax", "--mos_hads=2"], "unknown key 'mos_hads'"),
]


@dataclass(frozen=True)
class Part(Processes):
    """One of several processes that are one in truth, done one after the other; the last one has the sums.

    Attributes:
        sums: of the others so far.
        said: by another process, when things are gathered.
    """

    sums: list[torch.Tensor] = field(default_factory=list)
    said: Any = None

    def all_reduce(self, tensors: Any) -> None:
        for place, tensor in enumerate(tensors):
            if len(self.sums) <= place:
                self.sums.append(torch.zeros_like(tensor))
            self.sums[place] += tensor
            tensor.copy_(self.sums[place])

    def all_gather(self, value: Any) -> list[Any]:
        return [value, self.said]


# ------------------------------------------------------------------------------------------------- shares of batches


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=8),
    length=st.integers(1, 9),
    batch_size=st.integers(1, 60),
    number=st.integers(2, 4),
    windows=st.booleans(),
)
def test_shares_of_a_batch_are_the_batch(
    counts: list[int], length: int, batch_size: int, number: int, windows: bool
) -> None:
    """Every process has as many batches, all know the whole batch's size, and each target is in one share."""
    sequences = flat(counts)
    segments = leave_one_out(sequences).train

    def batches(shard: slice) -> Iterator[tuple[Any, int]]:
        if windows:
            return WindowLoader(sequences, segments, length, batch_size, 3, FIELDS, CPU, True, shard).epoch(2)
        gatherer = PrefixGatherer(sequences, segments, length, CPU, crop=True)
        return PrefixLoader(gatherer, FIELDS, batch_size, 3, True, shard=shard).epoch(2)

    shares = [batches(Processes(rank, number).shard) for rank in range(number)]
    for whole, *parts in zip(batches(slice(None)), *shares, strict=True):
        assert {n_targets for _, n_targets in parts} == {whole[1]} == {len(whole[0])}
        assert sum(len(part) for part, _ in parts) == whole[1]
        items = [part["item_id"][part["item_id"] > 0] for part, _ in parts]
        target = whole[0]["item_id"]
        assert sorted(torch.cat(items).tolist()) == sorted(target[target > 0].tolist())


# ------------------------------------------------------------------------------------------------- gradients


def gradients(folder: Path, model: str, parts: Sequence[Processes], **overrides: Any) -> Iterator[list[torch.Tensor]]:
    """Yields a loss and its gradients a batch, as the last of these processes has them, in float64."""
    overrides = {"MAX_ITEM_LIST_LENGTH": L, "embedding_size": 8, "hidden_size": 12, "dropout_prob": 0.0} | overrides
    config = load_settings(model, str(folder), overrides=overrides).recbole_config(CPU)
    data = SequenceDataset(config)
    split = data.split()
    net = config["model_class"](config, data.training_part(split)).double()
    redraw(net)
    trainers = [make_trainer(config, net, folder, "run", False, 0.0, part) for part in parts]
    loaders = [make_train_loader(config, data, split, part.shard).epoch(1) for part in parts]
    for shares in zip(*loaders, strict=True):
        for trainer, part, (share, _) in zip(trainers, parts, shares, strict=True):
            net.zero_grad(set_to_none=True)
            if isinstance(part, Part) and part.rank == 0:
                part.sums.clear()
            loss = trainer._gradients(share, net.calculate_loss)
        yield [loss, *(parameter.grad.clone() for parameter in net.parameters())]


@pytest.mark.parametrize("train_mode", ["all_positions", "prefix"])
@pytest.mark.parametrize("head", [name for name in HEADS if name != "doc"])
def test_gradients_of_shares_are_the_batchs(toy: Path, head: str, train_mode: str) -> None:
    """Three processes, batches of so few windows that some have none: to 1e-10, in float64."""
    options: dict[str, Any] = {"train_mode": train_mode, "train_batch_size": 16}
    options |= {"mol": {"mol_gate_dropout": 0.0}, "dnd": {"dnd_dropout": 0.0}}.get(head, {})
    sums: list[torch.Tensor] = []
    model = f"GRU4Rec{HEADS[head].label}"
    together = gradients(toy, model, [Part(rank, 3, sums) for rank in range(3)], **options)
    for expected, found in zip(gradients(toy, model, [Processes()], **options), together, strict=True):
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


def test_every_process_draws_masks_of_its_own(toy: Path) -> None:
    """By its number, the epoch and the seed; the same ones again when an epoch is repeated."""
    drawn = {}
    for seed in (1, 2):
        config = load_settings("GRU4RecMoS", str(toy), overrides={"seed": seed}).recbole_config(CPU)
        data = SequenceDataset(config)
        net = config["model_class"](config, data.training_part(data.split()))
        for rank in range(3):
            trainer = make_trainer(config, net, toy, "run", False, 0.0, Part(rank, 3))
            for epoch in (1, 2, 1):
                trainer._enter_epoch(epoch)
                numbers = tuple(torch.rand(3).tolist())
                assert drawn.setdefault((seed, rank, epoch), numbers) == numbers
    assert len(set(drawn.values())) == 2 * 3 * 2


# ------------------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_ranks_of_shares_are_all_ranks(toy: Path, number: int, batch_size: int) -> None:
    """Bit by bit, also where there are fewer batches than processes; NaN for targets that are no candidates."""
    overrides = {"eval_batch_size": batch_size, "embedding_size": 8, "split": "temporal"}
    config = load_settings("GRU4RecMoS", str(toy), overrides=overrides).recbole_config(CPU)
    data = SequenceDataset(config)
    split = data.split()
    net = config["model_class"](config, data.training_part(split))
    protocol = EvaluationProtocol(split={}, filter_seen=True, tie_rule="mean", candidates="trained")
    queries = make_query_set(config, data, split, "test", protocol, CPU)
    expected = evaluate_model(net, config, queries, top_k=3)
    sums: list[torch.Tensor] = []
    for rank in range(number):
        found = evaluate_model(net, config, queries, top_k=3, processes=Part(rank, number, sums))
    for name, tensor in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name).numpy(), tensor.numpy(), strict=True)
    with pytest.raises(ScoreIsNaN, match="elsewhere"):
        evaluate_model(net, config, queries, processes=Part(0, 2, said=ScoreIsNaN("elsewhere")))


# ------------------------------------------------------------------------------------------------- joining


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what several would have to tell each other is its own."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    join_processes.cache_clear()
    alone = join_processes("cpu")
    tensor = torch.ones(2)
    alone.all_reduce([tensor])
    alone.broadcast_tensors([tensor])
    alone.require_same("the run id", "a")
    assert (alone.is_main, alone.shard, alone.broadcast(3), alone.all_gather(3)) == (True, slice(0, None, 1), 3, [3])
    assert tensor.tolist() == [1, 1]


def test_half_an_environment_is_told(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path, capsys) -> None:
    """A scheduler that sets WORLD_SIZE only: what is missing, before anything is written."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    join_processes.cache_clear()
    status = main(["run", "--dataset", str(data), "--output", str(tmp_path / "results"), *MIXTURE])
    join_processes.cache_clear()
    assert status == 2
    assert "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set; expected torchrun" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as that can be told without one: by the process's number on its machine."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    processes = Processes(3, 4)
    assert processes.local_device(CPU) == CPU
    assert processes.local_device(torch.device("cuda")) == torch.device("cuda:1")
    assert Processes().local_device(torch.device("cuda")) == torch.device("cuda")
    with pytest.raises(InputError, match="cannot share a GPU"):
        processes.local_device(torch.device("cuda:0"))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="3 processes on a machine with 2 GPUs"):
        processes.local_device(torch.device("cuda"))


def test_processes_that_differ_are_told() -> None:
    """Another run id in another process: other data, code or packages there."""
    with pytest.raises(InputError, match="the run id is a in process 0 and b in process 1"):
        Part(0, 2, said="b").require_same("the run id", "a")


# ------------------------------------------------------------------------------------------------- whole runs


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Returns what two processes on this machine did."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    here = ["--nproc-per-node=2", "--master-addr=127.0.0.1", "--local-addr=127.0.0.1", f"--master-port={port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *here, *map(str, arguments)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    }
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def work(
    folder: Path, commands: list[list[str]]
) -> tuple[subprocess.CompletedProcess[str], list[list[dict[str, Any]]]]:
    """Returns what two processes did with the commands, and what each tells of every one."""
    folder.mkdir()
    (folder / "commands.json").write_text(json.dumps(commands))
    done = torchrun(WORKER, folder / "commands.json", folder)
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("[01].json"))]
    return done, told


def changed(arguments: list[str], *others: str) -> list[str]:
    """Returns arguments, with others in the place of those of the same key."""
    keys = {one.partition("=")[0] for one in others}
    return [one for one in arguments if one.partition("=")[0] not in keys] + list(others)


def only_record(output: Path) -> RunResult:
    (record,) = find_records(output)
    return record


def numbers(record: RunResult) -> dict[str, Any]:
    """Returns everything of a run but its times."""
    log = record.training_log()
    log = log[[name for name in log if "seconds" not in name]]
    outcomes = record.outcomes().fillna(-1)
    return {"log": log.to_dict("list"), "test": record.test, "outcomes": outcomes.to_dict("list")}


@pytest.mark.parametrize(
    "kinds", [["windows", "empty"], pytest.param(["prefixes", "transformer"], marks=pytest.mark.slow)]
)
def test_two_processes_give_the_numbers_of_one(kinds: list[str], data: Path, tmp_path: Path) -> None:
    """Losses and probabilities to 1e-5, metrics and ranks exactly; refusals and divergence in both, told once."""
    transformer = changed(["--model", "SASRecSoftmax", *SMALL[1:]], "--n_layers=1", "--n_heads=2", "--hidden_size=8")
    transformer += ["--hidden_dropout_prob=0.0", "--attn_dropout_prob=0.0"]
    same = {
        "windows": [*MIXTURE, *CERTAIN, *CLIPPED],
        "prefixes": changed([*MIXTURE, *CERTAIN], "--train_mode=prefix", "--epochs=2"),
        "transformer": changed(transformer, "--epochs=2"),
        # A batch of one window, one batch of queries: the other process has no share.
        "empty": changed([*MIXTURE, *CERTAIN], "--train_batch_size=8", "--eval_batch_size=1000", "--epochs=1"),
    }
    same = {kind: same[kind] for kind in kinds}
    other = {
        "random": [*MIXTURE, "--dropout_prob=0.3", "--negative_sampling=uniform", "--n_negatives=8"],
    }
    ends: list[tuple[list[str], int, str]] = [
        *((["", "run", *arguments, *SMALL[2:]], 2, text) for arguments, text in REFUSED),
        (["", "run", "--nonsense"], 2, "argument '--nonsense' has no value"),
        (["", "sweep", "a.yaml"], 2, "sweep runs in one process"),
        (["nan", "run", *MIXTURE], 1, "the training loss became nan in epoch 2"),
    ]
    commands = [["", "run", *arguments, "--output", str(tmp_path / name)] for name, arguments in (same | other).items()]
    commands += [
        [*arguments, *([] if arguments[1] == "sweep" else ["--output", str(tmp_path / "ends")])]
        for arguments, *_ in ends
    ]
    commands = [[*one, "--dataset", str(data)] if one[1] == "run" else one for one in commands]
    done, told = work(tmp_path / "two", commands)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / "two" / f"{rank}.threads").read_text() for rank in range(2)] == ["", ""]
    zeros = [0] * len(same | other)
    assert [[one["status"] for one in part] for part in told] == [zeros + [status for _, status, _ in ends]] * 2
    for _, _, text in ends:
        assert done.stderr.count(text) == 1, text
    assert find_records(tmp_path / "ends") == []
    # One process prints, and after every epoch all have the same weights.
    assert done.stdout.count("Test metrics by full ranking") == len(same | other)
    assert done.stderr.count("epoch 1: loss") == len(same | other) + 1
    assert [one.get("weights") for one in told[0]] == [one.get("weights") for one in told[1]]

    for name, arguments in same.items():
        assert (
            main(["run", "--dataset", str(data), "--output", str(tmp_path / f"{name} by one"), *arguments, "--quiet"])
            == 0
        )
        one, two = only_record(tmp_path / f"{name} by one"), only_record(tmp_path / name)
        assert (one.run_id, one.processes, two.processes) == (two.run_id, 1, 2)
        assert two.training_log()["loss"].to_numpy() == pytest.approx(one.training_log()["loss"].to_numpy(), rel=1e-5)
        assert (two.best_epoch, two.epochs) == (one.best_epoch, one.epochs)
        assert two.valid.keys() == one.valid.keys()
        for side in ("valid", "test"):
            for metric, value in getattr(one, side).items():
                assert getattr(two, side)[metric].value == pytest.approx(value.value, abs=1e-12), (name, metric)
        mine, theirs = one.outcomes(), two.outcomes()
        assert theirs["rank"].tolist() == mine["rank"].tolist()
        np.testing.assert_allclose(theirs["log_probability"], mine["log_probability"], rtol=1e-4)

    # Here each process draws for itself.
    assert np.isfinite(only_record(tmp_path / "random").training_log()["loss"]).all()


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    """Resumed by the command line as a user types it, it gives the numbers of an undisturbed one to the last bit."""
    random = [*MIXTURE, "--dropout_prob=0.3", "--dataset", str(data)]
    undisturbed, _ = work(tmp_path / "whole", [["", "run", *random, "--output", str(tmp_path / "a")]])
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed, told = work(tmp_path / "killed", [["kill", "run", *random, "--output", str(tmp_path / "b")]])
    assert killed.returncode == 1
    assert told == []
    assert "mos-recbole: " not in killed.stderr
    assert find_records(tmp_path / "b") == []
    resumed = torchrun("-m", "mos_recbole", "run", *random, "--output", tmp_path / "b", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("resumed after epoch 2") == 1
    record = only_record(tmp_path / "b")
    assert (record.resumed, record.processes) == (True, 2)
    assert numbers(record) == numbers(only_record(tmp_path / "a"))
    again = torchrun("-m", "mos_recbole", "run", *random, "--output", tmp_path / "b", "--resume")
    assert (again.returncode, again.stderr.count("already finished")) == (0, 1)
    assert only_record(tmp_path / "b") == record


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_all_with_one_message(data: Path, tmp_path: Path) -> None:
    """A full disk, which the others learn of by the first one's end."""
    arguments = [*MIXTURE, "--dataset", str(data), "--output", str(tmp_path / "results")]
    done, told = work(tmp_path / "full", [["full", "run", *arguments]])
    assert told[0][0]["status"] == 2
    assert told[1][0]["status"] in (2, 70)
    assert done.stderr.count("the disk is full") == 1
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    assert find_records(tmp_path / "results") == []
