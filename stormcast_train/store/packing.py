"""How values lie on disk: float32 as they are, or int16 codes of a fixed range after the variable's
transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.transforms import Identity
from stormcast_train.fields.variables import Variable

Pack = Literal["none", "int16"]
MISSING_CODE = -32768
CODES = 65534  # -32767 .. 32767


@dataclass(frozen=True)
class Coding:
    """value = inverse(code * scale + offset), `inverse` of the transform
    named `kind` (or none, `identity`).
    """

    variable: Variable
    scale: float
    offset: float
    kind: str

    @classmethod
    def of(cls, variable: Variable) -> Coding:
        """The coding of a variable's own range; with a `quantum`, whole multiples of it, untransformed and
        exact.
        """
        if variable.quantum:
            middle = (
                0.0
                if variable.low >= 0 and variable.high <= 32767 * variable.quantum
                else (variable.low + variable.high) / 2
            )
            coding = cls(variable, variable.quantum, middle, "identity")
            if not variable.high - middle <= 32767 * variable.quantum:
                raise RequestError(
                    f"{variable.name}: {variable.low}..{variable.high} in steps of {variable.quantum} do "
                    "not fit int16"
                )
            return coding
        edges = variable.transform.forward(np.array([variable.low, variable.high], dtype=np.float64))
        if not np.isfinite(edges).all():
            raise RequestError(
                f"pack=int16 needs a finite range for {variable.name}; give it low and high in conf/variables"
            )
        return cls(
            variable,
            float(edges[1] - edges[0]) / CODES,
            float(edges[0] + edges[1]) / 2,
            variable.transform.kind,
        )

    def encode(self, values: NDArray[np.float32]) -> NDArray[np.int16]:
        """The codes of physical values, of the same shape; NaN becomes the sentinel."""
        x = values.astype(np.float64)
        x = x if self.kind == "identity" else np.asarray(self.variable.transform.forward(x))
        codes = np.rint((x - self.offset) / self.scale).clip(-32767, 32767)
        return np.where(np.isnan(codes), MISSING_CODE, codes).astype(np.int16)

    def lost(self, values: NDArray[np.floating[Any]]) -> int:
        """How many values (of any shape) lie more than half a code beyond the range: `encode` sets them to
        its
        end.
        """
        low, high = self._physical(np.array([-32767.5, 32767.5]))
        return int(np.count_nonzero((values < low) | (values > high)))

    def decode(self, codes: NDArray[np.int16]) -> NDArray[np.float32]:
        """The physical values of codes, of the same shape; the sentinel becomes NaN."""
        x = self._physical(codes.astype(np.float64)).astype(np.float32)
        x[codes == MISSING_CODE] = np.nan
        return x

    def _physical(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        transform = Identity() if self.kind == "identity" else self.variable.transform
        return np.asarray(transform.inverse(codes * self.scale + self.offset))
