//! What is captured: a portfolio and the history of its market.

use spore_guest::Value;

use crate::RiskError;

/// Months that a sample covariance needs.
const MONTHS_MIN: usize = 2;

/// What is held.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct Portfolio {
    /// The positions, each of another symbol.
    pub positions: Vec<Position>,
}

/// An amount of money in one stock.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct Position {
    /// The stock.
    pub symbol: String,
    /// Its worth now, in any currency; less than 0 when it is sold short.
    pub amount: f64,
}

impl Portfolio {
    /// A portfolio of these symbols and amounts.
    pub fn new<S: Into<String>>(positions: impl IntoIterator<Item = (S, f64)>) -> Self {
        let position = |(symbol, amount): (S, f64)| Position {
            symbol: symbol.into(),
            amount,
        };
        Self {
            positions: positions.into_iter().map(position).collect(),
        }
    }

    /// The portfolio that the example values: 100,000 dollars in the five stocks of its data.
    pub fn example() -> Self {
        Self::new([
            ("MSFT", 30_000.0),
            ("AMZN", 15_000.0),
            ("IBM", 25_000.0),
            ("GOOG", 10_000.0),
            ("AAPL", 20_000.0),
        ])
    }
}

/// How prices moved, month by month.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct History {
    /// The stocks.
    pub symbols: Vec<String>,
    /// The months, as `2004-09`, oldest first.
    pub months: Vec<String>,
    /// For each month, the logarithmic return of each stock since the month before.
    pub returns: Vec<Vec<f64>>,
}

/// The part of a history that a portfolio is exposed to. Both are sound, and fit.
#[derive(Debug)]
pub(crate) struct Exposure<'a> {
    positions: &'a [Position],
    /// The column of each position in the history.
    columns: Vec<usize>,
    history: &'a History,
}

impl<'a> Exposure<'a> {
    pub(crate) fn new(book: &'a Portfolio, history: &'a History) -> Result<Self, RiskError> {
        check_history(history)?;
        if book.positions.is_empty() {
            return Err(RiskError::EmptyPortfolio);
        }
        let mut columns = Vec::with_capacity(book.positions.len());
        for Position { symbol, amount } in &book.positions {
            let column = history.symbols.iter().position(|known| known == symbol);
            let Some(column) = column else {
                let (symbol, known) = (symbol.clone(), history.symbols.clone());
                return Err(RiskError::UnknownSymbol { symbol, known });
            };
            if columns.contains(&column) {
                return Err(RiskError::RepeatedSymbol {
                    symbol: symbol.clone(),
                });
            }
            if !amount.is_finite() {
                return Err(RiskError::BadAmount {
                    symbol: symbol.clone(),
                    amount: *amount,
                });
            }
            columns.push(column);
        }
        Ok(Self {
            positions: &book.positions,
            columns,
            history,
        })
    }

    /// The sum of the amounts.
    pub(crate) fn worth(&self) -> f64 {
        self.positions.iter().map(|position| position.amount).sum()
    }

    /// How many months there are.
    pub(crate) fn months(&self) -> u32 {
        self.history.returns.len() as u32
    }

    /// The symbols, in the order of the positions.
    pub(crate) fn symbol(&self, position: usize) -> &str {
        &self.positions[position].symbol
    }

    /// The returns of each month, in the order of the positions.
    pub(crate) fn returns(&self) -> impl Iterator<Item = Vec<f64>> {
        self.history
            .returns
            .iter()
            .map(|month| self.columns.iter().map(|&c| month[c]).collect())
    }

    /// The loss of a month with these returns, in the order of the positions.
    pub(crate) fn loss(&self, returns: &[f64]) -> f64 {
        let losses = self.positions.iter().zip(returns);
        losses
            .map(|(position, r)| position.amount * (1.0 - libm::exp(*r)))
            .sum()
    }
}

fn check_history(history: &History) -> Result<(), RiskError> {
    let months = history.returns.len();
    if months < MONTHS_MIN {
        let (months, needed) = (months as u32, MONTHS_MIN as u32);
        return Err(RiskError::ShortHistory { months, needed });
    }
    let expected = history.symbols.len();
    for (month, returns) in history.returns.iter().enumerate() {
        if returns.len() != expected {
            return Err(RiskError::RaggedHistory {
                month: month as u32,
                found: returns.len() as u32,
                expected: expected as u32,
            });
        }
        if let Some(column) = returns.iter().position(|r| !r.is_finite()) {
            let symbol = history.symbols[column].clone();
            return Err(RiskError::BadReturn {
                month: month as u32,
                symbol,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(symbols: &[&str], returns: &[&[f64]]) -> History {
        History {
            symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            months: vec![String::new(); returns.len()],
            returns: returns.iter().map(|&month| month.to_vec()).collect(),
        }
    }

    fn refused(book: &[(&str, f64)], history: &History) -> RiskError {
        Exposure::new(&Portfolio::new(book.iter().copied()), history).expect_err("it is refused")
    }

    #[test]
    fn positions_may_stand_in_another_order_than_the_history() {
        let history = history(&["A", "B"], &[&[0.0, 1.0], &[2.0, 3.0]]);
        let book = Portfolio::new([("B", 10.0), ("A", -5.0)]);
        let exposure = Exposure::new(&book, &history).unwrap();
        assert_eq!(
            exposure.returns().collect::<Vec<_>>(),
            [[1.0, 0.0], [3.0, 2.0]]
        );
        assert_eq!((exposure.worth(), exposure.months()), (5.0, 2));
        let loss = exposure.loss(&[libm::log(1.5), libm::log(2.0)]);
        assert!((loss - (-10.0 * 0.5 + 5.0)).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fine = history(&["A"], &[&[0.1], &[0.2]]);
        assert_eq!(refused(&[], &fine), RiskError::EmptyPortfolio);
        let (symbol, known) = ("B".to_owned(), vec!["A".to_owned()]);
        let unknown = RiskError::UnknownSymbol { symbol, known };
        assert_eq!(unknown.to_string(), "no history of B; there is one of A");
        assert_eq!(refused(&[("B", 1.0)], &fine), unknown);
        let symbol = "A".to_owned();
        let repeated = refused(&[("A", 1.0), ("A", 2.0)], &fine);
        assert_eq!(
            repeated,
            RiskError::RepeatedSymbol {
                symbol: symbol.clone()
            }
        );
        let infinite = RiskError::BadAmount {
            symbol: symbol.clone(),
            amount: f64::INFINITY,
        };
        assert_eq!(refused(&[("A", f64::INFINITY)], &fine), infinite);

        let short = refused(&[("A", 1.0)], &history(&["A"], &[&[0.1]]));
        assert_eq!(
            short,
            RiskError::ShortHistory {
                months: 1,
                needed: 2
            }
        );
        let ragged = refused(&[("A", 1.0)], &history(&["A"], &[&[0.1], &[0.1, 0.2]]));
        assert_eq!(
            ragged,
            RiskError::RaggedHistory {
                month: 1,
                found: 2,
                expected: 1
            }
        );
        let nan = refused(&[("A", 1.0)], &history(&["A"], &[&[0.1], &[f64::NAN]]));
        assert_eq!(nan, RiskError::BadReturn { month: 1, symbol });
    }
}
