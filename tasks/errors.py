"""What can go wrong with a job, in words fit for a client.

JobError
├── InvalidJob
│   ├── UnknownModel          there is no such model here
│   ├── ModelUnusable         the package is there, but it cannot be run; the message says why
│   ├── ContextTooLong        prompt plus answer exceed the model's context
│   ├── Unsupported           a value this server or this model cannot honour
│   ├── SizeUnsupported       a picture size the package has no graph for
│   └── PictureUnreadable     a picture that came with the job cannot be decoded
├── Busy                      the queue is full; retry after ``retry_after_s``
│   └── TooLate              its answer would come after the client has given up
├── NotReady                  the server is still starting, or its broker cannot take work now
├── IdempotencyConflict       the same key came with another body
├── DeadlineExceeded          the job's deadline passed before it ended
├── WorkerLost                the job's process died under it more often than allowed
└── EngineError
    ├── LoadFailed            the model could not be put on the card
    ├── CardUnavailable       the card is lost or does not answer
    ├── DiskFull              a file could not be written: no room is left in the data directory
    └── Internal              a bug of ours; ``message`` carries an id to grep the log for

Interrupt(BaseException)      beyond the reach of ``except Exception``
├── Shutdown                  the process was told to stop
│   ├── TooHot                the card is to be emptied at once
│   └── CardGone              the card was lost under the job
└── QueueAway                 Redis has not answered for longer than a job may wait for it
"""

from __future__ import annotations


class JobError(Exception):
    """Root of everything that ends or refuses a job.

    ``code`` is for programs and stable, ``message`` for people; ``param`` names the field at fault.
    """

    code = "job_error"
    retryable = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidJob(JobError):
    code = "invalid_request"


class UnknownModel(InvalidJob):
    code = "model_not_found"


class ModelUnusable(InvalidJob):
    code = "model_unusable"


class ContextTooLong(InvalidJob):
    code = "context_length_exceeded"


class Unsupported(InvalidJob):
    code = "unsupported_value"


class SizeUnsupported(InvalidJob):
    code = "size_unsupported"


class PictureUnreadable(InvalidJob):
    code = "invalid_image"


class Busy(JobError):
    """The queue is full. ``retry_after_s`` is a whole number of seconds, 1 to 120."""

    code = "queue_full"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLate(Busy):
    """So much waits that the answer would come after the client has given up."""

    code = "would_time_out"


class NotReady(JobError):
    code = "starting"
    retryable = True


class IdempotencyConflict(JobError):
    code = "idempotency_conflict"


class DeadlineExceeded(JobError):
    code = "deadline_exceeded"


class WorkerLost(JobError):
    code = "worker_lost"
    retryable = True


class EngineError(JobError):
    code = "engine_error"
    retryable = True


class LoadFailed(EngineError):
    code = "load_failed"


class CardUnavailable(EngineError):
    code = "card_unavailable"


class DiskFull(EngineError):
    code = "disk_full"


class Internal(EngineError):
    code = "internal_error"


class Interrupt(BaseException):
    """Asks the code that runs a job to leave it, without being an error."""


class Shutdown(Interrupt):
    """The process was told to stop: the job goes back to the queue, unharmed and without a strike.

    ``reason`` is what its journal says of that.
    """

    reason = "shutdown"


class TooHot(Shutdown):
    """The card is so hot that its models are unloaded: the job waits in the queue until it has cooled."""

    reason = "too_hot"


class CardGone(Shutdown):
    """The card was lost under the job, which waits in the queue for it to come back."""

    reason = "card_lost"


class QueueAway(Interrupt):
    """Redis has not answered for longer than allowed: the job goes back to the queue without a strike."""
