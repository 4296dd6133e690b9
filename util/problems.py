"""What a data check complains of, and how it words lists."""
from collections.abc import Iterable
from dataclasses import dataclass

MANY = 5                # so many names are listed, the rest counted


@dataclass(frozen=True)
class Problem:
    """level: "error" (training would fail or be wrong) or "warning" (it would run, but look first)."""
    level: str
    where: str          # file or folder
    reason: str
    remedy: str


def listed(names: Iterable[object]) -> str:
    names = list(names)
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(str(n) for n in names[:MANY]) + more


def counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
