"""A library's process: makes a case, gives its values, and then its turns."""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "tests")]

import numpy as np  # noqa: E402

SLICE = 0.004  # seconds of one turn
REST = 0.002  # seconds between two looks at whether threads still run
DTYPE = "float32"


def rest() -> None:
    """Waits until no thread of this process runs: OpenMP's spin for milliseconds after a loop, on the other's cores."""
    deadline = time.perf_counter() + 0.25
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(REST)
        if time.process_time() - before < REST / 10:
            return


def turn(call: Any) -> float:
    """Seconds a call, over one turn; threads that slept through the other library's turn are woken first.

    Between two looks at the clock stand as many calls as last a quarter of a turn: the clock would be a part of a
    tiny op's time.
    """
    calls, waking = 0, time.perf_counter()
    while (passed := time.perf_counter() - waking) < SLICE / 2:
        call()
        calls += 1
    some = max(1, int(calls * SLICE / 4 / passed))
    done, start = 0, time.perf_counter()
    while True:
        for _ in itertools.repeat(None, some):
            call()
        done += some
        passed = time.perf_counter() - start
        if passed > SLICE:
            return passed / done


def module_of(library: str) -> Any:
    """What is imported for a library's cases."""
    return __import__("glassgrad" if library == "glassgrad" else "torch")


def op_job(case: Any, library: str, module: Any) -> Any:
    """The job of a case that is one call on inputs."""
    import cases
    import op_table as table
    from steps import Job

    make = table.torch_tensor if library == "torch" else table.tensor
    sample = case.inputs(table.Random(0))
    sample = table.arguments(sample, DTYPE, make, module)
    function = case.function(module)
    forward = functools.partial(function, *sample.args, **sample.kwargs)
    inputs = table.floating_inputs(sample, case.wrt) if case.what != cases.FORWARD else []
    for x in inputs:
        x.requires_grad_(True)

    def outputs(result: Any) -> list[Any]:
        return [y for y in table.flatten(result) if table.is_floating(y) and y.requires_grad]

    first = forward()
    call = forward
    if case.what == cases.BACKWARD:
        random = table.Random(1)  # not the stream that made the inputs: some gradients vanish along them
        cotangents = [make(random.normal(*y.shape), DTYPE) for y in outputs(first)]

        def call() -> None:
            result = forward()
            for x in inputs:
                x.grad = None
            module.autograd.backward(outputs(result), cotangents)

    def check() -> list[Any]:
        found = [table.as_numpy(y) for y in table.flatten(forward())]
        if case.what == cases.BACKWARD:
            call()
            found += [table.as_numpy(x.grad) for x in inputs]
        return found

    read = sum(tensor_bytes(x) for x in table.flatten([*sample.args, *sample.kwargs.values()]))
    written = sum(tensor_bytes(y) for y in table.flatten(first))
    gradients = sum(tensor_bytes(x) for x in inputs) if case.what == cases.BACKWARD else 0.0
    live = read + written + gradients
    again = read  # by backward
    if case.lookup:  # the indices, and of the table only what they name
        again = sum(tensor_bytes(x) for x in table.flatten([*sample.args]) if not table.is_floating(x))
        read = again + written
    if shares_memory(first, sample, table):
        return Job(call, check, live=live)
    backward = written + again + gradients if gradients else 0.0  # reads the cotangents, writes each gradient once
    return Job(call, check, moved=read + written + backward, live=live)


def tensor_bytes(t: Any) -> float:
    """The bytes of a tensor's elements; 0 for other things."""
    return float(t.numel() * t.element_size()) if hasattr(t, "element_size") else 0.0


def shares_memory(result: Any, sample: Any, table: Any) -> bool:
    """Whether the result is a view of an input, so that nothing need move."""
    addresses = {t.data_ptr() for t in table.flatten([*sample.args]) if hasattr(t, "data_ptr") and t.numel()}
    return any(y.data_ptr() in addresses for y in table.flatten(result) if hasattr(y, "data_ptr"))


def numpy_job(case: Any) -> Any:
    """The numpy reference of a row, in float32."""
    import op_table as table
    from cases import FORWARD
    from steps import Job, NoCounterpart

    if case.reference is None or case.what != FORWARD:
        raise NoCounterpart("no numpy reference of this case")
    sample = case.inputs(table.Random(0)).map(lambda a: table.cast(a, DTYPE))
    call = functools.partial(case.reference, *sample.args, **sample.kwargs)
    return Job(call, lambda: [np.asarray(y) for y in table.flatten(call())])


def make_job(key: str, library: str, known: dict[str, Any]) -> Any:
    """A library's job for the case of this key."""
    case = known[key]
    if library == "numpy":
        return numpy_job(case)
    module = module_of(library)
    if case.build is None:
        return op_job(case, library, module)
    return case.build(module, compile=True) if library == "torch.compile" else case.build(module)


def count_operations(call: Any) -> float:
    """The operations of the products and convolutions in a call of PyTorch's, as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def begin(library: str, threads: int) -> dict[str, Any]:
    """Sets the threads and gathers the cases."""
    import cases

    if library != "numpy":
        module_of(library).set_num_threads(threads)
    return {case.key: case for case in cases.all_cases()}


def work(library: str, threads: int, pipe: Any) -> None:
    """Answers until None: ("make", key) with (values, bytes moved and touched, operations), "turn" with seconds."""
    from steps import NoCounterpart

    try:
        known = begin(library, threads)
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
        return
    pipe.send("ready")
    job: Any = None
    while (message := pipe.recv()) is not None:
        try:
            if message == "turn":
                answer: Any = turn(job.call)
            else:
                job = None
                job = make_job(message[1], library, known)
                values = job.check()
                for _ in range(3):
                    job.call()
                counted = library == "torch" and known[message[1]].family == "step"
                answer = (values, job.moved, job.live, count_operations(job.call) if counted else 0.0)
            rest()
            pipe.send(answer)
        except NotImplementedError as error:  # the library's own as well
            pipe.send(NoCounterpart(str(error)))
        except Exception as error:
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def status(name: str) -> int:
    """A figure of /proc/self/status in bytes, such as VmHWM: the peak of the memory in use."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def peak_memory(key: str, library: str, threads: int, pipe: Any) -> None:
    """In a fresh process: the memory that three steps of a case add to the library's own.

    A tiny model is trained first, so that what a library loads at first use is not the case's, and freed memory goes
    back to the system, so that the case's is not hidden in it.
    """
    try:
        known = begin(library, threads)
        import steps

        module = module_of(library)
        for _ in range(3):
            steps.classifier(steps.tiny, (2, 1, 8, 8), module).call()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
        before = status("VmRSS")
        job = make_job(key, library, known)
        for _ in range(3):
            job.call()
        used = status("VmHWM") - before
        if used < job.live:
            raise RuntimeError(f"peak memory of {used} bytes, parameters and Adam's states alone take {job.live:.0f}")
        pipe.send(used)
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
