"""`amf fit` and `amf validate`: LightningCLI with this package's parts as keys of its own."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from amf_lightning.campaign.clean_start import clean_start
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.stopping import rounds_of
from amf_lightning.catalogue import base_class
from amf_lightning.command_line.endings import PROGRAM
from amf_lightning.command_line.parser_errors import ArgumentParser
from amf_lightning.command_line.parsing import PARSER, with_configurations
from amf_lightning.command_line.quiet import be_quiet, somebody_watches
from amf_lightning.command_line.signals_callback import OwnSignals
from amf_lightning.command_line.values import check_followers, check_values
from amf_lightning.command_line.whole_rounds_callback import WholeRounds
from amf_lightning.configuration import SEEDS, user_path
from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.errors import AmfError, ExitCode, InputError, UnfinishedError, cause
from amf_lightning.evaluation.evaluators import SimulatedEpisodes
from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
from amf_lightning.fine_tuning.checkpoint_io import DurableCheckpointIO
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.processes import check_cores, check_nodes
from amf_lightning.reports.report_callback import RunReports
from amf_lightning.reports.run_logger import RunLogger
from amf_lightning.reports.tables import evaluation_table
from amf_lightning.writable import check_file, check_folder

PARTS = ("suite", "expert", "selector", "retention", "evaluation")
"""Keys of the catalogue that stand at the top of a configuration. A run needs each of them."""


class Parser(ArgumentParser, LightningArgumentParser):
    """Lightning's parser with our errors and help."""


