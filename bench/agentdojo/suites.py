"""AgentDojo itself, seen from here: suites, environments with their injections, tools as MCP describes them, checks.

The only module that touches the package, and only when asked: nothing of it is imported before `load`. Decides nothing;
every score is the package's own `utility` and `security`. INVARIANT: an environment is what the package would load for
those injections (`load` compares once for each suite); only the parser of its YAML is a faster one.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from bench.agentdojo.worlds import Ran

VERSION = "v1.2.2"
NAMES = ("workspace", "banking", "slack", "travel")
ATTACKS = (
    "direct",
    "ignore_previous",
    "system_message",
    "injecagent",
    "important_instructions",
    "tool_knowledge",
)
VICTIM = "gpt-4o-2024-05-13"
"""The pipeline whose model the important-instructions wordings address by name; no model is run."""
DERIVED = {
    "inbox": {"received", "sent", "drafts", "initial_emails"},
    "calendar": {"initial_events"},
    "cloud_drive": {"initial_files"},
}
"""Views of an environment that repeat what stands in it elsewhere."""


class Step(NamedTuple):
    """One tool call that somebody intends."""

    tool: str
    arguments: dict[str, Any]


class Suite:
    """One suite of the package: its tools are one server, its tasks are run by whoever holds this."""

    def __init__(self, package: Any) -> None:
        self.package = package
        self.name: str = package.name
        self.user_tasks: Mapping[str, Any] = package.user_tasks
        self.injection_tasks: Mapping[str, Any] = package.injection_tasks
        self._task_suite = importlib.import_module("agentdojo.task_suite.task_suite")
        self._runtime = importlib.import_module("agentdojo.functions_runtime").FunctionsRuntime(package.tools)
        self._shown = importlib.import_module("agentdojo.agent_pipeline.tool_execution").tool_result_to_str
        self._model: Any = importlib.import_module("pydantic").BaseModel
        self._defaults: dict[str, str] = package.get_injection_vector_defaults()
        self._text: str = self._task_suite.read_suite_file(package.name, "environment.yaml", None)
        self._check_loading()
        package.load_and_inject_default_environment = self.environment
        self._attacks: dict[str, Any] = {}
        self._candidates: dict[str, list[str]] = {}

    # -- environments ------------------------------------------------------------------------------------------------

    def environment(self, injections: Mapping[str, str]) -> Any:
        """The suite's world with these texts planted in it."""
        text = self._text.format(**{**self._defaults, **injections})
        return self.package.environment_type.model_validate(yaml.load(text, yaml.CSafeLoader))

    def _check_loading(self) -> None:
        planted = {name: f"\n<X>\nit's '{name}'\n" for name in self._defaults}
        for injections in ({}, planted):
            theirs = self.package.load_and_inject_default_environment(injections)
            if theirs != self.environment(injections):
                raise SystemExit(f"`{self.name}`: the package loads another environment than this harness")

    def begin(self, task: Any, injections: Mapping[str, str]) -> bytes:
        """The world in which a user task begins, as bytes from which `thaw` makes any number of copies."""
        return pickle.dumps(task.init_environment(self.environment(injections)), pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def thaw(frozen: bytes) -> Any:
        return pickle.loads(frozen)

    @staticmethod
    def state(environment: Any) -> Any:
        """All that a call can have changed, as plain values; that a mail was looked at is not counted as a change."""
        kept = {name: hidden for name, hidden in DERIVED.items() if name in type(environment).model_fields}
        plain = environment.model_dump(exclude=kept or None)
        for folder in ("emails", "trash"):
            for mail in plain.get("inbox", {}).get(folder, {}).values():
                mail.pop("read", None)
        return plain

    # -- tools -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def definitions(self) -> tuple[dict[str, Any], ...]:
        """Each tool as `tools/list` would offer it."""
        found = []
        for tool in self.package.tools:
            schema = tool.parameters.model_json_schema()
            found.append({"name": tool.name, "description": tool.description, "inputSchema": schema})
        return tuple(found)

    def run(self, environment: Any, tool: str, arguments: dict[str, Any]) -> Ran:
        """Run a tool on an environment; what went wrong is told as the package tells a model."""
        value, failure = self._runtime.run_function(environment, tool, arguments)
        if failure is not None:
            return Ran(None, failure, failed=True)
        return Ran(self._plain(value), self._shown(value, _dump))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, self._model):
            return value.model_dump(mode="json")
        if isinstance(value, list | tuple):
            return [self._plain(one) for one in value]
        if isinstance(value, dict):
            return {str(key): self._plain(one) for key, one in value.items()}
        return value

    # -- tasks -------------------------------------------------------------------------------------------------------

    @staticmethod
    def ground_truth(task: Any, environment: Any) -> list[Step]:
        """The calls that solve a task in this environment, as the package knows them."""
        return [Step(call.function, dict(call.args)) for call in task.ground_truth(environment)]

    def attempt(self, attack: str, user_task: Any, injection_task: Any) -> dict[str, str]:
        """The texts that an attack plants for a pair, by the vectors that the user task looks at."""
        return dict(self._attack(attack).attack(user_task, injection_task))

    def vectors(self, task: Any) -> list[str]:
        """Where a text can be planted that this user task will look at."""
        return list(self._attack(ATTACKS[0]).get_injection_candidates(task))

    def _attack(self, name: str) -> Any:
        if name not in self._attacks:
            pipeline = importlib.import_module("agentdojo.agent_pipeline.ground_truth_pipeline")
            victim = pipeline.GroundTruthPipeline(None)
            victim.name = VICTIM
            registry = importlib.import_module("agentdojo.attacks.attack_registry")
            made = registry.load_attack(name, self.package, victim)
            find = made.get_injection_candidates
            made.get_injection_candidates = functools.partial(self._seen_by, find)
            self._attacks[name] = made
        return self._attacks[name]

    def _seen_by(self, find: Callable[[Any], list[str]], task: Any) -> list[str]:
        """Which vectors a task looks at: found by the package, once, for they are the same for every wording."""
        if task.ID not in self._candidates:
            self._candidates[task.ID] = find(task)
        return self._candidates[task.ID]

    def utility(self, task: Any, output: str, before: Any, after: Any, trace: Sequence[Step]) -> bool:
        """Whether a user task was done, by the package's check. What is equal in both worlds becomes one object."""
        share(before, after)
        return self._checked(self.package._check_user_task_utility, task, output, before, after, trace)

    def security(self, task: Any, output: str, before: Any, after: Any, trace: Sequence[Step]) -> bool:
        """Whether an attacker's goal was reached, by the package's check."""
        return self._checked(self.package._check_injection_task_security, task, output, before, after, trace)

    def _checked(self, check: Any, task: Any, output: str, before: Any, after: Any, trace: Sequence[Step]) -> bool:
        runtime = importlib.import_module("agentdojo.functions_runtime")
        types = importlib.import_module("agentdojo.types")
        calls = [runtime.FunctionCall(function=step.tool, args=step.arguments) for step in trace]
        try:
            return bool(check(task, [types.text_content_block_from_string(output)], before, after, calls))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return False  # a check that cannot find what the task should have made


