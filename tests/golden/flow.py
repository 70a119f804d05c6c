"""Golden adapters of sheets 00, 48 and 57: steps of samplers, their log-probabilities, advantages and losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.advantages import centre, chain, clip, scale
from steelyard.learn.noise import calibrate, within_count
from steelyard.learn.objectives import clipped
from steelyard.learn.step_advantages import against_past, best_and_worst, best_only, per_step, scale_overall
from steelyard.policies import kernels
from steelyard.policies.kernels import Kernel
from steelyard.rewards.denoising import gains
from steelyard.types import Advantages, Rollouts, Sample, Scores

Inputs = Mapping[str, Any]


def flow_grpo(name: str, inputs: Inputs) -> dict[str, Any]:
    """Schedules, steps, advantages and losses of Flow-GRPO."""
    if "num_steps" in inputs:
        schedule = kernels.shifted_sigmas(
            inputs["num_steps"], shift=inputs["shift"], train_steps=inputs["num_train_timesteps"]
        )
        return {"sigmas": schedule.tolist()}
    if "step_index" in inputs:
        return _sde(inputs)
    if "sigma_prev" in inputs:
        return _cps(inputs)
    if "kind" in inputs:
        return {"advantages": _labels(inputs).tolist()}
    return _loss(inputs)


def _tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _moved(kernel: Kernel, index: int, x: Any, v: Any, noise: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    state = _tensor(x)
    step = torch.full((len(state),), index)
    mean = kernel.mean(state, _tensor(v), step)
    return mean, mean + float(kernel.noise[index]) * _tensor(noise), step


def _sde(inputs: Inputs) -> dict[str, Any]:
    index, sigmas = inputs["step_index"], inputs["sigmas"]
    kernel = kernels.sde(sigmas, inputs["noise_level"])
    mean, following, step = _moved(kernel, index, *(inputs[key] for key in ("x", "v", "noise")))
    logprob = kernel.logprob(following, mean, step).tolist()
    return {
        "prev_mean": mean.tolist(),
        "std_dev_t": [float(kernels.sde_levels(sigmas, inputs["noise_level"])[index])],
        "step_std": [float(kernel.noise[index])],
        "prev_sample": following.tolist(),
        "log_prob": logprob,
        "log_prob_recomputed": kernel.logprob(following.clone(), mean, step).tolist(),
    }


def _cps(inputs: Inputs) -> dict[str, Any]:
    kernel = kernels.cps([inputs["sigma"], inputs["sigma_prev"]], inputs["noise_level"])
    mean, following, step = _moved(kernel, 0, *(inputs[key] for key in ("x", "v", "noise")))
    return {
        "prev_mean": mean.tolist(),
        "std": [float(kernel.noise[0])],
        "prev_sample": following.tolist(),
        "log_prob_unnormalised": kernel.logprob(following, mean, step).tolist(),
    }


def _rollouts(prompts: list[str]) -> Rollouts:
    samples = {prompt: Sample(prompt, prompt) for prompt in prompts}
    order = {prompt: i for i, prompt in enumerate(samples)}
    return Rollouts([samples[p] for p in prompts], [""] * len(prompts), group=np.asarray([order[p] for p in prompts]))


def _labels(inputs: Inputs) -> np.ndarray:
    rewards, rollouts = np.asarray(inputs["rewards"], np.float32), _rollouts(inputs["prompts"])
    scaled = scale_overall() if inputs["global_std"] else scale(ddof=0)
    links = {"grpo": chain(centre(), scaled), "dpo": best_and_worst(), "sft": best_only(), "rwr": chain()}
    return links[inputs["kind"]](Advantages(rewards), rollouts, Scores(rewards)).values


def _clipped_advantages(values: list[float], limit: float) -> torch.Tensor:
    rewards = np.asarray(values, np.float32)
    laid = clip(limit)(Advantages(rewards), _rollouts([""] * len(rewards)), Scores(rewards)).values
    return torch.tensor(laid, dtype=torch.float64)


def _loss(inputs: Inputs) -> dict[str, Any]:
    logprobs = torch.tensor(inputs["log_prob"], dtype=torch.float64, requires_grad=True)
    old = torch.tensor(inputs["old_log_prob"], dtype=torch.float64)
    divergence = _divergence(inputs) if "prev_mean" in inputs else None
    beta = inputs["beta"] if divergence is not None else 0.0
    advantages = _clipped_advantages(inputs["advantage"], inputs["adv_clip_max"])
    policy = clipped(epsilon=inputs["clip_range"])(logprobs, old, None, advantages)
    whole = clipped(epsilon=inputs["clip_range"], kl=beta, estimator="exact")(logprobs, old, divergence, advantages)
    found: dict[str, Any] = {
        "policy_loss": float(policy.loss.detach().mean()),
        "loss": float(whole.loss.detach().mean()),
        "ratio": policy.metrics["ratio"].tolist(),
        "grad_log_prob": torch.autograd.grad(whole.loss.mean(), logprobs)[0].tolist(),
    }
    return found | ({} if divergence is None else {"kl_loss": float(divergence.mean())})


def _divergence(inputs: Inputs) -> torch.Tensor:
    """The released KL term: differences of means in the noise level, not in the step's deviation."""
    std = np.asarray(inputs["std_dev_t"], np.float64).reshape(-1)
    one = np.ones(len(std))
    kernel = Kernel(one, one, one, std, one, one, 0.5 / std**2)
    means = (torch.tensor(inputs[key], dtype=torch.float64) for key in ("prev_mean", "prev_mean_ref"))
    return kernel.kl(*means, torch.arange(len(std)))


