//! The figures of the example's data, against values computed apart from this crate.

use risk::{History, Measures, Portfolio, Prices, Tail};

/// The data that the example ships.
fn history() -> History {
    let csv = include_str!("../../data/stocks.csv");
    Prices::parse(csv)
        .expect("the file is one of prices")
        .history()
        .expect("the stocks overlap")
}

/// Whether two numbers agree to 12 digits.
fn agree(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 5e-13
}

#[test]
fn five_stocks_have_68_months_and_67_returns_in_common() {
    let history = history();
    assert_eq!(history.symbols, ["MSFT", "AMZN", "IBM", "GOOG", "AAPL"]);
    assert_eq!(history.returns.len(), 67);
    assert_eq!(history.months.first().map(String::as_str), Some("2004-09"));
    assert_eq!(history.months.last().map(String::as_str), Some("2010-03"));
}

/// As printed by `check/historical.py`, which shares neither code nor method with this crate: it
/// computes losses as exact fractions.
#[test]
fn historical_measures_agree_with_exact_arithmetic() {
    let Measures { at_95, at_99 } =
        risk::historical(&Portfolio::example(), &history()).expect("the portfolio fits");
    let expected = [
        (at_95.value_at_risk, 11079.9794577581),
        (at_95.expected_shortfall, 13903.0819973302),
        (at_99.value_at_risk, 15323.0690655505),
        (at_99.expected_shortfall, 15323.0690655505),
    ];
    for (found, expected) in expected {
        assert!(agree(found, expected), "{found} {expected}");
    }
}

/// The simulated figures are those of the model within the error of so many paths, and the same
/// bits for the same seed.
#[test]
fn simulated_measures_repeat_and_are_near_the_history() {
    let (book, history) = (Portfolio::example(), history());
    let simulate = |seed| risk::monte_carlo(&book, &history, 200_000, seed).expect("it fits");
    let first = simulate(42);
    assert_eq!(first, simulate(42));
    let second = simulate(43);
    assert_ne!(first, second);
    let near = |a: f64, b: f64, within: f64| (a / b - 1.0).abs() < within;
    let pairs = |a: Tail, b: Tail| {
        [
            (a.value_at_risk, b.value_at_risk),
            (a.expected_shortfall, b.expected_shortfall),
        ]
    };
    for (a, b) in pairs(first.at_95, second.at_95)
        .into_iter()
        .chain(pairs(first.at_99, second.at_99))
    {
        assert!(near(a, b, 0.02), "{a} {b}");
    }
    let past = risk::historical(&book, &history).expect("it fits");
    assert!(
        near(first.at_95.value_at_risk, past.at_95.value_at_risk, 0.25),
        "{first:?} {past:?}"
    );
}

#[test]
fn a_report_holds_both() {
    let (book, history) = (Portfolio::example(), history());
    let report = risk::value_at_risk(&book, &history, 10_000, 1).expect("it fits");
    assert_eq!(report.worth, 100_000.0);
    assert_eq!((report.months, report.paths), (67, 10_000));
    assert_eq!(Ok(report.historical), risk::historical(&book, &history));
    assert_eq!(
        Ok(report.simulated),
        risk::monte_carlo(&book, &history, 10_000, 1)
    );
}

/// To the last bit, whatever the machine: the mathematics are those of `libm`.
#[test]
fn simulated_measures_are_the_same_on_every_machine() {
    let found = risk::monte_carlo(&Portfolio::example(), &history(), 100_000, 42);
    let at_95 = Tail {
        value_at_risk: 8918.070991574656,
        expected_shortfall: 11386.058794636549,
    };
    let at_99 = Tail {
        value_at_risk: 12902.562026253405,
        expected_shortfall: 14798.504028356916,
    };
    assert_eq!(found, Ok(Measures { at_95, at_99 }));
}
