"""The blocks of the loop file: what each is for, and what its keys mean where the code does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from loopwright.compute import Limits, Resources
from loopwright.data import (
    ContractPlan,
    DataPlan,
    DynamoDbSource,
    FileSource,
    ImageSource,
    MongoDbSource,
    PluginSource,
    RedisSource,
    Refresh,
    Split,
    SqlSource,
)
from loopwright.deploy import Alarms, DeployPlan, Rollout
from loopwright.deploy.rollout import ShadowPlan
from loopwright.deploy.scale import Scale
from loopwright.evaluate import EvaluatePlan
from loopwright.loop import LoopFile, RetrainPlan
from loopwright.loop.file import DecidePlan
from loopwright.loop.retrain_plan import Occasion, RetrainBudget, RetrainLimits
from loopwright.monitor import LabelPlan, MonitorPlan
from loopwright.monitor.sink import CommandSink, EmailSink, LogSink, WebhookSink
from loopwright.prepare import Overrule, PreparePlan
from loopwright.problem import (
    Constraints,
    Criterion,
    FairnessLimit,
    Person,
    Problem,
    ThresholdPolicy,
    Today,
)
from loopwright.train import AutoPlan, RecipeChoice, TrainBudget, TrainPlan
from loopwright.tune import TunePlan
from loopwright.tune.space import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One block of the loop file: where it stands, what it is, an example of each of its keys."""

    path: str
    struct: type[msgspec.Struct]
    about: str
    examples: Mapping[str, str]
    meanings: Mapping[str, str] = field(default_factory=dict)


