"""The same trainings in PyTorch, eager and compiled, from the same parameters on the same sentences."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.jax_steps import RATE, Case
from benchmarks.timing import NotRun, Training
from ttjax.params import flatten


def by_torch(case: Case, linear: str, *, compiled: bool = False, in_order: bool = False) -> Training:
    """A step is zero_grad, forward, backward and torch.optim.SGD with its foreach update, in float32.

    ``linear``: as in ``benchmarks.torch_model``. ``compiled``: torch.compile of the loss, forward and
    backward, for these very shapes. ``in_order``: torch.einsum goes through its operands from left to right,
    as it does where opt_einsum isn't installed, instead of asking that for a cheaper order at every call.

    Raises:
        NotRun: torch, tensorly-torch or what torch.compile needs is missing.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from torch.backends import opt_einsum  # pyright: ignore[reportMissingImports]
        from torch.nn.attention import SDPBackend, sdpa_kernel  # pyright: ignore[reportMissingImports]
        from torch.utils.flop_counter import FlopCounterMode  # pyright: ignore[reportMissingImports]

        from benchmarks.torch_model import TorchModel, load, tensors

        format = "dense" if linear == "dense" else "tt"
        model = TorchModel(case.config, linear)  # type: ignore[arg-type]
    except ImportError as error:
        raise NotRun(f"{error}: pip install -e '.[bench]'") from error
    load(model, flatten(case.params(case.config.replace(format=format))))
    pool = case.pool()
    batches = [tensors(type(pool)(*(field[i] for field in pool))) for i in range(case.steps)]
    # The fused attention isn't counted, the one made of products is.
    einsum = partial(opt_einsum.flags, enabled=not in_order)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), einsum():
        model.loss(*batches[0]).backward()
    loss = model.loss
    if compiled:
        # Else the ninth shape or model would silently run eagerly.
        torch._dynamo.config.recompile_limit = 256
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        loss = torch.compile(model.loss, dynamic=False)
        try:
            loss(*batches[0]).backward()
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise NotRun(f"torch.compile: {lines[0] if lines else type(error).__name__}") from error
    sgd = torch.optim.SGD(model.parameters(), RATE, foreach=True)

    def advance() -> np.ndarray:
        losses = []
        for batch in batches:
            sgd.zero_grad(set_to_none=True)
            with einsum():
                value = loss(*batch)
            value.backward()
            sgd.step()
            losses.append(value.detach())
        return torch.stack(losses).numpy()

    return Training(advance, counter.get_total_flops() // 2, case.same_as(format))