class CommandLine(LightningCLI):
    """LightningCLI with this package's parts as top-level keys. A subclass is one command: only its parser is made."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            BehaviouralCloning,
            DemonstrationDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={
                **PARSER,
                "prog": "amf",
                "description": "Active fine-tuning of multi-task policies: which task should be demonstrated next?",
                **{name: dict(PARSER) for name in self.subcommands()},
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=1, help="Threads of torch. Results depend on it.")
        for key in PARTS:
            parser.add_subclass_arguments(base_class(key), key)
        parser.set_defaults(
            {"evaluation": {"class_path": f"{SimulatedEpisodes.__module__}.{SimulatedEpisodes.__name__}"}}
        )
        parser.add_lightning_class_args(ActiveSampling, "active")
        parser.add_lightning_class_args(RunReports, "reports")
        for target in ("model.suite", "data.suite", "active.suite", "reports.suite"):
            parser.link_arguments("suite", target, apply_on="instantiate")
        for target in ("data.evaluation", "active.evaluation"):
            parser.link_arguments("evaluation", target, apply_on="instantiate")
        parser.link_arguments("expert", "active.expert", apply_on="instantiate")
        parser.link_arguments("selector", "active.selector", apply_on="instantiate")
        parser.link_arguments("retention", "model.retention", apply_on="instantiate")
        parser.link_arguments("active", "reports.active", apply_on="instantiate")
        for target in ("model.seed", "data.seed", "active.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_seed)
        # The module takes several optimiser steps for one of Lightning's, and so clips, accumulates and logs by itself.
        parser.link_arguments("trainer.accumulate_grad_batches", "data.accumulate_grad_batches")
        for name in ("gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps"):
            parser.link_arguments(f"trainer.{name}", f"model.{name}")
        parser.link_arguments(("active.budget", "active.batch_size"), "trainer.max_epochs", compute_fn=_rounds)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning would let a checkpoint's hyper-parameters override the command line."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        check_values(vars(config), self._parser(self.subcommand))
        check_followers([str(path) for path in config.config or []], self._parser(self.subcommand))
        for key in PARTS:
            if config[key] is None:
                raise InputError(
                    f"The key '{key}' is missing. Start from a shipped file: --config configs/halfcheetah.yaml"
                )
        if config.threads < 1:
            raise InputError(f"threads is {config.threads}; it must be at least 1.")
        torch.set_num_threads(config.threads)
        if config.ckpt_path is not None:
            config.ckpt_path = str(user_path(config.ckpt_path, "ckpt_path"))
        if config.trainer.default_root_dir is None:
            folder = _validation_folder(config) if self.subcommand == "validate" else _default_folder(config)
            config.trainer.default_root_dir = str(folder)
        folder = user_path(config.trainer.default_root_dir, "trainer.default_root_dir")
        config.trainer.default_root_dir = str(folder)
        self.folder = RunFolder(folder)
        if program := PROGRAM.get():
            program.folder = self.folder.path
        resolved = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False, format="yaml"))
        self.resolved = {key: value for key, value in resolved.items() if key not in ("config", "ckpt_path")}
        if self.subcommand == "fit" or self.folder.config.is_file():
            self.folder.check_identity(self.resolved)
        if self.subcommand == "fit":
            _check_writable(self.folder)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        options = self.config_init[self.subcommand].trainer
        folder = options.default_root_dir
        program = PROGRAM.get()
        given = options.callbacks or []  # a list, or the only one
        given = given if isinstance(given, list) else [given]
        callbacks = [*([OwnSignals(program.signals)] if program else []), *given]
        callbacks.insert(0, WholeRounds(self._get(self.config_init, "active")))
        if options.enable_checkpointing is not False:
            # One file, replaced in one step: the state at the end of the last finished round.
            path = self.folder.checkpoint
            callbacks.append(
                ModelCheckpoint(
                    path.parent, path.stem, save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
                )
            )
        own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        wanted = options.enable_progress_bar
        kwargs["enable_progress_bar"] = own_bar or (somebody_watches() if wanted is None else wanted)
        if kwargs["enable_progress_bar"] and not own_bar:
            callbacks.append(TQDMProgressBar())
        if options.logger in (None, True):  # a validation has nothing to log that evaluation.json does not say
            kwargs["logger"] = self.subcommand == "fit" and RunLogger(folder)
        kwargs["plugins"] = [*(options.plugins or []), DurableCheckpointIO()]
        if SLURMEnvironment.detect():
            # Lightning would requeue in mid-round and then not start the round anew; the same command does.
            kwargs["plugins"].append(SLURMEnvironment(auto_requeue=False))
        # Linked to the module and the data; Lightning refuses the first three for a module that steps by itself.
        kwargs.update(gradient_clip_val=None, gradient_clip_algorithm=None, accumulate_grad_batches=1)
        kwargs.update(log_every_n_steps=1)  # every block
        try:
            trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        except (ImportError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"The trainer cannot be made: {' '.join(str(error).split())}") from error
        check_cores(trainer)
        check_nodes(trainer)
        if program:
            program.signals.launched = lambda: getattr(trainer.strategy.launcher, "procs", [])
        return trainer

    def fit(self, model: BehaviouralCloning, ckpt_path: str | None = None, **kwargs: Any) -> None:
        """Starts or, if the folder holds a checkpoint, goes on."""
        if ckpt_path is None and self.folder.checkpoint.is_file():
            ckpt_path = str(self.folder.checkpoint)
        active: ActiveSampling = self._get(self.config_init, "active")
        active.deployment.prepare(model)
        if ckpt_path is not None:
            model.check_checkpoint(Path(ckpt_path))
        # Nothing is written before every part has been made: bad input leaves the folder as it was.
        with clean_start(self.folder) if self.trainer.is_global_zero else nullcontext():
            if self.trainer.is_global_zero:
                self.folder.write_config(yaml.safe_dump(self.resolved, sort_keys=False))
            self.trainer.fit(model, ckpt_path=ckpt_path, **kwargs)
        if waiting := active.waiting:
            if self.trainer.is_global_zero:
                print(f"\nThe run in {self.folder.path} waits for demonstrations; then the same command goes on.")
                print(*(f"  {each.why([task.name for task in model.suite.tasks])}" for each in waiting), sep="\n")
                print(f"Hand them over with: amf add {self.folder.path} FILE")
            raise SystemExit(ExitCode.WAITING)
        if active.stopped is None and len(active.jobs) < active.budget:
            raise UnfinishedError(
                f"unfinished: a limit of the trainer ended the run after {len(active.jobs)} of {active.budget} "
                f"demonstrations. Lift it, and the same command goes on. The run is in {self.folder.path}."
            )
        if self.trainer.is_global_zero:
            print(f"\nThe run is in {self.folder.path}; its report is {self.folder.report}")

    def validate(self, model: BehaviouralCloning, ckpt_path: str | None = None, **kwargs: Any) -> None:
        """Evaluates the policy of a checkpoint or of a policy file; writes evaluation.json into its run folder."""
        path = ckpt_path or str(self.folder.checkpoint)
        checkpoint = path if path.endswith(".ckpt") else None
        if checkpoint is None:
            model.start_from(path)
            model.trained_on = sum(model.statistics.covers.values()) if model.statistics else 0
        else:
            self._get(self.config_init, "active").deployment.prepare(model)
            model.check_checkpoint(Path(path))
        evaluation = self._get(self.config_init, "evaluation")
        if not isinstance(evaluation, SimulatedEpisodes):
            raise InputError(
                f"amf validate runs episodes, and evaluation is {type(evaluation).__name__}. Set evaluation: "
                "SimulatedEpisodes; what a person reported is in the run's evaluation.json."
            )
        facts = self.folder.read_facts()  # before the work: what is damaged is said first
        with clean_start(self.folder) if self.trainer.is_global_zero else nullcontext():
            self.trainer.validate(model, ckpt_path=checkpoint, verbose=False, **kwargs)
        measured, suite = model.evaluation, model.suite
        if self.trainer.is_global_zero and measured is not None:
            # Who may not write into the folder, or finds the disk full, has the table all the same.
            print(f"\n{path}\n\n{evaluation_table(measured, suite)}\n", flush=True)
            names = [task.name for task in suite.tasks]
            self.folder.write_evaluation(measured, names, suite.weights, **{**facts, "evaluated": path})
            print(f"Written: {self.folder.evaluation}")


class Fit(CommandLine):
    """`amf fit`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}}


