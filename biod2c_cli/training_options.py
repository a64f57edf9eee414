"""Options of ``biod2c train`` that say where and how it runs, and the launch they ask for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from biod2c_core.errors import InputError

if TYPE_CHECKING:
    from biod2c_core.training.hardware.engines import EngineFlags

Gpus = Annotated[
    int | None,
    typer.Option("--gpus", min=1, help="GPUs of this machine; several train with ZeRO-2."),
]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="CPU processes instead (gloo).")
]
NodeCount = Annotated[int, typer.Option("--nodes", min=1, help="Machines that train together.")]
NodeRank = Annotated[int, typer.Option("--node-rank", min=0, help="This machine's number, from 0.")]
Master = Annotated[
    str, typer.Option("--master", metavar="HOST:PORT", help="The first of the machines.")
]
Hostfile = Annotated[
    Path | None,
    typer.Option(help="Lines 'HOST slots=N': start the run on all of them over ssh."),
]
Zero = Annotated[
    int | None,
    typer.Option(metavar="0|2|3", help="DeepSpeed ZeRO stage; 0: plain data parallel."),
]
DeepSpeed = Annotated[
    Path | None, typer.Option("--deepspeed", help="DeepSpeed configuration (JSON) instead.")
]
Fsdp = Annotated[bool, typer.Option("--fsdp", help="Use torch's FSDP instead of DeepSpeed.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print parameters, steps and memory; train nothing.")
]
GpuMemory = Annotated[
    float | None,
    typer.Option(help="GiB of a GPU to plan for with --dry-run; default: this machine's."),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Log to TensorBoard too.")]
Wandb = Annotated[bool, typer.Option("--wandb", help="Log to Weights & Biases too.")]


@dataclass(frozen=True)
class LaunchFlags:
    """The machines and processes that the flags ask for."""

    gpus: int | None
    processes: int | None
    nodes: int
    node_rank: int
    master: str
    hostfile: Path | None

    @property
    def local_processes(self) -> int:
        """Processes of this machine."""
        return self.gpus or self.processes or 1

    @property
    def total_processes(self) -> int:
        """Processes of the whole run."""
        return self.local_processes * self.nodes

    def launch(self, flags: EngineFlags, preset: Literal["auto", 0, 2, 3]) -> int | None:
        """Start the processes and wait for them; one that shares with none needs no launch.

        Args:
            flags: The engine that is asked for.
            preset: ``zero`` of the configuration.

        Returns:
            The exit code, or None: this process is to do the work itself.

        Raises:
            InputError: Flags contradict each other, or there are fewer GPUs.
            MissingDependencyError: DeepSpeed is needed and absent.
        """
        from biod2c_core.training.hardware import launch
        from biod2c_core.training.hardware.engines import choose_engine

        if self.gpus and self.processes:
            raise InputError("--gpus and --processes are both given", "Choose one.")
        if not (self.gpus or self.processes or self.hostfile):
            launch.adopt_slurm()
        if launch.is_rank():
            return None
        if self.hostfile is not None:
            count = [] if self.gpus or self.processes else ["--gpus"]
            return launch.launch_on_hosts(self.hostfile, _without_hostfile(sys.argv[1:]), count)
        if self.gpus:
            launch.check_gpus(self.gpus)
        engine = choose_engine(self.total_processes, bool(self.gpus), flags, preset=preset)
        if self.total_processes == 1 and not engine.splits:
            return None
        nodes = launch.Nodes(self.nodes, self.node_rank, self.master)
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # a file of the user's is not a module of ours
        return launch.launch(
            [sys.executable, "-m", "biod2c_cli", *sys.argv[1:]], self.local_processes, nodes
        )


def _without_hostfile(arguments: list[str]) -> list[str]:
    kept = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--hostfile":
            next(rest, None)
        elif not argument.startswith("--hostfile="):
            kept.append(argument)
    return kept
