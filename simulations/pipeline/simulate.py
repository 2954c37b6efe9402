"""One simulation from data to signed release and report: the job behind `fedtail simulate`."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.node.settings import merchant_folders
from client.ranking.fusion import FusedRanker
from client.shop.dataset import MerchantData
from client.shop.splitting import require_enough, split_interactions
from common.adapter import AdapterState
from common.encoder.device import chosen_device
from common.encoder.public_basis import PublicBasis
from common.evaluation.scorecard import Scorecard
from common.release.statement_page import statement_page
from common.settings.auto import fit_settings
from common.settings.noise import noise_for
from common.settings.run import RunSettings
from server.releases.publish import audited_bounds, merchant_privacy
from server.run.checkpoint import RoundRecord
from simulations.data.datasets import load_dataset
from simulations.data.kinds import kinds_of_items
from simulations.data.merchant_note import merchant_notes
from simulations.data.partition import PartitionKind, partition_merchants
from simulations.data.shop import Shop
from simulations.data.validation_only import validation_only
from simulations.evaluation.by_size import gains_by_size
from simulations.evaluation.epsilon_curve import epsilon_curve
from simulations.evaluation.evaluator import ShopEvaluator, make_evaluators
from simulations.evaluation.examples import EXAMPLES, example_recommendations
from simulations.evaluation.fairness import fairness
from simulations.evaluation.held_out import evaluate_held_out, hold_out
from simulations.evaluation.release_gate import gate_release, load_holdout
from simulations.evaluation.scoring import (
    best_without_others,
    intervals,
    merchant_results,
    pooled_metrics,
    validation_means,
)
from simulations.federation.comparisons import MERCHANTS, Comparison, Trainer
from simulations.federation.folders import spent_by_merchant
from simulations.federation.memory import PeakMemory
from simulations.federation.parallel_runs import SideBySide
from simulations.federation.refresh import EarlierRun
from simulations.federation.runner import FinishedRun, Watch
from simulations.options import SimulationOptions, declared_settings, sizes_declared
from simulations.pipeline.auto_settings import declared_facts
from simulations.pipeline.out_folder import prepare_out
from simulations.pipeline.progress import Screen
from simulations.pipeline.publish import publish, run_statement, told_metrics, withdraw
from simulations.pipeline.records import (
    Beside,
    commit,
    dataset_record,
    release_reference,
    round_record,
    season_cost,
    settings_record,
)
from simulations.pipeline.tensorboard import open_board
from simulations.pipeline.warning_lines import warnings
from simulations.report.html import write_report
from simulations.results.schema import (
    Privacy,
    Results,
    Timing,
    read_environment,
    write_results,
)
from simulations.results.sections import EpsilonCurve

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"
CURVE_POINTS = 8  # how many rounds are evaluated on validation


class Simulation:
    """The state of one simulation as it goes from phase to phase."""

    def __init__(self, options: SimulationOptions, screen: Screen, cache: Path) -> None:
        self.options, self.screen, self.cache = options, screen, cache
        self.phases: dict[str, float] = {}
        self.memory = PeakMemory()
        self.curve: dict[int, tuple[float, float]] = {}
        self.held_out: list[Shop] = []
        self.chosen: tuple[str, ...] = ()  # settings that the rule of `auto` chose

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and show it."""
        began = time.monotonic()
        with self.screen.phase(name):
            yield
        self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - began

    # ------------------------------------------------------------------ phases
    def run(self) -> Results:
        """Do it all; return what results.json holds."""
        with self.memory:
            return self._run()

    def _run(self) -> Results:
        with SideBySide(self.options.processes) as trainings:
            return self._run_beside(trainings)

    def _run_beside(self, trainings: SideBySide) -> Results:
        began = time.monotonic()
        chosen_device()  # that there is none such is said before anything is emptied or read
        prepare_out(self.options)
        if self.options.baselines or self.options.solo:
            trainings.warm_up()
        with self.phase("data"):
            data, shops, settings, how = self._shops()
            public = load_holdout(self.options, data, self.cache)
            earlier, asked = self._earlier(), self.options.settings
            if earlier is not None:
                settings = earlier.settings(settings.season_ends, asked, len(shops))
            for warning in warnings(self.options, settings, data):
                self.screen.warn(warning)
        trainer = Trainer(self.options.out, self.cache, settings)
        solo, baselines = self.options.solo, self.options.baselines
        compared = trainer.comparisons(shops, solo=solo, baselines=baselines)

        def on_encoded() -> None:
            trainings.begin(trainer.jobs(compared))

        run = self._federated(trainer, shops, earlier, on_encoded)
        evaluators = make_evaluators(shops, run.basis, settings, self.cache)
        with trainings.leaving_cores():
            scorecards, rankers = self._evaluated(evaluators, run)
            self._evaluate_others(trainings, compared, evaluators, scorecards)
        curve = self._epsilon_curve(trainer, evaluators, scorecards)
        with self.phase("evaluation"):
            beside = Beside(
                by_size=gains_by_size(
                    scorecards,
                    [evaluator.shop.node_data.shopper_count for evaluator in evaluators],
                    settings.seed,
                ),
                epsilon_curve=curve,
                gate=gate_release(public, run, settings, self.cache),
                held_out=evaluate_held_out(self.held_out, run, settings, self.cache),
            )
        with self.phase("release and report"):
            return self._results(
                data,
                how,
                evaluators,
                scorecards,
                rankers=rankers,
                run=run,
                beside=beside,
                settings=settings,
                began=began,
            )

    def _earlier(self) -> EarlierRun | None:
        """Return the run whose season is taken anew; None where one is trained."""
        of = self.options.refresh_of
        return None if of is None else EarlierRun.open(of)

    def _shops(self) -> tuple[MerchantData, list[Shop], RunSettings, PartitionKind]:
        options = self.options
        seed = int(options.settings.get("seed", 0))
        data = load_dataset(
            options.data,
            seed=options.partition_seed,
            mapping=options.mapping,
            cache=self.cache / "imports",
        )
        if options.validation_only:
            data = validation_only(data)
        require_enough(split_interactions(data.interactions, data.split_rule))
        how = options.partition or ("column" if _has_column(data) else "random")
        for note in merchant_notes(options.data, options.mapping, data, how):
            self.screen.note(note)
        parts = partition_merchants(
            data,
            how=how,
            merchants=options.merchants + options.held_out_merchants,
            seed=options.partition_seed,
            alpha=options.alpha,
            sizes=options.sizes_of(how),
            kinds=self._kinds(data) if how == "kinds" else None,
        )
        parts, apart = hold_out(parts, options.held_out_merchants, options.partition_seed)
        self.held_out = [Shop.of(part) for part in apart]
        shops = [Shop.of(part) for part in parts]
        shoppers = sum(shop.node_data.shopper_count for shop in shops)
        noise = noise_for(options.settings, len(shops))
        if noise.settings.get("noise") == "distributed":
            self.screen.note(noise.reason)
        asked = {"seed": seed, **noise.settings, **options.settings}
        settings = declared_settings(asked, shoppers, len(shops), data.split_rule)
        if options.auto:
            facts = declared_facts(settings, shops)
            settings, choices = fit_settings(settings, facts, options.settings)
            self.chosen = tuple(choices)
            self.screen.chosen(choices)
        if settings.noise == "distributed":  # as an operator says how many share the noise
            settings = settings.model_copy(update={"min_merchants": len(shops)})
        return data, shops, settings, how

    def _kinds(self, data: MerchantData) -> NDArray[np.int64]:
        options = self.options
        return kinds_of_items(
            data.catalogue,
            options.kinds,
            options.partition_seed,
            options.settings,
            cache=self.cache,
            progress=self.screen.encoded,
        )

    def _federated(
        self,
        trainer: Trainer,
        shops: Sequence[Shop],
        earlier: EarlierRun | None,
        on_encoded: Callable[[], None],
    ) -> FinishedRun:
        evaluators: list[ShopEvaluator] = []
        every = max(1, trainer.settings.rounds // CURVE_POINTS)

        def on_round(record: RoundRecord, adapter: AdapterState) -> None:
            self.screen.round(record, trainer.settings)
            board.round(record)
            number = record.round_number
            if evaluators and (number % every == 0 or number == trainer.settings.rounds):
                self.curve[number] = validation_means(evaluators, adapter)

        def on_basis(basis: PublicBasis) -> None:
            evaluators.extend(make_evaluators(shops, basis, trainer.settings, self.cache))
            on_encoded()  # all the others need is in the cache now

        folder = self.options.out / "tensorboard"
        with (
            open_board(folder, wanted=self.options.tensorboard) as board,
            self.phase("federation"),
            self.screen.rounds("federation", trainer.settings),
        ):
            watch = Watch(self.screen.encoded, on_round, on_basis, self.screen.answered)
            if earlier is not None:
                out = self.options.out
                return earlier.refreshed(shops, trainer.settings, out, self.cache, watch)
            return trainer.federated(shops, watch)

    def _evaluated(
        self, evaluators: Sequence[ShopEvaluator], run: FinishedRun
    ) -> tuple[dict[str, list[Scorecard]], list[FusedRanker]]:
        scorecards: dict[str, list[Scorecard]] = {}
        rankers = []
        count = len(evaluators)
        with self.phase("evaluation"), self.screen.merchants("evaluation", count):
            for done, evaluator in enumerate(evaluators):
                self.screen.merchant(done)
                fused, found = evaluator.compared(run.adapter, run.season)
                for model, scorecard in found.items():
                    scorecards.setdefault(model, []).append(scorecard)
                if done < EXAMPLES:
                    rankers.append(fused)
                if not self.options.epsilon_curve:  # it fuses again at each epsilon
                    evaluator.let_go()
        return scorecards, rankers

    def _evaluate_others(
        self,
        trainings: SideBySide,
        comparisons: Sequence[Comparison],
        evaluators: Sequence[ShopEvaluator],
        scorecards: dict[str, list[Scorecard]],
    ) -> None:
        """Add the scorecards of what the federation is compared with, as each is trained."""
        if not comparisons:
            return
        shared = 2 if self.options.baselines else 0  # then each shop's own
        judged: list[list[Scorecard]] = [[] for _ in comparisons]
        bar = self.screen.runs("comparisons", comparisons[0].settings, len(comparisons))
        with self.phase("comparisons"), bar:
            for place, adapter in trainings.finish(self.screen.round_of):
                whose = evaluators if place < shared else [evaluators[place - shared]]
                judged[place] = [one.evaluate(one.text(adapter).score) for one in whose]
        if self.options.solo:
            scorecards["solo_adapter"] = [own for [own] in judged[shared:]]
        if self.options.baselines:
            scorecards["adapter_no_noise"], scorecards["adapter_central"] = judged[:shared]

    def _epsilon_curve(
        self,
        trainer: Trainer,
        evaluators: Sequence[ShopEvaluator],
        scorecards: dict[str, list[Scorecard]],
    ) -> EpsilonCurve | None:
        if not self.options.epsilon_curve:
            return None
        epsilons, processes = self.options.epsilon_curve, self.options.processes
        runs = len(epsilons)
        with self.phase("curve"), self.screen.runs("against ε", trainer.settings, runs):
            shown = self.screen.round_of
            return epsilon_curve(
                trainer, evaluators, scorecards, epsilons, on_round=shown, processes=processes
            )

    # ----------------------------------------------------------------- results
    def _results(
        self,
        data: MerchantData,
        how: PartitionKind,
        evaluators: Sequence[ShopEvaluator],
        scorecards: dict[str, list[Scorecard]],
        *,
        rankers: Sequence[FusedRanker],
        run: FinishedRun,
        beside: Beside,
        settings: RunSettings,
        began: float,
    ) -> Results:
        options, shops = self.options, [evaluator.shop for evaluator in evaluators]
        merchants = run.federation or options.out / MERCHANTS
        spent = spent_by_merchant(shops, merchants, run.plan.delta)
        places = merchant_folders(merchants)
        bounds = audited_bounds(run.plan, run.audits, run.canary_sums)
        privacy = {
            name: merchant_privacy(run.plan, one, bounds.get(place.name))
            for (name, one), place in zip(spent.items(), places, strict=True)
        }
        sizes: Literal["declared", "counted"] = (
            "declared" if sizes_declared(options.settings) else "counted"
        )
        statement = run_statement(options.out, run, settings, shops, privacy, sizes=sizes)
        metrics = pooled_metrics(scorecards)
        environment = read_environment(commit())
        manifest = None
        if beside.may_publish:
            manifest = publish(
                options.out,
                run,
                settings,
                shops,
                statement,
                metrics=told_metrics(options.measured_on, data.name, metrics),
                code_version=environment.fedtail,
                more_files=beside.files(options.measured_on),
            )
        else:
            withdraw(options.out)
        synthetic = options.data is None
        results = Results(
            name=f"{data.name}, {len(shops)} merchants",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=" ".join(["fedtail", *sys.argv[1:]]) if sys.argv[1:] else "",
            dataset=dataset_record(data, shops, how, synthetic=synthetic),
            metrics=metrics,
            intervals=intervals(scorecards, settings.seed),
            merchants=merchant_results(scorecards, evaluators, settings.size_bracket),
            privacy=Privacy(
                unit=statement.unit,
                dp_model=run.plan.dp_model,
                merchants=privacy,
                run=statement.run,
                season=season_cost(run, statement.run),
                statement=statement_page(statement),
            ),
            rounds=[round_record(one, self.curve) for one in run.history],
            settings=settings_record(settings, options, len(shops), how, self.chosen),
            environment=environment,
            examples=example_recommendations(
                evaluators, rankers, synthetic=synthetic, typed=options.history
            ),
            timing=Timing(
                total_seconds=time.monotonic() - began,
                phases=self.phases,
                peak_memory_mb=self.memory.look(),
            ),
            release=None if manifest is None else release_reference(manifest),
            fairness=fairness(scorecards, [shop.name for shop in shops], seed=settings.seed),
            best_alone=best_without_others(metrics),
            **vars(beside),
        )
        write_results(results, options.out / RESULTS_FILE)
        write_report(results, options.out / REPORT_FILE)
        return results


def _has_column(data: MerchantData) -> bool:
    return any(item.merchant for item in data.catalogue.items)
