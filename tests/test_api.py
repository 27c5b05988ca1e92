"""The Python interface of the README."""

from __future__ import annotations

import subprocess
import sys


def test_forecast_is_callable_before_and_after_its_package_is_imported() -> None:
    import stormcast_train as st
    import stormcast_train.forecast.rollout

    assert callable(st.forecast)
    assert callable(stormcast_train.forecast)


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, stormcast_train; sys.exit(any(m in sys.modules for m in ('torch', 'xarray', 'physicsnemo')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    import pytest

    import stormcast_train as st

    with pytest.raises(AttributeError, match="emulate"):
        _ = st.emulate