SECTIONS: tuple[Section, ...] = (
    Section(
        path="the file",
        struct=LoopFile,
        about="Only `name`, `problem` and `data` are needed.",
        meanings={
            "name": "Name of the loop: lower-case letters, digits and hyphens, at most 63.",
            "problem": "What is asked, what is predicted and when that is good enough.",
            "data": "Where rows come from and how they are split.",
            "decide": "How to go on once it is known whether a model is needed.",
            "prepare": "What a person asks of the features.",
            "train": "What is trained, with which settings and budget.",
            "tune": "How the best algorithm's hyperparameters are searched; without the block they "
            "are not.",
            "evaluate": "How models are looked at beside the criteria: guarded segments, intervals.",
            "deploy": "The endpoint; without the block the model is packed and not served.",
            "monitor": "How the endpoint is watched.",
            "retrain": "What starts a new round.",
        },
        examples={
            "name": "name: house-prices",
            "problem": "problem: {target: price}",
            "data": "data: {source: {kind: file, path: houses.parquet}}",
            "decide": "decide: {when_rule_is_enough: deploy}",
            "prepare": "prepare: {auto: true}",
            "train": "train: {seed: 7}",
            "tune": "tune: {trials: 30, minutes: 10}",
            "evaluate": "evaluate: {interval: 0.8}",
            "deploy": "deploy: {endpoint: house-prices}",
            "monitor": "monitor: {every: 1 hour}",
            "retrain": "retrain: {approve: manual}",
        },
    ),
    Section(
        path="problem",
        struct=Problem,
        about="The business question. The criteria are sealed when the first round begins; a later "
        "change stays visible as a moved goalpost.",
        meanings={
            "target": "Column to predict.",
            "question": "The business question, in words.",
            "action": "What is done with the answer, in words.",
            "today": "How it is done today: what machine learning must beat.",
            "task": "`regression`, `binary` or `multiclass`; seen from the target when absent.",
            "positive": "Value of a binary target that counts as positive; when absent, one that says "
            "yes (`1`, `true`, `churned`, ...), else the rarer of the two.",
            "payoff": "What each outcome earns, in your money; costs are negative, what is not stated "
            "earns 0. For two classes by `true_positive`, `false_positive`, `true_negative` and "
            "`false_negative`, for more by true class and class said. An amount may be an expression "
            "of [the language of `derive`](#the-language-of-derive) over the columns of the row.",
            "criteria": "All must hold, on rows the model never saw; see [metrics](#metrics). The "
            "first one ranks candidates.",
            "threshold": "From which probability on the positive class is said: a number by hand, or "
            "what is wanted of it. When absent, by payoff where there is one, else one half.",
            "confidence": "How sure every verdict must be, 0.5 to below 1.",
            "constraints": "What a model must be like beside being right.",
            "people": "Who agrees with the criteria: names, or blocks with a role; they stand in the "
            "seal.",
            "test_rows": "`counted`: a later decision on the same test rows is allowed and shows how "
            "many there were. `once`: it needs a reason (`--overrule`).",
        },
        examples={
            "target": "target: price",
            "question": "question: What price can we quote?",
            "action": "action: The price goes into the draft listing",
            "today": "today: {does: a valuer visits, cost_per_case: 180}",
            "task": "task: regression",
            "positive": "positive: churned",
            "payoff": "payoff: {true_positive: 160, false_positive: -20}",
            "criteria": "criteria: [{metric: mape, at_most: 0.15}]",
            "threshold": "threshold: {by: precision, at_least: 0.8}",
            "confidence": "confidence: 0.95",
            "constraints": "constraints: {latency_ms: 20, explainable: true}",
            "people": "people: [Ann Lee, {name: Bo Chen, role: head of sales}]",
            "test_rows": "test_rows: once",
        },
    ),
    Section(
        path="problem.today",
        struct=Today,
        about="What a model is compared with, beside a constant and a simple rule.",
        examples={
            "does": "does: a valuer visits",
            "cost_per_case": "cost_per_case: 180",
            "column": "column: valuer_estimate",
        },
    ),
    Section(
        path="problem.criteria[]",
        struct=Criterion,
        about="Each has exactly one of `at_most` and `at_least`, on the side where the metric is good.",
        meanings={
            "metric": "Name of a [metric](#metrics) that fits the task.",
            "at_most": "Largest value that is good enough, for metrics where lower is better.",
            "at_least": "Smallest value that is good enough, for metrics where higher is better.",
        },
        examples={
            "metric": "metric: share_within_5_percent",
            "at_most": "at_most: 0.15",
            "at_least": "at_least: 0.30",
        },
    ),
    Section(
        path="problem.threshold",
        struct=ThresholdPolicy,
        about="A number may stand for the block: `threshold: 0.70`. The choice is made on validation "
        "rows, among repaired probabilities; [how to](../how-to/read-an-examination.md).",
        examples={"by": "by: recall", "at_least": "at_least: 0.8"},
    ),
    Section(
        path="problem.constraints",
        struct=Constraints,
        about="Held like criteria: a model that breaks one does not go live; "
        "[how to](../how-to/state-the-problem.md).",
        examples={
            "latency_ms": "latency_ms: 20",
            "size_mb": "size_mb: 50",
            "explainable": "explainable: true",
            "personal_data": "personal_data: false",
            "fairness": "fairness: [{column: gender, metric: recall, at_most_gap: 0.1}]",
        },
    ),
    Section(
        path="problem.constraints.fairness[]",
        struct=FairnessLimit,
        about="Each has `at_most_gap`, `at_least_ratio` or both.",
        examples={
            "column": "column: gender",
            "metric": "metric: recall",
            "at_most_gap": "at_most_gap: 0.1",
            "at_least_ratio": "at_least_ratio: 0.8",
            "cuts": "cuts: [25, 60]",
        },
    ),
    Section(
        path="problem.people[]",
        struct=Person,
        about="A name may stand for a block.",
        examples={"name": "name: Bo Chen", "role": "role: head of sales"},
    ),
    Section(
        path="data",
        struct=DataPlan,
        about="The rows a round learns from are frozen as a snapshot; the same rows give the same model.",
        meanings={
            "source": "Files, images, a database, Redis, DynamoDB, MongoDB, or what a plugin reads.",
            "refresh": "How often the source is read again.",
            "contract": "How far later rows may go from the first ones.",
            "split": "Which rows teach, which choose and which judge.",
        },
        examples={
            "source": "source: {kind: file, path: houses.parquet}",
            "refresh": "refresh: {every: 1 day}",
            "contract": "contract: {nulls: 0.02}",
            "split": "split: {by: time, column: sold_at}",
        },
    ),
    Section(
        path="data.source (kind: file)",
        struct=FileSource,
        about="Tables in files, here or at an address.",
        meanings={
            "path": "File, folder or pattern, relative to the folder of the loop file; or an address."
        },
        examples={
            "path": "path: sales/*.parquet",
            "sheet": "sheet: Orders",
            "max_size": "max_size: 2 GiB",
            "allow_private": "allow_private: true",
        },
    ),
    Section(
        path="data.source (kind: sql)",
        struct=SqlSource,
        about="Tables in databases.",
        meanings={
            "url": "Address of the database, or `env:NAME`.",
            "query": "A query that only reads.",
            "table": "Name of a table, `schema.table` where needed.",
        },
        examples={
            "url": "url: env:SALES_DATABASE",
            "query": "query: SELECT * FROM sales WHERE price > 0",
            "table": "table: sales",
        },
    ),
    Section(
        path="data.source (kind: redis)",
        struct=RedisSource,
        about="Records in Redis. Needs `pip install 'loopwright[redis]'`.",
        examples={
            "url": "url: env:CUSTOMER_REDIS",
            "pattern": 'pattern: "customer:*"',
            "fields": "fields: [name, city, since]",
            "key": "key: customer_key",
        },
    ),
    Section(
        path="data.source (kind: dynamodb)",
        struct=DynamoDbSource,
        about="Items in DynamoDB. Needs `pip install 'loopwright[aws]'`.",
        examples={
            "table": "table: customers",
            "region": "region: eu-central-1",
            "endpoint": "endpoint: http://127.0.0.1:8000",
            "query": 'query: "shop = :shop"',
            "index": "index: by-shop",
            "filter": 'filter: "#total > :least"',
            "names": 'names: {"#total": total}',
            "values": 'values: {":least": 10}',
            "fields": "fields: [name, home.city, since]",
            "consistent": "consistent: false",
        },
    ),
    Section(
        path="data.source (kind: mongodb)",
        struct=MongoDbSource,
        about="Documents in MongoDB. Needs `pip install 'loopwright[mongodb]'`.",
        examples={
            "url": "url: env:SHOP_MONGODB",
            "database": "database: shop",
            "collection": "collection: customers",
            "filter": "filter: {status: active}",
            "fields": "fields: [name, home.city, since]",
        },
    ),
    Section(
        path="data.source (kind: images)",
        struct=ImageSource,
        about="Images in folders. Needs `pip install 'loopwright[images]'`.",
        examples={
            "path": "path: photos",
            "labels": "labels: photos/breeds.csv",
            "file": "file: image",
            "broken": "broken: mark",
            "max_pixels": "max_pixels: 10000000",
        },
    ),
    Section(
        path="data.source (kind: plugin)",
        struct=PluginSource,
        about="What another package knows how to read.",
        examples={
            "name": "name: crm",
            "options": "options: {table: customers, token: env:CRM_TOKEN}",
        },
    ),
    Section(
        path="data.refresh",
        struct=Refresh,
        about="Files are read again when they have changed, databases when `every` is over, both with "
        "`loopwright run --refresh`. Rows that break the contract with the first ones are quarantined.",
        meanings={
            "every": "A duration; within it a run takes the rows of the last reading. Absent: never "
            "by itself.",
            "cursor": "A column that grows: only rows beyond its greatest value so far are read and "
            "added. Rows that come late, or change, are seen by `loopwright data refresh --full`. "
            "Absent: every reading takes the whole source.",
            "key": "With a cursor that moves when a row changes: a column, or several, whose newer row "
            "takes the place of the older one. Absent: changed rows come in a second time.",
        },
        examples={
            "every": "every: 1 day",
            "cursor": "cursor: updated_at",
            "key": "key: [shop, order_id]",
        },
    ),
    Section(
        path="data.contract",
        struct=ContractPlan,
        about="How far later rows may go from the first ones before they are quarantined.",
        examples={
            "nulls": "nulls: 0.02",
            "unseen": "unseen: 0.05",
            "out_of_range": "out_of_range: 0.02",
            "fewest_rows": "fewest_rows: 0.8",
            "ignore": "ignore: [comment]",
            "allow": "allow: {town: [unseen categories], age: [nulls, out of range]}",
        },
    ),
    Section(
        path="data.split",
        struct=Split,
        about="The three shares add up to 1.",
        meanings={
            "train": "Share of the rows that models are fitted on.",
            "validation": "Share that chooses among models.",
            "test": "Share that judges the chosen model, once.",
            "by": "How rows are shared out.",
            "column": "The time or the group, for `by: time` and `by: group`.",
            "seed": "Of a random split, 0 or more.",
        },
        examples={
            "train": "train: 0.7",
            "validation": "validation: 0.2",
            "test": "test: 0.1",
            "by": "by: group",
            "column": "column: customer_id",
            "seed": "seed: 7",
        },
    ),
    Section(
        path="decide",
        struct=DecidePlan,
        about="Before any training job the loop asks whether a model is needed at all; see "
        "[Is it machine learning?](../how-to/is-it-ml.md).",
        examples={"when_rule_is_enough": "when_rule_is_enough: deploy"},
    ),
    Section(
        path="prepare",
        struct=PreparePlan,
        about="What stands here is added to the suggestions of the profile, or overrules them; "
        "[how to](../how-to/prepare-features.md). The "
        "expressions of `derive` have [a language of their own](#the-language-of-derive).",
        examples={
            "auto": "auto: true",
            "drop": "drop: [internal_code]",
            "derive": 'derive: {age: "year(date) - yr_built"}',
            "keep": "keep: [customer_note]",
            "steps": "steps: [{step: target-encode, columns: [zipcode], smoothing: 20}]",
            "overrule": "overrule: [{column: id, refuse: drop, reason: ids grow with time}]",
        },
    ),
    Section(
        path="prepare.overrule[]",
        struct=Overrule,
        about="One suggestion, of one column, that is not followed. Refusing what nothing suggests is "
        "an error that lists what is suggested for the column.",
        examples={
            "column": "column: zipcode",
            "refuse": "refuse: target-encode",
            "reason": "reason: few sales per zip code",
            "instead": "instead: {step: frequency}",
        },
    ),
    Section(
        path="train",
        struct=TrainPlan,
        about="Every algorithm is a job in a process of its own.",
        examples={
            "algorithms": "algorithms: [linear-learner, lightgbm]",
            "hyperparameters": "hyperparameters: {lightgbm: {num_leaves: 63}}",
            "budget": "budget: {minutes: 5, jobs: 40}",
            "resources": "resources: {cpus: 2, memory: 4 GiB}",
            "workers": "workers: 4",
            "time_limit": "time_limit: 10 minutes",
            "limits": "limits: {log: 10 MiB, disk: 5 GiB}",
            "retries": "retries: 3",
            "seed": "seed: 7",
            "auto": "auto: {algorithms: [lightgbm, linear-learner]}",
            "recipe": "recipe: {encoding: ordinal}",
        },
    ),
    Section(
        path="train.recipe",
        struct=RecipeChoice,
        about="`suggested` leaves a choice to the suggestions of `prepare`, column by column. "
        "`loopwright tune loop.yaml --recipe` tries the others; `auto` tries them by itself.",
        examples={
            "encoding": "encoding: one-hot",
            "texts": "texts: none",
            "target": "target: log",
        },
    ),
    Section(
        path="train.auto",
        struct=AutoPlan,
        about="With `algorithms: [auto]` one job divides the training rows into folds, tries a "
        "portfolio of algorithms and settings on them and blends the best, until `budget.minutes` "
        "are over.",
        examples={
            "algorithms": "algorithms: [lightgbm, xgboost]",
            "trials": "trials: 20",
            "distill": "distill: if_as_good",
            "distill_may_cost": "distill_may_cost: 0.02",
        },
    ),
    Section(
        path="train.budget",
        struct=TrainBudget,
        about="A round stops trying ideas when one of them is spent.",
        examples={
            "minutes": "minutes: 5",
            "jobs": "jobs: 40",
            "money": "money: 2.50",
            "price_per_cpu_hour": "price_per_cpu_hour: 0.05",
        },
    ),
    Section(
        path="train.resources",
        struct=Resources,
        about="A loop that asks for more than the machine has is refused before it starts.",
        meanings={
            "cpus": "CPUs of one job, above 0; 0.5 is half of one.",
            "memory": "Memory of one job: a number with a unit.",
            "gpus": "GPUs of one job.",
        },
        examples={"cpus": "cpus: 2", "memory": "memory: 4 GiB", "gpus": "gpus: 0"},
    ),
    Section(
        path="train.limits",
        struct=Limits,
        about="They hold for all processes of a job together; beyond them it is ended, and says so. "
        "Its memory is limited by `train.resources`, its time by `train.time_limit`.",
        examples={
            "processes": "processes: 200",
            "log": "log: 10 MiB",
            "when_log_full": "when_log_full: fail",
            "disk": "disk: 5 GiB",
        },
    ),
    Section(
        path="tune",
        struct=TunePlan,
        about="After the first models of a round, the best algorithm's hyperparameters are searched "
        "(Optuna); every trial is a job. `loopwright tune` takes the same block.",
        examples={
            "trials": "trials: 30",
            "minutes": "minutes: 10",
            "money": "money: 1.00",
            "recipe": "recipe: true",
            "parallel": "parallel: 2",
            "sampler": "sampler: random",
            "prune": "prune: false",
            "space": "space: {lightgbm: {num_leaves: [8, 128], boosting: [gbdt, goss]}}",
        },
    ),
    Section(
        path="tune.space.<algorithm>.<hyperparameter>",
        struct=Range,
        about="A list may stand for a range: two numbers are its ends, anything else the values to "
        "try.",
        meanings={
            "low": "Lower end, included.",
            "high": "Upper end, included.",
            "log": "Whether orders of magnitude are tried alike.",
        },
        examples={"low": "low: 0.01", "high": "high: 0.3", "log": "log: true"},
    ),
    Section(
        path="evaluate",
        struct=EvaluatePlan,
        about="How models are looked at beside the criteria; "
        "[how to](../how-to/read-an-examination.md).",
        examples={
            "slices": 'slices: {new customers: "tenure < 12"}',
            "margin": "margin: 0.02",
            "interval": "interval: 0.8",
        },
    ),
    Section(
        path="deploy",
        struct=DeployPlan,
        about="The endpoint is a process of its own on this machine.",
        examples={
            "endpoint": "endpoint: house-prices",
            "host": "host: 127.0.0.1",
            "port": "port: 8080",
            "rollout": "rollout: {kind: all_at_once}",
            "capture_share": "capture_share: 1.0",
            "approve": "approve: manual",
            "workers": "workers: 4",
            "unknown_columns": "unknown_columns: refuse",
            "unseen_categories": "unseen_categories: refuse",
        },
    ),
    Section(
        path="deploy.workers",
        struct=Scale,
        about="In place of a number: the load decides; "
        "[how to](../how-to/roll-out-a-model.md#workers).",
        examples={"least": "least: 0", "most": "most: 4", "idle": "idle: 10 minutes"},
    ),
    Section(
        path="deploy.rollout",
        struct=Rollout,
        about="The first model of an endpoint takes over at once in any case; "
        "[how to](../how-to/roll-out-a-model.md).",
        examples={
            "kind": "kind: canary",
            "steps": "steps: [0.1, 0.5, 1.0]",
            "bake": "bake: 10 minutes",
            "requests": "requests: 500",
            "shadow": "shadow: {labelled: 500}",
            "alarms": "alarms: {error_rate: 0.01, latency_p99_ms: 50}",
        },
    ),
    Section(
        path="deploy.rollout.shadow",
        struct=ShadowPlan,
        about="Paired on the same requests, a few hundred labels show what a canary needs thousands "
        "for.",
        examples={
            "labelled": "labelled: 500",
            "margin": "margin: 0.01",
            "at_most": "at_most: 14 days",
        },
    ),
    Section(
        path="deploy.rollout.alarms",
        struct=Alarms,
        about="They are looked at by `loopwright run`, `loopwright monitor` and `loopwright rollout`.",
        examples={
            "error_rate": "error_rate: 0.01",
            "refusal_rate": "refusal_rate: 0.05",
            "latency_p99_ms": "latency_p99_ms: 50",
            "quality": "quality: false",
        },
    ),
    Section(
        path="monitor",
        struct=MonitorPlan,
        about="Every `loopwright run` looks at what came since the last one; `loopwright server` and "
        "`loopwright monitor --watch` look by themselves. `every` says how often: the fewer looks a "
        "year, the less evidence one alarm needs.",
        examples={
            "every": "every: 1 hour",
            "false_alarms_per_year": "false_alarms_per_year: 2",
            "window_rows": "window_rows: 250",
            "season": "season: hour",
            "segments": 'segments: [plan, "tenure < 12"]',
            "labels": "labels: {source: {kind: file, path: truth.csv}}",
            "alarms": "alarms: [{kind: log}, {kind: webhook, url: env:ALARM_URL}]",
        },
    ),
    Section(
        path="monitor.alarms[] (log)",
        struct=LogSink,
        about="See [be told of alarms](../how-to/be-told-of-alarms.md).",
        examples={"path": "path: /var/log/loopwright/alarms.jsonl"},
    ),
    Section(
        path="monitor.alarms[] (webhook)",
        struct=WebhookSink,
        about="A sink that is down is tried again, later and later, for a week; it never stops the loop.",
        examples={
            "url": "url: https://hooks.example.com/alarms",
            "body": "body: text",
            "secret": "secret: env:ALARM_SECRET",
            "token": "token: env:ALARM_TOKEN",
            "allow_private": "allow_private: true",
            "timeout": "timeout: 10 seconds",
        },
    ),
    Section(
        path="monitor.alarms[] (email)",
        struct=EmailSink,
        about="Every message has an id of its own, the same in every attempt.",
        examples={
            "to": "to: [ann@example.com, ben@example.com]",
            "server": "server: mail.example.com:587",
            "sender": "sender: loopwright@example.com",
            "security": "security: tls",
            "user": "user: loopwright",
            "password": "password: env:MAIL_PASSWORD",
            "timeout": "timeout: 30 seconds",
        },
    ),
    Section(
        path="monitor.alarms[] (command)",
        struct=CommandSink,
        about="It is done when the program ends with 0.",
        examples={"run": "run: [./page-me.sh, --urgent]", "timeout": "timeout: 1 minute"},
    ),
    Section(
        path="monitor.labels",
        struct=LabelPlan,
        about="See [send ground truth](../how-to/send-ground-truth.md). Labels sent by id or in a "
        "file need none of this.",
        examples={
            "source": "source: {kind: sql, url: env:CRM_URL, table: churned}",
            "key": "key: customer_id",
            "label": "label: churned",
            "at": "at: known_at",
            "lag": "lag: 2 days",
            "grace": "grace: 30 days",
            "most_unreadable": "most_unreadable: 0.1",
        },
    ),
    Section(
        path="retrain",
        struct=RetrainPlan,
        about="A round of the loop's own learns from the labelled live rows and replaces the model "
        "only by a better one.",
        examples={
            "when": "when: [criterion_missed, drift, {rows: 10000}]",
            "cooldown": "cooldown: 1 day",
            "bake": "bake: 14 days",
            "approve": "approve: manual",
            "min_rows": "min_rows: 500",
            "most": "most: {per_day: 2, per_week: 6}",
            "budget": "budget: {minutes: 600, per: 30 days}",
            "ask": "ask: [first_promotion, segment_harm]",
            "bad_data": "bad_data: wait",
            "windows": "windows: [all, recent, weighted]",
            "golden": "golden: certain-cases.parquet",
            "all_rows": "all_rows: false",
        },
    ),
    Section(
        path="retrain.when[] (rows)",
        struct=Occasion,
        about="Go round again when so many new labelled rows have come, or so much time has gone by.",
        examples={"rows": "rows: 10000", "growth": "growth: 0.2", "every": "every: 30 days"},
    ),
    Section(
        path="retrain.most",
        struct=RetrainLimits,
        about="The most rounds that a loop begins by itself.",
        examples={"per_day": "per_day: 2", "per_week": "per_week: 6"},
    ),
    Section(
        path="retrain.budget",
        struct=RetrainBudget,
        about="What the rounds of a loop's own may cost together; nothing means no limit.",
        examples={"minutes": "minutes: 600", "money": "money: 50", "per": "per: 30 days"},
    ),
)
