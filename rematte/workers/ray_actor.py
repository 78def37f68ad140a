"""The Ray actor of a batch: a process that holds the model and converts for others."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from rematte.engines.device import choose_device
from rematte.engines.runtimes import import_ray
from rematte.options import Options
from rematte.prefetch import share_heap
from rematte.resume import LEAD_IN
from rematte.resume.join import join
from rematte.resume.plan import Segment, Work, prepare
from rematte.resume.run import SegmentConverter
from rematte.version import __version__
from rematte.workers.jobs import clear, convert_job, finish, recorded
from rematte.workers.planning import Job

# A job with what is recorded in it, and its segments if they have been planned.
Result: TypeAlias = tuple[Job, Work | None]


class Worker:
    """Holds the model and converts files or segments.

    The device that `load` gets is chosen in the actor. Relative paths start from
    `folder`, if it exists there; the temporary folder's name begins with `scratch`.

    Of each method, `is_new` is whether a job had no outputs before the first attempt,
    and `retry` whether an earlier attempt was lost.
    """

    def __init__(
        self,
        load: Callable[[str], Any],
        options: Options,
        threads: int,
        folder: str,
        scratch: str,
    ) -> None:
        share_heap()
        os.environ["OMP_NUM_THREADS"] = str(threads)
        with suppress(OSError):  # a folder of another machine
            os.chdir(folder)
        self._load_model, self._options = load, options
        self._model: Any = None
        self._converter: tuple[Path, SegmentConverter] | None = None
        # All temporary files go there, so that they can be found after a kill.
        actor = import_ray().get_runtime_context().get_actor_id()
        own = Path(tempfile.gettempdir(), f"{scratch}{actor}")
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        tempfile.tempdir = str(own)

    def version(self) -> str:
        """Return the version of this package on the actor's machine."""
        return __version__

    def convert(self, job: Job, is_new: bool, *, retry: bool) -> Result:
        """Convert a file."""
        options = self._load(job, is_new, retry)
        return convert_job(self._model, job, options), None

    def plan(self, job: Job, is_new: bool, *, retry: bool) -> Result:
        """Cut a file into segments."""
        options = self._load(job, is_new, retry)
        work = None
        with recorded(job):
            work = self._prepare(job, options, retry or not options.overwrite)
        return job, work

    def segment(self, job: Job, work: Work, segment: Segment, *, retry: bool) -> Result:
        """Convert a segment."""
        self._load(job, False, retry)
        with recorded(job):
            self._convert_segment(work, segment)
        return job, None

    def join(self, job: Job, is_new: bool, work: Work, *, retry: bool) -> Result:
        """Join all segments of a file."""
        options = self._load(job, is_new, retry)
        with recorded(job):
            if retry:  # the first attempt may have deleted the segments already
                work = self._prepare(job, options, True)
                for segment in work.missing():
                    self._convert_segment(work, segment)
            report = join(work)
            finish(job, report)
            seams = [mean for _, mean, _ in report.seams]
            if seams:
                job.notes.append(
                    f"{report.segments} segments; at the worst seam alpha differs by "
                    f"{max(seams):.2f}/255 on average"
                )
        return job, None

    def _load(self, job: Job, is_new: bool, retry: bool) -> Options:
        """Load the model, once, and give the options for a job.

        Errors of weights are not recorded in a job. Where an earlier attempt was lost,
        its outputs may be there already, complete, and are replaced.
        """
        if self._model is None:
            device, _ = choose_device(str(self._options.device or "auto"))
            self._options = replace(self._options, device=device)
            self._model = self._load_model(device)
        if retry:
            clear(job)
        overwrite = self._options.overwrite or (retry and is_new)
        return replace(self._options, overwrite=overwrite)

    def _prepare(self, job: Job, options: Options, resume: bool) -> Work:
        for path in job.outputs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        paths: dict[str, Any] = {
            kind if kind == "output" else f"output_{kind}": path
            for kind, path in job.outputs.items()
        }
        return prepare(
            self._model, job.input, resume=resume, lead_in=LEAD_IN, **paths,
            **options.given() | {"overwrite": options.overwrite},
        )  # fmt: skip

    def _convert_segment(self, work: Work, segment: Segment) -> None:
        if self._converter is None or self._converter[0] != work.folder:
            self._converter = work.folder, SegmentConverter(self._model, work)
        self._converter[1](segment)
