"""What verl loads through its `verl.plugins` entry point, in every process that imports verl.

verl swallows an exception raised here (verl/__init__.py, logged at DEBUG); the run then stops much
later with "Unknown trainer 'care'". `python -m verl_care.doctor` imports this module unswallowed.

Importing verl's trainer takes seconds, and most processes that import verl never train. So nothing
of it is imported here: each registration waits for the verl module that holds the registry.
A registration that raises then fails the import of that module: loudly, and where it is needed.
"""

import importlib

import wrapt

import verl_care.compat
import verl_care.platforms

# The module of verl whose import fills a registry -> our module that adds to it. Ours are named, not
# imported by `from ... import`: inside a plug-in that can meet a half-imported module, and every
# registration after it would be lost. For the same reason ours import at their end what stands on them: whoever imports
# one of them before verl has it half-imported when the plug-in comes.
REGISTRATIONS = {
    "verl.trainer.ppo.core_algos": "verl_care.estimator",
    "verl.trainer.ppo.v1": "verl_care.trainer",
    "verl.experimental.reward_loop.reward_manager": "verl_care.rewards.manager",
    "verl.experimental.agent_loop": "verl_care.agent_loop",
    "verl.workers.engine.fsdp": "verl_care.packing.registration",
}


def _register_after_import(verl_module: str, our_module: str) -> None:
    wrapt.register_post_import_hook(lambda _module: importlib.import_module(our_module), verl_module)


verl_care.platforms.choose()
verl_care.compat.apply()
for _verl_module, _our_module in REGISTRATIONS.items():
    _register_after_import(_verl_module, _our_module)
