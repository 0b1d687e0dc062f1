#!/usr/bin/env python3
"""Historical value at risk and expected shortfall, computed apart from the guest.

Prints what `guest/tests/stocks.rs` holds the guest against. It needs Python 3 and nothing
else:

    python3 examples/risk/check/historical.py examples/risk/data/stocks.csv

The method differs from the guest's on purpose. The guest works with logarithmic returns in binary
floating point, and takes order statistics from a sorted list. Here

- a loss is the exact fraction `sum of amount * (1 - price / price a month before)`: no logarithm,
  no rounding;
- value at risk is the definition of the lower quantile, read literally: the smallest loss that at
  least the given share of all months does not exceed;
- expected shortfall is the average of the quantile function above the level, a sum over the
  steps of that function;
- means and covariances take logarithms with 50 decimal digits.

Only the printed digits are rounded, to 15.
"""

import csv
import sys
from datetime import datetime
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 50

# The portfolio of the example, in dollars.
AMOUNTS = {"MSFT": 30_000, "AMZN": 15_000, "IBM": 25_000, "GOOG": 10_000, "AAPL": 20_000}


def read(path):
    """Prices by symbol and month, as exact fractions."""
    prices = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            month = datetime.strptime(row["date"], "%b %d %Y").date()
            prices.setdefault(row["symbol"], {})[month] = Fraction(row["price"])
    return prices


def quantile(losses, level):
    """The smallest loss that at least `level` of all losses do not exceed."""
    for loss in sorted(losses):
        if Fraction(sum(other <= loss for other in losses), len(losses)) >= level:
            return loss
    raise AssertionError("the largest loss is exceeded by none")


def shortfall(losses, level):
    """The average of the quantile function over the levels from `level` to 1."""
    total = Fraction(0)
    for i, loss in enumerate(sorted(losses)):
        # The quantile function has this value between these two levels.
        begin, end = Fraction(i, len(losses)), Fraction(i + 1, len(losses))
        total += loss * max(Fraction(0), end - max(begin, level))
    return total / (1 - level)


def decimal(fraction):
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def main(path):
    prices = read(path)
    months = sorted(set.intersection(*(set(series) for series in prices.values())))
    pairs = list(zip(months, months[1:]))
    print(f"months {len(months)} from {months[0]:%Y-%m} to {months[-1]:%Y-%m}, returns {len(pairs)}")

    losses = [
        sum(amount * (1 - prices[s][b] / prices[s][a]) for s, amount in AMOUNTS.items())
        for a, b in pairs
    ]
    for percent in (95, 99):
        level = Fraction(percent, 100)
        print(f"value at risk {percent} {decimal(quantile(losses, level)):.15g}")
        print(f"expected shortfall {percent} {decimal(shortfall(losses, level)):.15g}")

    logs = {s: [decimal(prices[s][b] / prices[s][a]).ln() for a, b in pairs] for s in AMOUNTS}
    means = {s: sum(values) / len(values) for s, values in logs.items()}
    for s in AMOUNTS:
        print(f"mean {s} {means[s]:.15g}")
    for i, s in enumerate(AMOUNTS):
        for t in list(AMOUNTS)[: i + 1]:
            products = ((x - means[s]) * (y - means[t]) for x, y in zip(logs[s], logs[t]))
            print(f"covariance {s} {t} {sum(products) / (len(pairs) - 1):.15g}")


main(sys.argv[1])