class Validate(CommandLine):
    """`amf validate`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"validate": {"model", "dataloaders", "datamodule", "verbose", "weights_only"}}


def _check_writable(folder: RunFolder) -> None:
    """Raises OSError if a run could not write one of its files later, after hours."""
    for path in folder.entries():
        check_file(path) if path.suffix else check_folder(path)


def _seed(value: bool | int) -> int:
    if isinstance(value, bool) or not 0 <= value < SEEDS:
        raise InputError(
            f"seed_everything is {value}; give a number, at least 0 and below {SEEDS}, so that the run can be repeated."
        )
    return value


def _rounds(budget: int | None, batch_size: int | None) -> int:
    for name, value in (("budget", budget), ("batch_size", batch_size)):
        if value is None:
            raise InputError(f"active.{name} is null; give an integer, or leave the key out for its default.")
    assert budget is not None and batch_size is not None
    return rounds_of(budget, batch_size)


def _default_folder(config: Any) -> Path:
    """`runs/<config>/<selector>-seed<k>`."""
    return _runs_of(config) / f"{config.selector.class_path.rpartition('.')[2]}-seed{config.seed_everything}"


def _validation_folder(config: Any) -> Path:
    """The run folder that the file lies in; a folder of its own for weights that are of no run, e.g. shipped ones."""
    if config.ckpt_path is None:
        return _default_folder(config)
    path = Path(config.ckpt_path)
    for folder in (path.parent, path.parent.parent):
        if RunFolder(folder).config.is_file():
            return folder
    return _runs_of(config) / f"validate-{path.stem}"


def _runs_of(config: Any) -> Path:
    """`runs/<config>`, named after the last configuration file."""
    files = [str(path) for path in config.config or []]
    return Path("runs") / (Path(files[-1]).stem if files else "command-line")


def main(arguments: list[str]) -> None:
    """Runs `fit` or `validate`, whichever is the first argument.

    Raises:
        InputError: what Lightning, too, calls a mistake of the user.
    """
    be_quiet()
    command = {"fit": Fit, "validate": Validate}[arguments[0]]
    try:
        command(with_configurations(arguments))
    except Exception as error:
        mistake = cause(error, AmfError, MisconfigurationException)
        if isinstance(mistake, MisconfigurationException):
            raise InputError(str(mistake)) from error
        raise