def densegrpo(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dense rewards and advantages, calibration, a step with a free noise level, completions."""
    return {
        "dense_advantages": _dense,
        "calibrate": _calibrate,
        "sde_step_psi": _psi_step,
        "ode_rollout_linear": _completion,
    }[inputs["op"]](inputs)


def _dense(inputs: Inputs) -> dict[str, Any]:
    dense = gains(np.asarray(inputs["latent_rewards"]))
    groups = inputs.get("groups") or [0] * len(dense)
    rollouts = _rollouts([str(group) for group in groups])
    scores = Scores(np.zeros(len(dense)), steps=dense)
    link = per_step(centre(), scale(ddof=0, epsilon=inputs["eps"]))
    found = link(Advantages(np.zeros(len(dense))), rollouts, scores)
    return {
        "dense_rewards": dense.tolist(),
        "advantages": found.values.tolist(),
        "sum_of_dense": dense.sum(axis=1).tolist(),
    }


def _calibrate(inputs: Inputs) -> dict[str, Any]:
    found = calibrate(
        inputs["psi"],
        np.asarray(inputs["dense_rewards"]),
        balanced=within_count(inputs["eps1"]),
        by=inputs["eps2"],
    )
    return {"positive": found.gains.tolist(), "negative": found.losses.tolist(), "psi": found.levels.tolist()}


def _psi_step(inputs: Inputs) -> dict[str, Any]:
    index, steps = inputs["index"], len(inputs["sigmas"]) - 1
    kernel = kernels.sde(inputs["sigmas"], np.full(steps, inputs["psi"]))
    mean, following, _ = _moved(kernel, index, [inputs["x"]], [inputs["v"]], [inputs["noise"]])
    noise = float(kernel.noise[index])
    return {"mean": mean[0].tolist(), "noise_std": noise, "next_x": following[0].tolist()}


def _completion(inputs: Inputs) -> dict[str, Any]:
    points = kernels.completion_grid(inputs["start"], len(inputs["sigmas"]) - 1, inputs["n_steps"])
    matrix, shift = torch.tensor(inputs["A"], dtype=torch.float64), torch.tensor(inputs["b"], dtype=torch.float64)
    x = torch.tensor([inputs["x"]], dtype=torch.float64)
    end = kernels.complete(lambda state, time: state @ matrix.T + shift, x, inputs["sigmas"], points)
    return {"indices": points, "clean": end[0].tolist()}


def rlcm(name: str, inputs: Inputs) -> dict[str, Any]:
    """Timesteps, a consistency step, running statistics, the loss."""
    return {
        "timesteps": _timesteps,
        "consistency_step": _consistency_step,
        "per_prompt_advantages": _past,
        "ppo_loss": _ppo,
    }[inputs["op"]](inputs)


def _timesteps(inputs: Inputs) -> dict[str, Any]:
    found = kernels.lcm_timesteps(inputs["horizon"], origin_steps=inputs["origin_steps"], train_steps=inputs["T"])
    return {"timesteps": found.tolist()}


def _consistency_step(inputs: Inputs) -> dict[str, Any]:
    times, options = np.asarray([inputs["t"]]), {"sigma_data": inputs["sigma_data"]}
    options["scaling"] = inputs["timestep_scaling"]
    kernel = kernels.lcm_step(np.asarray([inputs["alpha_bar_t"]]), [inputs["alpha_bar_next"]], times, **options)
    x, eps, following = (torch.tensor(inputs[key], dtype=torch.float64) for key in ("x", "eps_pred", "next_x"))
    skip, out = kernels.boundary(times, **options)
    state, output = kernels.lcm_denoised(np.asarray([inputs["alpha_bar_t"]]), times, **options)
    step = torch.zeros(len(x), dtype=torch.long)
    mean = kernel.mean(x, eps, step)
    return {
        "c_skip": float(skip[0]),
        "c_out": float(out[0]),
        "denoised": (state[0] * x + output[0] * eps).tolist(),
        "policy_mean": mean.tolist(),
        "policy_std": float(kernel.noise[0]),
        "log_prob_mean": kernel.logprob(following, mean, step).tolist(),
    }


def _past(inputs: Inputs) -> dict[str, Any]:
    link = against_past(buffer=inputs["buffer"], least=inputs["min_count"])
    rounds = []
    for prompts, values in inputs["rounds"]:
        rewards = np.asarray(values, np.float32)
        rounds.append(link(Advantages(rewards), _rollouts(prompts), Scores(rewards)).values.tolist())
    return {"advantages": rounds}


def _ppo(inputs: Inputs) -> dict[str, Any]:
    renamed = {**inputs, "advantage": inputs["advantages"], "clip_range": inputs["clip"], "beta": 0.0}
    found = _loss(renamed)
    return {"loss": found["loss"], "grad_log_prob": found["grad_log_prob"]}
