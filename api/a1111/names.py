"""The names that clients of the web UI send for things of which this server has one kind, or none.

Source: AUTOMATIC1111/stable-diffusion-webui 1.10, modules/sd_samplers*.py and sd_schedulers.py;
lllyasviel/stable-diffusion-webui-forge for the rest.
"""

from __future__ import annotations

import re

SAMPLER = "LCM"
SCHEDULER = "Automatic"

_SAMPLERS = """
DPM++ 2M | DPM++ SDE | DPM++ 2M SDE | DPM++ 2M SDE Heun | DPM++ 2S a | DPM++ 3M SDE | Euler a | Euler | LMS
Heun | DPM2 | DPM2 a | DPM fast | DPM adaptive | Restart | DDIM | DDIM CFG++ | PLMS | UniPC | LCM | DDPM
IPNDM | IPNDM_V | DEIS | HeunPP2 | ER SDE | k_euler_a | k_euler_ancestral | k_lms | k_heun | k_euler
k_dpm_2 | k_dpm_2_a
k_dpm_2_ancestral | k_dpmpp_2s_a | k_dpmpp_2m | k_dpmpp_sde | k_dpmpp_2m_sde | k_dpmpp_2m_sde_heun
k_dpmpp_3m_sde | k_dpm_fast | k_dpm_ad | k_dpm_adaptive | k_lcm | restart
"""
_SCHEDULERS = """
automatic | uniform | karras | exponential | polyexponential | sgm_uniform | kl_optimal | align_your_steps
simple | normal | ddim | ddim_uniform | beta | turbo | linear | align_your_steps_GITS | align_your_steps_11
align_your_steps_32
"""


def _plain(name: str) -> str:
    """``SGM Uniform`` and ``sgm_uniform`` are one name."""
    return re.sub(r"[\s_]+", " ", name).strip().lower()


def _names(table: str) -> frozenset[str]:
    return frozenset(_plain(name) for line in table.splitlines() for name in line.split("|") if name.strip())


KNOWN_SAMPLERS, KNOWN_SCHEDULERS = _names(_SAMPLERS), _names(_SCHEDULERS)
_WITH_SCHEDULE = re.compile(r" (karras|exponential|polyexponential)$")
"""Before version 1.9 a sampler's name told its schedule as well: ``DPM++ 2M Karras``."""


def is_sampler(name: str) -> bool:
    """Whether the web UI knows a sampler of this name."""
    return _WITH_SCHEDULE.sub("", _plain(name)) in KNOWN_SAMPLERS


def is_scheduler(name: str) -> bool:
    return _plain(name) in KNOWN_SCHEDULERS


def is_ours(name: str) -> bool:
    """Whether this is the sampler, or the schedule, that every picture here is drawn with."""
    return _plain(name) in ("lcm", "k lcm", "automatic")