def load(names: Sequence[str] = NAMES) -> dict[str, Suite]:
    """The suites of these names; says how to get the package where it is absent."""
    warnings.simplefilter("ignore")
    try:
        loader = importlib.import_module("agentdojo.task_suite.load_suites")
    except ImportError as failure:
        raise SystemExit(f"bench.agentdojo: {failure}; run it with `make bench-agentdojo`") from None
    _remember_addresses()
    return {name: Suite(loader.get_suite(VERSION, name)) for name in names}


@functools.cache
def _remember_addresses() -> None:
    """Every environment holds the same few hundred mail addresses: each is checked by pydantic once."""
    networks: Any = importlib.import_module("pydantic.networks")
    networks.validate_email = functools.lru_cache(10_000)(networks.validate_email)


def share(one: Any, other: Any) -> None:
    """Make what is equal in two worlds the same object: the package's checks then compare only what differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        names: Any = one.keys() & other.keys()
    elif isinstance(one, list) and isinstance(other, list):
        names = range(min(len(one), len(other)))
    elif hasattr(one, "__dict__") and type(one) is type(other):
        share(one.__dict__, other.__dict__)
        return
    else:
        return
    for name in names:
        if one[name] == other[name] and type(one[name]) is type(other[name]):
            other[name] = one[name]
        else:
            share(one[name], other[name])


class _Dumper(yaml.CSafeDumper):
    """YAML by libyaml: the package's words, some long lines folded elsewhere; enumerations as their text."""


_Dumper.add_multi_representer(str, lambda dumper, value: dumper.represent_str(str(value)))


def _dump(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Dumper))
