"""An error keeps its message, its payload and its exit code on the way from another process."""

from __future__ import annotations

import pytest

from stormcast_train.base.errors import (
    FailedError,
    NonFiniteError,
    RequestError,
    StoppedError,
    StormcastError,
    UnreadableError,
    from_report,
    nearest,
    to_report,
)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (FailedError("no disk", path="/a"), FailedError, 1),
        (NonFiniteError("loss", samples=[3, 4]), FailedError, 1),
        (RequestError("a wrong key", key="k"), RequestError, 2),
        (UnreadableError("it is cut", path="a.nc"), RequestError, 2),
        (StoppedError("stopped"), StoppedError, 75),
    ],
)
def test_an_error_of_another_process_is_the_same_error_here(
    error: StormcastError, kind: type[StormcastError], code: int
) -> None:
    again = from_report(to_report(error))
    assert type(again) is kind
    assert (str(again), again.facts, again.exit_code, error.exit_code) == (
        str(error),
        error.facts,
        code,
        code,
    )


def test_the_nearest_name_is_suggested_and_a_far_one_is_not() -> None:
    assert nearest("rain2h", ["t2m", "rain1h"]) == " Did you mean 'rain1h'?"
    assert nearest("zzz", ["t2m", "rain1h"]) == ""
